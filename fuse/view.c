/*
 * Owns the nodes. Identities:
 *
 *   id    what the kernel calls a node: a counter, so that it is never used again
 *   path  where it stands within its root, interned (view_path.c)
 *   key   directory: (root, path); file, link: (kind, path, content, executable, props).
 *         Equal keys are one node, which is what lets actions share page cache.
 *   ino   what stat shows: a hash of the key, so that a listing can name it without
 *         making a node, below 2^60 so that overlayfs has room for its own bits (xino)
 *
 * A node lives while the kernel has lookups of it or a request is in flight (a pin). A
 * directory's entries are never kept here: the Directory is asked of the dircache by
 * digest.
 *
 * What is not at hand becomes a flight: it pins its node, charges each held root that
 * shows the node with the wait, and answers from the fetcher's thread. Whether a root
 * shows a file is computed, not recorded (a libc seen by a thousand roots would need a
 * thousand marks): the kernel has looked in the file's directory in that root, and that
 * Directory has this very file under this name.
 *
 * Threads: any; see view_internal.h for the mutex.
 */
#include <inttypes.h>
#include <string.h>

#include "fuse/view_internal.h"
#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/sync.h"

#define VIEW_INO_MASK ((UINT64_C(1) << 60) - 1)

struct view *view_new(struct dircache *dirs)
{
	struct view *view = alloc_new(struct view);

	view->dirs = dirs;
	sync_mutex_init(&view->mutex);
	sync_cond_init(&view->is_idle);
	list_init(&view->held);
	view->top = view_path_top();
	view->next_id = VIEW_ROOT_ID + 1;
	return view;
}

static void view_node_free(struct view *view, struct view_node *node)
{
	view_path_unref(view, node->path);
	if (node->root)
		view_root_unref(node->root);
	if (node->props)
		free((void *)(uintptr_t)node->props->raw.data);
	free(node->props);
	free((void *)(uintptr_t)node->target.data);
	free(node);
}

void *view_free(struct view *view)
{
	struct hnode *n;

	if (!view)
		return NULL;
	view_lock(view);
	while (view->n_flights)
		sync_wait(&view->is_idle, &view->mutex);
	while ((n = htab_pop(&view->by_id)))
		view_node_free(view, container_of(n, struct view_node, by_id));
	view_path_unref(view, view->top);
	view_unlock(view);
	require(view->roots.len == 0 && view->paths.len == 0);
	htab_deinit(&view->by_id);
	htab_deinit(&view->by_key);
	htab_deinit(&view->paths);
	htab_deinit(&view->roots);
	sync_cond_deinit(&view->is_idle);
	sync_mutex_deinit(&view->mutex);
	free(view);
	return NULL;
}

struct store *view_store(const struct view *view)
{
	return fetch_store(dircache_fetch(view->dirs));
}

void view_limit(struct view *view, int64_t nodes_max)
{
	view->nodes_max = nodes_max;
}

static bool view_is_full(struct view *view)
{
	return view->nodes_max && view_n_nodes(view) >= (size_t)view->nodes_max;
}

size_t view_n_nodes(struct view *view)
{
	size_t n;

	view_lock(view);
	n = view->by_id.len;
	view_unlock(view);
	return n;
}

/* Mutex held. Ids come from us, so an unknown one is a bug (VIEW_ROOT_ID has no node). */
static struct view_node *view_by_id(struct view *view, uint64_t id)
{
	struct hnode *n = htab_first(&view->by_id, id);

	require(n);
	return container_of(n, struct view_node, by_id);
}

/* A node's constant fields may be read without the mutex while its id is alive. */
static const struct view_node *view_node(struct view *view, uint64_t id)
{
	const struct view_node *node;

	view_lock(view);
	node = view_by_id(view, id);
	view_unlock(view);
	return node;
}

static uint64_t view_dir_key(const struct view_root *root, const struct view_path *path)
{
	return view_mix((uint64_t)(uintptr_t)root, (uint64_t)(uintptr_t)path);
}

