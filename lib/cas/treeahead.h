/*
 * Trees loaded ahead of who needs them: one load of a root at a time, however many want
 * it, on a pool's threads. Who needs one of its Directories sooner than the rest waits
 * for that one only. A load that nobody wants any more asks for nothing more.
 *
 * Threads: any; nothing but treeahead_await() blocks, and that on no network.
 */
#pragma once

#include "lib/base/pool.h"
#include "lib/cas/treeload.h"

struct treeahead;

/* Both borrowed. */
struct treeahead *treeahead_new(struct dircache *dirs, struct pool *pool);
void *treeahead_free(struct treeahead *ahead); /* the pool runs no load any more */
CLEANUP_DEFINE(struct treeahead, treeahead_free)

struct treeahead_order {
	struct digest root;
	struct fetch_account *account; /* borrowed until done() */
	void (*done)(void *ctx); /* once, perhaps before treeahead_begin() returns */
	void *ctx;
};

struct treeahead_load;
/*
 * Begins to load a root, or joins whoever loads it; NULL where all of it is at hand. A
 * load that fails is only logged: who needs what is missing asks for it, and is told.
 */
struct treeahead_load *treeahead_begin(struct treeahead *ahead,
				       const struct treeahead_order *order);
void *treeahead_put(struct treeahead_load *load);
/* The same, and who joined it wants it no more; else it goes on, for whoever comes next.
 * NULL is fine. */
void *treeahead_leave(struct treeahead_load *load);
CLEANUP_DEFINE(struct treeahead_load, treeahead_put)
/* Until the Directory is here or asked for, the load is over, or that time (monotonic):
 * whether asking for it now costs nothing that the load pays anyway. */
bool treeahead_await(struct treeahead_load *load, const struct digest *digest,
		     int64_t until_ns);
