/*
 * Owns nothing: the modules that Rust's source text declares, and what its include macros
 * name. Where a module lies depends on whether its file is a crate's root, which the text
 * does not say: all places are told.
 *
 * Threads: any. One pass; every step moves at forward.
 */
#include <string.h>

#include "predict/scan_internal.h"

#define RUST_NAME_MAX  128 /* bytes of a module's name */
#define RUST_DEPTH_MAX 8   /* of modules in modules of one file */

/* A module whose text is in braces: others in it are in a directory of its name. */
struct rust_inline {
	size_t n_braces; /* that are open around it */
	size_t dir_len;  /* without its name */
};

struct rust {
	struct scan *scan;
	const uint8_t *at;
	const uint8_t *end;
	struct rust_inline inlines[RUST_DEPTH_MAX];
	size_t n_inlines;
	size_t n_braces;
	struct buf dir; /* of the modules that are open: "a/b/" */
	bool is_full;   /* no more names are taken */
};

static uint8_t rust_peek(const struct rust *rust, size_t n)
{
	return n < (size_t)(rust->end - rust->at) ? rust->at[n] : 0;
}

static void rust_skip(struct rust *rust, size_t n)
{
	size_t left = (size_t)(rust->end - rust->at);

	rust->at += n < left ? n : left;
}

static bool rust_is_comment(const struct rust *rust)
{
	return rust_peek(rust, 0) == '/' &&
	       (rust_peek(rust, 1) == '/' || rust_peek(rust, 1) == '*');
}

/* Comments with stars hold others. */
static void rust_skip_comment(struct rust *rust)
{
	size_t depth = 0;

	if (rust_peek(rust, 1) == '/') {
		while (rust->at < rust->end && *rust->at != '\n')
			rust->at++;
		return;
	}
	do {
		if (rust_peek(rust, 0) == '/' && rust_peek(rust, 1) == '*')
			depth++;
		else if (rust_peek(rust, 0) == '*' && rust_peek(rust, 1) == '/')
			depth--;
		else {
			rust_skip(rust, 1);
			continue;
		}
		rust_skip(rust, 2);
	} while (depth > 0 && rust->at < rust->end);
}

static void rust_skip_blanks(struct rust *rust)
{
	while (rust->at < rust->end) {
		if (scan_is_blank(*rust->at) || *rust->at == '\n')
			rust->at++;
		else if (rust_is_comment(rust))
			rust_skip_comment(rust);
		else
			return;
	}
}

static struct slice rust_string(struct rust *rust)
{
	struct slice text;

	rust_skip(rust, 1);
	text = (struct slice){rust->at, 0};
	while (rust->at < rust->end && *rust->at != '"')
		rust_skip(rust, *rust->at == '\\' ? 2 : 1);
	text.len = (size_t)(rust->at - text.data);
	rust_skip(rust, 1);
	return text;
}

/* Behind an r: a raw string, r##"…"##, is passed over; anything else is not. */
static void rust_skip_raw(struct rust *rust)
{
	size_t n_hashes = 0;
	size_t n_seen;

	while (rust_peek(rust, n_hashes) == '#')
		n_hashes++;
	if (rust_peek(rust, n_hashes) != '"') {
		rust_skip(rust, n_hashes);
		return;
	}
	rust_skip(rust, n_hashes + 1);
	while (rust->at < rust->end) {
		if (*rust->at++ != '"')
			continue;
		for (n_seen = 0; n_seen < n_hashes && rust_peek(rust, 0) == '#'; n_seen++)
			rust_skip(rust, 1);
		if (n_seen == n_hashes)
			return;
	}
}

/* At a ': behind a character; behind the ' of a lifetime. */
static void rust_skip_character(struct rust *rust)
{
	size_t n = 1;

	if (rust_peek(rust, 1) == '\\') {
		n = 3;
		while (n < 12 && rust_peek(rust, n) != '\'')
			n++;
	} else {
		n = 2;
		while (n < 5 && rust_peek(rust, n) >= 0x80)
			n++;
	}
	rust_skip(rust, rust_peek(rust, n) == '\'' ? n + 1 : 1);
}

static struct slice rust_word(struct rust *rust)
{
	struct slice word = {rust->at, 0};

	while (rust->at < rust->end && scan_is_name(*rust->at))
		rust->at++;
	word.len = (size_t)(rust->at - word.data);
	return word;
}

static void rust_tell(struct rust *rust, struct slice text)
{
	if (!scan_tell(rust->scan, SCAN_BESIDE, text))
		rust->is_full = true;
}

