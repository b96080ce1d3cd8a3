/*
 * Owns nothing: the packages that a Go source imports. Imports stand before all else but
 * the package's name, so little of a file is looked at. What a constraint leaves out of
 * every build, a program that makes other files, is no part of its package: it says
 * nothing.
 *
 * Threads: any. One pass; every step moves at forward.
 */
#include <string.h>

#include "predict/scan_internal.h"

#define GO_READ_MAX ((size_t)64 << 10) /* imports do not stand behind so much */

struct go {
	struct scan *scan;
	const uint8_t *at;
	const uint8_t *end;
	bool is_ignored;
};

/* Over a comment; false where there is none. */
static bool go_skip_comment(struct go *go)
{
	static const char ignored[] = "//go:build ignore";
	size_t left = (size_t)(go->end - go->at);
	const uint8_t *behind;

	if (left < 2 || go->at[0] != '/' || (go->at[1] != '/' && go->at[1] != '*'))
		return false;
	go->is_ignored |= left >= sizeof(ignored) &&
			  memcmp(go->at, ignored, sizeof(ignored) - 1) == 0;
	behind = go->at[1] == '/' ? memchr(go->at, '\n', left)
				  : memmem(go->at + 2, left - 2, "*/", 2);
	if (!behind)
		go->at = go->end;
	else
		go->at = behind + (go->at[1] == '/' ? 1 : 2);
	return true;
}

/* Over blanks, line ends, comments and semicolons. */
static void go_skip_blanks(struct go *go)
{
	while (go->at < go->end) {
		if (scan_is_blank(*go->at) || *go->at == '\n' || *go->at == ';')
			go->at++;
		else if (!go_skip_comment(go))
			return;
	}
}

static struct slice go_word(struct go *go)
{
	struct slice word;

	go_skip_blanks(go);
	word = (struct slice){go->at, 0};
	while (go->at < go->end && scan_is_name(*go->at))
		go->at++;
	word.len = (size_t)(go->at - word.data);
	return word;
}

/* One import: a name of its own perhaps, "." or "_" too, and a path in quotes. False
 * where there is none. */
static bool go_import(struct go *go)
{
	struct slice text;
	uint8_t quote;

	(void)go_word(go);
	while (go->at < go->end && (*go->at == '.' || scan_is_blank(*go->at)))
		go->at++;
	quote = go->at < go->end ? *go->at : 0;
	if (quote != '"' && quote != '`')
		return false;
	text = (struct slice){++go->at, 0};
	while (go->at < go->end && *go->at != quote && *go->at != '\n')
		go->at++;
	if (go->at == go->end || *go->at != quote)
		return false;
	text.len = (size_t)(go->at++ - text.data);
	if (slice_is(text, "C") || slice_is(text, "unsafe"))
		return true; /* the compiler has them */
	return scan_tell(go->scan, SCAN_GO, text);
}

void scan_go(struct scan *scan)
{
	struct slice text = scan_load(scan, GO_READ_MAX);
	struct go go = {.scan = scan, .at = text.data, .end = text.data + text.len};

	if (!slice_is(go_word(&go), "package") || go.is_ignored)
		return;
	(void)go_word(&go);
	while (slice_is(go_word(&go), "import")) {
		go_skip_blanks(&go);
		if (go.at == go.end || *go.at != '(') {
			if (!go_import(&go))
				return;
			continue;
		}
		go.at++;
		while (go_import(&go))
			;
		go_skip_blanks(&go);
		if (go.at == go.end || *go.at++ != ')')
			return;
	}
}
