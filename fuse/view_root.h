/*
 * The roots as the other files of the view see them; view.h says what their holders do.
 *
 * Threads: those of the view, with its mutex held.
 */
#pragma once

#include "fuse/view_impl.h"

#define VIEW_LOST_MAX  32 /* failed fetches kept per root */
#define VIEW_WAITS_MAX 64 /* slow waits kept per root */

struct view_lost {
	struct error *err;
	int64_t at_ns;
};

/* The view's mutex guards what is not said to be constant. */
struct view_root {
	struct hnode by_digest;
	struct list held;     /* in view->held where n_holders is not 0 */
	struct view *view;    /* constant */
	struct digest digest; /* constant */
	uint32_t n_holders;
	uint32_t refs;                /* holders, directory nodes, requests in flight */
	struct fetch_account account; /* atomics: no lock */
	struct view_lost lost[VIEW_LOST_MAX]; /* oldest first */
	size_t n_lost;
	size_t n_waiting;
	int64_t waiting_since_ns;
	int64_t waited_ns;                      /* of intervals that ended */
	struct view_wait waits[VIEW_WAITS_MAX]; /* in no order */
	size_t n_waits;
};

/* A reference to the root of this digest, made where there is none. */
struct view_root *view_root_make(struct view *view, const struct digest *digest)
	SYNC_REQUIRES(&view->mutex);
struct view_root *view_root_ref(struct view *view, struct view_root *root)
	SYNC_REQUIRES(&view->mutex);
/* The last one frees it. */
void view_root_unref(struct view *view, struct view_root *root)
	SYNC_REQUIRES(&view->mutex);
/* A request below it begins to wait, and ends: err, borrowed, is NULL where the data
 * came; wait is copied. Times are monotonic nanoseconds. */
void view_root_wait_begin(struct view *view, struct view_root *root, int64_t now_ns)
	SYNC_REQUIRES(&view->mutex);
void view_root_wait_end(struct view *view, struct view_root *root,
			const struct view_wait *wait, int64_t now_ns,
			const struct error *err) SYNC_REQUIRES(&view->mutex);
