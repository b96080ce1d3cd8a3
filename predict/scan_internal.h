/*
 * What the scanners share: a file as it is being looked at, with what is left of its
 * bounds. Each scanner is one function over a struct scan, and has a file of its own;
 * scan.c chooses among them.
 *
 * Threads: one at a time; a struct scan lives for one scan_run().
 */
#pragma once

#include "predict/scan.h"

struct scan {
	const struct scan_file *file;
	struct slice name; /* its own, without directories */
	scan_found_fn *found;
	void *ctx;
	size_t n_found;
	size_t n_read;   /* bytes that were asked for */
	struct buf text; /* the file's beginning, as far as scan_load() has been asked */
	bool is_short;   /* text ends where the file does, or reading failed */
};

/* Hands a name on, unless it is empty, too long or has a NUL; false where no more are
 * taken. */
bool scan_tell(struct scan *scan, enum scan_kind kind, struct slice text);
bool scan_tell_string(struct scan *scan, enum scan_kind kind, const char *text);
/* A Python module's member, which may be a module, too: "a.b" of "a"; not of "*". The
 * module is as it was afterwards. */
bool scan_tell_member(struct scan *scan, struct buf *module, struct slice name);
/* The file's first len bytes, fewer where there are not so many; valid until the next
 * call. */
struct slice scan_load(struct scan *scan, size_t len);
/* Any bytes of it; how many there are. */
size_t scan_read(struct scan *scan, uint64_t at, void *buf, size_t len);

void scan_include(struct scan *scan);
void scan_elf(struct scan *scan);
void scan_link(struct scan *scan); /* a linker's script */
void scan_shell(struct scan *scan);
void scan_perl(struct scan *scan);
void scan_pyc(struct scan *scan);
void scan_python(struct scan *scan);
void scan_rust(struct scan *scan);
void scan_go(struct scan *scan);
void scan_js(struct scan *scan);
void scan_package(struct scan *scan); /* a package.json */

/* Of a script's first line: tells of the interpreter, and says what program it is,
 * without directories; empty where there is none. */
struct slice scan_interpreter(struct scan *scan);

/* Small things about text that several languages need. */
static inline bool scan_is_letter(uint8_t c)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

static inline bool scan_is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static inline bool scan_is_name(uint8_t c)
{
	return scan_is_letter(c) || scan_is_digit(c);
}

static inline bool scan_is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}