struct view_node *view_find_dir(struct view *view, const struct view_root *root,
				const struct view_path *path)
{
	uint64_t hash = view_dir_key(root, path);

	for (struct hnode *n = htab_first(&view->by_key, hash); n;
	     n = htab_next(n, hash)) {
		struct view_node *node = container_of(n, struct view_node, by_key);

		if (node->kind == TREE_DIR && node->root == root && node->path == path)
			return node;
	}
	return NULL;
}

static struct slice view_props_raw(const struct tree_props *props)
{
	return props ? props->raw : (struct slice){0};
}

/* Of a file's or link's content: equal for equal ones, wherever they stand. */
static uint64_t view_content_hash(const struct tree_node *entry)
{
	uint64_t hash = entry->kind == TREE_FILE ? digest_key(&entry->digest)
						 : slice_hash(entry->target);

	hash = view_mix(hash, (uint64_t)entry->kind * 2 + entry->is_executable);
	return entry->props ? view_mix(hash, slice_hash(entry->props->raw)) : hash;
}

static bool view_same_content(const struct view_node *node, const struct tree_node *entry)
{
	if (node->kind != entry->kind || node->is_executable != entry->is_executable)
		return false;
	if (!slice_equal(view_props_raw(node->props), view_props_raw(entry->props)))
		return false;
	return entry->kind == TREE_FILE ? digest_equal(&node->digest, &entry->digest)
					: slice_equal(node->target, entry->target);
}

static struct view_node *view_find_file(struct view *view, const struct view_path *path,
					const struct tree_node *entry, bool is_read_only,
					uint64_t hash)
{
	for (struct hnode *n = htab_first(&view->by_key, hash); n;
	     n = htab_next(n, hash)) {
		struct view_node *node = container_of(n, struct view_node, by_key);

		if (node->path == path && node->is_read_only == is_read_only &&
		    view_same_content(node, entry))
			return node;
	}
	return NULL;
}

static struct slice view_slice_dup(struct slice s)
{
	return (struct slice){s.len ? alloc_memdup(s.data, s.len) : NULL, s.len};
}

static struct tree_props *view_props_dup(const struct tree_props *props)
{
	struct tree_props *copy;

	if (!props)
		return NULL;
	copy = alloc_new(struct tree_props);
	*copy = *props;
	copy->raw = view_slice_dup(props->raw);
	return copy;
}

static struct view_node *view_add(struct view *view, struct view_node *node, uint64_t key)
{
	htab_insert(&view->by_id, &node->by_id, view->next_id++);
	htab_insert(&view->by_key, &node->by_key, key);
	return node;
}

/* Mutex held: finds or makes; path's reference is consumed. dir is its Directory. */
static struct view_node *view_make_dir(struct view *view, struct view_root *root,
				       struct view_path *path,
				       const struct digest *digest,
				       const struct tree_dir *dir, bool is_read_only)
{
	struct view_node *node = view_find_dir(view, root, path);

	if (node) {
		view_path_unref(view, path);
		return node;
	}
	node = alloc_new(struct view_node);
	node->kind = TREE_DIR;
	node->path = path;
	node->root = view_root_ref(root);
	node->digest = *digest;
	node->props = view_props_dup(dir->props);
	node->is_read_only = is_read_only;
	return view_add(view, node, view_dir_key(root, path));
}

static struct view_node *view_make_file(struct view *view, struct view_path *path,
					const struct tree_node *entry, bool is_read_only)
{
	uint64_t hash = view_mix(view_content_hash(entry), (uint64_t)(uintptr_t)path);
	struct view_node *node = view_find_file(view, path, entry, is_read_only, hash);

	if (node) {
		view_path_unref(view, path);
		return node;
	}
	node = alloc_new(struct view_node);
	node->kind = entry->kind;
	node->path = path;
	node->digest = entry->digest;
	node->is_executable = entry->is_executable;
	node->is_read_only = is_read_only;
	if (entry->kind == TREE_SYMLINK)
		node->target = view_slice_dup(entry->target);
	node->props = view_props_dup(entry->props);
	return view_add(view, node, hash);
}

static uint64_t view_ino(uint64_t path_key, uint64_t content)
{
	uint64_t ino = view_mix(path_key, content) & VIEW_INO_MASK;

	return ino > VIEW_ROOT_ID ? ino : VIEW_ROOT_ID + 1;
}

