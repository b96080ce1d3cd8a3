/*
 * Loading whole trees: all Directories below a root, in few round trips, into the store
 * and memory. Threads: any that may block.
 */
#pragma once

#include "lib/base/pool.h"
#include "lib/cas/dircache.h"

/*
 * By GetTree, or level by level where the server has none or cannot; nothing is done
 * where the root itself is in the store. RESOURCE_EXHAUSTED past max_bytes of
 * Directories; what came before stays. account (may be NULL) is charged for what crossed
 * the network.
 */
struct error *treeload_run(struct dircache *cache, const struct digest *root,
			   size_t max_bytes, struct fetch_account *account);

struct treeload_config {
	struct dircache *dirs; /* borrowed, until done */
	size_t max_bytes;
	struct fetch_account *account; /* borrowed, until done; may be NULL */
	void (*done)(void *ctx);       /* once, on the pool's thread */
	void *ctx;
};
/* As treeload_run(), on a thread of pool, waiting for it until that time (monotonic) at
 * most. Its failure is only logged: who needs what is missing asks for it, and is told.
 */
void treeload_ahead(const struct treeload_config *config, const struct digest *root,
		    struct pool *pool, int64_t until_ns);

/* RESOURCE_EXHAUSTED where the tree has more than max entries: a few Directories that
 * name each other twice can have more paths than any disk. Loads all Directories, each
 * once (blocking); where memory cannot hold them whoever walks counts as well, and ends
 * with treeload_too_many(). */
struct error *treeload_check_entries(struct dircache *cache, const struct digest *root,
				     int64_t max);
struct error *treeload_too_many(const struct digest *root, int64_t max);
