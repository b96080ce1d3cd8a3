/*
 * Owns nothing: what JavaScript, TypeScript and a package.json say of other files. Of the
 * language it knows what hides a module's name or looks like one: comments, strings,
 * templates and regular expressions. Whether a '/' divides is guessed from what stands
 * before it; a wrong guess ends with the line.
 *
 * Threads: any. One pass; every step moves at forward.
 */
#include <string.h>

#include "predict/scan_internal.h"

#define JS_TEMPLATES_MAX 32 /* in each other */
#define JS_EXPORTS_MAX   4  /* files of a package that are told */

struct js {
	struct scan *scan;
	const uint8_t *at;
	const uint8_t *end;
	size_t templates[JS_TEMPLATES_MAX]; /* brackets that are open where each goes on
					     */
	size_t n_templates;
	size_t n_braces;
	bool is_value;   /* what stands before at is: a '/' divides it */
	bool is_member;  /* a '.' stands before at */
	bool is_imports; /* an import or export has begun: a "from" may follow */
	bool is_full;    /* no more names are taken */
};

static uint8_t js_peek(const struct js *js, size_t n)
{
	return n < (size_t)(js->end - js->at) ? js->at[n] : 0;
}

static void js_skip(struct js *js, size_t n)
{
	size_t left = (size_t)(js->end - js->at);

	js->at += n < left ? n : left;
}

static bool js_is_name(uint8_t c)
{
	return scan_is_name(c) || c == '$';
}

/* At "//" or "/\*": behind the comment, or at its line's end. */
static void js_skip_comment(struct js *js)
{
	bool is_line = js_peek(js, 1) == '/';
	const uint8_t *end;

	js_skip(js, 2);
	if (js->at == js->end)
		return;
	if (is_line)
		end = memchr(js->at, '\n', (size_t)(js->end - js->at));
	else
		end = memmem(js->at, (size_t)(js->end - js->at), "*/", 2);
	js->at = end ? end + (is_line ? 0 : 2) : js->end;
}

static bool js_is_comment(const struct js *js)
{
	return js_peek(js, 0) == '/' && (js_peek(js, 1) == '/' || js_peek(js, 1) == '*');
}

static void js_skip_blanks(struct js *js)
{
	while (js->at < js->end) {
		if (scan_is_blank(*js->at) || *js->at == '\n')
			js->at++;
		else if (js_is_comment(js))
			js_skip_comment(js);
		else
			return;
	}
}

/* At a quote: behind the string, or at the end of its line. */
static struct slice js_string(struct js *js)
{
	uint8_t quote = js_peek(js, 0);
	struct slice text;

	js_skip(js, 1);
	text = (struct slice){js->at, 0};
	while (js->at < js->end && *js->at != '\n') {
		uint8_t c = *js->at;

		if (c == quote) {
			text.len = (size_t)(js->at - text.data);
			js_skip(js, 1);
			break;
		}
		js_skip(js, c == '\\' ? 2 : 1);
	}
	js->is_value = true;
	return text;
}

/* In a template: behind it, or behind the "${" of what is expanded in it. */
static void js_template(struct js *js)
{
	while (js->at < js->end) {
		uint8_t c = *js->at;

		if (c == '$' && js_peek(js, 1) == '{') {
			js_skip(js, 2);
			js->is_value = false;
			if (js->n_templates < JS_TEMPLATES_MAX)
				js->templates[js->n_templates++] = js->n_braces;
			js->n_braces++;
			return;
		}
		js_skip(js, c == '\\' ? 2 : 1);
		if (c == '`')
			break;
	}
	js->is_value = true;
}

/* At a regular expression's '/': behind it, or at the end of its line. */
static void js_skip_expression(struct js *js)
{
	bool is_class = false;

	for (js_skip(js, 1); js->at < js->end && *js->at != '\n';) {
		uint8_t c = *js->at;

		js_skip(js, c == '\\' ? 2 : 1);
		if (c == '[')
			is_class = true;
		else if (c == ']')
			is_class = false;
		else if (c == '/' && !is_class)
			break;
	}
	js->is_value = true;
}

/* A module by its name, as it is looked for. */
static void js_tell(struct js *js, struct slice text)
{
	enum scan_kind kind = SCAN_PACKAGE;

	if (text.len == 0 || memchr(text.data, '\\', text.len) ||
	    memchr(text.data, ':', text.len) || text.data[0] == '#')
		return;
	if (text.data[0] == '.')
		kind = SCAN_BESIDE;
	else if (text.data[0] == '/')
		kind = SCAN_PATH;
	if (!scan_tell(js->scan, kind, text))
		js->is_full = true;
}

/* A string that stands here is a module's name. */
static void js_name(struct js *js)
{
	const uint8_t *from;

	js_skip_blanks(js);
	if (js_peek(js, 0) == '"' || js_peek(js, 0) == '\'') {
		struct slice text = js_string(js);

		js_skip_blanks(js);
		if (js_peek(js, 0) != '+') /* else it is a part of one */
			js_tell(js, text);
		return;
	}
	if (js_peek(js, 0) != '`')
		return;
	from = js->at + 1;
	js_skip(js, 1);
	while (js->at < js->end && !strchr("`$\\\n", *js->at))
		js->at++;
	if (js_peek(js, 0) == '`')
		js_tell(js, (struct slice){from, (size_t)(js->at - from)});
	js_template(js);
}

