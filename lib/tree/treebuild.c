/*
 * Owns a tree of build nodes, all in one arena; only the tables of children are allocated
 * one by one, and chained so that they can be freed without walking.
 *
 * A directory is either known (a digest, nothing inside was ever looked at) or open (its
 * children are here). It opens when something is put inside or merged into it, and never
 * closes again. An open directory without children or properties may still become a known
 * one: that is how a tree put at "" costs nothing.
 *
 * Recursion is bounded by TREE_DEPTH_MAX, which holds for paths and for loaded trees
 * alike. Threads: one.
 */
#include "lib/tree/treebuild.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/arena.h"
#include "lib/base/htab.h"
#include "lib/tree/hasher.h"

struct build_node {
	struct hnode hnode; /* in its parent's children */
	struct build_node *parent;
	struct slice name;
	struct digest digest; /* of files and known directories */
	struct slice target;
	const struct tree_props *props;
	struct build_dir *dir; /* of an open directory */
	enum tree_kind kind;
	bool is_executable;
};

struct build_dir {
	struct build_dir *next; /* of all */
	struct htab children;
};

struct build_seen {
	struct hnode hnode;
	struct digest digest;
};

struct treebuild {
	struct arena arena;
	struct build_dir *dirs;
	struct build_node *root;
	treebuild_load_fn *load;
	void *ctx;
};

struct build_finish {
	treebuild_emit_fn *emit;
	void *ctx;
	struct arena arena;
	struct htab seen;
};

/* NULL: no memory is left, as below. Not among its parent's children yet. */
static struct build_node *build_node_new(struct treebuild *build,
					 struct build_node *parent, struct slice name,
					 enum tree_kind kind)
{
	struct build_node *node = arena_new(&build->arena, struct build_node);
	uint8_t *copy = arena_memdup(&build->arena, name.data, name.len);

	if (!node || !copy)
		return NULL;
	node->kind = kind;
	node->parent = parent;
	node->name = (struct slice){copy, name.len};
	return node;
}

static void build_attach(struct build_node *node)
{
	htab_insert(&node->parent->dir->children, &node->hnode, slice_hash(node->name));
}

static bool build_open_empty(struct treebuild *build, struct build_node *node)
{
	struct build_dir *dir = arena_new(&build->arena, struct build_dir);

	if (!dir)
		return false;
	dir->next = build->dirs;
	build->dirs = dir;
	node->dir = dir;
	return true;
}

static struct error *build_copy_props(struct treebuild *build,
				      const struct tree_props *props,
				      const struct tree_props **copy_out)
{
	struct tree_props *copy;

	if (!props)
		return NULL;
	copy = arena_memdup(&build->arena, props, sizeof(*props));
	if (copy)
		copy->raw.data =
			arena_memdup(&build->arena, props->raw.data, props->raw.len);
	if (!copy || !copy->raw.data)
		return arena_error("the tree");
	*copy_out = copy;
	return NULL;
}

static bool build_same_props(const struct tree_props *a, const struct tree_props *b)
{
	_cleanup_buf_ struct buf a_bytes = BUF_INIT;
	_cleanup_buf_ struct buf b_bytes = BUF_INIT;

	if (!a || !b)
		return a == b;
	tree_props_encode(a, &a_bytes);
	tree_props_encode(b, &b_bytes);
	return slice_equal(buf_slice(&a_bytes), buf_slice(&b_bytes));
}

struct treebuild *treebuild_new(treebuild_load_fn *load, void *ctx)
{
	struct treebuild *build = alloc_new(struct treebuild);

	build->arena = ARENA_INIT(SIZE_MAX);
	build->load = load;
	build->ctx = ctx;
	build->root = build_node_new(build, NULL, slice_of(""), TREE_DIR);
	require(build->root && build_open_empty(build, build->root)); /* a few bytes */
	return build;
}

void *treebuild_free(struct treebuild *build)
{
	if (!build)
		return NULL;
	for (struct build_dir *dir = build->dirs; dir; dir = dir->next)
		htab_deinit(&dir->children);
	arena_deinit(&build->arena);
	free(build);
	return NULL;
}

