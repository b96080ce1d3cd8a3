/*
 * Owns the store's thread, its batches and its eviction.
 *
 * A batch takes what the table wants the index to hear, all at once, and writes it in one
 * transaction. In an exclusive store, files new to the index are brought to the disk
 * first, so a row that says "durable" is true whenever it can be read; the stamp is taken
 * before the sync, so a file that replaces it in between does not match the row. A shared
 * store writes "whole" and syncs nothing: its processes are short, and waiting for the
 * disk at the end of each would cost more than hashing a blob once after a crash.
 *
 * A batch waits for a quiet second, so that a burst of commits is not slowed by its own
 * writeback, but for no more than five.
 *
 * Eviction takes the least recently used first. In an exclusive store that is a list in
 * memory, one step a blob. In a shared one it is the index, which all its processes feed.
 */
#include <errno.h>
#include <fcntl.h>
#include <time.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/thread.h"
#include "lib/cas/store_impl.h"

#define LOG_MODULE "store"
#include "lib/base/log.h"

#define SYNC_QUIET_NS   (1 * NS_PER_S)
#define SYNC_LATEST_NS  (5 * NS_PER_S)
#define SYNC_TICK_NS    (NS_PER_S / 4)
#define SYNC_FILES_MAX  64 /* synced one by one; more: their file system */
#define SYNC_EVICT_ROWS 256

/* What one entry has to tell the index. */
struct sync_item {
	struct store_row row;
	bool is_row; /* else only its last use */
	bool is_gone;
};

struct sync_batch {
	struct sync_item *items;
	size_t n;
	size_t n_new;
};

static void sync_batch_deinit(struct sync_batch *batch)
{
	free(batch->items);
}

static void sync_take(struct store *store, struct sync_batch *batch)
{
	struct list *node;

	store_lock(store);
	batch->items = alloc_array(store->n_dirty, sizeof(struct sync_item));
	while ((node = list_pop(&store->dirty))) {
		struct store_entry *entry = container_of(node, struct store_entry, dirty);
		struct sync_item *item = &batch->items[batch->n];

		*item = (struct sync_item){
			.row = {.digest = entry->digest, .used_ns = entry->used_ns},
			.is_row = entry->needs_row,
			.is_gone = entry->state == ENTRY_ABSENT,
		};
		/* a suspect that was touched keeps the row it has */
		if (item->is_row && !item->is_gone && entry->state != ENTRY_GOOD)
			item->is_row = false;
		batch->n++;
		batch->n_new += item->is_row && !item->is_gone;
		entry->needs_row = false;
		entry->indexed_used_ns = entry->used_ns;
		store_entry_drop_unused(store, entry);
	}
	store->n_dirty = 0;
	store_unlock(store);
}

static void sync_file(struct store *store, const struct digest *digest)
{
	char path[STORE_PATH_MAX];
	_cleanup_fd_ int fd = openat(store->dir_fd, store_file_path(digest, path),
				     O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd >= 0 && fdatasync(fd) < 0)
		log_warn("sync %s/%s: %m", store->dir, path);
}

static void sync_files(struct store *store, struct sync_batch *batch, bool to_disk)
{
	for (size_t i = 0; i < batch->n; i++) {
		struct sync_item *item = &batch->items[i];
		struct stat st;

		if (!item->is_row || item->is_gone)
			continue;
		if (store_file_stat(store->dir_fd, &item->row.digest, &st))
			item->row.stamp = store_file_stamp(&st);
		else
			item->is_gone = true;
		item->row.state = to_disk ? STORE_DURABLE : STORE_WHOLE;
		if (to_disk && batch->n_new <= SYNC_FILES_MAX)
			sync_file(store, &item->row.digest);
	}
	if (to_disk && batch->n_new > SYNC_FILES_MAX && syncfs(store->dir_fd) < 0)
		log_warn("sync %s: %m", store->dir);
}

static struct error *sync_write(struct store_index *index, const struct sync_batch *batch)
{
	struct error *err = store_index_begin(index);

	if (err)
		return err;
	for (size_t i = 0; i < batch->n && !err; i++) {
		const struct sync_item *item = &batch->items[i];

		if (item->is_gone)
			err = store_index_delete(index, &item->row.digest);
		else if (item->is_row)
			err = store_index_put(index, &item->row);
		else
			err = store_index_use(index, &item->row.digest,
					      item->row.used_ns);
	}
	return store_index_end(index, err);
}

