/*
 * Owns nothing: the first line of scripts, and what shells' and Perl's say of other
 * files.
 *
 * Threads: any. A shell's programs are told once each, as long as there are few.
 */
#include <string.h>

#include "lib/base/alloc.h"
#include "predict/scan_internal.h"
#include "predict/shell.h"

#define SCRIPT_LINE_MAX     255 /* bytes that the kernel reads of the first line */
#define SCRIPT_PROGRAMS_MAX 128 /* and functions, of one shell script */
#define SCRIPT_PROGRAM_MAX  63  /* bytes of a name of them */

/* The next word of a line, which it takes from it; empty where there is none. */
static struct slice script_word(struct slice *line)
{
	struct slice word;

	while (line->len && scan_is_blank(line->data[0])) {
		line->data++;
		line->len--;
	}
	word = (struct slice){line->data, 0};
	while (word.len < line->len && !scan_is_blank(word.data[word.len]))
		word.len++;
	line->data += word.len;
	line->len -= word.len;
	return word;
}

static struct slice script_base(struct slice path)
{
	const uint8_t *slash = path.len ? memrchr(path.data, '/', path.len) : NULL;

	if (!slash)
		return path;
	return (struct slice){slash + 1, (size_t)(path.data + path.len - slash - 1)};
}

struct slice scan_interpreter(struct scan *scan)
{
	struct slice line = scan_load(scan, SCRIPT_LINE_MAX);
	const uint8_t *end = memchr(line.data, '\n', line.len);
	struct slice word;

	if (end)
		line.len = (size_t)(end - line.data);
	line.data += 2; /* of "#!" */
	line.len -= 2;
	word = script_word(&line);
	scan_tell(scan, SCAN_INTERPRETER, word);
	if (!slice_is(script_base(word), "env"))
		return script_base(word);
	do
		word = script_word(&line);
	while (word.len && (word.data[0] == '-' || memchr(word.data, '=', word.len)));
	scan_tell(scan, SCAN_PROGRAM, word);
	return script_base(word);
}

struct script {
	struct scan *scan;
	char programs[2 * SCRIPT_PROGRAMS_MAX][SCRIPT_PROGRAM_MAX + 1]; /* by hash */
	size_t n_programs;
};

