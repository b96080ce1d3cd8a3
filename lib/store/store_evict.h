/*
 * What goes from a store where it has a limit or its disk is full. All of these block on
 * the local disk, and of a shared store on its index. Threads: any. What
 * cannot be evicted stays, which is no failure but where it says so.
 */
#pragma once

#include "lib/store/store_impl.h"

/* For a full disk: evicts blobs of at least bytes where it can, and says so in the log;
 * false where it could not evict anything. */
bool store_evict_for_room(struct store *store, int64_t bytes)
	SYNC_EXCLUDES(&store->batch_mutex, &store->mutex);
/* Where the limit is passed: evicts a few, never keep (may be NULL), and has the store's
 * thread do the rest. */
void store_evict_over_limit(struct store *store, const struct digest *keep)
	SYNC_EXCLUDES(&store->batch_mutex, &store->mutex);
/* Where blobs are promised to stay: whether there is room for so many bytes more, or
 * something that could go; else RESOURCE_EXHAUSTED. */
struct error *store_evict_check_room(struct store *store, int64_t bytes)
	SYNC_EXCLUDES(&store->batch_mutex, &store->mutex);
/* The same, and evicts until they are within the limit. */
struct error *store_evict_make_room(struct store *store, int64_t bytes)
	SYNC_EXCLUDES(&store->batch_mutex, &store->mutex);
/* Down to nine tenths of the limit, so that writers seldom have to do it themselves. */
void store_evict_below_limit(struct store *store)
	SYNC_EXCLUDES(&store->batch_mutex, &store->mutex);