/* The places of a module in a directory: that of the file, or the one called after it. */
static void rust_places(struct rust *rust, struct slice dir, struct slice name)
{
	static const char *const endings[] = {".rs", "/mod.rs"};

	for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
		_cleanup_buf_ struct buf path = BUF_INIT;

		buf_add(&path, dir.data, dir.len);
		if (dir.len)
			buf_add_byte(&path, '/');
		buf_add(&path, rust->dir.data, rust->dir.len);
		buf_add(&path, name.data, name.len);
		buf_add_string(&path, endings[i]);
		rust_tell(rust, buf_slice(&path));
	}
}

/* At the '{' of a module. */
static void rust_open(struct rust *rust, struct slice name)
{
	if (rust->n_inlines == RUST_DEPTH_MAX)
		return;
	rust->inlines[rust->n_inlines++] =
		(struct rust_inline){rust->n_braces, rust->dir.len};
	buf_add(&rust->dir, name.data, name.len);
	buf_add_byte(&rust->dir, '/');
}

static void rust_brace(struct rust *rust)
{
	const struct rust_inline *last;

	if (*rust->at++ == '{') {
		rust->n_braces++;
		return;
	}
	rust->n_braces -= rust->n_braces > 0;
	if (rust->n_inlines == 0)
		return;
	last = &rust->inlines[rust->n_inlines - 1];
	if (last->n_braces == rust->n_braces) {
		rust->dir.len = last->dir_len;
		rust->n_inlines--;
	}
}

/* mod x; */
static void rust_module(struct rust *rust)
{
	static const char *const roots[] = {"lib.rs", "main.rs", "mod.rs"};
	struct slice stem = rust->scan->name;
	bool is_root = stem.len <= strlen(".rs") || stem.len > RUST_NAME_MAX;
	struct slice name;

	for (size_t i = 0; i < ARRAY_SIZE(roots); i++)
		is_root |= slice_is(stem, roots[i]);
	rust_skip_blanks(rust);
	if (rust_peek(rust, 0) == 'r' && rust_peek(rust, 1) == '#')
		rust_skip(rust, 2);
	name = rust_word(rust);
	rust_skip_blanks(rust);
	if (name.len == 0 || name.len > RUST_NAME_MAX)
		return;
	if (rust_peek(rust, 0) == '{')
		rust_open(rust, name);
	if (rust_peek(rust, 0) != ';')
		return;
	if (!is_root) {
		stem.len -= strlen(".rs");
		rust_places(rust, stem, name);
	}
	rust_places(rust, (struct slice){NULL, 0}, name);
}

/* Behind a sign, and what bracket there is: include_str!("x"), #[path = "x"]. */
static void rust_path(struct rust *rust, uint8_t sign)
{
	rust_skip_blanks(rust);
	if (rust_peek(rust, 0) != sign)
		return;
	rust_skip(rust, 1);
	rust_skip_blanks(rust);
	if (rust_peek(rust, 0) == '{')
		rust->n_braces++;
	if (rust_peek(rust, 0) && strchr("([{", rust_peek(rust, 0)))
		rust_skip(rust, 1);
	rust_skip_blanks(rust);
	if (rust_peek(rust, 0) == '"')
		rust_tell(rust, rust_string(rust));
}

static void rust_name(struct rust *rust)
{
	struct slice word = rust_word(rust);

	if (slice_is(word, "mod"))
		rust_module(rust);
	else if (slice_is(word, "include") || slice_is(word, "include_str") ||
		 slice_is(word, "include_bytes"))
		rust_path(rust, '!');
	else if (slice_is(word, "path"))
		rust_path(rust, '=');
	else if (slice_is(word, "r") || slice_is(word, "br") || slice_is(word, "cr"))
		rust_skip_raw(rust);
}

void scan_rust(struct scan *scan)
{
	struct slice text = scan_load(scan, SCAN_READ_MAX);
	struct rust rust = {.scan = scan, .at = text.data, .end = text.data + text.len};

	while (rust.at < rust.end && !rust.is_full) {
		if (scan_is_name(*rust.at))
			rust_name(&rust);
		else if (rust_is_comment(&rust))
			rust_skip_comment(&rust);
		else if (*rust.at == '"')
			rust_string(&rust);
		else if (*rust.at == '\'')
			rust_skip_character(&rust);
		else if (*rust.at == '{' || *rust.at == '}')
			rust_brace(&rust);
		else
			rust.at++;
	}
	buf_deinit(&rust.dir);
}