static uint64_t view_dir_ino(const struct view_root *root, uint64_t path_key)
{
	return view_ino(path_key, digest_key(&root->digest));
}

static mode_t view_mode(enum tree_kind kind, bool is_executable,
			const struct tree_props *props)
{
	switch (kind) {
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
	return S_IFREG | (is_executable ? 0755 : 0644);
}

static void view_fill_attr(const struct view_node *node, struct view_attr *out)
{
	const struct tree_props *props = node->props;

	*out = (struct view_attr){
		.id = node->by_id.hash,
		.mode = view_mode(node->kind, node->is_executable, props),
		.mtime_s = VIEW_DEFAULT_MTIME_S,
		.nlink = 1,
		.is_read_only = node->is_read_only};
	if (node->is_read_only) /* the action is not the owner: it reads as others do */
		out->mode |= (out->mode >> 6) & 5;
	if (props && props->has_mtime) {
		out->mtime_s = props->mtime_s;
		out->mtime_ns = props->mtime_ns;
	}
	if (node->kind == TREE_DIR) {
		out->size = 4096;
		out->ino = view_dir_ino(node->root, node->path->key);
		return;
	}
	struct tree_node entry = {.digest = node->digest,
				  .target = node->target,
				  .props = props,
				  .kind = node->kind,
				  .is_executable = node->is_executable};

	out->ino = view_ino(node->path->key, view_content_hash(&entry));
	out->size =
		node->kind == TREE_FILE ? node->digest.size : (int64_t)node->target.len;
}

void view_getattr(struct view *view, uint64_t id, struct view_attr *attr_out)
{
	if (id != VIEW_ROOT_ID) {
		view_fill_attr(view_node(view, id), attr_out);
		return;
	}
	*attr_out = (struct view_attr){.id = VIEW_ROOT_ID,
				       .ino = VIEW_ROOT_ID,
				       .mode = S_IFDIR | 0755,
				       .size = 4096,
				       .mtime_s = VIEW_DEFAULT_MTIME_S,
				       .nlink = 1};
}

struct slice view_readlink(struct view *view, uint64_t id)
{
	return view_node(view, id)->target;
}

const struct digest *view_digest(struct view *view, uint64_t id)
{
	const struct view_node *node;

	if (id == VIEW_ROOT_ID)
		return NULL;
	node = view_node(view, id);
	return node->kind == TREE_SYMLINK ? NULL : &node->digest;
}

static void view_drop_node(struct view *view, struct view_node *node)
{
	if (node->n_lookups || node->n_pins)
		return;
	htab_remove(&view->by_id, &node->by_id);
	htab_remove(&view->by_key, &node->by_key);
	view_node_free(view, node);
}

void view_forget(struct view *view, uint64_t id, uint64_t n_lookups)
{
	struct view_node *node;

	if (id == VIEW_ROOT_ID)
		return;
	view_lock(view);
	node = view_by_id(view, id);
	require(node->n_lookups >= n_lookups);
	node->n_lookups -= n_lookups;
	view_drop_node(view, node);
	view_unlock(view);
}

/* What a directory says of itself, else what its parent says. */
static bool view_is_read_only(const struct tree_dir *entries, bool parent_is_read_only)
{
	return entries->props && entries->props->has_read_only
		       ? entries->props->is_read_only
		       : parent_is_read_only;
}

/* The node of an entry of dir, a lookup counted; below is the entry's own Directory,
 * where it is one: only that tells its time and mode, and whether it may be written. */
static void view_enter(struct view *view, const struct view_node *dir,
		       const struct tree_node *entry, const struct tree_dir *below,
		       struct view_attr *attr_out)
{
	struct view_path *path;
	struct view_node *node;

	view_lock(view);
	path = view_path_get(view, dir->path, entry->name);
	node = entry->kind == TREE_DIR
		       ? view_make_dir(view, dir->root, path, &entry->digest, below,
				       view_is_read_only(below, dir->is_read_only))
		       : view_make_file(view, path, entry, dir->is_read_only);
	node->n_lookups++;
	view_unlock(view);
	view_fill_attr(node, attr_out);
}

uint64_t view_entry_ino(struct view *view, uint64_t id, const struct tree_node *entry)
{
	const struct view_node *dir = view_node(view, id);
	uint64_t key = view_path_key(dir->path, entry->name);

	return entry->kind == TREE_DIR ? view_dir_ino(dir->root, key)
				       : view_ino(key, view_content_hash(entry));
}

/* Answers a lookup of a tree in the mount's root. */
static void view_enter_root(struct view *view, const struct digest *digest,
			    const struct tree_dir *entries, struct view_attr *attr_out)
{
	struct view_root *root;
	struct view_node *node;

	view_lock(view);
	root = view_root_make(view, digest);
	node = view_make_dir(view, root, view_path_ref(view->top), digest, entries,
			     view_is_read_only(entries, false));
	node->n_lookups++;
	view_root_unref(root);
	view_unlock(view);
	view_fill_attr(node, attr_out);
}

/*
 * Answers a lookup once the Directory it needs is at hand: for a tree in the mount's root
 * (dir is NULL) its own, for a name in a directory that directory's. False where the name
 * is a directory whose own Directory must be loaded first: *below_out.
 */
static bool view_finish_lookup(struct view *view, const struct view_node *dir,
			       const struct digest *digest, struct slice name,
			       const struct tree_dir *entries, struct view_attr *attr_out,
			       struct digest *below_out)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *below = NULL;
	const struct tree_node *entry;

	*attr_out = (struct view_attr){0};
	if (!dir) {
		view_enter_root(view, digest, entries, attr_out);
		return true;
	}
	entry = tree_dir_find(entries, name);
	if (!entry)
		return true;
	if (entry->kind == TREE_DIR) {
		below = dircache_peek(view->dirs, &entry->digest);
		if (!below) {
			*below_out = entry->digest;
			return false;
		}
	}
	view_enter(view, dir, entry, below, attr_out);
	return true;
}

