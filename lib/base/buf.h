/*
 * Growable bytes, and slices (borrowed views of bytes). A buf always has a NUL after its
 * last byte, which len does not count, so that text can be read as a C string. Memory
 * that runs out ends the process (alloc.h): whoever adds bytes of others has a limit for
 * them. Threads: one at a time.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"

struct slice {
	const uint8_t *data;
	size_t len;
};

struct buf {
	uint8_t *data;
	size_t len;
	size_t cap;
};

#define BUF_INIT      ((struct buf){0})
#define _cleanup_buf_ _cleanup_(buf_deinit)

void buf_deinit(struct buf *buf);
void buf_clear(struct buf *buf); /* keeps the memory */
void buf_reserve(struct buf *buf, size_t n_more);
void buf_add(struct buf *buf, const void *data, size_t len);
void buf_add_string(struct buf *buf, const char *s);
void buf_add_byte(struct buf *buf, uint8_t byte);
void buf_printf(struct buf *buf, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
const char *buf_string(
	const struct buf *buf);          /* "" where empty; valid until it changes */
char *buf_steal_string(struct buf *buf); /* the caller frees; buf is empty again */

static inline struct slice buf_slice(const struct buf *buf)
{
	return (struct slice){buf->data, buf->len};
}

struct slice slice_of(const char *s);
bool slice_equal(struct slice a, struct slice b);
int slice_compare(struct slice a, struct slice b); /* bytewise, shorter first */
bool slice_is(struct slice s, const char *text);
uint64_t slice_hash(struct slice s); /* seeded once a process: safe against flooding */
