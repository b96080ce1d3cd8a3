/*
 * Owns nothing but the accounting: each flight begins one wait of each root that it
 * charges, and ends it.
 *
 * Whether a root shows a file is computed, not recorded (a libc seen by a thousand roots
 * would need a thousand marks): the kernel has looked in the file's directory in that
 * root, and that Directory has this very file under this name.
 */
#include "fuse/view_flight.h"

#include "lib/base/alloc.h"
#include "lib/base/clock.h"

/* Whether the entry at a node's path in a held root is that node; digest is of the
 * Directory. */
static bool view_flight_is_shown(struct view *view, const struct view_face *face,
				 const struct digest *digest)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir =
		dircache_peek(view->dirs, digest);
	const struct tree_node *entry;

	/* not in memory any more: rather charge one root too many than lose a failure */
	if (!dir)
		return true;
	entry = tree_dir_find(dir,
			      (struct slice){face->path->name, face->path->name_len});
	return entry && view_node_is_same(face, entry);
}

/* The Directory of root in which to look for the node; NULL: it is not charged.
 * *is_certain_out where there is nothing to look for. */
static const struct digest *view_flight_where(const struct view_flight *flight,
					      struct view *view,
					      const struct view_root *root,
					      bool *is_certain_out)
	SYNC_REQUIRES(&view->mutex)
{
	const struct view_face *face = flight->face;
	const struct view_node *dir;

	*is_certain_out = !face || face->root;
	if (!face)
		return digest_equal(&root->digest, &flight->digest) ? &root->digest
								    : NULL;
	if (face->root)
		return face->root == root ? &root->digest : NULL;
	dir = view_node_find_dir(view, root, face->path->parent);
	return dir ? &dir->face.digest : NULL;
}

/* A held root that may have to be charged. */
struct view_candidate {
	struct view_root *root; /* a reference */
	struct digest digest;
	bool is_charged;
};

/* All of them, n, in an array that the caller frees. */
static struct view_candidate *view_flight_candidates(const struct view_flight *flight,
						     struct view *view, size_t *n_out)
	SYNC_REQUIRES(&view->mutex)
{
	struct view_candidate *all = alloc_array(view->n_held + 1, sizeof(*all));
	size_t n = 0;

	list_for_each (link, &view->held) {
		struct view_root *root = container_of(link, struct view_root, held);
		bool is_certain;
		const struct digest *digest =
			view_flight_where(flight, view, root, &is_certain);

		if (digest)
			all[n++] = (struct view_candidate){view_root_ref(view, root),
							   *digest, is_certain};
	}
	*n_out = n;
	return all;
}

void view_flight_begin(struct view_flight *flight, struct view *view, uint64_t id,
		       const struct digest *digest)
{
	_cleanup_free_ struct view_candidate *all = NULL;
	size_t n;

	*flight = (struct view_flight){.view = view, .id = id, .digest = *digest};
	view_lock(view);
	view->n_flights++;
	if (id != VIEW_ROOT_ID) {
		struct view_node *node = view_node_get(view, id);

		node->n_pins++;
		flight->face = &node->face;
	}
	all = view_flight_candidates(flight, view, &n);
	view_unlock(view);
	for (size_t i = 0; i < n; i++)
		if (!all[i].is_charged)
			all[i].is_charged =
				view_flight_is_shown(view, flight->face, &all[i].digest);
	flight->charged = alloc_array(n + 1, sizeof(struct view_root *));
	view_lock(view);
	flight->began_ns = clock_mono_ns();
	for (size_t i = 0; i < n; i++) {
		if (!all[i].is_charged) {
			view_root_unref(view, all[i].root);
			continue;
		}
		view_root_wait_begin(view, all[i].root, flight->began_ns);
		flight->charged[flight->n_charged++] = all[i].root;
	}
	view_unlock(view);
}

struct fetch_account *view_flight_account(const struct view_flight *flight)
{
	return flight->n_charged ? &flight->charged[0]->account : NULL;
}

void view_flight_end(struct view_flight *flight, const struct error *err)
{
	struct view *view = flight->view;
	int64_t now = clock_mono_ns();
	_cleanup_free_ char *path =
		view_path_string(flight->face ? flight->face->path : view->top);
	struct view_wait wait = {.path = path,
				 .bytes = flight->digest.size,
				 .ns = now - flight->began_ns,
				 .at_mono_ns = flight->began_ns};

	view_lock(view);
	for (size_t i = 0; i < flight->n_charged; i++) {
		view_root_wait_end(view, flight->charged[i], &wait, now, err);
		view_root_unref(view, flight->charged[i]);
	}
	if (flight->face) {
		struct view_node *node = view_node_get(view, flight->id);

		node->n_pins--;
		view_node_drop(view, node);
	}
	view_unlock(view);
	free(flight->charged);
}

void view_flight_land(struct view *view)
{
	view_lock(view);
	if (--view->n_flights == 0)
		sync_broadcast(&view->is_idle);
	view_unlock(view);
}
