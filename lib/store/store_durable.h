/*
 * Durability as a promise: who answered for a blob may wait until it is on the disk. The
 * store's commits are numbered; a round brings all that came before it to the disk and
 * then tells everybody who waits, so that many writers share one wait for the disk.
 *
 * Threads: any; store_await() does not block, done runs on the store's durable thread.
 */
#pragma once

#include "lib/base/list.h"
#include "lib/store/store.h"

/* The number of the commit that made the blob, for store_await(); 0: there is nothing to
 * wait for, since the blob is on the disk already or absent, or the store makes no
 * promises (STORE_SYNC_NONE). */
uint64_t store_commit_of(struct store *store, const struct digest *digest);

/* True where nothing is on its way to the disk: the answer is 0 for every blob. */
bool store_is_settled(struct store *store);

/* Embedded in who waits; zeroed before. */
struct store_wait {
	struct list link;
	uint64_t commit;
	/* Once; err (borrowed) where the disk failed: then the blobs are gone. Must not
	 * block and not call the store. */
	void (*done)(void *ctx, const struct error *err);
	void *ctx;
};
/* True where commit is on the disk: done is not called. */
bool store_await(struct store *store, struct store_wait *wait, uint64_t commit);
/* After it done will not run any more; twice is harmless. */
void store_await_end(struct store *store, struct store_wait *wait);

/* How many rounds there were, for tests and figures. */
uint64_t store_n_rounds(struct store *store);
