/*
 * Owns what the index is told: batches of what the table wants it to hear.
 *
 * A batch takes all of that at once and writes it in one transaction. In an exclusive
 * store, files new to the index are brought to the disk first, so a row that says
 * "durable" is true whenever it can be read; the stamp is taken before the sync, so a
 * file that replaces it in between does not match the row. A shared store writes "whole"
 * and syncs nothing: its processes are short, and waiting for the disk at the end of each
 * would cost more than hashing a blob once after a crash.
 */
#include "lib/store/store_batch.h"

#include <errno.h>
#include <fcntl.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/store/store_entry.h"
#include "lib/store/store_impl.h"

#define LOG_MODULE "store"
#include "lib/base/log.h"

#define BATCH_FILES_MAX 64 /* synced one by one; more: their file system */

/* What one entry has to tell the index. */
struct batch_item {
	struct store_row row;
	bool is_row; /* else only its last use */
	bool is_gone;
};

struct batch {
	struct batch_item *items;
	size_t n;
	size_t n_new;
};

static void batch_deinit(struct batch *batch)
{
	free(batch->items);
}

static void batch_take(struct store *store, struct batch *batch)
{
	struct list *node;

	store_lock(store);
	batch->items = alloc_array(store->n_dirty, sizeof(struct batch_item));
	while ((node = list_pop(&store->dirty))) {
		struct store_entry *entry = container_of(node, struct store_entry, dirty);
		struct batch_item *item = &batch->items[batch->n];

		*item = (struct batch_item){
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

static void batch_file(struct store *store, const struct digest *digest)
{
	char path[STORE_PATH_MAX];
	_cleanup_fd_ int fd = openat(store->dir_fd, store_file_path(digest, path),
				     O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd >= 0 && fdatasync(fd) < 0)
		log_warn("sync %s/%s: %m", store->dir, path);
}

static void batch_files(struct store *store, struct batch *batch, bool to_disk)
{
	for (size_t i = 0; i < batch->n; i++) {
		struct batch_item *item = &batch->items[i];
		struct stat st;

		if (!item->is_row || item->is_gone)
			continue;
		if (store_file_stat(store->dir_fd, &item->row.digest, &st))
			item->row.stamp = store_file_stamp(&st);
		else
			item->is_gone = true;
		item->row.state = to_disk ? STORE_DURABLE : STORE_WHOLE;
		if (to_disk && batch->n_new <= BATCH_FILES_MAX)
			batch_file(store, &item->row.digest);
	}
	if (to_disk && batch->n_new > BATCH_FILES_MAX && syncfs(store->dir_fd) < 0)
		log_warn("sync %s: %m", store->dir);
}

static struct error *batch_write(struct store_index *index, const struct batch *batch)
{
	struct error *err = store_index_begin(index);

	for (size_t i = 0; i < batch->n && !err; i++) {
		const struct batch_item *item = &batch->items[i];

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

void store_batch_learn_totals(struct store *store)
{
	int64_t n = 0;
	int64_t bytes = 0;
	struct error *err = store_index_begin(store->index);

	if (!err)
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

/* Files without a row */

struct batch_scan {
	struct store *store;
	enum store_state state;
	struct error *err;
};

static void batch_scan_file(void *ctx, const struct digest *digest)
{
	struct batch_scan *scan = ctx;
	struct store_row row = {
		.digest = *digest, .used_ns = clock_wall_ns(), .state = scan->state};
	struct stat st;

	sync_held(&scan->store->index->write_mutex);
	if (scan->err || !store_file_stat(scan->store->dir_fd, digest, &st))
		return;
	row.stamp = store_file_stamp(&st);
	scan->err = store_index_add(scan->store->index, &row);
}

struct error *store_batch_scan_locked(struct store *store, enum store_state state)
{
	struct batch_scan scan = {.store = store, .state = state};
	struct error *err = store_file_scan(store->dir_fd, batch_scan_file, &scan);

	if (!err)
		return scan.err;
	error_free(scan.err);
	return err;
}

struct error *store_batch_scan(struct store *store, enum store_state state)
{
	struct error *err = store_index_begin(store->index);

	if (!err)
		err = store_batch_scan_locked(store, state);
	return store_index_end(store->index, err);
}

struct error *store_batch_sync_locked(struct store *store, bool to_disk)
{
	_cleanup_(batch_deinit) struct batch batch = {0};
	struct error *err = NULL;

	batch_take(store, &batch);
	batch_files(store, &batch, to_disk);
	if (batch.n && store->index)
		err = batch_write(store->index, &batch);
	if (err) {
		store->is_lossy = true;
		store_lock(store);
		store->must_scan = store->is_shared;
		store_unlock(store);
	} else if (batch.n && store->index && store->is_shared) {
		store_batch_learn_totals(store);
	}
	return error_wrap(err, "index of %s", store->dir);
}

struct error *store_batch_sync(struct store *store, bool to_disk)
{
	struct error *err;

	sync_lock(&store->batch_mutex);
	err = store_batch_sync_locked(store, to_disk);
	sync_unlock(&store->batch_mutex);
	return err;
}

struct error *store_flush(struct store *store)
{
	return store_batch_sync(store, true);
}
