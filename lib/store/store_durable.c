/*
 * Owns the thread that brings new blobs to the disk for those who wait for it, the list
 * of blobs that are not there yet, and the waiters.
 *
 * A round takes the list as it is, syncs, and wakes whoever waits for a commit that the
 * round covered. What is committed meanwhile belongs to the next round, which begins at
 * once: under load each round carries what came during the one before. A blob's file, its
 * name and (by the directory) its place are synced; for many at once the whole file
 * system is, unless each blob is to be synced by itself (STORE_SYNC_BLOB). Where nobody
 * waits there is no round: the store's other thread writes at its own pace.
 *
 * Where the disk fails, what it failed for cannot be promised: the blobs are dropped, and
 * the waiters are told.
 *
 * Threads: any come in; the durable thread alone syncs. store->mutex guards the list, the
 * numbers and the waiters.
 */
#include "lib/store/store_durable.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "lib/store/store_durable_impl.h"
#include "lib/store/store_entry.h"
#include "lib/store/store_impl.h"

#define LOG_MODULE "store"
#include "lib/base/log.h"

#define DURABLE_FILES_MAX 64 /* synced one by one in a batch; more: their file system */
#define DURABLE_FAN_OUT   256
#define DURABLE_FRESH_MAX 10000 /* blobs that nobody waits for and no round has had */

struct durable_round {
	struct digest *digests;
	size_t n;
	uint64_t commit; /* the last that it covers */
	bool is_each;
};

void store_durable_note(struct store *store, struct store_entry *entry)
{
	if (store->sync == STORE_SYNC_NONE)
		return;
	entry->commit = ++store->last_commit;
	if (store->n_fresh == DURABLE_FRESH_MAX)
		sync_signal(&store->durable_cond);
	store->fresh = alloc_grow(store->fresh, &store->fresh_cap, store->n_fresh + 1,
				  sizeof(*store->fresh));
	store->fresh[store->n_fresh++] = entry->digest;
}

uint64_t store_commit_of(struct store *store, const struct digest *digest)
{
	struct store_entry *entry;
	uint64_t commit = 0;

	if (store->sync == STORE_SYNC_NONE)
		return 0;
	store_lock(store);
	entry = store_entry_find(store, digest);
	if (entry && entry->state != ENTRY_ABSENT &&
	    entry->commit > store->durable_commit)
		commit = entry->commit;
	store_unlock(store);
	return commit;
}

bool store_is_settled(struct store *store)
{
	bool is_settled;

	store_lock(store);
	is_settled = store->durable_commit == store->last_commit;
	store_unlock(store);
	return is_settled;
}

bool store_await(struct store *store, struct store_wait *wait, uint64_t commit)
{
	bool is_durable;

	store_lock(store);
	is_durable = commit <= store->durable_commit;
	if (!is_durable) {
		wait->commit = commit;
		list_push(&store->waits, &wait->link);
		sync_signal(&store->durable_cond);
	}
	store_unlock(store);
	return is_durable;
}

void store_await_end(struct store *store, struct store_wait *wait)
{
	store_lock(store);
	if (wait->link.next)
		list_remove(&wait->link);
	store_unlock(store);
}

uint64_t store_n_rounds(struct store *store)
{
	uint64_t n;

	store_lock(store);
	n = store->n_rounds;
	store_unlock(store);
	return n;
}

/* Syncing */

