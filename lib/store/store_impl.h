/*
 * The store's inside, as its parts share it: store_entry (the table), store.c (lookups),
 * store_staged (writing), store_batch (what the index is told), store_evict (what goes),
 * store_thread (when), store_durable (waits for the disk), store_open (open, recover,
 * close).
 *
 * The table says what is known of each blob. An exclusive store knows all its blobs from
 * the start; a shared one, whose files others add and remove, knows those that it
 * touched, and asks the file and the index for the others.
 *
 * Locks, in this order: batch_mutex, for one batch at a time; the index's write_mutex; a
 * name's mutex, under which alone a blob's file is made or removed, together with the
 * table's entry, so that the two agree; mutex, for the table, held for moments only and
 * never across a system call, so that a FUSE thread may take it.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "lib/base/htab.h"
#include "lib/base/list.h"
#include "lib/base/sync.h"
#include "lib/store/store.h"
#include "lib/store/store_file.h"
#include "lib/store/store_index.h"
#include "lib/store/store_pin.h"

#define STORE_NAME_LOCKS 64

struct store {
	/* Constant once the store is open. */
	char *dir; /* absolute */
	int dir_fd;
	int lock_fd;
	int staging_fd; /* keeps staging_path locked as ours */
	char staging_path[STORE_PATH_MAX];
	int64_t size_limit;
	int64_t blob_limit; /* of one: what is left to staged bytes, too */
	mode_t mode_fix;    /* bits that the umask takes from 0444, to be given back */
	bool is_shared;
	int64_t promise_ns;
	enum store_sync sync;
	bool has_nameless;         /* files can be staged without a name */
	struct store_index *index; /* NULL: lost, and done without */
	pthread_t thread;
	bool has_thread;
	pthread_t durable_thread;
	bool has_durable_thread;

	atomic_uint staging_count;

	struct sync_mutex batch_mutex;
	bool is_lossy SYNC_GUARDED_BY(&batch_mutex); /* the index missed something */
	struct store_pins pins SYNC_GUARDED_BY(&batch_mutex); /* of a shared store */

	struct sync_mutex name_mutexes[STORE_NAME_LOCKS]; /* store_name_mutex() */

	struct sync_mutex mutex;
	struct sync_cond cond;         /* the thread has something to do */
	struct sync_cond durable_cond; /* the durable thread has */
	bool is_stopping SYNC_GUARDED_BY(&mutex);
	bool must_evict SYNC_GUARDED_BY(&mutex);
	/* A shared store's process died: files may lack rows. */
	bool must_scan SYNC_GUARDED_BY(&mutex);
	/* Of struct store_entry, whose fields it guards, too. */
	struct htab tab SYNC_GUARDED_BY(&mutex);
	struct list lru SYNC_GUARDED_BY(&mutex); /* least recently used first */
	struct list dirty SYNC_GUARDED_BY(&mutex);
	size_t n_dirty SYNC_GUARDED_BY(&mutex);
	/* Monotonic: when dirty stopped being empty, and when it grew last. */
	int64_t dirty_first_ns SYNC_GUARDED_BY(&mutex);
	int64_t dirty_last_ns SYNC_GUARDED_BY(&mutex);
	struct digest *fresh SYNC_GUARDED_BY(&mutex); /* committed, and in no round yet */
	size_t n_fresh SYNC_GUARDED_BY(&mutex);
	size_t fresh_cap SYNC_GUARDED_BY(&mutex);
	uint64_t last_commit SYNC_GUARDED_BY(&mutex);
	/* This one and all before it are on the disk. */
	uint64_t durable_commit SYNC_GUARDED_BY(&mutex);
	struct list waits SYNC_GUARDED_BY(&mutex);
	uint64_t n_rounds SYNC_GUARDED_BY(&mutex);
	/* Of a shared store: as the index had it, and what we added. */
	int64_t n_blobs SYNC_GUARDED_BY(&mutex);
	int64_t bytes SYNC_GUARDED_BY(&mutex);
	uint64_t n_evicted SYNC_GUARDED_BY(&mutex);
	int64_t evicted_bytes SYNC_GUARDED_BY(&mutex);
	/* Monotonic: what is pinned left no room; until then nobody looks again. */
	int64_t pinned_until_ns SYNC_GUARDED_BY(&mutex);
	int64_t said_bytes
		SYNC_GUARDED_BY(&mutex); /* of those that the log has heard of */
	uint64_t n_verified SYNC_GUARDED_BY(&mutex);
	uint64_t n_corrupt SYNC_GUARDED_BY(&mutex);
};

static inline void store_lock(struct store *store) SYNC_ACQUIRES(&store->mutex);
static inline void store_lock(struct store *store)
{
	sync_lock(&store->mutex);
}

static inline void store_unlock(struct store *store) SYNC_RELEASES(&store->mutex);
static inline void store_unlock(struct store *store)
{
	sync_unlock(&store->mutex);
}

/* Of the blob's file: one of a few that all names share. */
static inline struct sync_mutex *store_name_mutex(struct store *store,
						  const struct digest *digest)
{
	return &store->name_mutexes[digest->hash[0] % STORE_NAME_LOCKS];
}
