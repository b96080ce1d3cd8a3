/*
 * Owns the nodes. Identities:
 *
 *   id    what the kernel calls a node: a counter, so that it is never used again
 *   path  where it stands within its root, interned (view_path.h)
 *   key   directory: (root, path); file, link: (kind, path, content, executable, props).
 *         Equal keys are one node, which is what lets actions share page cache.
 *   ino   what stat shows: a hash of the key, so that a listing can name it without
 *         making a node, below 2^60 so that overlayfs has room for its own bits (xino)
 *
 * A node lives while the kernel has lookups of it or a request is in flight (a pin). A
 * directory's entries are never kept here: the Directory is asked of the dircache by
 * digest.
 *
 * Threads: any, with the view's mutex; faces are read without.
 */
#include "fuse/view_node.h"

#include "lib/base/alloc.h"

#define VIEW_NODE_INO_MASK ((UINT64_C(1) << 60) - 1)

static void view_node_free(struct view *view, struct view_node *node)
	SYNC_REQUIRES(&view->mutex)
{
	struct view_face *face = &node->face;

	view_path_unref(view, face->path);
	if (face->root)
		view_root_unref(view, face->root);
	if (face->props)
		free((void *)(uintptr_t)face->props->raw.data);
	free(face->props);
	free((void *)(uintptr_t)face->target.data);
	free(node);
}

void view_node_drop(struct view *view, struct view_node *node)
{
	if (node->n_lookups || node->n_pins)
		return;
	htab_remove(&view->by_id, &node->by_id);
	htab_remove(&view->by_key, &node->by_key);
	view_node_free(view, node);
}

void view_node_drop_all(struct view *view)
{
	struct hnode *n;

	while ((n = htab_pop(&view->by_id)))
		view_node_free(view, container_of(n, struct view_node, by_id));
}

struct view_node *view_node_get(struct view *view, uint64_t id)
{
	struct hnode *n = htab_first(&view->by_id, id);

	require(n);
	return container_of(n, struct view_node, by_id);
}

const struct view_face *view_node_face(struct view *view, uint64_t id)
{
	const struct view_face *face;

	view_lock(view);
	face = &view_node_get(view, id)->face;
	view_unlock(view);
	return face;
}

/* ---- identities ------------------------------------------------------------------- */

static uint64_t view_node_dir_key(const struct view_root *root,
				  const struct view_path *path)
{
	return view_mix((uint64_t)(uintptr_t)root, (uint64_t)(uintptr_t)path);
}

struct view_node *view_node_find_dir(struct view *view, const struct view_root *root,
				     const struct view_path *path)
{
	uint64_t hash = view_node_dir_key(root, path);

	for (struct hnode *n = htab_first(&view->by_key, hash); n;
	     n = htab_next(n, hash)) {
		struct view_node *node = container_of(n, struct view_node, by_key);
		const struct view_face *face = &node->face;

		if (face->kind == TREE_DIR && face->root == root && face->path == path)
			return node;
	}
	return NULL;
}

static struct slice view_node_props(const struct tree_props *props)
{
	return props ? props->raw : (struct slice){0};
}

/* Of a file's or link's content: equal for equal ones, wherever they stand. */
static uint64_t view_node_content(const struct tree_node *entry)
{
	uint64_t hash = entry->kind == TREE_FILE ? digest_key(&entry->digest)
						 : slice_hash(entry->target);

	hash = view_mix(hash, (uint64_t)entry->kind * 2 + entry->is_executable);
	return entry->props ? view_mix(hash, slice_hash(entry->props->raw)) : hash;
}

bool view_node_is_same(const struct view_face *face, const struct tree_node *entry)
{
	if (face->kind != entry->kind || face->is_executable != entry->is_executable)
		return false;
	if (!slice_equal(view_node_props(face->props), view_node_props(entry->props)))
		return false;
	return entry->kind == TREE_FILE ? digest_equal(&face->digest, &entry->digest)
					: slice_equal(face->target, entry->target);
}

static struct view_node *view_node_find_file(struct view *view,
					     const struct view_path *path,
					     const struct tree_node *entry,
					     bool is_read_only, uint64_t hash)
	SYNC_REQUIRES(&view->mutex)
{
	for (struct hnode *n = htab_first(&view->by_key, hash); n;
	     n = htab_next(n, hash)) {
		struct view_node *node = container_of(n, struct view_node, by_key);
		const struct view_face *face = &node->face;

		if (face->path == path && face->is_read_only == is_read_only &&
		    view_node_is_same(face, entry))
			return node;
	}
	return NULL;
}

/* ---- making ----------------------------------------------------------------------- */

static struct slice view_node_dup(struct slice s)
{
	return (struct slice){s.len ? alloc_memdup(s.data, s.len) : NULL, s.len};
}

