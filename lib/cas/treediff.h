/*
 * What differs between two trees. Directories whose digests are equal are not looked
 * into; those that differ are loaded a level at a time, so that the way down costs a
 * round trip a level, however many differ. Threads: one that may block; not from a task
 * of the fetcher's pool.
 */
#pragma once

#include "lib/cas/dircache.h"

/*
 * One path, in order of names. NULL: it is not there. A directory is told of where it is
 * empty and in one tree only, or, with both nodes, where its own properties differ ("" is
 * the root). The nodes and the path are borrowed for the call.
 */
typedef struct error *treediff_change_fn(void *ctx, const char *path,
					 const struct tree_node *was,
					 const struct tree_node *is);

struct treediff_config {
	struct dircache *dirs;
	int64_t entries_max; /* of those that are looked at: more are RESOURCE_EXHAUSTED
			      */
	treediff_change_fn *change; /* an error of it ends the walk, and is returned */
	void *ctx;
};

struct error *treediff_run(const struct treediff_config *config, const struct digest *was,
			   const struct digest *is);