/* A shared store's totals are what all its processes told the index. */
static void sync_totals(struct store *store)
{
	int64_t n = 0;
	int64_t bytes = 0;
	struct error *err = store_index_begin(store->index);

	if (err) {
		log_drop(LOG_WARN, err, "index of %s", store->dir);
		return;
	}
	err = store_index_totals(store->index, &n, &bytes);
	err = store_index_end(store->index, err);
	if (err) {
		log_drop(LOG_WARN, err, "index of %s", store->dir);
		return;
	}
	store_lock(store);
	store->n_blobs = n;
	store->bytes = bytes;
	store_unlock(store);
}

static struct error *sync_locked(struct store *store, bool to_disk)
{
	_cleanup_(sync_batch_deinit) struct sync_batch batch = {0};
	struct error *err = NULL;

	sync_take(store, &batch);
	sync_files(store, &batch, to_disk);
	if (batch.n && store->index)
		err = sync_write(store->index, &batch);
	if (err) {
		store->is_lossy = true;
		store_lock(store);
		store->must_scan = store->is_shared;
		store_unlock(store);
	} else if (batch.n && store->index && store->is_shared) {
		sync_totals(store);
	}
	return error_wrap(err, "index of %s", store->dir);
}

struct error *store_sync(struct store *store, bool to_disk)
{
	struct error *err;

	(void)pthread_mutex_lock(&store->batch_mutex);
	err = sync_locked(store, to_disk);
	(void)pthread_mutex_unlock(&store->batch_mutex);
	return err;
}

struct error *store_flush(struct store *store)
{
	return store_sync(store, true);
}

/* Eviction */

/* Removes the blob's file and forgets it, unless it is pinned. The bytes it had, or -1.
 */
