/*
 * Owns nothing: the imports of Python's source text, of the module itself: those in its
 * functions and classes happen later, or never. It follows what decides where a statement
 * begins: strings, brackets, comments, continued lines, indentation.
 *
 * Threads: any. One pass; every step moves at forward.
 */
#include <string.h>

#include "predict/scan_internal.h"

#define PYTHON_LEVEL_MAX 64

struct python {
	struct scan *scan;
	const uint8_t *at;
	const uint8_t *end;
	size_t depth;      /* of brackets */
	size_t indent;     /* of the line */
	size_t body;       /* what is indented by more belongs to a function or class */
	bool is_body;      /* such a one has begun */
	bool is_full;      /* no more names are taken */
	struct buf module; /* a name as it is put together */
};

static uint8_t python_peek(const struct python *py, size_t n)
{
	return n < (size_t)(py->end - py->at) ? py->at[n] : 0;
}

static void python_skip(struct python *py, size_t n)
{
	size_t left = (size_t)(py->end - py->at);

	py->at += n < left ? n : left;
}

static void python_skip_comment(struct python *py)
{
	const uint8_t *end = py->at < py->end
				     ? memchr(py->at, '\n', (size_t)(py->end - py->at))
				     : NULL;

	py->at = end ? end : py->end;
}

/* At a quote: behind the string. */
static void python_skip_string(struct python *py)
{
	uint8_t quote = *py->at;
	bool is_long = python_peek(py, 1) == quote && python_peek(py, 2) == quote;

	python_skip(py, is_long ? 3 : 1);
	while (py->at < py->end) {
		uint8_t c = *py->at;

		if (c == '\\') {
			python_skip(py, python_peek(py, 1) == '\r' ? 3 : 2);
		} else if (c == quote && (!is_long || (python_peek(py, 1) == quote &&
						       python_peek(py, 2) == quote))) {
			python_skip(py, is_long ? 3 : 1);
			return;
		} else if (c == '\n' && !is_long) {
			return;
		} else {
			py->at++;
		}
	}
}

/* Length of a backslash with its line's end; 0 where there is none. */
static size_t python_continued(const struct python *py)
{
	if (python_peek(py, 0) != '\\')
		return 0;
	if (python_peek(py, 1) == '\n')
		return 2;
	return python_peek(py, 1) == '\r' && python_peek(py, 2) == '\n' ? 3 : 0;
}

/* Behind blanks and continued lines; in brackets, behind lines and comments, too. */
static void python_skip_blanks(struct python *py, bool is_bracketed)
{
	while (py->at < py->end) {
		size_t n = python_continued(py);

		if (scan_is_blank(*py->at) || (is_bracketed && *py->at == '\n'))
			py->at++;
		else if (n)
			python_skip(py, n);
		else if (is_bracketed && *py->at == '#')
			python_skip_comment(py);
		else
			return;
	}
}

static struct slice python_word(struct python *py)
{
	struct slice word = {py->at, 0};

	while (py->at < py->end && scan_is_name(*py->at))
		py->at++;
	word.len = (size_t)(py->at - word.data);
	return word;
}

/* Adds "a.b.c" to the module; whether there was anything. */
static bool python_dotted(struct python *py)
{
	size_t was = py->module.len;

	for (;;) {
		struct slice word = python_word(py);

		if (word.len == 0)
			return py->module.len > was;
		if (word.len + py->module.len <= SCAN_NAME_MAX)
			buf_add(&py->module, word.data, word.len);
		python_skip_blanks(py, false);
		if (python_peek(py, 0) != '.')
			return true;
		python_skip(py, 1);
		python_skip_blanks(py, false);
		if (py->module.len <= SCAN_NAME_MAX)
			buf_add_byte(&py->module, '.');
	}
}

static void python_tell(struct python *py)
{
	if (!scan_tell(py->scan, SCAN_MODULE, buf_slice(&py->module)))
		py->is_full = true;
}

/* Behind "as x", if it is there. */
static void python_skip_as(struct python *py, bool is_bracketed)
{
	const uint8_t *from = py->at;

	if (slice_is(python_word(py), "as")) {
		python_skip_blanks(py, is_bracketed);
		python_word(py);
		python_skip_blanks(py, is_bracketed);
	} else {
		py->at = from;
	}
}

/* import a.b as c, d */
static void python_import(struct python *py)
{
	for (;;) {
		buf_clear(&py->module);
		if (!python_dotted(py))
			return;
		python_tell(py);
		python_skip_as(py, false);
		if (python_peek(py, 0) != ',')
			return;
		python_skip(py, 1);
		python_skip_blanks(py, false);
	}
}

