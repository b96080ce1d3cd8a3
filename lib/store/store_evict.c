/*
 * Owns eviction: what goes, where the store has a limit or its disk is full.
 *
 * The least recently used goes first. In an exclusive store that is a list in memory, one
 * step a blob. In a shared one it is the index, which all its processes feed, but for
 * what one of them has pinned.
 */
#include "lib/store/store_evict.h"

#include <fcntl.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/units.h"
#include "lib/store/store_batch.h"
#include "lib/store/store_entry.h"
#include "lib/store/store_impl.h"

#define LOG_MODULE "store"
#include "lib/base/log.h"

#define EVICT_ROWS      256
#define EVICT_INLINE    32             /* blobs that one write evicts at most */
#define EVICT_PINNED_NS (1 * NS_PER_S) /* between looks at a store of pinned blobs */

/* Removes the blob's file and forgets it, unless it is promised to stay. The bytes it
 * had, or -1. */
static int64_t evict_one(struct store *store, const struct digest *digest)
{
	struct sync_mutex *name = store_name_mutex(store, digest);
	char path[STORE_PATH_MAX];
	struct store_entry *entry;
	int64_t bytes = -1;

	sync_lock(name);
	store_lock(store);
	entry = store_entry_find(store, digest);
	if (entry && entry->state != ENTRY_ABSENT) {
		/* used since it was chosen, perhaps */
		if (!store_entry_is_promised(store, entry, clock_wall_ns())) {
			bytes = entry->digest.size;
			store_entry_set(store, entry, ENTRY_ABSENT);
			store_entry_dirty(store, entry, true);
		}
	} else if (store->is_shared) {
		bytes = digest->size;
		store->n_blobs--;
		store->bytes -= bytes;
	}
	if (bytes >= 0) {
		store->n_evicted++;
		store->evicted_bytes += bytes;
	}
	store_unlock(store);
	if (bytes >= 0)
		(void)unlinkat(store->dir_fd, store_file_path(digest, path), 0);
	sync_unlock(name);
	return bytes;
}

/* The least recently used, unless it is keep; -1 where there is none. */
static int64_t evict_head(struct store *store, const struct digest *keep)
{
	struct digest victim;
	bool has_victim = false;

	store_lock(store);
	if (!list_is_empty(&store->lru)) {
		victim = container_of(store->lru.next, struct store_entry, lru)->digest;
		has_victim = !keep || !digest_equal(&victim, keep);
	}
	store_unlock(store);
	return has_victim ? evict_one(store, &victim) : -1;
}

struct evict_victims {
	struct store_row rows[EVICT_ROWS];
	size_t n;
};

static void evict_add_victim(void *ctx, const struct store_row *row)
{
	struct evict_victims *victims = ctx;

	victims->rows[victims->n++] = *row;
}

/* One of them, if nobody has pinned it; the bytes that it had. */
static struct error *evict_row(struct store *store, const struct digest *digest,
			       int64_t *freed)
	SYNC_REQUIRES(&store->batch_mutex, &store->index->write_mutex)
{
	int64_t gone =
		store_pins_have(&store->pins, digest) ? -1 : evict_one(store, digest);

	if (gone < 0)
		return NULL;
	*freed += gone;
	return store_index_delete(store->index, digest);
}

/* Takes rows from the index, oldest first, until bytes are free. */
static int64_t evict_shared(struct store *store, int64_t bytes)
	SYNC_REQUIRES(&store->batch_mutex)
{
	_cleanup_free_ struct evict_victims *victims = alloc_new(struct evict_victims);
	struct store_row after;
	bool is_first = true;
	int64_t freed = 0;
	struct error *err = NULL;

	while (!err && store->index && freed < bytes) {
		victims->n = 0;
		err = store_index_begin(store->index);
		if (!err)
			err = store_index_each(store->index, is_first ? NULL : &after,
					       EVICT_ROWS, evict_add_victim, victims);
		store_pins_load(&store->pins, store->dir_fd, is_first);
		for (size_t i = 0; i < victims->n && freed < bytes && !err; i++)
			err = evict_row(store, &victims->rows[i].digest, &freed);
		err = store_index_end(store->index, err);
		if (!victims->n)
			break;
		after = victims->rows[victims->n - 1];
		is_first = false;
	}
	if (err)
		log_drop(LOG_WARN, err, "evict from %s", store->dir);
	return freed;
}