static int64_t sync_evict(struct store *store, const struct digest *digest)
{
	char path[STORE_PATH_MAX];
	struct store_entry *entry;
	int64_t bytes = -1;

	store_lock_name(store, digest);
	store_lock(store);
	entry = store_entry_find(store, digest);
	if (entry && entry->state != ENTRY_ABSENT && !entry->n_pins) {
		bytes = entry->digest.size;
		store_entry_set(store, entry, ENTRY_ABSENT);
		store_entry_dirty(store, entry, true);
	} else if (store->is_shared && (!entry || !entry->n_pins)) {
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
	store_unlock_name(store, digest);
	return bytes;
}

/* The least recently used, unless it is keep; -1 where there is none. */
static int64_t sync_evict_head(struct store *store, const struct digest *keep)
{
	struct digest victim;
	bool has_victim = false;

	store_lock(store);
	if (!list_is_empty(&store->lru)) {
		victim = container_of(store->lru.next, struct store_entry, lru)->digest;
		has_victim = !keep || !digest_equal(&victim, keep);
	}
	store_unlock(store);
	return has_victim ? sync_evict(store, &victim) : -1;
}

struct sync_victims {
	struct store_row rows[SYNC_EVICT_ROWS];
	size_t n;
};

static void sync_add_victim(void *ctx, const struct store_row *row)
{
	struct sync_victims *victims = ctx;

	victims->rows[victims->n++] = *row;
}

/* Takes rows from the index, oldest first, until bytes are free. */
static int64_t sync_evict_shared(struct store *store, int64_t bytes)
{
	_cleanup_free_ struct sync_victims *victims = alloc_new(struct sync_victims);
	struct store_row after;
	bool is_first = true;
	int64_t freed = 0;
	struct error *err = NULL;

	while (!err && store->index && freed < bytes) {
		err = store_index_begin(store->index);
		if (err)
			break;
		victims->n = 0;
		err = store_index_each(store->index, is_first ? NULL : &after,
				       SYNC_EVICT_ROWS, sync_add_victim, victims);
		for (size_t i = 0; i < victims->n && freed < bytes && !err; i++) {
			int64_t gone = sync_evict(store, &victims->rows[i].digest);

			if (gone < 0)
				continue;
			freed += gone;
			err = store_index_delete(store->index, &victims->rows[i].digest);
		}
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

static int64_t sync_evict_bytes(struct store *store, int64_t bytes)
{
	int64_t freed = 0;

	if (store->is_shared) {
		struct error *err;

		(void)pthread_mutex_lock(&store->batch_mutex);
		err = sync_locked(store, false);
		if (err)
			log_drop(LOG_WARN, err, "make room");
		freed = sync_evict_shared(store, bytes);
		(void)pthread_mutex_unlock(&store->batch_mutex);
		return freed;
	}
	while (freed < bytes) {
		int64_t gone = sync_evict_head(store, NULL);

		if (gone < 0)
			break;
		freed += gone;
	}
	return freed;
}

int64_t store_evict(struct store *store, int64_t bytes)
{
	int64_t freed = sync_evict_bytes(store, bytes);

	store_lock(store);
	store->said_bytes += freed; /* by whoever asked for it */
	store_unlock(store);
	return freed;
}

bool store_make_room(struct store *store, int64_t bytes)
{
	int64_t freed = store_evict(store, bytes);

	if (freed > 0)
		log_info("evicted blobs of %lld bytes from %s: the disk is full",
			 (long long)freed, store->dir);
	return freed > 0;
}

static int64_t sync_excess(struct store *store, int64_t limit)
{
	int64_t excess;

	store_lock(store);
	excess = store->bytes - limit;
	store_unlock(store);
	return excess;
}

/* The limit is for more than one: a blob that may be here is not evicted for itself. */
static bool sync_has_one(struct store *store)
{
	bool has_one;

	store_lock(store);
	has_one = store->n_blobs <= 1;
	store_unlock(store);
	return has_one;
}

void store_hold_limit(struct store *store, const struct digest *keep)
{
	if (sync_excess(store, store->size_limit) <= 0)
		return;
	for (int i = 0; i < STORE_EVICT_INLINE && !store->is_shared; i++)
		if (sync_excess(store, store->size_limit) <= 0 || sync_has_one(store) ||
		    sync_evict_head(store, keep) < 0)
			break;
	store_lock(store);
	store->must_evict = true;
	(void)pthread_cond_signal(&store->cond);
	store_unlock(store);
}

/* Down to nine tenths, so that writers seldom have to do it themselves. */
static void sync_shrink(struct store *store)
{
	int64_t goal = store->size_limit - store->size_limit / 10;
	int64_t excess = sync_excess(store, goal), evicted;

	if (store->is_shared && excess > 0)
		(void)sync_evict_bytes(store, excess);
	while (!store->is_shared && sync_excess(store, goal) > 0 && !sync_has_one(store))
		if (sync_evict_head(store, NULL) < 0)
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

/* The thread */

static bool sync_is_due(const struct store *store)
{
	int64_t now = clock_mono_ns();

	return store->n_dirty && (now - store->dirty_last_ns >= SYNC_QUIET_NS ||
				  now - store->dirty_first_ns >= SYNC_LATEST_NS);
}

/* Sleeps until there may be something to do; with mutex held. */
static void sync_wait(struct store *store)
{
	struct timespec until;
	int64_t at;

	if (!store->n_dirty) {
		(void)pthread_cond_wait(&store->cond, &store->mutex);
		return;
	}
	at = clock_mono_ns() + SYNC_TICK_NS;
	until.tv_sec = at / NS_PER_S;
	until.tv_nsec = at % NS_PER_S;
	(void)pthread_cond_timedwait(&store->cond, &store->mutex, &until);
}

static void sync_step(struct store *store, bool is_due, bool must_evict, bool must_scan)
{
	struct error *err = NULL;

	if (must_scan && store->index) {
		err = store_scan_to_index(store, STORE_WHOLE);
		if (err)
			log_drop(LOG_WARN, err, "take stock of %s", store->dir);
		else
			sync_totals(store);
	}
	if (must_evict)
		sync_shrink(store);
	err = is_due ? store_sync(store, !store->is_shared) : NULL;
	if (err)
		log_drop(LOG_WARN, err, "a later start will take stock again");
}

static void *sync_thread(void *arg)
{
	struct store *store = arg;

	store_lock(store);
	while (!store->is_stopping) {
		bool is_due = sync_is_due(store);
		bool must_evict = store->must_evict;
		bool must_scan = store->must_scan;

		if (!is_due && !must_evict && !must_scan) {
			sync_wait(store);
			continue;
		}
		store->must_evict = false;
		store->must_scan = false;
		store_unlock(store);
		sync_step(store, is_due, must_evict, must_scan);
		store_lock(store);
	}
	store_unlock(store);
	return NULL;
}

struct error *store_start_thread(struct store *store)
{
	struct error *err = thread_start("store", sync_thread, store, &store->thread);

	store->has_thread = !err;
	return error_wrap(err, "%s", store->dir);
}

void store_stop_thread(struct store *store)
{
	if (!store->has_thread)
		return;
	store_lock(store);
	store->is_stopping = true;
	(void)pthread_cond_signal(&store->cond);
	store_unlock(store);
	(void)pthread_join(store->thread, NULL);
	store->has_thread = false;
}
