/*
 * Owns nothing but the countdown of the failure hook. Any thread may call; the hook is
 * for single-threaded tests.
 */
#include "lib/base/alloc.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/cleanup.h"

static atomic_uint alloc_countdown;

void require_failed(const char *what, const char *file, int line)
{
	(void)fprintf(stderr, "bug: %s:%d: %s does not hold\n", file, line, what);
	abort();
}

static void *alloc_or_die(void *p)
{
	if (!p) {
		(void)fputs("out of memory\n", stderr);
		abort();
	}
	return p;
}

void *alloc_zero(size_t size)
{
	return alloc_or_die(calloc(1, size ? size : 1));
}

void *alloc_array(size_t n, size_t size)
{
	return alloc_or_die(calloc(n ? n : 1, size));
}

void *alloc_resize(void *p, size_t n, size_t size)
{
	return alloc_or_die(reallocarray(p, n ? n : 1, size));
}

char *alloc_string(const char *s)
{
	return alloc_or_die(strdup(s));
}

char *alloc_string_n(const char *s, size_t len)
{
	char *copy = alloc_zero(len + 1);

	if (len)
		memcpy(copy, s, len);
	return copy;
}

char *alloc_vprintf(const char *format, va_list ap)
{
	char *out = NULL;

	if (vasprintf(&out, format, ap) < 0)
		out = NULL;
	return alloc_or_die(out);
}

char *alloc_printf(const char *format, ...)
{
	va_list ap;
	char *out;

	va_start(ap, format);
	out = alloc_vprintf(format, ap);
	va_end(ap);
	return out;
}

void *alloc_memdup(const void *data, size_t len)
{
	void *copy = alloc_zero(len);

	if (len)
		memcpy(copy, data, len);
	return copy;
}

void *alloc_bounded(size_t size, size_t limit)
{
	if (size > limit)
		return NULL;
	if (atomic_load(&alloc_countdown) && atomic_fetch_sub(&alloc_countdown, 1) == 1)
		return NULL;
	return malloc(size ? size : 1);
}

void *alloc_grow(void *array, size_t *cap, size_t n_needed, size_t size)
{
	size_t n = *cap ? *cap : 8;

	if (n_needed <= *cap)
		return array ? array : alloc_zero(size);
	while (n < n_needed)
		n += n / 2 + 1;
	array = alloc_resize(array, n, size);
	*cap = n;
	return array;
}

void alloc_fail_after(unsigned int n)
{
	atomic_store(&alloc_countdown, n);
}