static void build_path(const struct build_node *node, struct buf *out)
{
	if (!node->parent)
		return;
	build_path(node->parent, out);
	if (out->len)
		buf_add_byte(out, '/');
	buf_add(out, node->name.data, node->name.len);
}

static struct error *build_clash(const struct build_node *node)
{
	_cleanup_buf_ struct buf path = BUF_INIT;

	build_path(node, &path);
	return error_new(ERROR_ALREADY_EXISTS, "two different things would be at \"%s\"",
			 buf_string(&path));
}

static struct build_node *build_child(const struct build_node *node, struct slice name)
{
	uint64_t hash = slice_hash(name);

	for (struct hnode *n = htab_first(&node->dir->children, hash); n;
	     n = htab_next(n, hash)) {
		struct build_node *child = container_of(n, struct build_node, hnode);

		if (slice_equal(child->name, name))
			return child;
	}
	return NULL;
}

static struct error *build_merge(struct treebuild *build, struct build_node *node,
				 const struct tree_dir *dir, unsigned int depth);

static struct error *build_load(struct treebuild *build, const struct digest *digest,
				struct tree_dir **dir_out)
{
	char text[DIGEST_STRING_MAX];

	if (!build->load)
		return error_new(
			ERROR_FAILED_PRECONDITION,
			"the Directory %s is not at hand and nothing can load it",
			digest_format(digest, text));
	return build->load(build->ctx, digest, dir_out);
}

/* Makes a known directory an open one. */
static struct error *build_open(struct treebuild *build, struct build_node *node,
				unsigned int depth)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	struct error *err;

	if (node->dir)
		return NULL;
	err = build_load(build, &node->digest, &dir);
	if (err)
		return err;
	if (!build_open_empty(build, node))
		return arena_error("the tree");
	return build_merge(build, node, dir, depth);
}

static struct error *build_merge_props(struct treebuild *build, struct build_node *node,
				       const struct tree_props *props)
{
	if (!props || build_same_props(node->props, props))
		return NULL;
	if (node->props)
		return build_clash(node);
	return build_copy_props(build, props, &node->props);
}

/* A known tree comes to where a directory is. */
static struct error *build_merge_tree(struct treebuild *build, struct build_node *node,
				      const struct digest *digest, unsigned int depth)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	struct error *err;

	if (node->kind != TREE_DIR)
		return build_clash(node);
	if (!node->dir && digest_equal(&node->digest, digest))
		return NULL;
	if (node->dir && node->dir->children.len == 0 && !node->props) {
		node->dir = NULL; /* stays in the chain, and is freed with it */
		node->digest = *digest;
		return NULL;
	}
	err = build_open(build, node, depth);
	if (!err)
		err = build_load(build, digest, &dir);
	if (err)
		return err;
	return build_merge(build, node, dir, depth);
}

static struct error *build_add(struct treebuild *build, struct build_node *parent,
			       const struct tree_node *entry)
{
	struct build_node *node = build_node_new(build, parent, entry->name, entry->kind);
	struct error *err;

	if (!node)
		return arena_error("the tree");
	node->digest = entry->digest;
	node->is_executable = entry->is_executable;
	node->target.len = entry->target.len;
	node->target.data =
		arena_memdup(&build->arena, entry->target.data, entry->target.len);
	if (!node->target.data)
		return arena_error("the tree");
	err = build_copy_props(build, entry->props, &node->props);
	if (!err)
		build_attach(node);
	return err;
}

/* Puts one entry where there may be one already. entry's slices are copied. */
static struct error *build_put(struct treebuild *build, struct build_node *parent,
			       const struct tree_node *entry, unsigned int depth)
{
	struct build_node *node = build_child(parent, entry->name);

	if (node && entry->kind == TREE_DIR)
		return build_merge_tree(build, node, &entry->digest, depth + 1);
	if (node) {
		if (node->kind == entry->kind &&
		    build_same_props(node->props, entry->props) &&
		    node->is_executable == entry->is_executable &&
		    digest_equal(&node->digest, &entry->digest) &&
		    slice_equal(node->target, entry->target))
			return NULL;
		return build_clash(node);
	}
	return build_add(build, parent, entry);
}

