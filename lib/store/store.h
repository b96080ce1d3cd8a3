/*
 * The local store: blobs as files by digest, and an SQLite index of what can be rebuilt
 * (size, last use, whether the bytes are known good). A blob is staged, hashed, and
 * becomes visible by rename: what is visible was verified. After an unclean stop, what
 * the index does not know to be on disk is verified before its first use.
 *
 * DIR/blobs/HH/HASH        committed blobs, read-only files
 * DIR/staging/PID.N/       files being written; those of dead processes go at start
 * DIR/index.sqlite         the index; deleting it loses only ages
 * DIR/lock                 locked: exclusively, holding the owner's pid, or shared
 *
 * Evicting is always safe: an open descriptor keeps its bytes, and what is missing is
 * fetched again.
 *
 * Threads: any. All calls block on the local disk, never on the network or fsync, but for
 * store_flush() and store_close(). Writes to the index are batched on the store's thread,
 * which also brings an exclusive store's new files to the disk. A shared store's are not
 * waited for: after a crash of the machine (not of a process) they are hashed once.
 */
#pragma once

#include "lib/tree/digest.h"

struct store;

/* What store_durable.h promises; without it new files come to the disk within seconds. */
enum store_sync {
	STORE_SYNC_NONE,
	STORE_SYNC_BATCH, /* many writers share one wait for the disk */
	STORE_SYNC_BLOB,  /* they do, and each blob is synced by itself */
};

struct store_config {
	const char *dir;    /* made where it is missing */
	int64_t size_limit; /* bytes; 0: half of (free on the disk + held by the store
			       now) */
	unsigned int staging_share; /* one in so many bytes of it is left to what its
				       user stages and counts; 0: none */
	bool is_shared;             /* the client's: many processes at once, no lock */
	/* How long a blob stays at least after it was stored, read or found: what room
	 * that leaves is all there is, and then writes are refused. 0: as long as there
	 * is room. Not of a shared store. */
	int64_t promise_ns;
	enum store_sync sync;
};

/* FAILED_PRECONDITION names the process that holds it. */
struct error *store_open(const struct store_config *config, struct store **store_out);
void *store_close(struct store *store);
CLEANUP_DEFINE(struct store, store_close)
int store_dir_fd(const struct store *store); /* borrowed */

/*
 * The blob's file, open for reading, or -1 in *fd_out where it is absent, has another
 * size, or must be verified first. Counts as a use. Never hashes: fit for a FUSE thread.
 */
struct error *store_get(struct store *store, const struct digest *digest, int *fd_out);
/* As store_get, and verifies (hashing) what must be; a corrupt file is removed: -1. */
struct error *store_get_verified(struct store *store, const struct digest *digest,
				 int *fd_out);
/* True where the blob's file is there but must be verified before use: memory only. */
bool store_is_suspect(struct store *store, const struct digest *digest);
/* As store_get_verified, without the file; of a blob once used, a look into memory. */
bool store_has(struct store *store, const struct digest *digest);
/* Between them many blobs are looked for: of a shared store's index at once, as it is
 * when the first is. Not nested. */
void store_has_many_begin(struct store *store);
void store_has_many_end(struct store *store);
/* The blob's bytes appended to out; NOT_FOUND; at most limit bytes. Verifies as above. */
struct error *store_read(struct store *store, const struct digest *digest, size_t limit,
			 struct buf *out);
struct error *store_put(struct store *store, const struct digest *digest,
			const void *data,
			size_t len); /* INVALID_ARGUMENT where they do not match */

/* Writing in pieces. Too many bytes, or the wrong ones at commit: INVALID_ARGUMENT, and
 * nothing stored. A full disk, or a store full of what is promised: RESOURCE_EXHAUSTED.
 */
struct staged;
/* may_evict: blobs make room for it where the disk is full. */
struct error *staged_open(struct store *store, const struct digest *want, bool may_evict,
			  struct staged **staged_out);
void staged_spare(struct staged *staged); /* from here on none do */
void *staged_free(struct staged *staged); /* drops what was not committed */
CLEANUP_DEFINE(struct staged, staged_free)
struct error *staged_write(struct staged *staged, const void *data, size_t len);
int64_t staged_size(const struct staged *staged); /* bytes so far */
/* Consumes. fd_out may be NULL; else the committed file, open for reading. */
struct error *staged_commit(struct staged *staged, int *fd_out);

/*
 * Takes a file of ours into the store and says its digest: by rename where move is set
 * and it lies on the store's file system and has no other link, else by reflink or copy.
 * The file must not be written to any more.
 */
struct error *store_adopt(struct store *store, int dir_fd, const char *name,
			  bool is_moved, struct digest *digest_out);

/* Evicts blobs of so many bytes, for what its user counts beside them: how many it was.
 */
int64_t store_evict(struct store *store, int64_t bytes);
/* Drops a blob found to be bad. */
void store_remove(struct store *store, const struct digest *digest);

/* Brings the disk and the index to now (fsync): for clean ends and tests. */
struct error *store_flush(struct store *store);

struct store_stats {
	int64_t n_blobs;
	int64_t bytes;
	int64_t size_limit;
	uint64_t n_evicted;
	int64_t evicted_bytes;
	uint64_t n_verified; /* hashed again after an unclean stop */
	uint64_t n_corrupt;  /* of those, how many were dropped */
};
void store_stats(struct store *store, struct store_stats *out);
