/*
 * The store's inside, shared by store.c (lookups), store_staged.c (writing),
 * store_batch.c (what the index is told), store_evict.c (what goes), store_thread.c
 * (when), store_durable.c (waits for the disk) and store_open.c (open, recover, close).
 *
 * The table says what is known of each blob. An exclusive store knows all its blobs from
 * the start; a shared one, whose files others add and remove, knows those that it
 * touched, and asks the file and the index for the others.
 *
 * Locks, in this order: batch_mutex (one batch at a time) before a name's mutex (its file
 * is made or removed only under it, together with the table's entry, so that the two
 * agree) before mutex (the table; held for moments only, never across a system call, so
 * that a FUSE thread may take it).
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

#define STORE_NAME_LOCKS   64
#define STORE_EVICT_INLINE 32 /* blobs that one write evicts at most */

enum entry_state {
	ENTRY_ABSENT,    /* pinned, or its removal is not in the index yet */
	ENTRY_UNCHECKED, /* the index knows it to be good; its file was not looked at yet
			  */
	ENTRY_SUSPECT,   /* to be hashed before use */
	ENTRY_GOOD,
};

struct store_entry {
	struct hnode node;
	struct list lru;   /* in store->lru while present and not pinned */
	struct list dirty; /* in store->dirty while the index must hear of it */
	struct digest digest;
	int64_t used_ns;
	int64_t indexed_used_ns; /* as the index has it */
	uint64_t commit;         /* that made it, in this process; 0: before */
	int64_t stamp;           /* of the file when it was good; 0: not known yet */
	unsigned int n_pins;
	enum entry_state state;
	bool needs_row; /* the index must hear of more than its last use */
	bool is_seen;   /* while opening: its file is there */
};

struct store {
	char *dir; /* absolute */
	int dir_fd;
	int lock_fd;
	int staging_fd; /* keeps staging_path locked as ours */
	char staging_path[STORE_PATH_MAX];
	atomic_uint staging_count;
	int64_t size_limit;
	int64_t blob_limit; /* of one: what is left to staged bytes, too */
	mode_t mode_fix;    /* bits that the umask takes from 0444, to be given back */
	bool is_shared;
	enum store_sync sync;
	bool has_nameless;         /* files can be staged without a name */
	struct store_index *index; /* NULL: lost, and done without */

	struct sync_mutex batch_mutex;
	bool is_lossy; /* guarded by batch_mutex: the index missed something */
	struct sync_mutex name_mutexes[STORE_NAME_LOCKS];

	struct sync_mutex mutex; /* guards all below */
	struct sync_cond cond;   /* the thread has something to do */
	pthread_t thread;
	bool has_thread;
	bool is_stopping;
	bool must_evict;
	bool must_scan; /* a shared store's process died: files may lack rows */
	struct htab tab;
	struct list lru; /* least recently used first */
	struct list dirty;
	size_t n_dirty;
	int64_t dirty_first_ns; /* monotonic: when dirty stopped being empty */
	int64_t dirty_last_ns;
	struct sync_cond durable_cond; /* its thread has something to do */
	pthread_t durable_thread;
	bool has_durable_thread;
	struct digest *fresh; /* committed, and in no round yet */
	size_t n_fresh;
	size_t fresh_cap;
	uint64_t last_commit;
	uint64_t durable_commit; /* this one and all before it are on the disk */
	struct list waits;
	uint64_t n_rounds;
	int64_t n_blobs;
	int64_t bytes; /* of a shared store: as the index had it, and what we added */
	uint64_t n_evicted;
	int64_t evicted_bytes;
	int64_t said_bytes; /* of those that the log has heard of */
	uint64_t n_verified;
	uint64_t n_corrupt;
};

static inline void store_lock(struct store *store)
{
	sync_lock(&store->mutex);
}

static inline void store_unlock(struct store *store)
{
	sync_unlock(&store->mutex);
}

void store_lock_name(struct store *store, const struct digest *digest);
void store_unlock_name(struct store *store, const struct digest *digest);

/* All of these with mutex held. An entry is found by its hash alone. */
struct store_entry *store_entry_find(struct store *store, const struct digest *digest);
struct store_entry *store_entry_get(struct store *store, const struct digest *digest);
void store_entry_set(struct store *store, struct store_entry *entry,
		     enum entry_state state);
/* The index must hear of it: of its last use, or of all. */
void store_entry_dirty(struct store *store, struct store_entry *entry, bool needs_row);
void store_entry_drop_unused(struct store *store, struct store_entry *entry);

/* store_staged.c: whether the file system and /proc let a file get its name when it is
 * whole */
bool store_can_be_nameless(struct store *store);

/* store_open.c: files without a row get one, as state. */
struct error *store_scan_to_index(struct store *store, enum store_state state);

/* store_durable.c */
void store_durable_note(struct store *store, struct store_entry *entry); /* mutex held */
struct error *store_durable_start(struct store *store);
void store_durable_stop(struct store *store); /* is_stopping is set */

/* store_batch.c */
struct error *store_sync(struct store *store, bool to_disk);
struct error *store_sync_locked(struct store *store, bool to_disk); /* batch_mutex held */
/* A shared store's totals are what all its processes told the index. */
void store_learn_totals(struct store *store);

/* store_evict.c */
/* For a full disk: evicts at least bytes where it can, and says so; false where it could
 * not evict anything. */
bool store_make_room(struct store *store, int64_t bytes);
/* Evicts a few where the limit is passed, never keep, and has the thread do the rest. */
void store_hold_limit(struct store *store, const struct digest *keep);
/* Down to nine tenths of it, so that writers seldom have to do it themselves. */
void store_shrink(struct store *store);

/* store_thread.c */
struct error *store_start_thread(struct store *store);
void store_stop_thread(struct store *store);
