/*
 * Owns nothing: it goes over text that others hold, once, and once more for each level of
 * $(…), of which there are few. What is unclear in a shell's grammar without running it
 * is decided for the usual case, since a wrong guess does no harm.
 *
 * Threads: any. After each call, at lies within the text.
 */
#include "predict/shell.h"

#include <string.h>

#include "lib/base/cleanup.h"

void shell_init(struct shell *shell, struct slice text)
{
	shell->range = (struct shell_range){text, 0};
	shell->at = 0;
	shell->n_nested = 0;
	shell->n_marks = 0;
	shell->n_cases = 0;
	shell->redirect = SHELL_END;
	shell->is_command_next = true;
	shell->is_pattern = false;
	shell->is_in_next = false;
	shell->is_function_next = false;
	shell->len = 0;
	shell->word[0] = '\0';
}

/* The byte that is n further on; 0 behind the end. */
static uint8_t shell_peek(const struct shell *shell, size_t n)
{
	struct slice text = shell->range.text;

	return n < text.len - shell->at ? text.data[shell->at + n] : 0;
}

static bool shell_is_over(const struct shell *shell)
{
	return shell->at >= shell->range.text.len;
}

static void shell_skip(struct shell *shell, size_t n)
{
	size_t left = shell->range.text.len - shell->at;

	shell->at += n < left ? n : left;
}

static bool shell_is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static bool shell_is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* Of a variable's name. */
static bool shell_is_letter(uint8_t c)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool shell_ends_word(uint8_t c)
{
	return shell_is_blank(c) || c == '\n' || c == '\0' || strchr(";&|()<>", c);
}

static void shell_add(struct shell *shell, uint8_t c)
{
	if (c == '\0' || shell->len == SHELL_WORD_MAX) {
		shell->is_literal = false;
		shell->is_expanded = true;
		return;
	}
	shell->word[shell->len++] = (char)c;
}

/* Behind the quote that ends what the one before at began. */
static void shell_skip_quoted(struct shell *shell, uint8_t quote)
{
	while (!shell_is_over(shell)) {
		uint8_t c = shell_peek(shell, 0);

		shell_skip(shell, c == '\\' && quote != '\'' ? 2 : 1);
		if (c == quote)
			return;
	}
}

/* Behind the bracket that closes the one before at. */
static void shell_skip_closed(struct shell *shell, uint8_t open, uint8_t close)
{
	size_t depth = 1;

	while (depth > 0 && !shell_is_over(shell)) {
		uint8_t c = shell_peek(shell, 0);

		shell_skip(shell, c == '\\' ? 2 : 1);
		if (c == open)
			depth++;
		else if (c == close)
			depth--;
		else if (close == ')' && (c == '\'' || c == '"'))
			shell_skip_quoted(shell, c);
	}
}

static bool shell_has(struct slice text, const char *part)
{
	return text.len && memmem(text.data, text.len, part, strlen(part));
}

/* "$(dirname "$0")", "${BASH_SOURCE%/\*}" and the like. */
static bool shell_is_own_dir(struct slice text)
{
	if (text.len > 128)
		return false;
	return (shell_has(text, "dirname") || shell_has(text, "%/*")) &&
	       (shell_has(text, "$0") || shell_has(text, "{0") ||
		shell_has(text, "BASH_SOURCE"));
}

static void shell_nest(struct shell *shell, size_t from, size_t to)
{
	struct shell_range range = {{shell->range.text.data + from, to - from},
				    shell->range.depth + 1};

	if (to > from && range.depth <= SHELL_DEPTH_MAX &&
	    shell->n_nested < SHELL_NESTED_MAX)
		shell->nested[shell->n_nested++] = range;
}

/* Behind what a '$' or a '`' begins; false where it is no expansion. */
static bool shell_expansion(struct shell *shell)
{
	size_t from = shell->at;
	uint8_t next = shell_peek(shell, 1);
	struct slice text;
	bool is_sum;

	if (shell_peek(shell, 0) == '`') {
		shell_skip(shell, 1);
		shell_skip_quoted(shell, '`');
		shell_nest(shell, from + 1, shell->at - 1);
	} else if (next == '(') {
		shell_skip(shell, 2);
		is_sum = shell_peek(shell, 0) == '(';
		shell_skip_closed(shell, '(', ')');
		if (!is_sum)
			shell_nest(shell, from + 2, shell->at - 1);
	} else if (next == '{') {
		shell_skip(shell, 2);
		shell_skip_closed(shell, '{', '}');
	} else if (shell_is_letter(next)) {
		shell_skip(shell, 2);
		while (shell_is_letter(shell_peek(shell, 0)) ||
		       shell_is_digit(shell_peek(shell, 0)))
			shell_skip(shell, 1);
	} else if (next && !shell_ends_word(next) && next != '"' && next != '\'') {
		shell_skip(shell, 2);
	} else {
		return false;
	}
	text = (struct slice){shell->range.text.data + from, shell->at - from};
	shell->is_literal = false;
	if (shell->len == 0 && !shell->is_beside && shell_is_own_dir(text))
		shell->is_beside = true;
	else
		shell->is_expanded = true;
	return true;
}