/* What a lookup needs: false where name cannot exist (no digest, in the mount's root). */
static bool view_lookup_target(struct view *view, uint64_t parent, struct slice name,
			       const struct view_node **dir_out,
			       struct digest *digest_out)
{
	_cleanup_error_ struct error *err = NULL;

	if (parent == VIEW_ROOT_ID) {
		*dir_out = NULL;
		err = digest_parse_slice(name, digest_out);
		return !err;
	}
	*dir_out = view_node(view, parent);
	*digest_out = (*dir_out)->digest;
	return (*dir_out)->kind == TREE_DIR;
}

bool view_try_lookup(struct view *view, uint64_t parent, struct slice name,
		     struct view_attr *attr_out)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	const struct view_node *dir;
	struct digest digest;
	struct digest below;

	if (!view_lookup_target(view, parent, name, &dir, &digest)) {
		*attr_out = (struct view_attr){0};
		return true;
	}
	entries = view_is_full(view) ? NULL : dircache_peek(view->dirs, &digest);
	if (!entries)
		return false;
	return view_finish_lookup(view, dir, &digest, name, entries, attr_out, &below);
}

bool view_try_dir(struct view *view, uint64_t id, struct tree_dir **dir_out)
{
	struct tree_dir *dir = NULL;

	if (id != VIEW_ROOT_ID) {
		dir = dircache_peek(view->dirs, &view_node(view, id)->digest);
		if (!dir)
			return false;
	}
	*dir_out = dir;
	return true;
}

bool view_try_open(struct view *view, uint64_t id, int *fd_out)
{
	_cleanup_error_ struct error *err = NULL;
	int fd = -1;

	/* a failing disk is reported by the fetch that follows */
	err = store_get(view_store(view), &view_node(view, id)->digest, &fd);
	if (err || fd < 0)
		return false;
	*fd_out = fd;
	return true;
}

/* One request that waits for data. */
struct view_flight {
	struct view *view;
	struct view_node *node; /* pinned; NULL: a tree in the mount's root */
	struct digest digest;
	struct buf name;          /* lookups */
	struct tree_dir *entries; /* lookups: of the parent, once loaded */
	view_lookup_fn *lookup_done;
	view_dir_fn *dir_done;
	fetch_done_fn *open_done;
	void *ctx;
	int64_t began_ns;
	struct view_root **charged; /* references */
	size_t n_charged;
};

