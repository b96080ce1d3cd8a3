/*
 * Opens, recovers and closes stores.
 *
 * The files are the truth. An exclusive store loads the index, and where the last stop
 * was not clean (or the machine was started anew, or the index is new) lists the files: a
 * row without a file is dropped, a file without a row becomes a suspect, to be hashed
 * before its first use. After a clean stop the rows are enough, since each is compared
 * with its file at its first use.
 *
 * A shared store loads nothing, so that a short command starts at once. The first process
 * after a boot lists the files, within one transaction of the index, and gives those
 * without a row one that says "suspect"; rows that were only good as long as the machine
 * ran become suspect too. Where a process died since, the store's thread gives its files
 * their rows.
 *
 * A damaged index is removed and made anew, in a shared store only by a process that is
 * alone; others do without, and hash what they find.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "lib/store/store_batch.h"
#include "lib/store/store_durable_impl.h"
#include "lib/store/store_entry.h"
#include "lib/store/store_evict.h"
#include "lib/store/store_impl.h"
#include "lib/store/store_staged.h"
#include "lib/store/store_thread.h"

#define LOG_MODULE "store"
#include "lib/base/log.h"

#define STORE_PROC_MAX 65536

static void store_free(struct store *store)
{
	if (!store)
		return;
	sync_alone(&store->mutex);
	sync_alone(&store->batch_mutex);
	store_pins_deinit(&store->pins);
	store_index_close(store->index);
	store_entry_drop_all(store);
	htab_deinit(&store->tab);
	if (store->staging_fd >= 0) {
		struct error *err = file_remove_tree(store->dir_fd, store->staging_path);

		if (err)
			log_drop(LOG_WARN, err, "clean up in %s", store->dir);
		(void)close(store->staging_fd);
	}
	if (store->lock_fd >= 0)
		(void)close(store->lock_fd);
	if (store->dir_fd >= 0)
		(void)close(store->dir_fd);
	sync_cond_deinit(&store->cond);
	sync_mutex_deinit(&store->mutex);
	sync_cond_deinit(&store->durable_cond);
	free(store->fresh);
	sync_mutex_deinit(&store->batch_mutex);
	for (int i = 0; i < STORE_NAME_LOCKS; i++)
		sync_mutex_deinit(&store->name_mutexes[i]);
	free(store->dir);
	free(store);
}
CLEANUP_DEFINE(struct store, store_free)

static struct store *store_alloc(const struct store_config *config)
{
	struct store *store = alloc_new(struct store);

	store->dir_fd = store->lock_fd = store->staging_fd = -1;
	store->is_shared = config->is_shared;
	store->size_limit = config->size_limit;
	store->promise_ns = config->is_shared ? 0 : config->promise_ns;
	store->sync = config->sync;
	sync_mutex_init(&store->mutex);
	sync_mutex_rank(&store->mutex, 5);
	sync_alone(&store->mutex);
	list_init(&store->waits);
	sync_cond_init(&store->durable_cond);
	list_init(&store->lru);
	list_init(&store->dirty);
	sync_mutex_init(&store->batch_mutex);
	sync_mutex_rank(&store->batch_mutex, 2);
	for (int i = 0; i < STORE_NAME_LOCKS; i++) {
		sync_mutex_init(&store->name_mutexes[i]);
		sync_mutex_rank(&store->name_mutexes[i], 4);
	}
	sync_cond_init(&store->cond);
	return store;
}

/* The bits of 0444 that the umask takes; umask(2) itself could only be asked by setting
 * it, for all threads. */
static mode_t store_mode_fix(void)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_error_ struct error *err =
		file_read_all(AT_FDCWD, "/proc/self/status", STORE_PROC_MAX, &text);
	const char *line = err ? NULL : strstr(buf_string(&text), "\nUmask:");

	return line ? (mode_t)strtoul(line + 7, NULL, 8) & 0444 : 0444;
}

static struct error *store_boot_id(struct buf *out)
{
	struct error *err = file_read_all(AT_FDCWD, "/proc/sys/kernel/random/boot_id",
					  STORE_PROC_MAX, out);

	while (out->len && out->data[out->len - 1] == '\n')
		out->data[--out->len] = '\0';
	return err;
}

/* Directory, lock and staging. */
static struct error *store_open_dir(struct store *store, const char *dir)
{
	_cleanup_free_ char *real = NULL;
	bool found_dead = false;
	struct error *err = file_mkdirs(AT_FDCWD, dir, 0755);