static void shell_word_quoted(struct shell *shell)
{
	shell_skip(shell, 1);
	while (!shell_is_over(shell)) {
		uint8_t c = shell_peek(shell, 0);

		if ((c == '$' || c == '`') && shell_expansion(shell))
			continue;
		shell_skip(shell, 1);
		if (c == '"')
			return;
		if (c == '\\' && shell_peek(shell, 0) &&
		    strchr("\\\"$`\n", shell_peek(shell, 0))) {
			c = shell_peek(shell, 0);
			shell_skip(shell, 1);
			if (c == '\n')
				continue;
		}
		shell_add(shell, c);
	}
}

/* One part of a word: a byte, or what is quoted or expanded. */
static void shell_word_part(struct shell *shell)
{
	uint8_t c = shell_peek(shell, 0);

	if (c == '"') {
		shell_word_quoted(shell);
		return;
	}
	if ((c == '$' || c == '`') && shell_expansion(shell))
		return;
	shell_skip(shell, 1);
	if (c == '\'') {
		for (c = shell_peek(shell, 0); !shell_is_over(shell) && c != '\'';
		     c = shell_peek(shell, 0)) {
			shell_add(shell, c);
			shell_skip(shell, 1);
		}
		shell_skip(shell, 1);
		return;
	}
	if (c == '\\') {
		c = shell_peek(shell, 0);
		shell_skip(shell, 1);
		if (c != '\n' && c)
			shell_add(shell, c);
		return;
	}
	if (c == '*' || c == '?' || (c == '~' && shell->len == 0)) {
		shell->is_literal = false;
		shell->is_expanded = true;
	}
	shell_add(shell, c);
}

static void shell_word(struct shell *shell)
{
	shell->len = 0;
	shell->is_literal = true;
	shell->is_beside = false;
	shell->is_expanded = false;
	while (!shell_is_over(shell) && !shell_ends_word(shell_peek(shell, 0)))
		shell_word_part(shell);
	shell->word[shell->len] = '\0';
}

static void shell_skip_line(struct shell *shell)
{
	struct slice text = shell->range.text;
	const uint8_t *end = NULL;

	if (!shell_is_over(shell))
		end = memchr(text.data + shell->at, '\n', text.len - shell->at);
	shell->at = end ? (size_t)(end - text.data) : text.len;
}

/* What a line's here documents hold, behind the line's end. */
static void shell_skip_documents(struct shell *shell)
{
	size_t n = 0;

	while (n < shell->n_marks && !shell_is_over(shell)) {
		struct slice line;
		size_t from;

		while (shell_peek(shell, 0) == '\t')
			shell_skip(shell, 1);
		from = shell->at;
		shell_skip_line(shell);
		line = (struct slice){shell->range.text.data + from, shell->at - from};
		shell_skip(shell, 1);
		if (slice_is(line, shell->marks[n]))
			n++;
	}
	shell->n_marks = 0;
}

/* At "<<", which is no "<<<": its mark is remembered. */
static void shell_document(struct shell *shell)
{
	shell_skip(shell, shell_peek(shell, 2) == '-' ? 3 : 2);
	while (shell_is_blank(shell_peek(shell, 0)))
		shell_skip(shell, 1);
	shell_word(shell);
	if (shell->n_marks < SHELL_HEREDOC_MAX && shell->len &&
	    shell->len <= SHELL_MARK_MAX)
		memcpy(shell->marks[shell->n_marks++], shell->word, shell->len + 1);
}

static void shell_redirection(struct shell *shell)
{
	bool is_input = shell_peek(shell, 0) == '<';

	if (is_input && shell_peek(shell, 1) == '<') {
		if (shell_peek(shell, 2) == '<')
			shell_skip(shell, 3);
		else
			shell_document(shell);
		return;
	}
	shell_skip(shell, 1);
	if (shell_peek(shell, 0) == '(')
		return;
	while (shell_peek(shell, 0) && strchr("<>&|", shell_peek(shell, 0)))
		shell_skip(shell, 1);
	shell->redirect = is_input ? SHELL_INPUT : SHELL_OUTPUT;
}