/* What a shell does by itself. */
static bool script_is_builtin(const char *name)
{
	static const char *const names[] = {
		":",       "[",       "[[",      "alias",    "bg",       "bind",
		"break",   "cd",      "compgen", "complete", "continue", "declare",
		"dirs",    "disown",  "echo",    "enable",   "exit",     "export",
		"false",   "fc",      "fg",      "getopts",  "hash",     "help",
		"history", "jobs",    "kill",    "let",      "local",    "logout",
		"popd",    "printf",  "pushd",   "pwd",      "read",     "readonly",
		"return",  "set",     "shift",   "shopt",    "suspend",  "test",
		"times",   "trap",    "true",    "type",     "typeset",  "ulimit",
		"umask",   "unalias", "unset",   "wait",     "mapfile",  "readarray",
		"caller"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

/* A name of a command, or of a function, which is then no program. */
static void script_program(struct script *script, const char *name, bool is_function)
{
	size_t len = strlen(name);
	size_t at = slice_hash(slice_of(name)) % ARRAY_SIZE(script->programs);

	if (len > SCRIPT_PROGRAM_MAX || script_is_builtin(name) ||
	    script->n_programs == SCRIPT_PROGRAMS_MAX)
		return;
	for (size_t i = 0; i < len; i++) {
		if (!scan_is_name((uint8_t)name[i]) && !strchr(".+-", name[i]))
			return;
	}
	while (script->programs[at][0]) {
		if (strcmp(script->programs[at], name) == 0)
			return;
		at = (at + 1) % ARRAY_SIZE(script->programs);
	}
	memcpy(script->programs[at], name, len + 1);
	script->n_programs++;
	if (!is_function)
		scan_tell_string(script->scan, SCAN_PROGRAM, name);
}

/* A path as a shell would open it. */
static void script_path(struct script *script, const struct shell *shell)
{
	const char *path = shell->word;

	if (strchr(path, '\n'))
		return; /* text for eval */
	if (shell->is_literal) {
		scan_tell_string(script->scan, SCAN_PATH, path);
	} else if (shell->is_beside && !shell->is_expanded) {
		while (*path == '/')
			path++;
		scan_tell_string(script->scan, SCAN_BESIDE, path);
	}
}

void scan_shell(struct scan *scan)
{
	_cleanup_free_ struct shell *shell = alloc_zero(sizeof(*shell));
	_cleanup_free_ struct script *script = alloc_zero(sizeof(*script));
	bool is_source = false;
	enum shell_kind kind;

	script->scan = scan;
	shell_init(shell, scan_load(scan, SCAN_READ_MAX));
	while ((kind = shell_next(shell)) != SHELL_END) {
		if (kind == SHELL_ARGUMENT && is_source) {
			script_path(script, shell);
			is_source = false;
		} else if (kind == SHELL_COMMAND) {
			is_source =
				shell->is_literal && (strcmp(shell->word, ".") == 0 ||
						      strcmp(shell->word, "source") == 0);
			if (is_source)
				continue;
			if (shell->is_beside || strchr(shell->word, '/'))
				script_path(script, shell);
			else if (shell->is_literal)
				script_program(script, shell->word, false);
		} else if (kind == SHELL_FUNCTION && shell->is_literal) {
			script_program(script, shell->word, true);
		}
	}
}

/* A::B as the file that it is in: A/B.pm. */
static bool script_module(struct scan *scan, struct slice word)
{
	char name[256];
	size_t n = 0;

	if (word.len == 0 || word.len > sizeof(name) - 4 ||
	    !scan_is_letter(word.data[0]) ||
	    (word.data[0] == 'v' && word.len > 1 && scan_is_digit(word.data[1])))
		return true;
	for (size_t i = 0; i < word.len; i++) {
		if (word.data[i] == ':' && i + 1 < word.len && word.data[i + 1] == ':') {
			name[n++] = '/';
			i++;
		} else if (scan_is_name(word.data[i])) {
			name[n++] = (char)word.data[i];
		} else {
			return true;
		}
	}
	memcpy(name + n, ".pm", 4);
	return scan_tell_string(scan, SCAN_PERL, name);
}

/* "use A::B …;", "require A::B;", "use parent qw(A B);"; false where the scan is to end.
 */
static bool script_perl_line(struct scan *scan, struct slice line)
{
	struct slice word = script_word(&line);
	bool is_more;

	if (!slice_is(word, "use") && !slice_is(word, "require") && !slice_is(word, "no"))
		return true;
	word = script_word(&line);
	while (word.len && strchr(";(", word.data[word.len - 1]))
		word.len--;
	is_more = slice_is(word, "parent") || slice_is(word, "base");
	if (!script_module(scan, word))
		return false;
	while (is_more && (word = script_word(&line)).len > 0) {
		if (word.len > 3 && memcmp(word.data, "qw", 2) == 0) {
			word.data += 3;
			word.len -= 3;
		}
		while (word.len && strchr("'\"(", word.data[0])) {
			word.data++;
			word.len--;
		}
		while (word.len && strchr("'\"();,", word.data[word.len - 1]))
			word.len--;
		if (!slice_is(word, "qw") && !script_module(scan, word))
			return false;
	}
	return true;
}

void scan_perl(struct scan *scan)
{
	struct slice text = scan_load(scan, SCAN_READ_MAX);
	bool is_documentation = false;

	while (text.len > 0) {
		const uint8_t *end = memchr(text.data, '\n', text.len);
		struct slice line = {text.data,
				     end ? (size_t)(end - text.data) : text.len};
		size_t n = line.len + (end != NULL);

		text.data += n;
		text.len -= n;
		if (slice_is(line, "__END__") || slice_is(line, "__DATA__"))
			return;
		if (line.len > 1 && line.data[0] == '=' && scan_is_letter(line.data[1]))
			is_documentation =
				line.len < 4 || memcmp(line.data, "=cut", 4) != 0;
		else if (!is_documentation && !script_perl_line(scan, line))
			return;
	}
}
