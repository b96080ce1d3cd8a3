/*
 * Paths within a root, interned: the same object for every root that has it, so that
 * comparing paths is comparing pointers.
 *
 * Threads: those of the view, most with its mutex held; what a path is never changes.
 */
#pragma once

#include "fuse/view_impl.h"

struct view_path {
	struct hnode by_name;     /* hash of (parent, name); the view's mutex guards it */
	struct view_path *parent; /* a reference; NULL: the root path */
	uint64_t key;             /* hash of the whole path, for inode numbers */
	uint32_t refs;            /* the view's mutex guards them */
	uint8_t name_len;
	uint8_t name[];
};

/* A new one, which no table holds: the path of a root itself. */
struct view_path *view_path_top(void);
/* A reference to parent's child, which the caller gives back; made where nobody has it.
 */
struct view_path *view_path_get(struct view *view, struct view_path *parent,
				struct slice name) SYNC_REQUIRES(&view->mutex);
struct view_path *view_path_ref(struct view *view, struct view_path *path)
	SYNC_REQUIRES(&view->mutex);
void view_path_unref(struct view *view, struct view_path *path)
	SYNC_REQUIRES(&view->mutex);
/* The key that parent's child has, or would have. No lock. */
uint64_t view_path_key(const struct view_path *parent, struct slice name);
/* "." for the root itself; the caller frees it. No lock, the caller has a reference. */
char *view_path_string(const struct view_path *path);
