/*
 * Owns the entries of the table, their order of use, and the list of those that the index
 * must hear of. Threads: any, with the store's mutex.
 */
#include "lib/store/store_entry.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"

#define STORE_USED_STEP_NS                                                               \
	(300 * NS_PER_S) /* the index hears of a use at most so often */
/* One in so many of a promise is added to it, and not more of it can be unknown to the
 * index. */
#define STORE_PROMISE_SLACK 32

struct store_entry *store_entry_find(struct store *store, const struct digest *digest)
{
	uint64_t key = digest_key(digest);

	for (struct hnode *n = htab_first(&store->tab, key); n; n = htab_next(n, key)) {
		struct store_entry *entry = container_of(n, struct store_entry, node);

		if (memcmp(entry->digest.hash, digest->hash, DIGEST_HASH_SIZE) == 0)
			return entry;
	}
	return NULL;
}

struct store_entry *store_entry_get(struct store *store, const struct digest *digest)
{
	struct store_entry *entry = store_entry_find(store, digest);

	if (entry)
		return entry;
	entry = alloc_new(struct store_entry);
	entry->digest = *digest;
	list_init(&entry->lru);
	list_init(&entry->dirty);
	htab_insert(&store->tab, &entry->node, digest_key(digest));
	return entry;
}

void store_entry_set(struct store *store, struct store_entry *entry,
		     enum entry_state state)
{
	bool was_present = entry->state != ENTRY_ABSENT;
	bool is_present = state != ENTRY_ABSENT;

	entry->state = state;
	if (was_present == is_present)
		return;
	store->n_blobs += is_present ? 1 : -1;
	store->bytes += is_present ? entry->digest.size : -entry->digest.size;
	list_remove(&entry->lru);
	if (is_present)
		list_push(&store->lru, &entry->lru);
}

void store_entry_dirty(struct store *store, struct store_entry *entry, bool needs_row)
{
	entry->needs_row |= needs_row;
	store->dirty_last_ns = clock_mono_ns();
	if (!list_is_empty(&entry->dirty))
		return;
	list_push(&store->dirty, &entry->dirty);
	if (store->n_dirty++ == 0) {
		store->dirty_first_ns = store->dirty_last_ns;
		sync_signal(&store->cond);
	}
}

void store_entry_drop_unused(struct store *store, struct store_entry *entry)
{
	if (entry->state != ENTRY_ABSENT || !list_is_empty(&entry->dirty))
		return;
	htab_remove(&store->tab, &entry->node);
	free(entry);
}

/* After a restart a use counts as it was last told to the index. */
static int64_t store_entry_used_step(const struct store *store)
{
	int64_t slack = store->promise_ns / STORE_PROMISE_SLACK;

	return slack && slack < STORE_USED_STEP_NS ? slack : STORE_USED_STEP_NS;
}

bool store_entry_is_promised(const struct store *store, const struct store_entry *entry,
			     int64_t wall_ns)
{
	int64_t age_ns = wall_ns - entry->used_ns;

	/* a clock that was set back by more than a promise promises nothing */
	return store->promise_ns && age_ns > -store->promise_ns &&
	       age_ns < store->promise_ns + store->promise_ns / STORE_PROMISE_SLACK;
}

void store_entry_touch(struct store *store, struct store_entry *entry)
{
	entry->used_ns = clock_wall_ns();
	if (!list_is_empty(&entry->lru)) {
		list_remove(&entry->lru);
		list_push(&store->lru, &entry->lru);
	}
	if (!entry->needs_row &&
	    entry->used_ns - entry->indexed_used_ns >= store_entry_used_step(store))
		store_entry_dirty(store, entry, false);
}

void store_entry_drop_all(struct store *store)
{
	struct hnode *node;

	while ((node = htab_pop(&store->tab)))
		free(container_of(node, struct store_entry, node));
	list_init(&store->lru);
	list_init(&store->dirty);
	store->n_dirty = 0;
	store->n_blobs = 0;
	store->bytes = 0;
}
