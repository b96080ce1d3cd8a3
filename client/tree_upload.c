/* Owns nothing; progress callbacks come from several threads. */
#include "client/tree_upload.h"

#include <errno.h>
#include <string.h>
#include <sys/param.h>

#include "client/output_places.h"
#include "client/progress.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "lib/base/units.h"

#define TREE_UPLOAD_ROUNDS_MAX 8
/* Looked for in one state of the store's index, which grows as long as that is wanted. */
#define TREE_UPLOAD_KEEP_AT_ONCE 8192
#define TREE_UPLOAD_CHANGES_MAX  100000 /* paths; more are read again, but not held */
#define TREE_UPLOAD_PIECE        65536

void tree_upload_changes_deinit(struct tree_upload_changes *changes)
{
	for (size_t i = 0; i < changes->n; i++)
		free(changes->paths[i]);
	free(changes->paths);
}

/* What one upload finds changed, from several threads. */
struct tree_upload_changed {
	const struct import *import;
	size_t n_max;
	struct sync_mutex mutex;
	struct tree_upload_changes found SYNC_GUARDED_BY(&mutex);
};

static void tree_upload_note_change(void *ctx, const struct blob_source *item)
{
	struct tree_upload_changed *changed = ctx;
	struct tree_upload_changes *found = &changed->found;

	sync_lock(&changed->mutex);
	found->has_more = true;
	if (found->n < changed->n_max) {
		found->paths = alloc_grow(found->paths, &found->cap, found->n + 1,
					  sizeof(char *));
		found->paths[found->n++] = import_item_path(changed->import, item);
	}
	sync_unlock(&changed->mutex);
}

/* The upload is over: what it found goes to what was found before. */
static void tree_upload_take_changes(struct tree_upload_changes *changes,
				     struct tree_upload_changed *changed)
{
	struct tree_upload_changes *found = &changed->found;

	sync_mutex_deinit(&changed->mutex);
	sync_alone(&changed->mutex);
	changes->has_more = changes->has_more || found->has_more;
	changes->paths = alloc_grow(changes->paths, &changes->cap, changes->n + found->n,
				    sizeof(char *));
	for (size_t i = 0; i < found->n; i++)
		changes->paths[changes->n++] = found->paths[i];
	free(found->paths);
}

static int tree_upload_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct error *tree_upload_settle(struct tree_upload_changes *changes, struct error *err,
				 bool *again_out)
{
	*again_out = false;
	if (!changes->has_more || error_code(err) != ERROR_FAILED_PRECONDITION)
		return err;
	if (++changes->n_rounds == TREE_UPLOAD_ROUNDS_MAX)
		return error_wrap(err, "a file does not hold still");
	changes->has_more = false;
	qsort(changes->paths, changes->n, sizeof(char *), tree_upload_order);
	*again_out = true;
	return error_free(err);
}

static void tree_upload_hashed(void *ctx, int64_t n_files, int64_t bytes)
{
	const struct progress_count count = {n_files, 0, bytes, 0};

	progress_update(ctx, &count);
}

static void tree_upload_sent(void *ctx, int64_t n_done, int64_t n_total,
			     int64_t bytes_done, int64_t bytes_total)
{
	const struct progress_count count = {n_done, n_total, bytes_done, bytes_total};

	progress_update(ctx, &count);
}

struct error *tree_upload_mtimes(const struct client *client, enum import_mtimes *out)
{
	static const char *const words[] = {[IMPORT_MTIMES_NEVER] = "never",
					    [IMPORT_MTIMES_AUTO] = "auto",
					    [IMPORT_MTIMES_ALWAYS] = "always"};

	*out = IMPORT_MTIMES_AUTO;
	if (!client->mtimes)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(client->mtimes, words[i]) == 0) {
			*out = (enum import_mtimes)i;
			return NULL;
		}
	}
	return error_new(ERROR_INVALID_ARGUMENT,
			 "--mtimes is always, never or auto, not \"%s\"", client->mtimes);
}

struct error *tree_upload_import(struct client *client, const char *path,
				 const struct tree_upload_changes *changes,
				 struct import **import_out)
{
	_cleanup_(progress_endp) struct progress *progress = NULL;
	_cleanup_free_ char *stat_cache = NULL;
	struct import_config config = {.progress = tree_upload_hashed};
	struct error *err;

