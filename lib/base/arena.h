/*
 * Arena with a cap: many small allocations that end together. Decoding a peer's message
 * goes through one (4 MiB of wire can become 255 MiB of structs otherwise), and an
 * allocation over the cap is NULL, which protobuf-c passes on as a failed unpack.
 *
 * Threads: one at a time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/base/cleanup.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks;
	size_t used;  /* bytes handed out by the newest chunk */
	size_t total; /* bytes of all chunks */
	size_t cap;
};

#define ARENA_CAP_DEFAULT ((size_t)256 << 20)
#define ARENA_INIT(max)   ((struct arena){.cap = (max)})
#define _cleanup_arena_   _cleanup_(arena_deinit)

void arena_deinit(struct arena *arena);
void arena_reset(struct arena *arena); /* keeps the newest chunk for reuse */
void *arena_alloc(struct arena *arena,
		  size_t size); /* aligned, not zeroed; NULL over cap */
void *arena_zero(struct arena *arena, size_t size); /* for sizes of our own: never NULL */
void *arena_memdup(struct arena *arena, const void *data, size_t len);
char *arena_string(struct arena *arena, const char *s);
char *arena_printf(struct arena *arena, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