static struct error *build_merge(struct treebuild *build, struct build_node *node,
				 const struct tree_dir *dir, unsigned int depth)
{
	struct error *err = NULL;

	if (depth >= TREE_DEPTH_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the tree is more than %d directories deep",
				 TREE_DEPTH_MAX);
	err = build_merge_props(build, node, dir->props);
	for (uint32_t i = 0; i < dir->n_nodes && !err; i++)
		err = build_put(build, node, &dir->nodes[i], depth);
	return err;
}

/* The directory at path, made as need be; those above it are opened, it itself is not. */
static struct error *build_walk(struct treebuild *build, struct slice path,
				struct build_node **node_out, unsigned int *depth_out)
{
	struct build_node *node = build->root;
	unsigned int depth = 0;
	bool is_last = path.len == 0;

	while (!is_last) {
		struct error *err = build_open(build, node, depth);
		const uint8_t *slash;
		struct build_node *child;
		struct slice name;

		if (err)
			return err;
		slash = path.len ? memchr(path.data, '/', path.len) : NULL;
		name = (struct slice){path.data,
				      slash ? (size_t)(slash - path.data) : path.len};
		err = tree_name_check(name);
		if (err)
			return err;
		if (++depth >= TREE_DEPTH_MAX)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "the path is more than %d directories deep",
					 TREE_DEPTH_MAX);
		child = build_child(node, name);
		if (child && child->kind != TREE_DIR)
			return build_clash(child);
		if (!child) {
			child = build_node_new(build, node, name, TREE_DIR);
			if (!child || !build_open_empty(build, child))
				return arena_error("the tree");
			build_attach(child);
		}
		node = child;
		is_last = !slash;
		path.data += name.len + (slash ? 1 : 0);
		path.len -= name.len + (slash ? 1 : 0);
	}
	*node_out = node;
	*depth_out = depth;
	return NULL;
}

/* Splits off the last name, and puts entry there. */
static struct error *build_put_at(struct treebuild *build, const char *path,
				  struct tree_node *entry)
{
	const char *slash = strrchr(path, '/');
	struct slice parent = {(const uint8_t *)path, slash ? (size_t)(slash - path) : 0};
	struct build_node *node;
	unsigned int depth;
	struct error *err;

	entry->name = slice_of(slash ? slash + 1 : path);
	err = slash == path ? error_new(ERROR_INVALID_ARGUMENT, "it is not relative")
			    : tree_node_check(entry);
	if (!err)
		err = build_walk(build, parent, &node, &depth);
	if (!err)
		err = build_open(build, node, depth);
	if (!err)
		err = build_put(build, node, entry, depth);
	return error_wrap(err, "put \"%s\" into the tree", path);
}

struct error *treebuild_put_file(struct treebuild *build, const char *path,
				 const struct digest *digest, bool is_executable,
				 const struct tree_props *props)
{
	struct tree_node entry = {.kind = TREE_FILE,
				  .digest = *digest,
				  .is_executable = is_executable,
				  .props = props};

	return build_put_at(build, path, &entry);
}

struct error *treebuild_put_symlink(struct treebuild *build, const char *path,
				    const char *target, const struct tree_props *props)
{
	struct tree_node entry = {
		.kind = TREE_SYMLINK, .target = slice_of(target), .props = props};

	return build_put_at(build, path, &entry);
}

struct error *treebuild_put_dir(struct treebuild *build, const char *path,
				const struct tree_props *props)
{
	struct build_node *node;
	unsigned int depth;
	struct error *err = build_walk(build, slice_of(path), &node, &depth);

	if (!err && props)
		err = build_open(build, node, depth);
	if (!err)
		err = build_merge_props(build, node, props);
	return error_wrap(err, "put \"%s\" into the tree", path);
}

struct error *treebuild_put_tree(struct treebuild *build, const char *path,
				 const struct digest *root)
{
	struct tree_node entry = {.kind = TREE_DIR, .digest = *root};

	if (!*path)
		return build_merge_tree(build, build->root, root, 0);
	return build_put_at(build, path, &entry);
}