	if (err)
		return err;
	real = realpath(dir, NULL);
	if (!real)
		return error_errno(errno, "open %s", dir);
	store->dir = take(real);
	err = file_open_dir(AT_FDCWD, store->dir, &store->dir_fd);
	if (!err)
		err = store_file_lock(store->dir_fd, store->dir, store->is_shared,
				      &store->lock_fd);
	if (!err)
		err = store_file_layout(store->dir_fd);
	if (!err)
		err = store_file_sweep(store->dir_fd, &found_dead);
	if (!err)
		err = store_file_staging(store->dir_fd, store->staging_path,
					 &store->staging_fd);
	sync_alone(&store->mutex);
	store->must_scan = store->is_shared && found_dead;
	return error_wrap(err, "open the store %s", dir);
}

/* Opens the index, or a new one where it is damaged. */
static struct error *store_open_index(struct store *store)
{
	struct error *err = store_index_open(store->dir, &store->index);

	if (error_code(err) != ERROR_DATA_LOSS)
		return err;
	log_drop(LOG_WARN, err, "the index of %s is made anew", store->dir);
	if (store->is_shared && flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return NULL;
	store_index_wipe(store->dir);
	err = store_index_open(store->dir, &store->index);
	if (store->is_shared)
		(void)flock(store->lock_fd, LOCK_SH);
	return err;
}

/* As store_open_index, of one that opens but cannot be read. */
static struct error *store_reopen_index(struct store *store, struct error *why)
{
	log_drop(LOG_WARN, why, "the index of %s is made anew", store->dir);
	store->index = store_index_close(store->index);
	if (store->is_shared && flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return NULL;
	store_index_wipe(store->dir);
	if (store->is_shared)
		(void)flock(store->lock_fd, LOCK_SH);
	return store_index_open(store->dir, &store->index);
}

/* Exclusive stores */

static void store_load_row(void *ctx, const struct store_row *row)
{
	struct store *store = ctx;
	struct store_entry *entry;

	sync_alone(&store->mutex);
	if (digest_equal(&row->digest, &digest_of_empty))
		return;
	entry = store_entry_get(store, &row->digest);
	entry->used_ns = entry->indexed_used_ns = row->used_ns;
	entry->stamp = row->stamp;
	store_entry_set(store, entry,
			row->state == STORE_SUSPECT ? ENTRY_SUSPECT : ENTRY_UNCHECKED);
}

static void store_see_file(void *ctx, const struct digest *digest)
{
	struct store *store = ctx;
	struct store_entry *entry;

	sync_alone(&store->mutex);
	entry = store_entry_get(store, digest);
	entry->is_seen = true;
	if (entry->state != ENTRY_ABSENT && entry->digest.size == digest->size)
		return;
	if (entry->state != ENTRY_ABSENT) /* the row has another size than the file */
		store_entry_set(store, entry, ENTRY_ABSENT);
	entry->digest = *digest;
	entry->used_ns = clock_wall_ns();
	store_entry_set(store, entry, ENTRY_SUSPECT);
}

static void store_drop_unseen(struct hnode *node, void *ctx)
{
	struct store *store = ctx;
	struct store_entry *entry = container_of(node, struct store_entry, node);

	sync_alone(&store->mutex);
	if (entry->is_seen)
		return;
	store_entry_set(store, entry, ENTRY_ABSENT);
	store_entry_dirty(store, entry, true);
}

/* Damage that SQLite does not notice may still lose rows; their number is kept elsewhere.
 */
static struct error *store_check_totals(struct store *store)
	SYNC_REQUIRES(&store->index->write_mutex, &store->mutex)
{
	int64_t n = 0;
	int64_t bytes = 0;
	struct error *err = store_index_totals(store->index, &n, &bytes);

	if (!err && (n != store->n_blobs || bytes != store->bytes))
		err = error_new(ERROR_DATA_LOSS, "the index of %s lost rows", store->dir);
	return err;
}

static struct error *store_load(struct store *store, const char *boot)
{
	_cleanup_buf_ struct buf was_boot = BUF_INIT;
	_cleanup_buf_ struct buf was_clean = BUF_INIT;
	struct error *err = store_index_begin(store->index);

	sync_alone(&store->mutex);
	if (!err)
		err = store_index_note(store->index, "boot", &was_boot);
	if (!err)
		err = store_index_note(store->index, "clean", &was_clean);
	bool is_clean = strcmp(buf_string(&was_clean), "1") == 0;
	bool is_same_boot = strcmp(buf_string(&was_boot), boot) == 0;

