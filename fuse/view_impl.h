/*
 * What the files of the view share: its state, and its mutex. From the ground up:
 *
 *   view_path.h    paths within a root, each one object
 *   view_root.h    roots, and what they remember for whoever holds them
 *   view_node.h    nodes: what they are, how long they live, what stat shows
 *   view_flight.h  requests that wait, and whom they are charged to
 *   view.h         what FUSE asks; view.c answers it
 *
 * view->mutex guards the tables and whatever hangs in them that is not said to be
 * constant. It is held for table work only, never while a Directory is read or a callback
 * runs, and no other lock is taken with it.
 */
#pragma once

#include "fuse/view.h"
#include "lib/base/htab.h"
#include "lib/base/list.h"
#include "lib/base/sync.h"

struct view_path;

struct view {
	struct dircache *dirs; /* constant */
	int64_t nodes_max;     /* constant; 0: no limit */
	struct view_path *top; /* constant: the path of every root itself */
	struct sync_mutex mutex;
	struct sync_cond is_idle; /* n_flights fell to 0 */
	struct htab by_id SYNC_GUARDED_BY(&mutex);
	struct htab by_key SYNC_GUARDED_BY(&mutex);
	struct htab paths SYNC_GUARDED_BY(&mutex);
	struct htab roots SYNC_GUARDED_BY(&mutex);
	struct list held SYNC_GUARDED_BY(&mutex); /* roots with holders */
	size_t n_held SYNC_GUARDED_BY(&mutex);
	uint64_t next_id SYNC_GUARDED_BY(&mutex);
	size_t n_flights SYNC_GUARDED_BY(&mutex); /* until their callbacks returned */
};

static inline void view_lock(struct view *view) SYNC_ACQUIRES(&view->mutex)
{
	sync_lock(&view->mutex);
}

static inline void view_unlock(struct view *view) SYNC_RELEASES(&view->mutex)
{
	sync_unlock(&view->mutex);
}

/* One hash of two. */
static inline uint64_t view_mix(uint64_t a, uint64_t b)
{
	uint64_t h = (a ^ (b + 0x9e3779b97f4a7c15u)) * 0xd6e8feb86659fd93u;

	return h ^ (h >> 32);
}