/* require("x"), require.resolve("x") */
static void js_require(struct js *js)
{
	static const char resolve[] = "resolve";

	js_skip_blanks(js);
	if (js_peek(js, 0) == '.' && (size_t)(js->end - js->at) > strlen(resolve) &&
	    memcmp(js->at + 1, resolve, strlen(resolve)) == 0)
		js_skip(js, 1 + strlen(resolve));
	if (js_peek(js, 0) != '(')
		return;
	js_skip(js, 1);
	js->is_value = false;
	js_name(js);
}

static void js_import(struct js *js)
{
	js_skip_blanks(js);
	if (js_peek(js, 0) == '(') {
		js_skip(js, 1);
		js->is_value = false;
		js_name(js);
	} else if (js_peek(js, 0) == '"' || js_peek(js, 0) == '\'') {
		js_name(js);
	} else if (js_peek(js, 0) != '.') {
		js->is_imports = true;
	}
}

static bool js_is_before_value(struct slice word)
{
	static const char *const words[] = {
		"return", "typeof", "case", "in", "of",    "new",   "delete",
		"void",   "throw",  "else", "do", "await", "yield", "instanceof"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (slice_is(word, words[i]))
			return true;
	}
	return false;
}

static void js_word(struct js *js)
{
	struct slice word = {js->at, 0};
	bool is_member = js->is_member;

	while (js->at < js->end && js_is_name(*js->at))
		js->at++;
	word.len = (size_t)(js->at - word.data);
	js->is_member = false;
	js->is_value = is_member || !js_is_before_value(word);
	if (is_member)
		return;
	if (slice_is(word, "require")) {
		js_require(js);
	} else if (slice_is(word, "import")) {
		js_import(js);
	} else if (slice_is(word, "export")) {
		js->is_imports = true;
	} else if (js->is_imports && slice_is(word, "from")) {
		js_skip_blanks(js);
		if (js_peek(js, 0) == '"' || js_peek(js, 0) == '\'')
			js->is_imports = false;
		js_name(js);
	}
}

static void js_sign(struct js *js)
{
	uint8_t c = *js->at++;

	js->is_member = c == '.' && js_peek(js, 0) != '.';
	if (c == '.' && js_peek(js, 0) == '.' && js_peek(js, 1) == '.') { /* "...x" */
		js_skip(js, 2);
		js->is_member = false;
	}
	if (c == ';' || c == '=' || c == '(')
		js->is_imports = false;
	if (c == '{')
		js->n_braces++;
	js->is_value = c == ')' || c == ']' || c == '}';
	if (c != '}')
		return;
	js->n_braces -= js->n_braces > 0;
	if (js->n_templates && js->templates[js->n_templates - 1] == js->n_braces) {
		js->n_templates--;
		js_template(js);
	}
}

void scan_js(struct scan *scan)
{
	struct slice text = scan_load(scan, SCAN_READ_MAX);
	struct js js = {.scan = scan, .at = text.data, .end = text.data + text.len};

	if (js_peek(&js, 0) == '#' && js_peek(&js, 1) == '!') {
		const uint8_t *line = memchr(text.data, '\n', text.len);

		js.at = line ? line : js.end;
	}
	while (js.at < js.end && !js.is_full) {
		uint8_t c = *js.at;

		if (js_is_name(c)) {
			js_word(&js);
		} else if (scan_is_blank(c) || c == '\n') {
			js.at++;
		} else if (js_is_comment(&js)) {
			js_skip_comment(&js);
		} else if (c == '"' || c == '\'') {
			js_string(&js);
		} else if (c == '`') {
			js_skip(&js, 1);
			js_template(&js);
		} else if (c == '/' && !js.is_value) {
			js_skip_expression(&js);
		} else {
			js_sign(&js);
		}
	}
}

/* "main" and the first few of "exports", by which a package is entered. */
void scan_package(struct scan *scan)
{
	struct slice text = scan_load(scan, SCAN_READ_MAX);
	struct js js = {.scan = scan, .at = text.data, .end = text.data + text.len};
	struct slice key = {NULL, 0};
	size_t n_exports = 0;
	bool is_exports = false;

	while (js.at < js.end) {
		struct slice word;

		if (*js.at != '"') {
			js.at++;
			continue;
		}
		word = js_string(&js);
		js_skip_blanks(&js);
		if (js_peek(&js, 0) == ':') {
			key = word;
			is_exports |= slice_is(word, "exports");
		} else if (slice_is(key, "main")) {
			scan_tell(scan, SCAN_BESIDE, word);
		} else if (is_exports && n_exports < JS_EXPORTS_MAX && word.len > 2 &&
			   memcmp(word.data, "./", 2) == 0 &&
			   !memchr(word.data, '*', word.len)) {
			n_exports++;
			scan_tell(scan, SCAN_BESIDE, word);
		}
	}
}
