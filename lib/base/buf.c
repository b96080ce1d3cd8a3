/*
 * Owns the bytes of bufs. The hash seed is drawn once and never changes. No locks: a buf
 * is one thread's.
 */
#include "lib/base/buf.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/alloc.h"
#include "lib/base/sync.h"

void buf_deinit(struct buf *buf)
{
	free(buf->data);
	*buf = BUF_INIT;
}

void buf_clear(struct buf *buf)
{
	buf->len = 0;
	if (buf->data)
		buf->data[0] = '\0';
}

void buf_reserve(struct buf *buf, size_t n_more)
{
	buf->data = alloc_grow(buf->data, &buf->cap, buf->len + n_more + 1, 1);
	buf->data[buf->len] = '\0';
}

void buf_add(struct buf *buf, const void *data, size_t len)
{
	buf_reserve(buf, len);
	if (len)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
}

void buf_add_string(struct buf *buf, const char *s)
{
	buf_add(buf, s, strlen(s));
}

void buf_add_byte(struct buf *buf, uint8_t byte)
{
	buf_add(buf, &byte, 1);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, format);
	text = alloc_vprintf(format, ap);
	va_end(ap);
	buf_add_string(buf, text);
}

const char *buf_string(const struct buf *buf)
{
	return buf->data ? (const char *)buf->data : "";
}

char *buf_steal_string(struct buf *buf)
{
	char *s;

	buf_reserve(buf, 0);
	s = (char *)buf->data;
	*buf = BUF_INIT;
	return s;
}

struct slice slice_of(const char *s)
{
	return (struct slice){(const uint8_t *)s, strlen(s)};
}

bool slice_equal(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

int slice_compare(struct slice a, struct slice b)
{
	size_t n = a.len < b.len ? a.len : b.len;
	int order = n ? memcmp(a.data, b.data, n) : 0;

	if (order)
		return order;
	return a.len < b.len ? -1 : a.len > b.len;
}

bool slice_is(struct slice s, const char *text)
{
	return slice_equal(s, slice_of(text));
}

static uint64_t slice_seed[2];

static void slice_draw_seed(void)
{
	if (getrandom(slice_seed, sizeof(slice_seed), 0) != (ssize_t)sizeof(slice_seed))
		slice_seed[0] = (uint64_t)(uintptr_t)&slice_seed;
}

static uint64_t slice_mix(uint64_t a, uint64_t b)
{
	__extension__ unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t slice_hash(struct slice s)
{
	static struct sync_once once = SYNC_ONCE_INIT;
	uint64_t h;
	uint64_t word;

	sync_once(&once, slice_draw_seed);
	h = slice_seed[0] ^ (uint64_t)s.len;
	for (; s.len >= 8; s.data += 8, s.len -= 8) {
		memcpy(&word, s.data, 8);
		h = slice_mix(h ^ word, 0x9e3779b97f4a7c15u ^ slice_seed[1]);
	}
	word = 0;
	if (s.len)
		memcpy(&word, s.data, s.len);
	h = slice_mix(h ^ word, 0xd6e8feb86659fd93u ^ slice_seed[1]);
	return slice_mix(h, 0xa0761d6478bd642fu);
}