/* Whether the entry at node's path in a held root is node; digest is of the Directory. */
static bool view_shows(struct view *view, const struct view_node *node,
		       const struct digest *digest)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir =
		dircache_peek(view->dirs, digest);
	const struct tree_node *entry;

	/* not in memory any more: rather charge one root too many than lose a failure */
	if (!dir)
		return true;
	entry = tree_dir_find(dir,
			      (struct slice){node->path->name, node->path->name_len});
	return entry && view_same_content(node, entry);
}

/* Mutex held: the Directory of root in which to look for node; NULL: it is not charged.
 * *is_certain_out where there is nothing to look for. */
static const struct digest *view_where(struct view *view, const struct view_root *root,
				       const struct view_flight *flight,
				       bool *is_certain_out)
{
	const struct view_node *node = flight->node;
	const struct view_node *dir;

	*is_certain_out = !node || node->root;
	if (!node)
		return digest_equal(&root->digest, &flight->digest) ? &root->digest
								    : NULL;
	if (node->root)
		return node->root == root ? &root->digest : NULL;
	dir = view_find_dir(view, root, node->path->parent);
	return dir ? &dir->digest : NULL;
}

/* A held root that may have to be charged. */
struct view_candidate {
	struct view_root *root; /* a reference */
	struct digest digest;
	bool is_charged;
};

static void view_charge(struct view *view, struct view_flight *flight)
{
	_cleanup_free_ struct view_candidate *all = NULL;
	size_t n = 0;

	view_lock(view);
	view->n_flights++;
	if (flight->node)
		flight->node->n_pins++;
	all = alloc_array(view->n_held + 1, sizeof(*all));
	list_for_each (link, &view->held) {
		struct view_root *root = container_of(link, struct view_root, held);
		bool is_certain;
		const struct digest *digest = view_where(view, root, flight, &is_certain);

		if (digest)
			all[n++] = (struct view_candidate){view_root_ref(root), *digest,
							   is_certain};
	}
	view_unlock(view);
	for (size_t i = 0; i < n; i++)
		if (!all[i].is_charged)
			all[i].is_charged =
				view_shows(view, flight->node, &all[i].digest);
	flight->charged = alloc_array(n + 1, sizeof(struct view_root *));
	view_lock(view);
	flight->began_ns = clock_mono_ns();
	for (size_t i = 0; i < n; i++) {
		if (!all[i].is_charged) {
			view_root_unref(all[i].root);
			continue;
		}
		view_root_wait_begin(all[i].root, flight->began_ns);
		flight->charged[flight->n_charged++] = all[i].root;
	}
	view_unlock(view);
}

static struct fetch_account *view_flight_account(const struct view_flight *flight)
{
	return flight->n_charged ? &flight->charged[0]->account : NULL;
}

static struct view_flight *view_flight_new(struct view *view,
					   const struct view_node *node,
					   const struct digest *digest, void *ctx)
{
	struct view_flight *flight = alloc_new(struct view_flight);

	flight->view = view;
	flight->node = (struct view_node *)(uintptr_t)node; /* pinned: alive and ours */
	flight->digest = *digest;
	flight->ctx = ctx;
	view_charge(view, flight);
	return flight;
}

/* Ends waits and pins, and frees; err is borrowed. The view waits for the callback that
 * follows until view_land(). */
static void view_settle(struct view_flight *flight, const struct error *err)
{
	struct view *view = flight->view;
	int64_t now = clock_mono_ns();
	_cleanup_free_ char *path = NULL;

	view_lock(view);
	path = view_path_string(flight->node ? flight->node->path : view->top);
	struct view_wait wait = {.path = path,
				 .bytes = flight->digest.size,
				 .ns = now - flight->began_ns,
				 .at_mono_ns = flight->began_ns};

	for (size_t i = 0; i < flight->n_charged; i++) {
		view_root_wait_end(flight->charged[i], &wait, now, err);
		view_root_unref(flight->charged[i]);
	}
	if (flight->node) {
		flight->node->n_pins--;
		view_drop_node(view, flight->node);
	}
	view_unlock(view);
	free(flight->charged);
	buf_deinit(&flight->name);
	tree_dir_unref(flight->entries);
	free(flight);
}