static bool python_is_import(const struct python *py)
{
	size_t len = strlen("import");

	return (size_t)(py->end - py->at) >= len && memcmp(py->at, "import", len) == 0 &&
	       !scan_is_name(python_peek(py, len));
}

/* from ..a import (b as c, d) */
static void python_from(struct python *py)
{
	bool is_bracketed;

	buf_clear(&py->module);
	while (python_peek(py, 0) == '.') {
		if (py->module.len < PYTHON_LEVEL_MAX)
			buf_add_byte(&py->module, '.');
		python_skip(py, 1);
		python_skip_blanks(py, false);
	}
	if (py->module.len == 0 || !python_is_import(py))
		python_dotted(py);
	if (!slice_is(python_word(py), "import") || py->module.len == 0)
		return;
	python_tell(py);
	python_skip_blanks(py, false);
	is_bracketed = python_peek(py, 0) == '(';
	if (is_bracketed)
		python_skip(py, 1);
	for (;;) {
		struct slice name;

		python_skip_blanks(py, is_bracketed);
		name = python_word(py);
		if (name.len == 0)
			break;
		if (!scan_tell_member(py->scan, &py->module, name))
			py->is_full = true;
		python_skip_blanks(py, is_bracketed);
		python_skip_as(py, is_bracketed);
		if (python_peek(py, 0) != ',')
			break;
		python_skip(py, 1);
	}
	py->depth += is_bracketed; /* the rest of the statement closes it */
}

/* To where the next statement may begin: behind a ';' or a ':', or at a line's end. */
static void python_rest(struct python *py)
{
	static const bool is_special[256] = {
		['\n'] = true, ['"'] = true, ['\''] = true, ['#'] = true, ['\\'] = true,
		['('] = true,  ['['] = true, ['{'] = true,  [')'] = true, [']'] = true,
		['}'] = true,  [':'] = true, [';'] = true};

	while (py->at < py->end) {
		uint8_t c = *py->at;

		if (!is_special[c]) {
			py->at++;
		} else if (c == '"' || c == '\'') {
			python_skip_string(py);
		} else if (c == '#') {
			python_skip_comment(py);
		} else if (c == '\\') {
			python_skip(py, python_continued(py) ? python_continued(py) : 1);
		} else if (c == '\n' && py->depth == 0) {
			return;
		} else {
			py->at++;
			if (strchr("([{", c))
				py->depth++;
			else if (strchr(")]}", c))
				py->depth -= py->depth > 0;
			else if (c != '\n' && py->depth == 0)
				return;
		}
	}
}

/* What stands before a line's first word; false where the line holds nothing. */
static bool python_indent(struct python *py)
{
	py->indent = 0;
	for (; py->at < py->end && scan_is_blank(*py->at); py->at++) {
		if (*py->at == '\t')
			py->indent = (py->indent / 8 + 1) * 8;
		else if (*py->at == '\f')
			py->indent = 0;
		else
			py->indent++;
	}
	if (python_peek(py, 0) == '#')
		python_skip_comment(py);
	return py->at < py->end && *py->at != '\n';
}

/* A line as Python sees one: to the end of its last statement. */
static void python_line(struct python *py)
{
	bool is_first = true;

	if (py->is_body && py->indent <= py->body)
		py->is_body = false;
	while (py->at < py->end && *py->at != '\n') {
		struct slice word;

		python_skip_blanks(py, false);
		word = python_word(py);
		python_skip_blanks(py, false);
		if (!py->is_body && (slice_is(word, "def") || slice_is(word, "class") ||
				     (is_first && slice_is(word, "async") &&
				      python_peek(py, 0) == 'd'))) {
			py->is_body = true;
			py->body = py->indent;
		}
		if (!py->is_body && slice_is(word, "import"))
			python_import(py);
		else if (!py->is_body && slice_is(word, "from"))
			python_from(py);
		python_rest(py);
		is_first = false;
	}
}

void scan_python(struct scan *scan)
{
	struct slice text = scan_load(scan, SCAN_READ_MAX);
	struct python py = {.scan = scan, .at = text.data, .end = text.data + text.len};

	if (text.len >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0)
		python_skip(&py, 3);
	while (py.at < py.end && !py.is_full) {
		if (python_indent(&py))
			python_line(&py);
		python_skip(&py, 1);
	}
	buf_deinit(&py.module);
}