	if (!err && !is_clean)
		err = store_index_check(store->index);
	if (!err && !is_same_boot)
		err = store_index_demote(store->index);
	if (!err)
		err = store_index_each(store->index, NULL, -1, store_load_row, store);
	if (!err)
		err = store_check_totals(store);
	if (!err)
		err = store_index_set_note(store->index, "boot", boot);
	if (!err)
		err = store_index_set_note(store->index, "clean", "0");
	err = store_index_end(store->index, err);
	if (err || (is_clean && is_same_boot))
		return err;
	err = store_file_scan(store->dir_fd, store_see_file, store);
	if (!err)
		htab_each(&store->tab, store_drop_unseen, store);
	return err;
}

/* Shared stores */

static struct error *store_join(struct store *store, const char *boot)
{
	_cleanup_buf_ struct buf was_boot = BUF_INIT;
	struct error *err = store_index_begin(store->index);

	if (!err)
		err = store_index_note(store->index, "boot", &was_boot);
	if (!err && strcmp(buf_string(&was_boot), boot) != 0) {
		err = store_index_demote(store->index);
		if (!err)
			err = store_batch_scan_locked(store, STORE_SUSPECT);
		if (!err)
			err = store_index_set_note(store->index, "boot", boot);
	}
	if (!err)
		err = store_index_totals(store->index, &store->n_blobs, &store->bytes);
	return store_index_end(store->index, err);
}

static struct error *store_recover(struct store *store)
{
	_cleanup_buf_ struct buf boot = BUF_INIT;
	struct error *(*recover)(struct store *, const char *) =
		store->is_shared ? store_join : store_load;
	struct error *err = store_boot_id(&boot);

	if (!err)
		err = store_open_index(store);
	if (err || !store->index)
		return err;
	err = recover(store, buf_string(&boot));
	if (error_code(err) != ERROR_DATA_LOSS)
		return err;
	sync_alone(&store->mutex);
	store_entry_drop_all(store);
	err = store_reopen_index(store, err);
	if (err || !store->index)
		return err;
	return recover(store, buf_string(&boot));
}

static struct error *store_find_limit(struct store *store)
{
	struct statvfs vfs;

	sync_alone(&store->mutex);
	if (store->size_limit > 0)
		return NULL;
	if (fstatvfs(store->dir_fd, &vfs) < 0)
		return error_errno(errno, "ask for free space in %s", store->dir);
	store->size_limit = ((int64_t)(vfs.f_bavail * vfs.f_frsize) + store->bytes) / 2;
	return NULL;
}

static struct error *store_set_limit(struct store *store, unsigned int staging_share)
{
	struct error *err = store_find_limit(store);

	store->blob_limit = store->size_limit;
	if (!err && staging_share > 0)
		store->size_limit -= store->size_limit / staging_share;
	return err;
}

struct error *store_open(const struct store_config *config, struct store **store_out)
{
	_cleanup_(store_freep) struct store *store = store_alloc(config);
	struct error *err = store_open_dir(store, config->dir);

	store->mode_fix = store_mode_fix();
	store->has_nameless = !err && store_staged_can_be_nameless(store);
	if (!err)
		err = store_recover(store);
	if (!err)
		err = store_set_limit(store, config->staging_share);
	if (!err)
		err = store_thread_start(store);
	/* promises for files in it are worth nothing while its directories may be lost */
	if (!err && store->sync != STORE_SYNC_NONE && syncfs(store->dir_fd) < 0)
		err = error_errno(errno, "sync %s", store->dir);
	if (!err)
		err = store_durable_start(store);
	if (err)
		return err;
	store_evict_over_limit(store, NULL);
	*store_out = take(store);
	return NULL;
}

/* Uses too recent for a batch of their own go with the last one. */
static void store_note_use(struct hnode *node, void *ctx)
{
	struct store *store = ctx;
	struct store_entry *entry = container_of(node, struct store_entry, node);

	sync_held(&store->mutex);
	if (entry->state != ENTRY_ABSENT && entry->used_ns != entry->indexed_used_ns)
		store_entry_dirty(store, entry, false);
}

static struct error *store_mark_clean(struct store *store)
{
	struct error *err = store_index_begin(store->index);

	if (!err)
		err = store_index_set_note(store->index, "clean", "1");
	return store_index_end(store->index, err);
}

void *store_close(struct store *store)
{
	struct error *err;

	if (!store)
		return NULL;
	store_thread_stop(store);
	store_durable_stop(store);
	if (!store->is_shared) {
		store_lock(store);
		htab_each(&store->tab, store_note_use, store);
		store_unlock(store);
	}
	err = store_batch_sync(store, !store->is_shared);
	sync_alone(&store->batch_mutex);
	if (!err && !store->is_shared && store->index && !store->is_lossy)
		err = store_mark_clean(store);
	if (err)
		log_drop(LOG_WARN, err, "the next start of %s will take longer",
			 store->dir);
	store_free(store);
	return NULL;
}
