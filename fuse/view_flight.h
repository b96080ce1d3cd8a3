/*
 * A request that waits for data: it pins its node, and each held root that shows the node
 * is charged with the wait. What is asked, and how it is answered, is its owner's.
 *
 * Threads: one at a time; begun where the request came, ended where the data came.
 */
#pragma once

#include "fuse/view_node.h"

struct view_flight {
	struct view *view;
	const struct view_face *face; /* pinned; NULL: a tree in the mount's root */
	uint64_t id;                  /* its node */
	struct digest digest;         /* what it waits for first */
	int64_t began_ns;             /* monotonic */
	struct view_root **charged;   /* references */
	size_t n_charged;
};

/* id: VIEW_ROOT_ID where the tree with this digest is looked up; else a live node. The
 * view is not freed before view_flight_land(). */
void view_flight_begin(struct view_flight *flight, struct view *view, uint64_t id,
		       const struct digest *digest) SYNC_EXCLUDES(&view->mutex);
/* Who pays for its transfers, or NULL. */
struct fetch_account *view_flight_account(const struct view_flight *flight);
/* The data came, or err, which is borrowed: ends waits and pin, and what flight holds. */
void view_flight_end(struct view_flight *flight, const struct error *err)
	SYNC_EXCLUDES(&flight->view->mutex);
/* After the request's callback, the last touch of the view. */
void view_flight_land(struct view *view) SYNC_EXCLUDES(&view->mutex);
