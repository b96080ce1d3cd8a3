/*
 * Owns nothing: C's #include and its kin, in one pass. It keeps to what a preprocessor
 * sees as directives: what stands in comments and strings is none, nor is what "#if 0"
 * leaves out; all other conditions may hold.
 *
 * Threads: any. Every step moves at forward, or ends the scan.
 */
#include <string.h>

#include "predict/scan_internal.h"

#define INCLUDE_DELIMITER_MAX 16 /* of R"delimiter( */

struct include {
	struct scan *scan;
	const uint8_t *at;
	const uint8_t *begin;
	const uint8_t *end;
	size_t n_open;   /* conditions within the group that is left out */
	bool is_skipped; /* the group is */
};

static uint8_t include_peek(const struct include *in, size_t n)
{
	return n < (size_t)(in->end - in->at) ? in->at[n] : 0;
}

static void include_skip(struct include *in, size_t n)
{
	size_t left = (size_t)(in->end - in->at);

	in->at += n < left ? n : left;
}

/* To the newline that ends the line, or the text's end. */
static void include_skip_line(struct include *in)
{
	while (in->at < in->end) {
		const uint8_t *line = memchr(in->at, '\n', (size_t)(in->end - in->at));
		const uint8_t *last;

		if (!line) {
			in->at = in->end;
			return;
		}
		last = line > in->at && line[-1] == '\r' ? line - 1 : line;
		if (last == in->at || last[-1] != '\\') {
			in->at = line;
			return;
		}
		in->at = line + 1;
	}
}

static void include_skip_comment(struct include *in)
{
	const uint8_t *end;

	include_skip(in, 2);
	end = in->at < in->end ? memmem(in->at, (size_t)(in->end - in->at), "*/", 2)
			       : NULL;
	in->at = end ? end + 2 : in->end;
}

/* Length of a backslash at the end of a line, with the line's end; 0 for anything else.
 */
static size_t include_continued(const struct include *in)
{
	if (include_peek(in, 0) != '\\')
		return 0;
	if (include_peek(in, 1) == '\n')
		return 2;
	return include_peek(in, 1) == '\r' && include_peek(in, 2) == '\n' ? 3 : 0;
}

/* Behind blanks, comments and continued lines. */
static void include_skip_blanks(struct include *in)
{
	while (in->at < in->end) {
		size_t n = include_continued(in);

		if (scan_is_blank(*in->at))
			in->at++;
		else if (n)
			include_skip(in, n);
		else if (*in->at == '/' && include_peek(in, 1) == '*')
			include_skip_comment(in);
		else
			return;
	}
}

/* Behind a literal, or at the end of its line. */
static void include_skip_literal(struct include *in, uint8_t quote)
{
	for (include_skip(in, 1); in->at < in->end && *in->at != '\n';) {
		uint8_t c = *in->at;
		size_t n = include_continued(in);

		include_skip(in, n ? n : c == '\\' ? 2 : 1);
		if (c == quote)
			return;
	}
}

/* At a '"' behind an R: whether it is a raw string, which is then passed over. */
static bool include_skip_raw(struct include *in)
{
	uint8_t closing[INCLUDE_DELIMITER_MAX + 2];
	const uint8_t *found;
	size_t n = 0;

	while (n <= INCLUDE_DELIMITER_MAX && include_peek(in, 1 + n) != '(') {
		uint8_t c = include_peek(in, 1 + n);

		if (n == INCLUDE_DELIMITER_MAX || c <= ' ' || c == ')' || c == '\\' ||
		    c == '"')
			return false;
		n++;
	}
	closing[0] = ')';
	memcpy(closing + 1, in->at + 1, n);
	closing[1 + n] = '"';
	include_skip(in, n + 2);
	found = in->at < in->end
			? memmem(in->at, (size_t)(in->end - in->at), closing, n + 2)
			: NULL;
	in->at = found ? found + n + 2 : in->end;
	return true;
}

/* Whether what stands before at is a raw string's R, with or without u8, u, U, L. */
static bool include_is_raw(const struct include *in)
{
	const uint8_t *p = in->at;

	if (p == in->begin || p[-1] != 'R')
		return false;
	p--;
	if (p > in->begin && p[-1] == '8')
		p--;
	if (p > in->begin && (p[-1] == 'u' || p[-1] == 'U' || p[-1] == 'L'))
		p--;
	return p == in->begin || !scan_is_name(p[-1]);
}

