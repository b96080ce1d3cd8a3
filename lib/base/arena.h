/*
 * Arena with a cap: many small allocations that end together. Decoding a peer's message
 * goes through one (4 MiB of wire can become 255 MiB of structs otherwise), and an
 * allocation over the cap is NULL, which protobuf-c passes on as a failed unpack.
 *
 * Every function returns NULL where the cap or memory is reached, and remembers that in
 * is_full: whoever builds from counts that came from outside checks each result, or,
 * where nothing is written through it, is_full once at the end; the call or the action
 * then ends with arena_error(). Nothing here aborts.
 *
 * Threads: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"
#include "lib/base/error.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks;
	size_t used;  /* bytes handed out by the newest chunk */
	size_t total; /* bytes of all chunks */
	size_t cap;
	bool is_full; /* something was refused since the last reset */
};

#define ARENA_CAP_DEFAULT ((size_t)256 << 20)
#define ARENA_INIT(max)   ((struct arena){.cap = (max)})
#define _cleanup_arena_   _cleanup_(arena_deinit)

void arena_deinit(struct arena *arena);
void arena_reset(struct arena *arena); /* keeps the newest chunk for reuse */
/* Aligned, not zeroed. */
void *arena_alloc(struct arena *arena, size_t size);
void *arena_zero(struct arena *arena, size_t size);
/* n elements of size bytes each, zeroed; not NULL for n 0. */
void *arena_array(struct arena *arena, size_t n, size_t size);
void *arena_memdup(struct arena *arena, const void *data, size_t len);
char *arena_string(struct arena *arena, const char *s);
char *arena_printf(struct arena *arena, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* One zeroed object of a type. */
#define arena_new(arena, type) ((type *)arena_zero((arena), sizeof(type)))

/* RESOURCE_EXHAUSTED: "WHAT needs more memory than one may take"; what as a subject. */
struct error *arena_error(const char *what) __attribute__((returns_nonnull));
