/*
 * The nodes of a view: which entry of which directory is which node, and what stat shows.
 *
 * A node has two halves. Its face says what it stands for, and never changes: whoever has
 * a live id (the kernel holds a lookup, or a request in flight a pin) may read it without
 * a lock. The rest is the table's, under the view's mutex.
 *
 * Threads: any.
 */
#pragma once

#include "fuse/view_path.h"
#include "fuse/view_root.h"

struct view_face {
	enum tree_kind kind;
	bool is_executable;
	bool is_read_only;        /* stands in a subtree that an action may not write */
	struct view_path *path;   /* a reference */
	struct view_root *root;   /* directories: a reference; else NULL */
	struct digest digest;     /* files and directories */
	struct slice target;      /* symlinks; owned */
	struct tree_props *props; /* owned, raw too; or NULL */
};

struct view_node {
	struct hnode by_id; /* its hash is the id, which never changes */
	struct hnode by_key;
	uint64_t n_lookups; /* of the kernel */
	uint32_t n_pins;    /* requests in flight */
	struct view_face face;
};

/* The face of a live node; VIEW_ROOT_ID has none. */
const struct view_face *view_node_face(struct view *view, uint64_t id)
	SYNC_EXCLUDES(&view->mutex);
/* What stat shows of it. No lock, as for the next three. */
void view_node_attr(const struct view_face *face, struct view_attr *attr_out);
/* The inode number of an entry at a path with this key: of a directory below root … */
uint64_t view_node_dir_ino(const struct view_root *root, uint64_t path_key);
/* … and of a file or a symlink, wherever its root. */
uint64_t view_node_file_ino(uint64_t path_key, const struct tree_node *entry);
/* Whether a file or symlink is what entry says; names and places are not compared. */
bool view_node_is_same(const struct view_face *face, const struct tree_node *entry);

/* A live node by its id, which comes from us: an unknown one is a mistake. */
struct view_node *view_node_get(struct view *view, uint64_t id)
	SYNC_REQUIRES(&view->mutex);
/* The node of a directory of root, or NULL: nobody has looked there. */
struct view_node *view_node_find_dir(struct view *view, const struct view_root *root,
				     const struct view_path *path)
	SYNC_REQUIRES(&view->mutex);
/* Find or make; path's reference is consumed. dir is the directory's own Directory. */
struct view_node *view_node_make_dir(struct view *view, struct view_root *root,
				     struct view_path *path, const struct digest *digest,
				     const struct tree_dir *dir, bool is_read_only)
	SYNC_REQUIRES(&view->mutex);
struct view_node *view_node_make_file(struct view *view, struct view_path *path,
				      const struct tree_node *entry, bool is_read_only)
	SYNC_REQUIRES(&view->mutex);
/* Frees it where nobody has looked it up and no request pins it. */
void view_node_drop(struct view *view, struct view_node *node)
	SYNC_REQUIRES(&view->mutex);
/* Frees all: the view ends. */
void view_node_drop_all(struct view *view) SYNC_REQUIRES(&view->mutex);