static void view_land(struct view *view)
{
	view_lock(view);
	if (--view->n_flights == 0)
		sync_broadcast(&view->is_idle);
	view_unlock(view);
}

static void view_lookup_end(struct view_flight *flight, struct error *err,
			    const struct view_attr *attr)
{
	struct view *view = flight->view;
	view_lookup_fn *done = flight->lookup_done;
	void *done_ctx = flight->ctx;

	view_settle(flight, err);
	done(done_ctx, err, attr);
	view_land(view);
}

/* The entry's own Directory came: it is in the cache now, or was so a moment ago. */
static void view_below_loaded(void *ctx, struct error *err, struct tree_dir *below)
{
	struct view_flight *flight = ctx;
	struct view_attr attr = {0};

	if (!err)
		view_enter(flight->view, flight->node,
			   tree_dir_find(flight->entries, buf_slice(&flight->name)),
			   below, &attr);
	tree_dir_unref(below);
	view_lookup_end(flight, err, &attr);
}

static void view_lookup_loaded(void *ctx, struct error *err, struct tree_dir *dir)
{
	struct view_flight *flight = ctx;
	struct view_attr attr = {0};
	struct digest below;

	flight->entries = dir;
	if (!err && !view_finish_lookup(flight->view, flight->node, &flight->digest,
					buf_slice(&flight->name), dir, &attr, &below)) {
		dircache_start(flight->view->dirs, &below, view_flight_account(flight),
			       view_below_loaded, flight);
		return;
	}
	view_lookup_end(flight, err, &attr);
}

void view_lookup(struct view *view, uint64_t parent, struct slice name,
		 view_lookup_fn *done, void *ctx)
{
	struct view_attr attr = {0};
	const struct view_node *dir;
	struct view_flight *flight;
	struct digest digest;

	if (view_try_lookup(view, parent, name, &attr)) {
		done(ctx, NULL, &attr);
		return;
	}
	if (view_is_full(view)) {
		done(ctx,
		     error_new(ERROR_RESOURCE_EXHAUSTED,
			       "the mount shows %" PRId64
			       " entries, which is the limit (--entries-max)",
			       view->nodes_max),
		     NULL);
		return;
	}
	require(view_lookup_target(view, parent, name, &dir, &digest));
	flight = view_flight_new(view, dir, &digest, ctx);
	flight->lookup_done = done;
	buf_add(&flight->name, name.data, name.len);
	dircache_start(view->dirs, &digest, view_flight_account(flight),
		       view_lookup_loaded, flight);
}

static void view_dir_loaded(void *ctx, struct error *err, struct tree_dir *dir)
{
	struct view_flight *flight = ctx;
	struct view *view = flight->view;
	view_dir_fn *done = flight->dir_done;
	void *done_ctx = flight->ctx;

	view_settle(flight, err);
	done(done_ctx, err, dir);
	view_land(view);
}

void view_dir(struct view *view, uint64_t id, view_dir_fn *done, void *ctx)
{
	struct tree_dir *dir;
	struct view_flight *flight;
	const struct view_node *node;

	if (view_try_dir(view, id, &dir)) {
		done(ctx, NULL, dir);
		return;
	}
	node = view_node(view, id);
	flight = view_flight_new(view, node, &node->digest, ctx);
	flight->dir_done = done;
	dircache_start(view->dirs, &node->digest, view_flight_account(flight),
		       view_dir_loaded, flight);
}

static void view_opened(void *ctx, struct error *err, int fd)
{
	struct view_flight *flight = ctx;
	struct view *view = flight->view;
	fetch_done_fn *done = flight->open_done;
	void *done_ctx = flight->ctx;

	view_settle(flight, err);
	done(done_ctx, err, fd);
	view_land(view);
}

void view_open(struct view *view, uint64_t id, fetch_done_fn *done, void *ctx)
{
	const struct view_node *node = view_node(view, id);
	struct view_flight *flight;
	int fd;

	if (view_try_open(view, id, &fd)) {
		done(ctx, NULL, fd);
		return;
	}
	flight = view_flight_new(view, node, &node->digest, ctx);
	flight->open_done = done;
	fetch_start(dircache_fetch(view->dirs), &node->digest, FETCH_DEMAND,
		    view_flight_account(flight), view_opened, flight);
}
