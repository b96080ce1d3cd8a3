/*
 * A tree out of the store and the remote into a directory: in parallel, by reflink or
 * copy, each file without its name until it is whole, never outside its destination
 * (names are validated, links not followed). Blocking; not from a task of the pool.
 */
#pragma once

#include "lib/cas/dircache.h"

struct checkout_config {
	struct dircache *dirs;
	struct pool *pool;
	int64_t entries_max; /* of one tree; 0: TREE_ENTRIES_MAX */
	/* of files that bring no time of their own: one for all, so that none of them is
	 * newer than another; 0: when each came */
	int64_t mtime_ns;
	/* may be called from several threads; n_total is 0 where it is not known */
	bool is_staged; /* the destination's name means nothing: errors leave it out */
	void (*progress)(void *ctx, int64_t n_done, int64_t n_total, int64_t bytes_done);
	void *ctx;
};

/* Into dest below dir_fd, which is made; what stands there is replaced file by file. The
 * first error ends it, naming the path; what was placed by then stays. */
struct error *checkout_tree(const struct checkout_config *config,
			    const struct digest *root, int dir_fd, const char *dest);
/* One file, the same way. */
struct error *checkout_file(const struct checkout_config *config,
			    const struct digest *digest, bool is_executable,
			    const struct tree_props *props, int dir_fd, const char *dest);
