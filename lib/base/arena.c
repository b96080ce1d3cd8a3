/* Owns a chain of chunks, newest first, each at least twice its predecessor's size. */
#include "lib/base/arena.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"

#define ARENA_FIRST_CHUNK 1024
#define ARENA_CHUNK_MAX   ((size_t)4 << 20)
#define ARENA_ALIGN       16

struct arena_chunk {
	struct arena_chunk *next;
	size_t size;
	_Alignas(ARENA_ALIGN) uint8_t data[];
};

static void arena_free_chain(struct arena_chunk *chunk)
{
	while (chunk) {
		struct arena_chunk *next = chunk->next;

		free(chunk);
		chunk = next;
	}
}

void arena_deinit(struct arena *arena)
{
	arena_free_chain(arena->chunks);
	*arena = ARENA_INIT(arena->cap);
}

void arena_reset(struct arena *arena)
{
	arena->is_full = false;
	if (!arena->chunks)
		return;
	arena_free_chain(take(arena->chunks->next));
	arena->used = 0;
	arena->total = arena->chunks->size;
}

static struct arena_chunk *arena_new_chunk(struct arena *arena, size_t need)
{
	size_t size = arena->chunks ? arena->chunks->size * 2 : ARENA_FIRST_CHUNK;
	struct arena_chunk *chunk;

	if (size > ARENA_CHUNK_MAX)
		size = ARENA_CHUNK_MAX;
	if (size < need)
		size = need;
	if (size > arena->cap - arena->total)
		size = need;
	if (need > arena->cap - arena->total)
		return NULL;
	chunk = alloc_bounded(sizeof(*chunk) + size, SIZE_MAX);
	if (!chunk)
		return NULL;
	chunk->next = arena->chunks;
	chunk->size = size;
	arena->chunks = chunk;
	arena->total += size;
	arena->used = 0;
	return chunk;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	struct arena_chunk *chunk = arena->chunks;
	size_t need = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	void *p;

	if (need >= size && (!chunk || chunk->size - arena->used < need))
		chunk = arena_new_chunk(arena, need);
	if (need < size || !chunk) {
		arena->is_full = true;
		return NULL;
	}
	p = chunk->data + arena->used;
	arena->used += need;
	return p;
}

void *arena_zero(struct arena *arena, size_t size)
{
	void *p = arena_alloc(arena, size);

	if (p)
		memset(p, 0, size);
	return p;
}

void *arena_array(struct arena *arena, size_t n, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(n, size, &total)) {
		arena->is_full = true;
		return NULL;
	}
	return arena_zero(arena, total);
}

void *arena_memdup(struct arena *arena, const void *data, size_t len)
{
	void *p = arena_alloc(arena, len);

	if (p && len)
		memcpy(p, data, len);
	return p;
}

char *arena_string(struct arena *arena, const char *s)
{
	return arena_memdup(arena, s, strlen(s) + 1);
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, format);
	text = alloc_vprintf(format, ap);
	va_end(ap);
	return arena_string(arena, text);
}

struct error *arena_error(const char *what)
{
	return error_new(ERROR_RESOURCE_EXHAUSTED,
			 "%s needs more memory than one may take", what);
}