	err = tree_upload_mtimes(client, &config.mtimes);
	if (!err && changes->with_mtimes)
		config.mtimes = IMPORT_MTIMES_ALWAYS;
	if (!err)
		err = local_open_pool(&client->local);
	if (!err)
		err = local_path(&client->local, "stat.sqlite", &stat_cache);
	if (err)
		return err;
	if (config.mtimes == IMPORT_MTIMES_AUTO && output_places_is_below(client, path))
		config.mtimes = IMPORT_MTIMES_ALWAYS;
	progress = progress_begin(PROGRESS_READING, client->is_quiet, client->is_json);
	config.pool = client->local.pool;
	config.stat_cache = stat_cache;
	config.entries_max = client->entries_max;
	config.ctx = progress;
	config.held = changes->paths;
	config.n_held = changes->n;
	err = import_run(&config, path, import_out);
	progress = progress_end(progress);
	for (size_t i = 0; !err && !changes->n_rounds && i < import_n_notes(*import_out);
	     i++)
		say("lazyroot: %s", import_note(*import_out, i));
	return err;
}

static void tree_upload_count_import(const struct import *import,
				     struct tree_upload_totals *totals)
{
	struct import_stats imported;

	if (!import)
		return;
	import_stats(import, &imported);
	totals->n_files += imported.n_files;
	totals->bytes += imported.bytes;
	totals->n_hashed += imported.n_hashed;
}

struct error *tree_upload_upload(struct client *client, const struct import *import,
				 const struct blob_source *more, size_t n_more,
				 struct tree_upload_changes *changes,
				 struct tree_upload_totals *totals)
{
	_cleanup_(progress_endp) struct progress *progress =
		progress_begin(PROGRESS_UPLOADING, client->is_quiet, client->is_json);
	struct upload_progress on_progress = {tree_upload_sent, progress};
	size_t n_items = 0;
	const struct blob_source *items = import ? import_items(import, &n_items) : NULL;
	_cleanup_free_ struct blob_source *all =
		alloc_array(n_items + n_more, sizeof(*all));
	struct tree_upload_changed changed = {.import = import,
					      .n_max = TREE_UPLOAD_CHANGES_MAX -
						       changes->n,
					      .mutex = SYNC_MUTEX_INIT};
	struct upload_config config = {
		.remote = client->remote,
		.dir_fd = import ? import_dir_fd(import) : -1,
		.progress = &on_progress,
		.changed = tree_upload_note_change,
		.changed_ctx = &changed,
	};
	struct upload_stats stats = {0};
	struct error *err;

	if (n_items)
		memcpy(all, items, n_items * sizeof(*all));
	if (n_more)
		memcpy(all + n_items, more, n_more * sizeof(*all));
	err = upload_run(&config, all, n_items + n_more, &stats);
	tree_upload_take_changes(changes, &changed);
	if (err || !totals)
		return err;
	totals->n_sent += stats.n_sent;
	totals->bytes_sent += stats.bytes_sent;
	totals->bytes_saved += stats.bytes_saved;
	totals->bytes_shrunk += stats.bytes_shrunk;
	tree_upload_count_import(import, totals);
	return NULL;
}

void tree_upload_summary(const struct tree_upload_totals *totals, bool is_here)
{
	char files[UNITS_TEXT_MAX];
	char bytes[UNITS_TEXT_MAX];
	char hashed[UNITS_TEXT_MAX];
	char sent[UNITS_TEXT_MAX];
	char sent_bytes[UNITS_TEXT_MAX];
	char saved[UNITS_TEXT_MAX];
	char shrunk[UNITS_TEXT_MAX];

	say("%s files, %s · read %s · %s %s blobs, %s%s%s%s%s",
	    units_format_count(totals->n_files, files),
	    units_format_size(totals->bytes, bytes),
	    units_format_count(totals->n_hashed, hashed), is_here ? "kept here" : "sent",
	    units_format_count(totals->n_sent, sent),
	    units_format_size(totals->bytes_sent, sent_bytes),
	    totals->bytes_shrunk ? " · saved by zstd " : "",
	    totals->bytes_shrunk ? units_format_size(totals->bytes_shrunk, shrunk) : "",
	    totals->bytes_saved ? " · saved by chunks " : "",
	    totals->bytes_saved ? units_format_size(totals->bytes_saved, saved) : "");
}

static struct error *tree_upload_keep_fd(struct store *store,
					 const struct blob_source *item)
{
	_cleanup_(staged_freep) struct staged *staged = NULL;
	uint8_t piece[TREE_UPLOAD_PIECE];
	int64_t at = 0;
	size_t len = 1;
	struct error *err = staged_open(store, &item->digest, true, &staged);

	while (!err && len > 0) {
		err = file_pread(item->fd, piece, sizeof(piece), at, &len);
		if (!err)
			err = staged_write(staged, piece, len);
		at += (int64_t)len;
	}
	return err ? err : staged_commit(take(staged), NULL);
}

