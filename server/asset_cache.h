/*
 * The memory of Remote Asset: what names stand for, in an SQLite file of its own. A name
 * is a hash over instance, kind, URI and qualifiers, so that its size does not depend on
 * theirs; all names of one push share what it says. Nothing is said about whether the
 * blobs are there.
 *
 * Threads: any; one lock. Blocks on the disk, not on fsync.
 */
#pragma once

#include "lib/tree/digest.h"

#define ASSET_CACHE_MAX       1000000
#define ASSET_CACHE_BYTES_MIN ((int64_t)64 << 20)

struct asset_cache;

struct asset { /* what was pushed */
	struct digest digest;
	int64_t pushed_ns, expire_ns; /* wall; CLOCK_NEVER */
	bool is_name_only;            /* its blob was not here when it was pushed */
	struct digest *references;    /* blobs first, then directories */
	size_t n_blobs, n_references;
};
void asset_deinit(struct asset *asset);

struct asset_cache_limits { /* the oldest pushes make room, a tenth of all at once */
	int64_t names;
	int64_t bytes; /* of the file's pages in use, about; ASSET_CACHE_BYTES_MIN at
			  least */
};

/* DIR/assets.sqlite, made where it is missing; a file that is no database is replaced. */
struct error *asset_cache_open(const char *dir, const struct asset_cache_limits *limits,
			       struct asset_cache **cache_out);
void *asset_cache_close(struct asset_cache *cache);
CLEANUP_DEFINE(struct asset_cache, asset_cache_close)
/* *found_out false: no such name, or it expired. Else the caller deinits *out. */
struct error *asset_cache_get(struct asset_cache *cache, const struct digest *name,
			      int64_t now_ns, struct asset *out, bool *found_out);
/* All names stand for it from here on, or none does. */
struct error *asset_cache_put(struct asset_cache *cache, const struct digest *names,
			      size_t n, const struct asset *asset);
