/*
 * Loading whole trees: all Directories below a root, in few round trips, into the store
 * and memory. What is at hand (dircache_has()) is never asked for: a tree that shares
 * most of its Directories with what was loaded before costs those on the ways to what
 * differs, one that broke off costs the rest. Threads: any that may block.
 */
#pragma once

#include <stdatomic.h>

#include "lib/cas/dircache.h"

struct treeload_config {
	struct dircache *dirs; /* borrowed */
	/* Of Directories, both those that GetTree sends and those looked at: past it the
	 * load ends with RESOURCE_EXHAUSTED; what came before stays. */
	size_t max_bytes;
	size_t max_dirs;               /* as max_bytes, of Directories met; 0: any */
	struct fetch_account *account; /* for what crosses the network; may be NULL */
	/* Told of each Directory that was asked for by itself, or came in a GetTree, on
	 * any thread; may be NULL. */
	void (*coming)(void *ctx, const struct digest *digest);
	void *ctx;
	/* Once set nothing more is asked for, and the load ends with CANCELLED: what came
	 * before stays. May be NULL. */
	const atomic_bool *is_cancelled;
};

/* Marks the root as whole (dircache.h) where all is at hand in the end, and begins
 * nothing where it is marked. */
struct error *treeload_whole(const struct treeload_config *config,
			     const struct digest *root);
/* The same in short; account may be NULL. */
struct error *treeload_run(struct dircache *cache, const struct digest *root,
			   size_t max_bytes, struct fetch_account *account);
/* For who needs a Directory's very bytes: what only memory has comes again. */
struct error *treeload_to_store(struct dircache *cache, const struct digest *root,
				size_t max_bytes);

/* RESOURCE_EXHAUSTED where the tree has more than max entries: a few Directories that
 * name each other twice can have more paths than any disk. Loads all Directories, each
 * once (blocking); where memory cannot hold them whoever walks counts as well, and ends
 * with treeload_too_many(). */
struct error *treeload_check_entries(struct dircache *cache, const struct digest *root,
				     int64_t max);
struct error *treeload_too_many(const struct digest *root, int64_t max);