/* One blob into the local store, which lacks it; a file that is no longer what was hashed
 * is noted. */
static struct error *tree_upload_keep(struct store *store, int dir_fd,
				      const struct blob_source *item,
				      struct tree_upload_changed *changed)
{
	struct digest digest = item->digest;
	struct error *err = NULL;

	switch (item->from) {
	case BLOB_BYTES:
		return store_put(store, &item->digest, item->bytes.data, item->bytes.len);
	case BLOB_PATH:
		err = store_adopt(store, dir_fd, item->path, false, &digest);
		break;
	case BLOB_FD:
		err = tree_upload_keep_fd(store, item);
		break;
	case BLOB_STORE:
		break;
	}
	if (!err && !digest_equal(&digest, &item->digest))
		err = error_new(ERROR_FAILED_PRECONDITION, "%s changed", item->path);
	if (err && item->from == BLOB_PATH &&
	    (error_code(err) == ERROR_FAILED_PRECONDITION ||
	     error_errnum(err) == ENOENT)) {
		tree_upload_note_change(changed, item);
		err = error_recode(err, ERROR_FAILED_PRECONDITION);
	}
	return err;
}

/* Items for the threads of the pool. */
struct tree_upload_kept {
	struct store *store;
	int dir_fd;
	const struct blob_source *items;
	size_t n_done; /* of items, before those that the threads are at */
	struct tree_upload_changed *changed;
	struct sync_mutex mutex;
	struct error *err SYNC_GUARDED_BY(&mutex); /* the first */
	int64_t n SYNC_GUARDED_BY(&mutex);         /* that the store lacked */
	int64_t bytes SYNC_GUARDED_BY(&mutex);
};

static void tree_upload_keep_one(void *ctx, size_t i)
{
	struct tree_upload_kept *kept = ctx;
	const struct blob_source *item = &kept->items[kept->n_done + i];
	struct error *err;

	if (!item->digest.size && item->from == BLOB_PATH)
		return;
	if (store_has(kept->store, &item->digest))
		return;
	err = tree_upload_keep(kept->store, kept->dir_fd, item, kept->changed);
	sync_lock(&kept->mutex);
	if (!err) {
		kept->n++;
		kept->bytes += item->digest.size;
	} else if (kept->err) {
		error_free(err);
	} else {
		kept->err = err;
	}
	sync_unlock(&kept->mutex);
}

static struct error *tree_upload_keep_all(struct client *client, int dir_fd,
					  const struct blob_source *items, size_t n,
					  struct tree_upload_changed *changed,
					  struct tree_upload_totals *totals)
{
	struct tree_upload_kept kept = {.store = client->local.store,
					.dir_fd = dir_fd,
					.items = items,
					.changed = changed,
					.mutex = SYNC_MUTEX_INIT};

	while (kept.n_done < n) {
		size_t n_next = MIN(n - kept.n_done, (size_t)TREE_UPLOAD_KEEP_AT_ONCE);

		store_has_many_begin(kept.store);
		pool_for_each(client->local.pool, n_next, tree_upload_keep_one, &kept);
		store_has_many_end(kept.store);
		kept.n_done += n_next;
	}
	sync_mutex_deinit(&kept.mutex);
	sync_alone(&kept.mutex); /* the pool's threads are through */
	if (totals) {
		totals->n_sent += kept.n;
		totals->bytes_sent += kept.bytes;
	}
	return kept.err;
}

struct error *tree_upload_store(struct client *client, const struct import *import,
				const struct blob_source *more, size_t n_more,
				struct tree_upload_changes *changes,
				struct tree_upload_totals *totals)
{
	size_t n_items = 0;
	const struct blob_source *items = import ? import_items(import, &n_items) : NULL;
	struct tree_upload_changed changed = {.import = import,
					      .n_max = TREE_UPLOAD_CHANGES_MAX -
						       changes->n,
					      .mutex = SYNC_MUTEX_INIT};
	struct error *err = local_open_store(&client->local);

	if (!err)
		err = tree_upload_keep_all(client, import ? import_dir_fd(import) : -1,
					   items, n_items, &changed, totals);
	if (!err)
		err = tree_upload_keep_all(client, -1, more, n_more, &changed, totals);
	tree_upload_take_changes(changes, &changed);
	if (!err && totals)
		tree_upload_count_import(import, totals);
	return err;
}
