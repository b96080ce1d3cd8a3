/*
 * Decoded Directories by digest, bounded by memory, loaded through the fetcher. A hit is
 * answered inline, a miss by callback; loads of one digest are shared.
 *
 * Threads: any, FUSE threads included. A Directory that does not decode is
 * INVALID_ARGUMENT naming its digest; one that is missing is the fetch's error.
 */
#pragma once

#include "lib/cas/fetch.h"
#include "lib/tree/tree.h"

struct dircache;

#define DIRCACHE_MEMORY_MAX ((size_t)192 << 20)

/* fetch is borrowed; memory_max is bytes of decoded Directories. */
struct dircache *dircache_new(struct fetch *fetch, size_t memory_max);
/* No load may be running. References that others hold stay theirs. */
void *dircache_free(struct dircache *cache);
CLEANUP_DEFINE(struct dircache, dircache_free)
struct fetch *dircache_fetch(const struct dircache *cache);

/* A reference, or NULL where it is not in memory. Never blocks. */
struct tree_dir *dircache_peek(struct dircache *cache, const struct digest *digest);
/* done owns err and dir (a reference). It runs on a pool thread of the fetcher, or on the
 * caller's before this returns. account: as fetch_start(). */
typedef void dircache_done_fn(void *ctx, struct error *err, struct tree_dir *dir);
void dircache_start(struct dircache *cache, const struct digest *digest,
		    struct fetch_account *account, dircache_done_fn *done, void *ctx);
/* As dircache_start(), blocking. */
struct error *dircache_get(struct dircache *cache, const struct digest *digest,
			   struct fetch_account *account, struct tree_dir **dir_out);

/* How many were loaded so far: where it has not changed, nothing more is at hand. */
uint64_t dircache_n_loaded(const struct dircache *cache);

/* In memory or being loaded: asking for it costs nothing more. Never blocks. */
bool dircache_is_near(struct dircache *cache, const struct digest *digest);
/* In memory or in the local store: the network need not be asked. */
bool dircache_has(struct dircache *cache, const struct digest *digest);
/* As dircache_has(), where it was so when dircache_n_loaded() said this. */
bool dircache_had(struct dircache *cache, const struct digest *digest, uint64_t n_loaded);

/*
 * Whole trees: of a Directory in memory it is kept whether all that lies below it was at
 * hand once (dircache_has()), so that nobody walks there again. The mark goes with its
 * Directory, and all go where something marked may have left both memory and store: each
 * belongs to a stamp, and counts while that is the current one. A mark is a hint. Whoever
 * finds a Directory missing below it asks for that.
 */
uint64_t dircache_stamp(struct dircache *cache);
bool dircache_is_whole(struct dircache *cache, const struct digest *digest,
		       uint64_t stamp);
void dircache_set_whole(struct dircache *cache, const struct digest *digest,
			uint64_t stamp);

/* For who brings Directories by another way (treeload.c): decodes bytes, which it may
 * take apart; INVALID_ARGUMENT names the digest. */
struct error *dircache_decode(const struct digest *digest, struct buf *bytes,
			      struct tree_dir **dir_out);
/* Keeps dir, whose reference it consumes. False where there is one already, or where one
 * is being loaded. */
bool dircache_put(struct dircache *cache, const struct digest *digest,
		  struct tree_dir *dir);

/* The node at a clean path ("a/b") below root, in a reference to the Directory that holds
 * it; "" is root itself: *node_out NULL. NOT_FOUND names the path. Blocking. */
struct error *dircache_find_path(struct dircache *cache, const struct digest *root,
				 const char *path, struct tree_dir **dir_out,
				 const struct tree_node **node_out);

/* Totals of a tree, each path counted once, at most INT64_MAX; false where a Directory is
 * not at hand. Kept by root digest, so that asking again is cheap. */
struct tree_totals {
	int64_t files;
	int64_t directories; /* without the root */
	int64_t symlinks;
	int64_t bytes;
};
bool dircache_totals(struct dircache *cache, const struct digest *root,
		     struct tree_totals *out);
/* All of them, without the root; at most INT64_MAX. */
int64_t dircache_entries(const struct tree_totals *totals);
