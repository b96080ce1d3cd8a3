/*
 * How much of what is wished for may be under way: as many bytes as fill the way a few
 * times, fewer where somebody waits for it, and few blobs that need streams of their own.
 *
 * Pure. Threads: any.
 */
#pragma once

#include "predict/foresight.h"

struct room {
	int64_t in_flight; /* bytes of wishes that go in batches */
	int n_large;       /* wishes that go by streams */
	int64_t budget;    /* bytes that may still be wished for */
	int64_t batch_max; /* bytes of one batch */
	/* of the way, as it was measured */
	int64_t rtt_ns;
	int64_t rate;
	int64_t window; /* bytes that fill it */
	int64_t demand_waiting;
};

/* What may be wished for next; false where nothing may. */
bool room_way(const struct room *room, struct foresight_way *way_out);
