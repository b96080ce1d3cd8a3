/*
 * What a blob is made of: its chunks in their order, each with where it begins. Threads:
 * one at a time.
 */
#pragma once

#include "lib/tree/digest.h"

struct chunk {
	struct digest digest;
	int64_t at; /* its first byte, in the blob */
};

struct chunk_list {
	struct chunk *items;
	size_t n, cap;
};
#define CHUNK_LIST_INIT ((struct chunk_list){0})

/* The next one: it begins where the one before it ends. */
void chunk_list_add(struct chunk_list *list, const struct digest *digest);
void chunk_list_deinit(struct chunk_list *list);
/* The bytes of all of them. */
int64_t chunk_list_size(const struct chunk_list *list);
