/*
 * Allocation. An allocation that fails ends the process, so that no caller has to check:
 * gRPC's allocator does the same, so the process would not outlive it anyway. A size that
 * came from a peer, a disk or a user goes through alloc_bounded(), which may return NULL,
 * or through an arena.
 *
 * Whoever calls owns the result, and frees it with free(). Threads: any.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed, as is an array. */
void *alloc_zero(size_t size) __attribute__((malloc, returns_nonnull, alloc_size(1)));
void *alloc_array(size_t n, size_t size)
	__attribute__((malloc, returns_nonnull, alloc_size(1, 2)));
/* What was added is not zeroed. */
void *alloc_resize(void *p, size_t n, size_t size) __attribute__((returns_nonnull));
char *alloc_string(const char *s) __attribute__((malloc, returns_nonnull));
char *alloc_string_n(const char *s, size_t len) __attribute__((malloc, returns_nonnull));
char *alloc_printf(const char *format, ...)
	__attribute__((malloc, returns_nonnull, format(printf, 1, 2)));
char *alloc_vprintf(const char *format, va_list ap)
	__attribute__((malloc, returns_nonnull, format(printf, 1, 0)));
/* A copy of len bytes; not NULL for none. */
void *alloc_memdup(const void *data, size_t len) __attribute__((malloc));

/* NULL where size is over limit or memory is short; not zeroed. */
void *alloc_bounded(size_t size, size_t limit) __attribute__((malloc));

#define alloc_new(type) ((type *)alloc_zero(sizeof(type)))

/* Grows an array to hold at least n_needed elements; *cap is its capacity, in elements.
 * What was added is not zeroed. */
void *alloc_grow(void *array, size_t *cap, size_t n_needed, size_t size)
	__attribute__((returns_nonnull));

/*
 * Test hook: makes the nth next bounded allocation fail (0: none). Only bounded
 * allocations can fail, so a sweep over them reaches every failure path.
 */
void alloc_fail_after(unsigned int n);
