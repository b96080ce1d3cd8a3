/*
 * Text for people. Names, messages and log lines may hold any bytes: what reaches a
 * terminal or a log goes through text_escape() at the last moment.
 */
#pragma once

#include "lib/base/buf.h"

/* Appends bytes to out with all that is not printable as \xNN: control characters (C0,
 * C1, DEL), bytes that are no UTF-8, and what turns or hides text (bidirectional
 * controls, line and paragraph separators, invisible ones). A backslash is doubled, so
 * that different bytes never look the same. */
void text_escape(struct slice bytes, struct buf *out);
/* The same for text that was escaped where it comes from, if that is to be believed:
 * backslashes stay. */
void text_escape_again(struct slice bytes, struct buf *out);
/* Whether text_escape() would change nothing but backslashes. */
bool text_is_plain(struct slice bytes);
/* The length in bytes of the UTF-8 sequence at bytes[0]; 0 where there is none. */
size_t text_utf8_len(struct slice bytes);
/* Whether all of it is UTF-8, as a string in a message must be. */
bool text_is_utf8(struct slice bytes);
