/*
 * A way to the storage in simulated time: calls that take a round trip and share its
 * bandwidth, ordered by the fetcher's own queue and measured by its own pace.
 *
 * Threads: one.
 */
#pragma once

#include "lib/cas/fetch_pace.h"
#include "lib/cas/fetch_queue.h"
#include "tests/replay/replay_trace.h"

#define REPLAY_BATCH_MAX ((size_t)4 << 20)

struct replay_way {
	int64_t rtt_ns;
	double rate; /* bytes a nanosecond */
	int64_t now_ns;
	struct fetch_queue queue;
	struct fetch_pace pace;
	struct list calls; /* under way */
	size_t n_calls;    /* that were sent so far, … */
	size_t n_blobs;    /* … what they brought or will, … */
	int64_t bytes;     /* … and how much of it */
	size_t n_landed;   /* calls */
	int64_t demand_waiting;
	/* what foresight wished for is here; needed: the command asked for it first */
	void (*landed)(void *ctx, struct replay_blob *blob, bool is_needed);
	void *ctx;
};

void replay_way_init(struct replay_way *way, int64_t rtt_ns, int64_t bits);
void replay_way_deinit(struct replay_way *way);
/* The blob is to come, for somebody who waits for it or as a wish. */
void replay_way_demand(struct replay_way *way, struct replay_blob *blob);
void replay_way_wish(struct replay_way *way, struct replay_blob *blob, bool is_needed);
/* Lets time go on to the next moment at which something happens, until then at most. */
void replay_way_step(struct replay_way *way, int64_t then_ns);
