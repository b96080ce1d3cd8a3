/*
 * Owns references to the tree's Directories, and for each entry what stat(2) said of it.
 * The change time is what a command cannot set, but the kernel's clock for it may stand
 * still for some milliseconds: staging waits for its next tick.
 */
#include "client/staged_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "fuse/view.h"
#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/htab.h"

struct staged_entry {
	struct hnode node;
	ino_t inode;
	dev_t dev;
	off_t size;
	struct timespec changed;
	struct timespec modified;
	const struct tree_node *tree_node;
};

struct staged_tree {
	struct dircache *dirs;
	struct htab entries; /* by inode */
	struct tree_dir **held;
	size_t n_held;
	size_t held_cap;
	struct timespec last; /* change of all */
};

static bool staged_is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static bool staged_is_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

void *staged_tree_free(struct staged_tree *tree)
{
	struct hnode *n;

	if (!tree)
		return NULL;
	while ((n = htab_pop(&tree->entries)))
		free(container_of(n, struct staged_entry, node));
	htab_deinit(&tree->entries);
	for (size_t i = 0; i < tree->n_held; i++)
		tree_dir_unref(tree->held[i]);
	free(tree->held);
	free(tree);
	return NULL;
}

static void staged_add(struct staged_tree *tree, const struct tree_node *node,
		       const struct stat *st)
{
	struct staged_entry *entry = alloc_new(struct staged_entry);

	entry->inode = st->st_ino;
	entry->dev = st->st_dev;
	entry->size = st->st_size;
	entry->changed = st->st_ctim;
	entry->modified = st->st_mtim;
	entry->tree_node = node;
	htab_insert(&tree->entries, &entry->node, st->st_ino);
	if (staged_is_before(&tree->last, &st->st_ctim))
		tree->last = st->st_ctim;
}

static struct error *staged_set_time(int dir_fd, const char *name,
				     const struct tree_props *props)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
					  {.tv_sec = VIEW_DEFAULT_MTIME_S}};

	if (props && props->has_mtime)
		return NULL; /* staging has set it */
	if (utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(errno, "set the time of %s", name);
	return NULL;
}

static struct error *staged_walk(struct staged_tree *tree, const struct digest *digest,
				 int fd, unsigned int depth);

static struct error *staged_visit(struct staged_tree *tree, int dir_fd,
				  const struct tree_node *node, unsigned int depth)
{
	_cleanup_free_ char *name =
		alloc_string_n((const char *)node->name.data, node->name.len);
	_cleanup_fd_ int fd = -1;
	struct error *err = NULL;
	struct stat st;

	if (node->kind == TREE_DIR) {
		fd = openat(dir_fd, name,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return error_errno(errno, "open directory %s", name);
		err = staged_walk(tree, &node->digest, fd, depth + 1);
	} else if (node->kind == TREE_SYMLINK) {
		err = staged_set_time(dir_fd, name, node->props);
	}
	if (err)
		return err;
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(errno, "look at %s", name);
	staged_add(tree, node, &st);
	return NULL;
}

static struct error *staged_walk(struct staged_tree *tree, const struct digest *digest,
				 int fd, unsigned int depth)
{
	struct tree_dir *dir;
	struct error *err;

	if (depth > TREE_DEPTH_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the tree is more than %d directories deep",
				 TREE_DEPTH_MAX);
	err = dircache_get(tree->dirs, digest, NULL, &dir);
	if (err)
		return err;
	tree->held = alloc_grow(tree->held, &tree->held_cap, tree->n_held + 1,
				sizeof(struct tree_dir *));
	tree->held[tree->n_held++] = dir;
	for (uint32_t i = 0; !err && i < dir->n_nodes; i++)
		err = staged_visit(tree, fd, &dir->nodes[i], depth);
	return err ? err : staged_set_time(fd, ".", dir->props);
}

static void staged_await_tick(const struct staged_tree *tree)
{
	struct timespec now;

	while (clock_gettime(CLOCK_REALTIME_COARSE, &now) == 0 &&
	       !staged_is_before(&tree->last, &now))
		clock_sleep_ms(1);
}

struct error *staged_tree_new(struct dircache *dirs, const struct digest *root,
			      int root_fd, struct staged_tree **out)
{
	_cleanup_(staged_tree_freep) struct staged_tree *tree =
		alloc_new(struct staged_tree);
	struct error *err;

	tree->dirs = dirs;
	err = staged_walk(tree, root, root_fd, 0);
	if (err)
		return error_wrap(err, "look at the staged tree");
	staged_await_tick(tree);
	*out = take(tree);
	return NULL;
}

const struct tree_node *staged_tree_find(void *ctx, const struct stat *st)
{
	const struct staged_tree *tree = ctx;
	struct hnode *n = htab_first(&tree->entries, st->st_ino);

	for (; n; n = htab_next(n, st->st_ino)) {
		const struct staged_entry *entry =
			container_of(n, struct staged_entry, node);

		if (entry->inode != st->st_ino || entry->dev != st->st_dev)
			continue;
		if (S_ISDIR(st->st_mode))
			return entry->tree_node->kind == TREE_DIR ? entry->tree_node
								  : NULL;
		return entry->size == st->st_size &&
				       staged_is_same_time(&entry->changed,
							   &st->st_ctim) &&
				       staged_is_same_time(&entry->modified, &st->st_mtim)
			       ? entry->tree_node
			       : NULL;
	}
	return NULL;
}
