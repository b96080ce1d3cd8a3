/*
 * Owns the walk along a path: what is still to go is kept in a buffer that links are put
 * in front of, and the directories behind us on a stack, for "..".
 */
#include "predict/resolve.h"

#include <string.h>

#define RESOLVE_DEPTH_MAX 128 /* directories below the root; nothing real has more */

struct resolve_walk {
	const struct resolve_world *world;
	struct digest dirs[RESOLVE_DEPTH_MAX]; /* digests from the root down … */
	size_t ends[RESOLVE_DEPTH_MAX];        /* … and where their path ends */
	size_t depth;                          /* the last of them */
	unsigned int n_links;
	char rest[2 * RESOLVE_PATH_MAX]; /* still to go, from at */
	size_t at;
	struct resolved *out;
	size_t len; /* of out->path */
};

/* Puts text in front of what is still to go. */
static bool resolve_prepend(struct resolve_walk *walk, struct slice text)
{
	if (text.len + 1 > walk->at)
		return false;
	if (walk->at < sizeof(walk->rest) && walk->rest[walk->at] != '/')
		walk->rest[--walk->at] = '/';
	walk->at -= text.len;
	memcpy(walk->rest + walk->at, text.data, text.len);
	return true;
}

static void resolve_to_root(struct resolve_walk *walk)
{
	walk->depth = 0;
	walk->len = 0;
	walk->out->path[0] = '\0';
}

static void resolve_up(struct resolve_walk *walk)
{
	if (walk->depth)
		walk->depth--;
	walk->len = walk->depth ? walk->ends[walk->depth] : 0;
	walk->out->path[walk->len] = '\0';
}

/* Appends a name to the path so far. */
static bool resolve_append(struct resolve_walk *walk, struct slice name)
{
	size_t need = name.len + (walk->len > 0);

	if (walk->len + need >= RESOLVE_PATH_MAX)
		return false;
	if (walk->len)
		walk->out->path[walk->len++] = '/';
	memcpy(walk->out->path + walk->len, name.data, name.len);
	walk->len += name.len;
	walk->out->path[walk->len] = '\0';
	return true;
}

/* Follows one link, which stands in the last directory. */
static bool resolve_link(struct resolve_walk *walk, struct slice target)
{
	if (++walk->n_links > RESOLVE_LINKS_MAX || !target.len)
		return false;
	if (target.data[0] == '/')
		resolve_to_root(walk);
	return resolve_prepend(walk, target);
}

static bool resolve_enter(struct resolve_walk *walk, const struct tree_node *node)
{
	if (walk->depth + 1 >= RESOLVE_DEPTH_MAX || !resolve_append(walk, node->name))
		return false;
	walk->dirs[++walk->depth] = node->digest;
	walk->ends[walk->depth] = walk->len;
	return true;
}

/* The next name to go, "" where there is none. */
static struct slice resolve_next(struct resolve_walk *walk)
{
	const char *start;

	while (walk->at < sizeof(walk->rest) && walk->rest[walk->at] == '/')
		walk->at++;
	start = walk->rest + walk->at;
	while (walk->at < sizeof(walk->rest) && walk->rest[walk->at] != '/')
		walk->at++;
	return (struct slice){(const uint8_t *)start,
			      (size_t)(walk->rest + walk->at - start)};
}

/* One name further; FOUND also where there is more to go. */
static enum resolve_outcome resolve_step(struct resolve_walk *walk, struct slice name,
					 bool *is_file)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	const struct tree_node *node;

	if (slice_is(name, "."))
		return RESOLVE_FOUND;
	if (slice_is(name, "..")) {
		resolve_up(walk);
		return RESOLVE_FOUND;
	}
	dir = walk->world->dir(walk->world->ctx, &walk->dirs[walk->depth]);
	if (!dir)
		return RESOLVE_UNKNOWN;
	node = tree_dir_find(dir, name);
	if (!node)
		return RESOLVE_ABSENT;
	if (node->kind == TREE_SYMLINK)
		return resolve_link(walk, node->target) ? RESOLVE_FOUND : RESOLVE_ABSENT;
	if (node->kind == TREE_DIR)
		return resolve_enter(walk, node) ? RESOLVE_FOUND : RESOLVE_ABSENT;
	/* what stands behind a file's name, if only a slash, asks for a directory */
	if (walk->at < sizeof(walk->rest) || !resolve_append(walk, node->name))
		return RESOLVE_ABSENT;
	walk->out->kind = TREE_FILE;
	walk->out->digest = node->digest;
	walk->out->is_executable = node->is_executable;
	walk->out->has_mtime = node->props && node->props->has_mtime;
	*is_file = true;
	return RESOLVE_FOUND;
}

enum resolve_outcome resolve_path(const struct resolve_world *world,
				  const struct digest *root, const char *base,
				  struct slice path, struct resolved *out)
{
	struct resolve_walk
		walk; /* its arrays are large, and written before they are read */
	bool is_file = false;

	walk.world = world;
	walk.out = out;
	walk.n_links = 0;
	walk.at = sizeof(walk.rest);
	walk.dirs[0] = *root;
	resolve_to_root(&walk);
	if (path.len >= RESOLVE_PATH_MAX || !resolve_prepend(&walk, path))
		return RESOLVE_ABSENT;
	if (!(path.len && path.data[0] == '/') && !resolve_prepend(&walk, slice_of(base)))
		return RESOLVE_ABSENT;
	for (;;) {
		struct slice name = resolve_next(&walk);
		enum resolve_outcome outcome;

		if (!name.len)
			break;
		outcome = is_file ? RESOLVE_ABSENT : resolve_step(&walk, name, &is_file);
		if (outcome != RESOLVE_FOUND)
			return outcome;
	}
	if (!is_file) {
		out->kind = TREE_DIR;
		out->digest = walk.dirs[walk.depth];
		out->is_executable = false;
		out->has_mtime = false;
	}
	return RESOLVE_FOUND;
}

enum resolve_outcome resolve_dir(const struct resolve_world *world,
				 const struct digest *root, const char *path,
				 struct tree_dir **dir_out)
{
	struct resolved resolved;
	enum resolve_outcome outcome =
		resolve_path(world, root, "", slice_of(path), &resolved);

	*dir_out = NULL;
	if (outcome != RESOLVE_FOUND)
		return outcome;
	if (resolved.kind != TREE_DIR)
		return RESOLVE_ABSENT;
	*dir_out = world->dir(world->ctx, &resolved.digest);
	return *dir_out ? RESOLVE_FOUND : RESOLVE_UNKNOWN;
}
