/*
 * The lazy view of trees, without FUSE: a table of nodes over lib/cas. Knows roots,
 * directories, files and links, and which node id stands for what:
 *
 *   directory  one node per (root, path): directories never share a node id
 *   file       one node per (digest, executable, node properties, writable or not, path
 *              within its root), so that roots share page cache, and no root has one id
 *              under two paths
 *   symlink    as a file, its target in place of the digest
 *
 * The mount's root (id VIEW_ROOT_ID) lists nothing; a name that is a digest is that tree.
 * A node lives while the kernel has lookups of it; its numbers are never used again.
 *
 * A fetch that fails is remembered by every held root that shows the node:
 * view_root_lost().
 *
 * Threads: any. Nothing blocks on the network: what is not at hand is answered later, by
 * callback, on a thread of the fetcher. Each such function has a view_try_… beside it,
 * which only answers what is at hand, without a callback's cost.
 */
#pragma once

#include <sys/stat.h>

#include "lib/cas/dircache.h"

#define VIEW_ROOT_ID 1u

/* Inputs without an mtime have this one (documented for users: 2011-11-11T11:11:11Z). */
#define VIEW_DEFAULT_MTIME_S 1321009871

struct view;
struct view_root;

struct view *view_new(struct dircache *dirs); /* borrowed */
/* Waits for requests in flight; no root may be held any more. */
void *view_free(struct view *view);
CLEANUP_DEFINE(struct view, view_free)

/* Before the first lookup: past so many nodes alive, lookups are RESOURCE_EXHAUSTED: a
 * few Directories can have more paths than there is memory. 0: no limit. */
void view_limit(struct view *view, int64_t nodes_max);

struct view_attr {
	uint64_t id;  /* node id; 0: no such entry */
	uint64_t ino; /* inode number: the same in lookups and listings; below 2^60 */
	mode_t mode;  /* type and permissions */
	int64_t size;
	int64_t mtime_s;
	int32_t mtime_ns;
	uint32_t nlink;
	bool is_read_only; /* owned by nobody that an action is */
};

/* Outcome of a lookup: attr (id 0 where there is no such name), a lookup counted. */
typedef void view_lookup_fn(void *ctx, struct error *err, const struct view_attr *attr);
void view_lookup(struct view *view, uint64_t parent, struct slice name,
		 view_lookup_fn *done, void *ctx);
bool view_try_lookup(struct view *view, uint64_t parent, struct slice name,
		     struct view_attr *attr_out);
void view_forget(struct view *view, uint64_t id, uint64_t n_lookups);
/* Ids handed to the view must be alive (the kernel holds a lookup). */
void view_getattr(struct view *view, uint64_t id, struct view_attr *attr_out);
/* The target of a symlink; borrowed, as long as its id is alive. */
struct slice view_readlink(struct view *view, uint64_t id);

/* The entries of a directory: done gets a reference. VIEW_ROOT_ID has none: dir is NULL.
 */
typedef void view_dir_fn(void *ctx, struct error *err, struct tree_dir *dir);
void view_dir(struct view *view, uint64_t id, view_dir_fn *done, void *ctx);
bool view_try_dir(struct view *view, uint64_t id, struct tree_dir **dir_out);
/* For an entry of directory id's Directory: its inode number, without making a node. */
uint64_t view_entry_ino(struct view *view, uint64_t id, const struct tree_node *entry);
/* A file's bytes: done owns the descriptor of the complete, verified blob. */
void view_open(struct view *view, uint64_t id, fetch_done_fn *done, void *ctx);
bool view_try_open(struct view *view, uint64_t id, int *fd_out);
/* Of a file or directory, borrowed as long as its id is alive; NULL for symlinks and the
 * mount's root. */
const struct digest *view_digest(struct view *view, uint64_t id);
struct store *view_store(const struct view *view);
size_t view_n_nodes(struct view *view); /* alive, for tests and reports */

/*
 * Roots. A root exists while somebody holds it or the kernel looks below it; while it is
 * held it keeps its account, waits and losses. Times are monotonic nanoseconds.
 */
/* The caller holds it until view_root_put(), any number of times. */
struct view_root *view_root_get(struct view *view, const struct digest *digest);
void *view_root_put(struct view_root *root);
CLEANUP_DEFINE(struct view_root, view_root_put)
/* What transfers for it cost; atomics, borrowed while it is held. */
struct fetch_account *view_root_account(struct view_root *root);
/* First fetch that failed since, as a copy of its error (path wrapped), or NULL. */
struct error *view_root_lost(struct view_root *root, int64_t since_mono_ns);
/* Time during which at least one request below the root waited for data, up to now. */
int64_t view_root_waited_ns(struct view_root *root);
/* The slowest waits since the root was first held, worst first. */
struct view_wait {
	char *path;
	int64_t bytes;
	int64_t ns;
	int64_t at_mono_ns; /* when it began */
};
#define VIEW_SLOWEST_MAX 10
/* Copies; the caller frees each path. Only those that began at or after since. */
size_t view_root_slowest(struct view_root *root, int64_t since_mono_ns,
			 struct view_wait out[VIEW_SLOWEST_MAX]);
