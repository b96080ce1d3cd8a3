/*
 * Owns the view itself, and answers what is asked of it: at once from what is at hand, or
 * by a request, which holds what was asked while its flight waits for the data, and
 * answers from the fetcher's thread.
 *
 * Threads: any; see view_impl.h for the mutex.
 */
#include "fuse/view.h"

#include <inttypes.h>
#include <string.h>

#include "fuse/view_flight.h"
#include "lib/base/alloc.h"

struct view *view_new(struct dircache *dirs)
{
	struct view *view = alloc_new(struct view);

	view->dirs = dirs;
	view->top = view_path_top();
	sync_mutex_init(&view->mutex);
	sync_cond_init(&view->is_idle);
	sync_alone(&view->mutex);
	list_init(&view->held);
	view->next_id = VIEW_ROOT_ID + 1;
	return view;
}

void *view_free(struct view *view)
{
	if (!view)
		return NULL;
	view_lock(view);
	while (view->n_flights)
		sync_wait(&view->is_idle, &view->mutex);
	view_node_drop_all(view);
	view_path_unref(view, view->top);
	require(view->roots.len == 0 && view->paths.len == 0);
	htab_deinit(&view->by_id);
	htab_deinit(&view->by_key);
	htab_deinit(&view->paths);
	htab_deinit(&view->roots);
	view_unlock(view);
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

void view_getattr(struct view *view, uint64_t id, struct view_attr *attr_out)
{
	if (id != VIEW_ROOT_ID) {
		view_node_attr(view_node_face(view, id), attr_out);
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
	return view_node_face(view, id)->target;
}

const struct digest *view_digest(struct view *view, uint64_t id)
{
	const struct view_face *face;

	if (id == VIEW_ROOT_ID)
		return NULL;
	face = view_node_face(view, id);
	return face->kind == TREE_SYMLINK ? NULL : &face->digest;
}

void view_forget(struct view *view, uint64_t id, uint64_t n_lookups)
{
	struct view_node *node;

	if (id == VIEW_ROOT_ID)
		return;
	view_lock(view);
	node = view_node_get(view, id);
	require(node->n_lookups >= n_lookups);
	node->n_lookups -= n_lookups;
	view_node_drop(view, node);
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
static void view_enter(struct view *view, const struct view_face *dir,
		       const struct tree_node *entry, const struct tree_dir *below,
		       struct view_attr *attr_out)
{
	struct view_path *path;
	struct view_node *node;

	view_lock(view);
	path = view_path_get(view, dir->path, entry->name);
	node = entry->kind == TREE_DIR
		       ? view_node_make_dir(view, dir->root, path, &entry->digest, below,
					    view_is_read_only(below, dir->is_read_only))
		       : view_node_make_file(view, path, entry, dir->is_read_only);
	node->n_lookups++;
	view_unlock(view);
	view_node_attr(&node->face, attr_out);
}

uint64_t view_entry_ino(struct view *view, uint64_t id, const struct tree_node *entry)
{
	const struct view_face *dir = view_node_face(view, id);
	uint64_t key = view_path_key(dir->path, entry->name);

	return entry->kind == TREE_DIR ? view_node_dir_ino(dir->root, key)
				       : view_node_file_ino(key, entry);
}

/* Answers a lookup of a tree in the mount's root. */
static void view_enter_root(struct view *view, const struct digest *digest,
			    const struct tree_dir *entries, struct view_attr *attr_out)
{
	struct view_root *root;
	struct view_node *node;

	view_lock(view);
	root = view_root_make(view, digest);
	node = view_node_make_dir(view, root, view_path_ref(view, view->top), digest,
				  entries, view_is_read_only(entries, false));
	node->n_lookups++;
	view_root_unref(view, root);
	view_unlock(view);
	view_node_attr(&node->face, attr_out);
}

/*
 * Answers a lookup once the Directory it needs is at hand: for a tree in the mount's root
 * (dir is NULL) its own, for a name in a directory that directory's. False where the name
 * is a directory whose own Directory must be loaded first: *below_out.
 */
static bool view_finish_lookup(struct view *view, const struct view_face *dir,
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
			       const struct view_face **dir_out,
			       struct digest *digest_out)
{
	_cleanup_error_ struct error *err = NULL;

	if (parent == VIEW_ROOT_ID) {
		*dir_out = NULL;
		err = digest_parse_slice(name, digest_out);
		return !err;
	}
	*dir_out = view_node_face(view, parent);
	*digest_out = (*dir_out)->digest;
	return (*dir_out)->kind == TREE_DIR;
}

bool view_try_lookup(struct view *view, uint64_t parent, struct slice name,
		     struct view_attr *attr_out)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *entries = NULL;
	const struct view_face *dir;
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
		dir = dircache_peek(view->dirs, &view_node_face(view, id)->digest);
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
	err = store_get(view_store(view), &view_node_face(view, id)->digest, &fd);
	if (err || fd < 0)
		return false;
	*fd_out = fd;
	return true;
}

/* ---- what must wait --------------------------------------------------------------- */

struct view_request {
	struct view_flight flight;
	struct buf name;          /* lookups */
	struct tree_dir *entries; /* lookups: of the parent, once loaded */
	view_lookup_fn *lookup_done;
	view_dir_fn *dir_done;
	fetch_done_fn *open_done;
	void *ctx;
};

static struct view_request *view_request_new(struct view *view, uint64_t id,
					     const struct digest *digest, void *ctx)
{
	struct view_request *request = alloc_new(struct view_request);

	request->ctx = ctx;
	view_flight_begin(&request->flight, view, id, digest);
	return request;
}

/* Ends its waits and frees it; err is borrowed. Its callback is called after this, and
 * then it lands. */
static void view_request_free(struct view_request *request, const struct error *err)
{
	view_flight_end(&request->flight, err);
	buf_deinit(&request->name);
	tree_dir_unref(request->entries);
	free(request);
}

static void view_lookup_end(struct view_request *request, struct error *err,
			    const struct view_attr *attr)
{
	struct view *view = request->flight.view;
	view_lookup_fn *done = request->lookup_done;
	void *done_ctx = request->ctx;

	view_request_free(request, err);
	done(done_ctx, err, attr);
	view_flight_land(view);
}

/* The entry's own Directory came: it is in the cache now, or was so a moment ago. */
static void view_below_loaded(void *ctx, struct error *err, struct tree_dir *below)
{
	struct view_request *request = ctx;
	struct view_flight *flight = &request->flight;
	struct view_attr attr = {0};

	if (!err)
		view_enter(flight->view, flight->face,
			   tree_dir_find(request->entries, buf_slice(&request->name)),
			   below, &attr);
	tree_dir_unref(below);
	view_lookup_end(request, err, &attr);
}

static void view_lookup_loaded(void *ctx, struct error *err, struct tree_dir *dir)
{
	struct view_request *request = ctx;
	struct view_flight *flight = &request->flight;
	struct view_attr attr = {0};
	struct digest below;

	request->entries = dir;
	if (!err && !view_finish_lookup(flight->view, flight->face, &flight->digest,
					buf_slice(&request->name), dir, &attr, &below)) {
		dircache_start(flight->view->dirs, &below, view_flight_account(flight),
			       view_below_loaded, request);
		return;
	}
	view_lookup_end(request, err, &attr);
}

void view_lookup(struct view *view, uint64_t parent, struct slice name,
		 view_lookup_fn *done, void *ctx)
{
	struct view_attr attr = {0};
	const struct view_face *dir;
	struct view_request *request;
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
	request = view_request_new(view, parent, &digest, ctx);
	request->lookup_done = done;
	buf_add(&request->name, name.data, name.len);
	dircache_start(view->dirs, &digest, view_flight_account(&request->flight),
		       view_lookup_loaded, request);
}

static void view_dir_loaded(void *ctx, struct error *err, struct tree_dir *dir)
{
	struct view_request *request = ctx;
	struct view *view = request->flight.view;
	view_dir_fn *done = request->dir_done;
	void *done_ctx = request->ctx;

	view_request_free(request, err);
	done(done_ctx, err, dir);
	view_flight_land(view);
}

void view_dir(struct view *view, uint64_t id, view_dir_fn *done, void *ctx)
{
	struct tree_dir *dir;
	struct view_request *request;
	const struct digest *digest;

	if (view_try_dir(view, id, &dir)) {
		done(ctx, NULL, dir);
		return;
	}
	digest = &view_node_face(view, id)->digest;
	request = view_request_new(view, id, digest, ctx);
	request->dir_done = done;
	dircache_start(view->dirs, digest, view_flight_account(&request->flight),
		       view_dir_loaded, request);
}

static void view_opened(void *ctx, struct error *err, int fd)
{
	struct view_request *request = ctx;
	struct view *view = request->flight.view;
	fetch_done_fn *done = request->open_done;
	void *done_ctx = request->ctx;

	view_request_free(request, err);
	done(done_ctx, err, fd);
	view_flight_land(view);
}

void view_open(struct view *view, uint64_t id, fetch_done_fn *done, void *ctx)
{
	const struct digest *digest = &view_node_face(view, id)->digest;
	struct view_request *request;
	int fd;

	if (view_try_open(view, id, &fd)) {
		done(ctx, NULL, fd);
		return;
	}
	request = view_request_new(view, id, digest, ctx);
	request->open_done = done;
	fetch_start(dircache_fetch(view->dirs), digest,
		    view_flight_account(&request->flight), view_opened, request);
}
