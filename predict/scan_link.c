/*
 * Owns nothing: scripts that stand where a linker looks for a library, such as libc.so.
 * Of their language only GROUP, INPUT and AS_NEEDED name files.
 *
 * Threads: any.
 */
#include <stdio.h>
#include <string.h>

#include "predict/scan_internal.h"

#define LINK_READ_MAX  ((size_t)16 << 10) /* they are short */
#define LINK_DEPTH_MAX 8                  /* of brackets */

struct link {
	struct scan *scan;
	struct slice rest;
};

static void link_skip(struct link *link, size_t n)
{
	link->rest.data += n;
	link->rest.len -= n;
}

static bool link_is_blank(uint8_t c)
{
	return scan_is_blank(c) || c == '\n' || c == ',' || c == ';' || c == '"';
}

/* The next word or bracket; empty at the end. */
static struct slice link_next(struct link *link)
{
	struct slice word;

	while (link->rest.len > 0) {
		if (link_is_blank(link->rest.data[0])) {
			link_skip(link, 1);
		} else if (link->rest.len >= 2 && memcmp(link->rest.data, "/*", 2) == 0) {
			const uint8_t *end =
				memmem(link->rest.data + 2, link->rest.len - 2, "*/", 2);

			link_skip(link, end ? (size_t)(end + 2 - link->rest.data)
					    : link->rest.len);
		} else {
			break;
		}
	}
	word = (struct slice){link->rest.data, 0};
	while (word.len < link->rest.len && !link_is_blank(word.data[word.len]) &&
	       !(word.len && strchr("(){}", word.data[word.len])))
		if (strchr("(){}", word.data[word.len++]))
			break;
	link_skip(link, word.len);
	return word;
}

static bool link_file(struct link *link, struct slice word)
{
	static const char root[] = "$SYSROOT";
	char name[256];
	int n;

	if (word.data[0] == '=') {
		word.data++;
		word.len--;
	} else if (word.len > strlen(root) &&
		   memcmp(word.data, root, strlen(root)) == 0) {
		word.data += strlen(root);
		word.len -= strlen(root);
	}
	if (word.len > 2 && memcmp(word.data, "-l", 2) == 0) {
		n = snprintf(name, sizeof(name), "lib%.*s.so",
			     word.len < 200 ? (int)word.len - 2 : 0, word.data + 2);
		return scan_tell(link->scan, SCAN_LIBRARY,
				 (struct slice){(const uint8_t *)name, (size_t)n});
	}
	return scan_tell(link->scan,
			 word.len && memchr(word.data, '/', word.len) ? SCAN_PATH
								      : SCAN_LIBRARY,
			 word);
}

void scan_link(struct scan *scan)
{
	struct slice text = scan_load(scan, LINK_READ_MAX);
	struct link link = {scan, text};
	bool names_files[LINK_DEPTH_MAX] = {false};
	bool is_list_next = false;
	size_t depth = 0;

	if (text.len && memchr(text.data, 0, text.len))
		return;
	for (;;) {
		struct slice word = link_next(&link);

		if (word.len == 0)
			return;
		if (slice_is(word, "(")) {
			if (++depth == LINK_DEPTH_MAX)
				return;
			names_files[depth] = is_list_next;
			is_list_next = false;
		} else if (slice_is(word, ")")) {
			depth -= depth > 0;
		} else {
			is_list_next = slice_is(word, "GROUP") ||
				       slice_is(word, "INPUT") ||
				       slice_is(word, "AS_NEEDED");
			if (!is_list_next && names_files[depth] &&
			    !link_file(&link, word))
				return;
		}
	}
}
