/*
 * What view.c (nodes), view_path.c (paths) and view_root.c (roots and what they remember)
 * share. view->mutex guards everything here that is not said to be constant; it is held
 * for table work only, never while a Directory is read or a callback runs.
 */
#pragma once

#include "fuse/view.h"
#include "lib/base/htab.h"
#include "lib/base/list.h"
#include "lib/base/sync.h"

/* A path within a root, the same object for every root that has it: its identity. */
struct view_path {
	struct hnode by_name;     /* hash of (parent, name) */
	struct view_path *parent; /* a reference; NULL: the root path */
	uint64_t key; /* constant: hash of the whole path, for inode numbers */
	uint32_t refs;
	uint8_t name_len;
	uint8_t name[];
};

struct view_node {
	struct hnode by_id; /* its hash is the id */
	struct hnode by_key;
	uint64_t n_lookups;
	uint32_t n_pins; /* requests in flight */
	/* constant from here on */
	bool is_executable;
	bool is_read_only; /* stands in a subtree that an action may not write */
	enum tree_kind kind;
	struct view_path *path;   /* a reference */
	struct view_root *root;   /* directories: a reference */
	struct digest digest;     /* files and directories */
	struct slice target;      /* symlinks; owned */
	struct tree_props *props; /* owned, raw too; or NULL */
};

#define VIEW_LOST_MAX  32 /* failed fetches kept per root */
#define VIEW_WAITS_MAX 64 /* slow waits kept per root */

struct view_lost {
	struct error *err;
	int64_t at_ns;
};

struct view_root {
	struct hnode by_digest;
	struct list held; /* in view->held where n_holders is not 0 */
	struct view *view;
	struct digest digest; /* constant */
	uint32_t n_holders;
	uint32_t refs;                /* holders, directory nodes, requests in flight */
	struct fetch_account account; /* atomics */
	struct view_lost lost[VIEW_LOST_MAX]; /* oldest first */
	size_t n_lost;
	size_t n_waiting;
	int64_t waiting_since_ns;
	int64_t waited_ns;                      /* of intervals that ended */
	struct view_wait waits[VIEW_WAITS_MAX]; /* in no order */
	size_t n_waits;
};

struct view {
	struct dircache *dirs; /* constant */
	int64_t nodes_max;     /* constant; 0: no limit */
	struct sync_mutex mutex;
	struct sync_cond is_idle; /* n_flights fell to 0 */
	struct htab by_id;
	struct htab by_key;
	struct htab paths;
	struct htab roots;
	struct list held; /* roots with holders */
	size_t n_held;
	struct view_path *top; /* constant: the path of every root itself */
	uint64_t next_id;
	size_t n_flights;
};

static inline uint64_t view_mix(uint64_t a, uint64_t b)
{
	uint64_t h = (a ^ (b + 0x9e3779b97f4a7c15u)) * 0xd6e8feb86659fd93u;

	return h ^ (h >> 32);
}

static inline void view_lock(struct view *view)
{
	sync_lock(&view->mutex);
}

static inline void view_unlock(struct view *view)
{
	sync_unlock(&view->mutex);
}

/* view_path.c; all with the mutex held, but for view_path_key(). */
struct view_path *view_path_top(void);
/* NULL where nobody has this path. */
struct view_path *view_path_find(struct view *view, const struct view_path *parent,
				 struct slice name);
struct view_path *view_path_get(struct view *view, struct view_path *parent,
				struct slice name); /* a reference */
struct view_path *view_path_ref(struct view_path *path);
void view_path_unref(struct view *view, struct view_path *path);
uint64_t view_path_key(const struct view_path *parent, struct slice name);
char *view_path_string(const struct view_path *path); /* "." for the root; caller frees */

/* view_root.c; all with the mutex held. */
struct view_root *view_root_find(struct view *view, const struct digest *digest);
struct view_root *view_root_ref(struct view_root *root);
struct view_root *view_root_make(struct view *view, const struct digest *digest);
void view_root_unref(struct view_root *root);
void view_root_wait_begin(struct view_root *root, int64_t now_ns);
/* err, borrowed, NULL where the data came. */
void view_root_wait_end(struct view_root *root, const struct view_wait *wait,
			int64_t now_ns, const struct error *err);

/* view.c, with the mutex held: the node of a directory of root, or NULL. */
struct view_node *view_find_dir(struct view *view, const struct view_root *root,
				const struct view_path *path);