static int durable_sync_dir(struct store *store, unsigned int first_byte)
{
	struct digest any = {.hash = {(uint8_t)first_byte}};
	char path[STORE_PATH_MAX];
	_cleanup_fd_ int fd = openat(store->dir_fd, store_file_dir(&any, path),
				     O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? errno : 0;
}

/* Absent files are none to sync: evicted, or replaced by others that have rounds of their
 * own. */
static int durable_sync_file(struct store *store, const struct digest *digest,
			     bool only_begins)
{
	char path[STORE_PATH_MAX];
	_cleanup_fd_ int fd = openat(store->dir_fd, store_file_path(digest, path),
				     O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return errno == ENOENT ? 0 : errno;
	if (only_begins) {
		(void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
		return 0;
	}
	return fsync(fd) < 0 ? errno : 0;
}

static int durable_sync_each(struct store *store, const struct durable_round *round)
{
	bool has_dir[DURABLE_FAN_OUT] = {false};
	int errnum = 0;

	for (size_t i = 0; i < round->n; i++)
		(void)durable_sync_file(store, &round->digests[i], true);
	for (size_t i = 0; i < round->n && !errnum; i++) {
		errnum = durable_sync_file(store, &round->digests[i], false);
		has_dir[round->digests[i].hash[0]] = true;
	}
	for (unsigned int i = 0; i < DURABLE_FAN_OUT && !errnum; i++)
		if (has_dir[i])
			errnum = durable_sync_dir(store, i);
	return errnum;
}

static struct error *durable_sync(struct store *store, const struct durable_round *round)
{
	int errnum;

	if (round->is_each || round->n <= DURABLE_FILES_MAX)
		errnum = durable_sync_each(store, round);
	else
		errnum = syncfs(store->dir_fd) < 0 ? errno : 0;
	return errnum ? error_new(ERROR_UNAVAILABLE,
				  "the disk of the store did not keep the blob: %s",
				  strerror(errnum))
		      : NULL;
}

/* Rounds */

static bool durable_has_work(const struct store *store) SYNC_REQUIRES(&store->mutex)
{
	return store->n_fresh > DURABLE_FRESH_MAX ||
	       (store->n_fresh && !list_is_empty(&store->waits));
}

static struct durable_round durable_begin(struct store *store)
	SYNC_REQUIRES(&store->mutex)
{
	struct durable_round round = {.digests = store->fresh,
				      .n = store->n_fresh,
				      .commit = store->last_commit,
				      .is_each = store->sync == STORE_SYNC_BLOB};

	store->fresh = NULL;
	store->n_fresh = 0;
	store->fresh_cap = 0;
	return round;
}

/* done must not come back here, since the mutex is held. */
static void durable_end(struct store *store, const struct durable_round *round,
			const struct error *err) SYNC_REQUIRES(&store->mutex)
{
	store->durable_commit = round->commit;
	store->n_rounds++;
	list_for_each_safe (link, &store->waits) {
		struct store_wait *wait = container_of(link, struct store_wait, link);

		if (wait->commit > round->commit)
			continue;
		list_remove(&wait->link);
		wait->done(wait->ctx, err);
	}
}

static void *durable_thread(void *arg)
{
	struct store *store = arg;

	store_lock(store);
	while (!store->is_stopping || durable_has_work(store)) {
		struct durable_round round;
		struct error *err;

		if (!durable_has_work(store)) {
			sync_wait(&store->durable_cond, &store->mutex);
			continue;
		}
		round = durable_begin(store);
		store_unlock(store);
		err = durable_sync(store, &round);
		for (size_t i = 0; err && i < round.n; i++)
			store_remove(store, &round.digests[i]);
		store_lock(store);
		durable_end(store, &round, err);
		store_unlock(store);
		if (err)
			log_drop(LOG_ERROR, err, "%zu blobs of %s are dropped", round.n,
				 store->dir);
		free(round.digests);
		store_lock(store);
	}
	store_unlock(store);
	return NULL;
}

struct error *store_durable_start(struct store *store)
{
	struct error *err;

	if (store->sync == STORE_SYNC_NONE)
		return NULL;
	err = thread_start("durable", durable_thread, store, &store->durable_thread);
	store->has_durable_thread = !err;
	return error_wrap(err, "%s", store->dir);
}

void store_durable_stop(struct store *store)
{
	if (!store->has_durable_thread)
		return;
	store_lock(store);
	sync_signal(&store->durable_cond);
	store_unlock(store);
	(void)pthread_join(store->durable_thread, NULL);
	store->has_durable_thread = false;
}
