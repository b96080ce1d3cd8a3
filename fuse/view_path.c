/*
 * Owns the paths that nodes stand at, interned: two roots that have "usr/include" share
 * one object, so comparing paths is comparing pointers, exactly. A path holds its parent;
 * the last node to leave frees the chain.
 *
 * Threads: those of the view, with its mutex held; names and keys never change.
 */
#include "fuse/view_path.h"

#include <string.h>

#include "lib/base/alloc.h"

static uint64_t view_path_hash(const struct view_path *parent, struct slice name)
{
	return view_mix((uint64_t)(uintptr_t)parent, slice_hash(name));
}

uint64_t view_path_key(const struct view_path *parent, struct slice name)
{
	return view_mix(parent->key, slice_hash(name));
}

struct view_path *view_path_top(void)
{
	struct view_path *path = alloc_new(struct view_path);

	path->refs = 1;
	return path;
}

/* NULL where nobody has this path. */
static struct view_path *view_path_find(struct view *view, const struct view_path *parent,
					struct slice name) SYNC_REQUIRES(&view->mutex)
{
	uint64_t hash = view_path_hash(parent, name);

	for (struct hnode *n = htab_first(&view->paths, hash); n;
	     n = htab_next(n, hash)) {
		struct view_path *path = container_of(n, struct view_path, by_name);

		if (path->parent == parent && path->name_len == name.len &&
		    memcmp(path->name, name.data, name.len) == 0)
			return path;
	}
	return NULL;
}

struct view_path *view_path_get(struct view *view, struct view_path *parent,
				struct slice name)
{
	struct view_path *path = view_path_find(view, parent, name);

	if (path)
		return view_path_ref(view, path);
	require(name.len <= TREE_NAME_MAX);
	path = alloc_zero(sizeof(*path) + name.len);
	path->parent = view_path_ref(view, parent);
	path->key = view_path_key(parent, name);
	path->refs = 1;
	path->name_len = (uint8_t)name.len;
	memcpy(path->name, name.data, name.len);
	htab_insert(&view->paths, &path->by_name, view_path_hash(parent, name));
	return path;
}

struct view_path *view_path_ref(struct view *view, struct view_path *path)
{
	(void)view; /* its mutex guards the count */
	path->refs++;
	return path;
}

void view_path_unref(struct view *view, struct view_path *path)
{
	while (path && --path->refs == 0) {
		struct view_path *parent = path->parent;

		if (parent)
			htab_remove(&view->paths, &path->by_name);
		free(path);
		path = parent;
	}
}

char *view_path_string(const struct view_path *path)
{
	size_t len = 0;
	char *string;
	char *end;

	if (!path->parent)
		return alloc_string(".");
	for (const struct view_path *p = path; p->parent; p = p->parent)
		len += (size_t)p->name_len + 1;
	string = alloc_zero(len);
	end = string + len - 1;
	for (const struct view_path *p = path; p->parent; p = p->parent) {
		end -= p->name_len;
		memcpy(end, p->name, p->name_len);
		if (p->parent->parent)
			*--end = '/';
	}
	return string;
}