static int64_t evict_bytes(struct store *store, int64_t bytes)
{
	int64_t freed = 0;

	if (store->is_shared) {
		struct error *err;

		sync_lock(&store->batch_mutex);
		err = store_batch_sync_locked(store, false);
		if (err)
			log_drop(LOG_WARN, err, "make room");
		freed = evict_shared(store, bytes);
		sync_unlock(&store->batch_mutex);
		return freed;
	}
	while (freed < bytes) {
		int64_t gone = evict_head(store, NULL);

		if (gone < 0)
			break;
		freed += gone;
	}
	return freed;
}

int64_t store_evict(struct store *store, int64_t bytes)
{
	int64_t freed = evict_bytes(store, bytes);

	store_lock(store);
	store->said_bytes += freed; /* by whoever asked for it */
	store_unlock(store);
	return freed;
}

bool store_evict_for_room(struct store *store, int64_t bytes)
{
	int64_t freed = store_evict(store, bytes);

	if (freed > 0)
		log_info("evicted blobs of %lld bytes from %s: the disk is full",
			 (long long)freed, store->dir);
	return freed > 0;
}

static int64_t evict_excess(struct store *store, int64_t limit)
{
	int64_t excess;

	store_lock(store);
	excess = store->bytes - limit;
	store_unlock(store);
	return excess;
}

/* The limit is for more than one: a blob that may be here is not evicted for itself. */
static bool evict_has_one(struct store *store)
{
	bool has_one;

	store_lock(store);
	has_one = store->n_blobs <= 1;
	store_unlock(store);
	return has_one;
}

void store_evict_over_limit(struct store *store, const struct digest *keep)
{
	if (evict_excess(store, store->size_limit) <= 0)
		return;
	for (int i = 0; i < EVICT_INLINE && !store->is_shared; i++)
		if (evict_excess(store, store->size_limit) <= 0 || evict_has_one(store) ||
		    evict_head(store, keep) < 0)
			break;
	store_lock(store);
	store->must_evict = true;
	sync_signal(&store->cond);
	store_unlock(store);
}

static struct error *evict_full(const struct store *store)
{
	char held[UNITS_TEXT_MAX], promise[UNITS_TEXT_MAX];

	return error_new(
		ERROR_RESOURCE_EXHAUSTED,
		"%s is full: of the %s that it may hold nothing can go yet, since "
		"blobs stay for %s after their last use",
		store->dir, units_format_size(store->size_limit, held),
		units_format_duration(store->promise_ns, promise));
}

static bool evict_lacks_room(struct store *store, int64_t bytes)
{
	return store->promise_ns && !evict_has_one(store) &&
	       evict_excess(store, store->size_limit) > -bytes;
}

struct error *store_evict_check_room(struct store *store, int64_t bytes)
{
	bool is_full = false;

	if (!evict_lacks_room(store, bytes))
		return NULL;
	store_lock(store);
	if (!list_is_empty(&store->lru))
		is_full = store_entry_is_promised(
			store, container_of(store->lru.next, struct store_entry, lru),
			clock_wall_ns());
	store_unlock(store);
	return is_full ? evict_full(store) : NULL;
}

struct error *store_evict_make_room(struct store *store, int64_t bytes)
{
	while (evict_lacks_room(store, bytes))
		if (evict_head(store, NULL) < 0)
			return evict_full(store);
	return NULL;
}

/* Where that leaves too much, it is pinned, and not looked for again at each write. */
static void evict_shared_excess(struct store *store, int64_t excess)
{
	bool is_due;
	bool is_left;

	store_lock(store);
	is_due = clock_mono_ns() >= store->pinned_until_ns;
	store_unlock(store);
	if (!is_due)
		return;
	is_left = evict_bytes(store, excess) < excess;
	store_lock(store);
	if (is_left)
		store->pinned_until_ns = clock_mono_ns() + EVICT_PINNED_NS;
	store_unlock(store);
}

void store_evict_below_limit(struct store *store)
{
	int64_t goal = store->size_limit - store->size_limit / 10;
	int64_t excess = evict_excess(store, goal), evicted;

	if (store->is_shared && excess > 0)
		evict_shared_excess(store, excess);
	while (!store->is_shared && evict_excess(store, goal) > 0 &&
	       !evict_has_one(store))
		if (evict_head(store, NULL) < 0)
			break;
	store_lock(store);
	evicted = store->evicted_bytes - store->said_bytes;
	store->said_bytes += evicted;
	store_unlock(store);
	if (evicted > 0)
		log_info("evicted blobs of %lld bytes from %s, the least recently used: "
			 "its size has a limit",
			 (long long)evicted, store->dir);
}