/* What stands between words; false at a word. */
static bool shell_between(struct shell *shell)
{
	uint8_t c = shell_peek(shell, 0);

	if (shell_is_blank(c) || c == '\0') {
		shell_skip(shell, 1);
		return true;
	}
	if (c == '\\' && shell_peek(shell, 1) == '\n') {
		shell_skip(shell, 2);
		return true;
	}
	if (c == '#') {
		shell_skip_line(shell);
		return true;
	}
	if (c == '<' || c == '>') {
		shell_redirection(shell);
		return true;
	}
	if (!strchr("\n;&|()", c))
		return false;
	shell_skip(shell, 1);
	shell->redirect = SHELL_END;
	if (c == '&' && shell_peek(shell, 0) == '>')
		return true;
	if (c == '\n')
		shell_skip_documents(shell);
	if (c == ';' && (shell_peek(shell, 0) == ';' || shell_peek(shell, 0) == '&'))
		shell->is_pattern = shell->n_cases > 0;
	if (c == ')')
		shell->is_pattern = false;
	shell->is_command_next = true;
	return true;
}

static bool shell_word_is(const struct shell *shell, const char *const *words)
{
	for (; shell->is_literal && *words; words++) {
		if (strcmp(shell->word, *words) == 0)
			return true;
	}
	return false;
}

static bool shell_is_assignment(const struct shell *shell)
{
	size_t n = 0;

	while (shell_is_letter((uint8_t)shell->word[n]) ||
	       (n && shell_is_digit((uint8_t)shell->word[n])))
		n++;
	return n && !shell->is_beside &&
	       (shell->word[n] == '=' ||
		(shell->word[n] == '+' && shell->word[n + 1] == '='));
}

/* Whether "()" follows, of a function's definition. */
static bool shell_is_definition(const struct shell *shell)
{
	size_t n = 0;

	while (n < 4 && shell_is_blank(shell_peek(shell, n)))
		n++;
	return shell_peek(shell, n) == '(';
}

/* Where a command may begin: what the word is, SHELL_END where it is passed over. Before
 * a command, is_command_next stays. */
static enum shell_kind shell_command(struct shell *shell)
{
	static const char *const passed[] = {
		"if",   "then",    "else",    "elif", "fi", "do", "done",
		"esac", "while",   "until",   "!",    "{",  "}",  "time",
		"exec", "command", "builtin", "eval", NULL};
	static const char *const heads[] = {"for", "select", NULL};
	static const char *const cases[] = {"case", NULL};
	static const char *const functions[] = {"function", NULL};
	uint8_t next = shell_peek(shell, 0);

	if (shell_is_assignment(shell)) {
		if (next == '(') {
			shell_skip(shell, 1);
			shell_skip_closed(shell, '(', ')');
		}
		return SHELL_END;
	}
	if (shell_word_is(shell, passed) || shell->word[0] == '-') /* command -v x */
		return SHELL_END;
	if (shell_word_is(shell, functions)) {
		shell->is_function_next = true;
		return SHELL_END;
	}
	if (shell->is_function_next || shell_is_definition(shell))
		return SHELL_FUNCTION;
	if ((next == '<' || next == '>') && shell->len == 1 &&
	    shell_is_digit((uint8_t)shell->word[0]))
		return SHELL_END;
	shell->is_command_next = false;
	if (shell_word_is(shell, cases)) {
		shell->n_cases++;
		shell->is_in_next = true;
		return SHELL_END;
	}
	return shell_word_is(shell, heads) ? SHELL_END : SHELL_COMMAND;
}

/* What the word that was just read is; SHELL_END where it is passed over. */
static enum shell_kind shell_judge(struct shell *shell)
{
	static const char *const ends[] = {"esac", NULL};
	static const char *const ins[] = {"in", NULL};
	enum shell_kind kind = shell->redirect;

	if (kind != SHELL_END) {
		shell->redirect = SHELL_END;
		return kind;
	}
	if (shell->is_pattern) {
		if (shell_word_is(shell, ends)) {
			shell->is_pattern = false;
			shell->n_cases -= shell->n_cases > 0;
			shell->is_command_next = true;
		}
		return SHELL_END;
	}
	if (shell->is_command_next) {
		if (shell_word_is(shell, ends) && shell->n_cases)
			shell->n_cases--;
		kind = shell_command(shell);
		shell->is_function_next &= kind == SHELL_END;
		return kind;
	}
	if (shell->is_in_next && shell_word_is(shell, ins)) {
		shell->is_in_next = false;
		shell->is_pattern = true;
		return SHELL_END;
	}
	return SHELL_ARGUMENT;
}

/* Goes on with what was passed over; false where there is nothing of it left. */
static bool shell_nested(struct shell *shell)
{
	size_t n = shell->n_nested;
	struct shell_range range;

	if (n == 0)
		return false;
	range = shell->nested[n - 1];
	shell_init(shell, range.text);
	shell->range = range;
	shell->n_nested = n - 1;
	return true;
}

enum shell_kind shell_next(struct shell *shell)
{
	for (;;) {
		enum shell_kind kind;

		while (!shell_is_over(shell) && shell_between(shell))
			;
		if (shell_is_over(shell)) {
			if (!shell_nested(shell))
				return SHELL_END;
			continue;
		}
		shell_word(shell);
		kind = shell_judge(shell);
		if (kind != SHELL_END && (shell->len || shell->is_beside))
			return kind;
	}
}