struct error *treebuild_clear(struct treebuild *build, const char *path)
{
	struct build_node *node = build->root;
	struct error *err = NULL;

	if (!*path) {
		node->props = NULL;
		return build_open_empty(build, node) ? NULL : arena_error("the tree");
	}
	for (unsigned int depth = 0; depth < TREE_DEPTH_MAX; depth++) {
		struct slice name = {(const uint8_t *)path, strcspn(path, "/")};
		struct build_node *child;

		err = build_open(build, node, depth);
		if (err)
			break;
		child = build_child(node, name);
		if (!child)
			return NULL;
		if (!path[name.len] || child->kind != TREE_DIR) {
			/* its memory stays in the arena */
			htab_remove(&node->dir->children, &child->hnode);
			return NULL;
		}
		node = child;
		path += name.len + 1;
	}
	return error_wrap(err, "clear \"%s\" of the tree", path);
}

/* Encoding */

static struct error *build_look(struct build_finish *finish, const struct digest *digest,
				bool *is_seen_out)
{
	uint64_t key = digest_key(digest);
	struct build_seen *seen;

	for (struct hnode *n = htab_first(&finish->seen, key); n; n = htab_next(n, key))
		if (digest_equal(&container_of(n, struct build_seen, hnode)->digest,
				 digest)) {
			*is_seen_out = true;
			return NULL;
		}
	seen = arena_new(&finish->arena, struct build_seen);
	if (!seen)
		return arena_error("the tree");
	seen->digest = *digest;
	htab_insert(&finish->seen, &seen->hnode, key);
	*is_seen_out = false;
	return NULL;
}

struct build_gather {
	struct build_node **nodes;
	size_t n;
};

static void build_gather(struct hnode *hnode, void *ctx)
{
	struct build_gather *gather = ctx;

	gather->nodes[gather->n++] = container_of(hnode, struct build_node, hnode);
}

static int build_compare(const void *a, const void *b)
{
	return slice_compare((*(struct build_node *const *)a)->name,
			     (*(struct build_node *const *)b)->name);
}

static struct error *build_encode(struct build_finish *finish,
				  const struct build_node *node,
				  struct digest *digest_out)
{
	_cleanup_free_ struct build_node **children = NULL;
	_cleanup_free_ struct tree_node *entries = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct build_gather gather = {0};
	struct error *err = NULL;
	bool is_seen;

	if (!node->dir) {
		*digest_out = node->digest;
		return NULL;
	}
	children = alloc_array(node->dir->children.len, sizeof(struct build_node *));
	entries = alloc_array(node->dir->children.len, sizeof(struct tree_node));
	gather.nodes = children;
	htab_each(&node->dir->children, build_gather, &gather);
	/* in order, so that what is emitted comes in the same order in every process */
	qsort(children, gather.n, sizeof(*children), build_compare);
	for (size_t i = 0; i < gather.n && !err; i++) {
		const struct build_node *child = children[i];

		entries[i] = (struct tree_node){
			.name = child->name,
			.digest = child->digest,
			.target = child->target,
			.props = child->props,
			.kind = child->kind,
			.is_executable = child->is_executable,
		};
		if (child->kind == TREE_DIR)
			err = build_encode(finish, child, &entries[i].digest);
	}
	if (!err)
		err = tree_encode(entries, gather.n, node->props, &bytes);
	if (err)
		return err;
	hasher_digest(bytes.data, bytes.len, digest_out);
	err = build_look(finish, digest_out, &is_seen);
	if (err || is_seen)
		return err;
	return finish->emit(finish->ctx, digest_out, buf_slice(&bytes));
}

struct error *treebuild_finish(struct treebuild *build, treebuild_emit_fn *emit,
			       void *ctx, struct digest *root_out)
{
	struct build_finish finish = {
		.emit = emit, .ctx = ctx, .arena = ARENA_INIT(SIZE_MAX)};
	struct digest root;
	struct error *err = build_encode(&finish, build->root, &root);

	htab_deinit(&finish.seen);
	arena_deinit(&finish.arena);
	if (err)
		return err;
	*root_out = root;
	return NULL;
}