static struct tree_props *view_node_dup_props(const struct tree_props *props)
{
	struct tree_props *copy;

	if (!props)
		return NULL;
	copy = alloc_new(struct tree_props);
	*copy = *props;
	copy->raw = view_node_dup(props->raw);
	return copy;
}

static struct view_node *view_node_add(struct view *view, struct view_face face,
				       uint64_t key) SYNC_REQUIRES(&view->mutex)
{
	struct view_node *node = alloc_new(struct view_node);

	node->face = face;
	htab_insert(&view->by_id, &node->by_id, view->next_id++);
	htab_insert(&view->by_key, &node->by_key, key);
	return node;
}

struct view_node *view_node_make_dir(struct view *view, struct view_root *root,
				     struct view_path *path, const struct digest *digest,
				     const struct tree_dir *dir, bool is_read_only)
{
	struct view_node *node = view_node_find_dir(view, root, path);

	if (node) {
		view_path_unref(view, path);
		return node;
	}
	return view_node_add(view,
			     (struct view_face){.kind = TREE_DIR,
						.is_read_only = is_read_only,
						.path = path,
						.root = view_root_ref(view, root),
						.digest = *digest,
						.props = view_node_dup_props(dir->props)},
			     view_node_dir_key(root, path));
}

struct view_node *view_node_make_file(struct view *view, struct view_path *path,
				      const struct tree_node *entry, bool is_read_only)
{
	uint64_t hash = view_mix(view_node_content(entry), (uint64_t)(uintptr_t)path);
	struct view_node *node =
		view_node_find_file(view, path, entry, is_read_only, hash);
	struct view_face face;

	if (node) {
		view_path_unref(view, path);
		return node;
	}
	face = (struct view_face){.kind = entry->kind,
				  .is_executable = entry->is_executable,
				  .is_read_only = is_read_only,
				  .path = path,
				  .digest = entry->digest,
				  .props = view_node_dup_props(entry->props)};
	if (entry->kind == TREE_SYMLINK)
		face.target = view_node_dup(entry->target);
	return view_node_add(view, face, hash);
}

/* ---- what stat shows -------------------------------------------------------------- */

static uint64_t view_node_ino(uint64_t path_key, uint64_t content)
{
	uint64_t ino = view_mix(path_key, content) & VIEW_NODE_INO_MASK;

	return ino > VIEW_ROOT_ID ? ino : VIEW_ROOT_ID + 1;
}

uint64_t view_node_dir_ino(const struct view_root *root, uint64_t path_key)
{
	return view_node_ino(path_key, digest_key(&root->digest));
}

uint64_t view_node_file_ino(uint64_t path_key, const struct tree_node *entry)
{
	return view_node_ino(path_key, view_node_content(entry));
}

static mode_t view_node_mode(const struct view_face *face)
{
	const struct tree_props *props = face->props;

	switch (face->kind) {
	case TREE_DIR:
		return S_IFDIR |
		       (props && props->has_unix_mode ? props->unix_mode & 01777 : 0755);
	case TREE_SYMLINK:
		return S_IFLNK | 0777;
	case TREE_FILE:
		break;
	}
	/* no set-id bits: inputs belong to root here, whoever wrote the tree */
	if (props && props->has_unix_mode)
		return S_IFREG | (props->unix_mode & 0777);
	return S_IFREG | (face->is_executable ? 0755 : 0644);
}

void view_node_attr(const struct view_face *face, struct view_attr *attr_out)
{
	const struct view_node *node = container_of(face, const struct view_node, face);
	const struct tree_props *props = face->props;
	const struct tree_node entry = {.digest = face->digest,
					.target = face->target,
					.props = props,
					.kind = face->kind,
					.is_executable = face->is_executable};

	*attr_out = (struct view_attr){.id = node->by_id.hash,
				       .mode = view_node_mode(face),
				       .mtime_s = VIEW_DEFAULT_MTIME_S,
				       .nlink = 1,
				       .is_read_only = face->is_read_only};
	if (face->is_read_only) /* the action is not the owner: it reads as others do */
		attr_out->mode |= (attr_out->mode >> 6) & 5;
	if (props && props->has_mtime) {
		attr_out->mtime_s = props->mtime_s;
		attr_out->mtime_ns = props->mtime_ns;
	}
	if (face->kind == TREE_DIR) {
		attr_out->size = 4096;
		attr_out->ino = view_node_dir_ino(face->root, face->path->key);
		return;
	}
	attr_out->ino = view_node_file_ino(face->path->key, &entry);
	attr_out->size =
		face->kind == TREE_FILE ? face->digest.size : (int64_t)face->target.len;
}
