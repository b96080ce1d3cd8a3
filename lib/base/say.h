/*
 * What the programs say to people and scripts: lines on stdout and stderr. All of it is
 * escaped (text_escape()) once it is put together, but for the newline at its end: names
 * and messages of others steer no terminal and begin no line.
 *
 * Threads: any; a line is written as a whole.
 */
#pragma once

#include "lib/base/buf.h"

/* Called before each line on stderr while it is set: whoever has something standing on
 * the terminal's line takes it away. NULL: nobody. */
void say_set_before(void (*before)(void));
/* A line on stderr; the newline is added. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same with text that was escaped where it comes from, such as a worker's notes:
 * "who: text". */
void say_escaped(const char *who, const char *text);

/* Of what others name, as many times as they like, the first SAY_FEW_MAX are said, and of
 * the others how many there are. Starts zeroed. */
#define SAY_FEW_MAX 100
struct say_few {
	size_t n;
};
bool say_few(struct say_few *few); /* one more: whether it is to be said */
void say_rest(const struct say_few *few, const char *of_what);

/* A piece on stdout; a newline at its very end ends the line. */
void say_out(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Bytes that may hold NULs and anything else, on stdout. */
void say_bytes(struct slice bytes);
/* A document of our own making (JSON, help): as it is. */
void say_raw(const char *text);

/* Where a reader may want each line at once. A failure is kept for say_end(). */
void say_flush(void);
/* At a program's end: flushes stdout. False where something of it could not be written,
 * which was then said on stderr in the name of who; a reader that has gone does not
 * count. */
bool say_end(const char *who);
