/* Owns the bucket array. No locks: the owner of a table guards it. */
#include "lib/base/htab.h"

#include <stdlib.h>

#include "lib/base/alloc.h"
#include "lib/base/cleanup.h"

#define HTAB_FIRST_SIZE 16

void htab_deinit(struct htab *tab)
{
	free(tab->buckets);
	*tab = (struct htab){0};
}

static void htab_link(struct htab *tab, struct hnode *node)
{
	struct hnode **bucket = &tab->buckets[node->hash & (tab->n_buckets - 1)];

	node->next = *bucket;
	*bucket = node;
}

static void htab_grow(struct htab *tab)
{
	struct htab grown = {.n_buckets = tab->n_buckets ? tab->n_buckets * 2
							 : HTAB_FIRST_SIZE};

	grown.buckets = alloc_array(grown.n_buckets, sizeof(struct hnode *));
	for (size_t i = 0; i < tab->n_buckets; i++) {
		for (struct hnode *n = tab->buckets[i], *next; n; n = next) {
			next = n->next;
			htab_link(&grown, n);
		}
	}
	grown.len = tab->len;
	free(tab->buckets);
	*tab = grown;
}

void htab_insert(struct htab *tab, struct hnode *node, uint64_t hash)
{
	if (tab->len >= tab->n_buckets)
		htab_grow(tab);
	node->hash = hash;
	htab_link(tab, node);
	tab->len++;
	tab->n_popped = 0;
}

void htab_remove(struct htab *tab, struct hnode *node)
{
	struct hnode **at = &tab->buckets[node->hash & (tab->n_buckets - 1)];

	while (*at != node) {
		require(*at);
		at = &(*at)->next;
	}
	*at = node->next;
	node->next = NULL;
	tab->len--;
}

static struct hnode *htab_seek(struct hnode *node, uint64_t hash)
{
	while (node && node->hash != hash)
		node = node->next;
	return node;
}

struct hnode *htab_first(const struct htab *tab, uint64_t hash)
{
	if (!tab->n_buckets)
		return NULL;
	return htab_seek(tab->buckets[hash & (tab->n_buckets - 1)], hash);
}

struct hnode *htab_next(const struct hnode *node, uint64_t hash)
{
	return htab_seek(node->next, hash);
}

struct hnode *htab_pop(struct htab *tab)
{
	for (; tab->len && tab->n_popped < tab->n_buckets; tab->n_popped++) {
		struct hnode *node = tab->buckets[tab->n_popped];

		if (node) {
			tab->buckets[tab->n_popped] = node->next;
			node->next = NULL;
			tab->len--;
			return node;
		}
	}
	return NULL;
}

void htab_each(const struct htab *tab, void (*fn)(struct hnode *node, void *ctx),
	       void *ctx)
{
	for (size_t i = 0; i < tab->n_buckets; i++) {
		for (struct hnode *n = tab->buckets[i], *next; n; n = next) {
			next = n->next;
			fn(n, ctx);
		}
	}
}
