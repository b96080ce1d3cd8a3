/*
 * Intrusive hash table: the object embeds an hnode, the caller brings the hash and
 * compares. It grows by itself; it owns its buckets, never the objects. A zeroed table is
 * empty. Threads: its owner's lock guards it.
 *
 *	for (struct hnode *n = htab_first(&t, hash); n; n = htab_next(n, hash))
 *		if (same(container_of(n, struct thing, node), key)) …
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct hnode {
	struct hnode *next;
	uint64_t hash;
};

struct htab {
	struct hnode **buckets;
	size_t n_buckets; /* 0 or a power of two */
	size_t len;
	size_t n_popped; /* buckets before it are empty: htab_pop() goes on from there */
};

void htab_deinit(struct htab *tab);
void htab_insert(struct htab *tab, struct hnode *node, uint64_t hash);
void htab_remove(struct htab *tab, struct hnode *node); /* it must be there */
struct hnode *htab_first(const struct htab *tab, uint64_t hash);
struct hnode *htab_next(const struct hnode *node, uint64_t hash);

/* Takes out some node, or NULL where the table is empty: for tearing down. */
struct hnode *htab_pop(struct htab *tab);

/* Calls fn for each; fn may not change the table. */
void htab_each(const struct htab *tab, void (*fn)(struct hnode *node, void *ctx),
	       void *ctx);