/* Whether a ' stands in a number, as in 1'000. */
static bool include_is_separator(const struct include *in)
{
	return in->at > in->begin && in->at + 1 < in->end && scan_is_digit(in->at[-1]) &&
	       scan_is_name(in->at[1]);
}

/* The rest of a line that is no directive. */
static void include_rest(struct include *in)
{
	static const bool is_special[256] = {
		['\n'] = true, ['"'] = true, ['\''] = true, ['/'] = true, ['\\'] = true};

	for (;;) {
		while (in->at < in->end && !is_special[*in->at])
			in->at++;
		if (in->at >= in->end || *in->at == '\n')
			return;
		if (*in->at == '/' && include_peek(in, 1) == '/')
			include_skip_line(in);
		else if (*in->at == '/' && include_peek(in, 1) == '*')
			include_skip_comment(in);
		else if (*in->at == '"' && include_is_raw(in) && include_skip_raw(in))
			;
		else if (*in->at == '"' || (*in->at == '\'' && !include_is_separator(in)))
			include_skip_literal(in, *in->at);
		else if (include_continued(in))
			include_skip(in, include_continued(in));
		else
			in->at++;
	}
}

/* What an #include names; false where the scan is to end. */
static bool include_name(struct include *in, bool is_next)
{
	uint8_t open = include_peek(in, 0);
	uint8_t close = open == '<' ? '>' : '"';
	enum scan_kind kind = open == '<' ? SCAN_ANGLED : SCAN_QUOTED;
	const uint8_t *from;

	if (open != '<' && open != '"')
		return true;
	from = in->at + 1;
	do
		in->at++;
	while (in->at < in->end && *in->at != close && *in->at != '\n');
	if (in->at >= in->end || *in->at != close)
		return true;
	in->at++;
	return scan_tell(in->scan, is_next ? SCAN_NEXT : kind,
			 (struct slice){from, (size_t)(in->at - 1 - from)});
}

/* Whether a condition is a plain 0. */
static bool include_is_zero(const struct include *in)
{
	uint8_t next = include_peek(in, 1);

	return include_peek(in, 0) == '0' && !scan_is_name(next) && next != '.' &&
	       next != '\'' && !strchr("|&=<>?+-*", next ? next : ' ') &&
	       (next != ' ' || include_peek(in, 2) <= ' ' || include_peek(in, 2) == '/');
}

static void include_condition(struct include *in, struct slice word)
{
	bool is_if = slice_is(word, "if");

	if (is_if || slice_is(word, "ifdef") || slice_is(word, "ifndef")) {
		if (in->is_skipped)
			in->n_open++;
		else if (is_if && include_is_zero(in))
			in->is_skipped = true;
	} else if (!in->is_skipped) {
		return;
	} else if (slice_is(word, "endif")) {
		if (in->n_open == 0)
			in->is_skipped = false;
		else
			in->n_open--;
	} else if (in->n_open == 0 &&
		   (slice_is(word, "else") || slice_is(word, "elif") ||
		    slice_is(word, "elifdef") || slice_is(word, "elifndef"))) {
		in->is_skipped = false;
	}
}

/* Behind a directive's '#'; false where the scan is to end. */
static bool include_directive(struct include *in)
{
	struct slice word;

	include_skip_blanks(in);
	word.data = in->at;
	while (in->at < in->end && scan_is_name(*in->at))
		in->at++;
	word.len = (size_t)(in->at - word.data);
	include_skip_blanks(in);
	include_condition(in, word);
	if (in->is_skipped)
		return true;
	if (slice_is(word, "include") || slice_is(word, "import") ||
	    slice_is(word, "embed"))
		return include_name(in, false);
	return !slice_is(word, "include_next") || include_name(in, true);
}

void scan_include(struct scan *scan)
{
	struct slice text = scan_load(scan, SCAN_READ_MAX);
	struct include in = {scan, text.data, text.data, text.data + text.len, 0, false};

	while (in.at < in.end) {
		size_t n = 0;

		include_skip_blanks(&in);
		if (include_peek(&in, 0) == '#')
			n = 1;
		else if (include_peek(&in, 0) == '%' && include_peek(&in, 1) == ':')
			n = 2;
		include_skip(&in, n);
		if (n && !include_directive(&in))
			return;
		include_rest(&in);
		include_skip(&in, 1);
	}
}
