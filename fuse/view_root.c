/*
 * Owns the roots and what they remember for whoever holds them: who pays for transfers,
 * how long requests waited, and which inputs were lost. Nobody can ask about a root that
 * is not held, so a root that is held anew starts with none of it.
 *
 * What must stay true: waited_ns counts each moment once, however many requests wait in
 * it; n_waiting is 0 when the last reference goes, since a waiting request has one.
 *
 * Threads: any; the view's mutex guards all of it, and nothing here blocks.
 */
#include "fuse/view_root.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"

static struct view_root *view_root_find(struct view *view, const struct digest *digest)
	SYNC_REQUIRES(&view->mutex)
{
	uint64_t hash = digest_key(digest);

	for (struct hnode *n = htab_first(&view->roots, hash); n;
	     n = htab_next(n, hash)) {
		struct view_root *root = container_of(n, struct view_root, by_digest);

		if (digest_equal(&root->digest, digest))
			return root;
	}
	return NULL;
}

struct view_root *view_root_ref(struct view *view, struct view_root *root)
{
	(void)view; /* its mutex guards the count */
	root->refs++;
	return root;
}

struct view_root *view_root_make(struct view *view, const struct digest *digest)
{
	struct view_root *root = view_root_find(view, digest);

	if (root)
		return view_root_ref(view, root);
	root = alloc_new(struct view_root);
	root->view = view;
	root->digest = *digest;
	root->refs = 1;
	list_init(&root->held);
	htab_insert(&view->roots, &root->by_digest, digest_key(digest));
	return root;
}

static void view_root_clear(struct view_root *root)
{
	for (size_t i = 0; i < root->n_lost; i++)
		error_free(root->lost[i].err);
	root->n_lost = 0;
	for (size_t i = 0; i < root->n_waits; i++)
		free(root->waits[i].path);
	root->n_waits = 0;
}

void view_root_unref(struct view *view, struct view_root *root)
{
	if (--root->refs)
		return;
	require(root->n_waiting == 0 && root->n_holders == 0);
	view_root_clear(root);
	htab_remove(&view->roots, &root->by_digest);
	free(root);
}

struct view_root *view_root_get(struct view *view, const struct digest *digest)
{
	struct view_root *root;

	view_lock(view);
	root = view_root_make(view, digest);
	if (root->n_holders++ == 0) {
		view_root_clear(root);
		list_push(&view->held, &root->held);
		view->n_held++;
	}
	view_unlock(view);
	return root;
}

void *view_root_put(struct view_root *root)
{
	struct view *view;

	if (!root)
		return NULL;
	view = root->view;
	view_lock(view);
	if (--root->n_holders == 0) {
		list_remove(&root->held);
		view->n_held--;
	}
	view_root_unref(view, root);
	view_unlock(view);
	return NULL;
}

struct fetch_account *view_root_account(struct view_root *root)
{
	return &root->account;
}

void view_root_wait_begin(struct view *view, struct view_root *root, int64_t now_ns)
{
	(void)view;
	if (root->n_waiting++ == 0)
		root->waiting_since_ns = now_ns;
}

/* Keeps the slowest: where there is no room, the quickest of all goes. */
static void view_root_add_wait(struct view_root *root, const struct view_wait *wait)
{
	size_t at = root->n_waits;

	if (at == VIEW_WAITS_MAX) {
		at = 0;
		for (size_t i = 1; i < VIEW_WAITS_MAX; i++)
			if (root->waits[i].ns < root->waits[at].ns)
				at = i;
		if (root->waits[at].ns >= wait->ns)
			return;
		free(root->waits[at].path);
	} else {
		root->n_waits++;
	}
	root->waits[at] = *wait;
	root->waits[at].path = alloc_string(wait->path);
}

static void view_root_add_lost(struct view_root *root, const struct error *err,
			       const char *path, int64_t now_ns)
{
	if (root->n_lost == VIEW_LOST_MAX) {
		error_free(root->lost[0].err);
		memmove(root->lost, root->lost + 1,
			sizeof(root->lost) - sizeof(root->lost[0]));
		root->n_lost--;
	}
	root->lost[root->n_lost++] = (struct view_lost){
		.err = error_wrap(error_dup(err), "input %s", path), .at_ns = now_ns};
}

void view_root_wait_end(struct view *view, struct view_root *root,
			const struct view_wait *wait, int64_t now_ns,
			const struct error *err)
{
	(void)view;
	if (--root->n_waiting == 0)
		root->waited_ns += now_ns - root->waiting_since_ns;
	if (!root->n_holders)
		return;
	view_root_add_wait(root, wait);
	if (err)
		view_root_add_lost(root, err, wait->path, now_ns);
}

struct error *view_root_lost(struct view_root *root, int64_t since_mono_ns)
{
	struct error *err = NULL;

	view_lock(root->view);
	for (size_t i = 0; i < root->n_lost && !err; i++)
		if (root->lost[i].at_ns >= since_mono_ns)
			err = error_dup(root->lost[i].err);
	view_unlock(root->view);
	return err;
}

int64_t view_root_waited_ns(struct view_root *root)
{
	int64_t ns;

	view_lock(root->view);
	ns = root->waited_ns;
	if (root->n_waiting)
		ns += clock_mono_ns() - root->waiting_since_ns;
	view_unlock(root->view);
	return ns;
}

static int view_wait_compare(const void *a, const void *b)
{
	int64_t x = ((const struct view_wait *)a)->ns;
	int64_t y = ((const struct view_wait *)b)->ns;

	return (x < y) - (x > y);
}

size_t view_root_slowest(struct view_root *root, int64_t since_mono_ns,
			 struct view_wait out[VIEW_SLOWEST_MAX])
{
	struct view_wait all[VIEW_WAITS_MAX];
	size_t n = 0;

	view_lock(root->view);
	for (size_t i = 0; i < root->n_waits; i++)
		if (root->waits[i].at_mono_ns >= since_mono_ns)
			all[n++] = root->waits[i];
	qsort(all, n, sizeof(all[0]), view_wait_compare);
	n = n < VIEW_SLOWEST_MAX ? n : VIEW_SLOWEST_MAX;
	for (size_t i = 0; i < n; i++) {
		out[i] = all[i];
		out[i].path = alloc_string(all[i].path);
	}
	view_unlock(root->view);
	return n;
}
