/*
 * What the fetcher asks for next: blobs that wait to be sent for, by priority, those that
 * wait to be tried again, and how many calls are out. It decides, and does nothing: no
 * clock, no lock, no network, so that each decision can be tested by itself.
 *
 * A blob that fits into a batch waits up to FETCH_GATHER_NS for company (ahead of demand:
 * up to half a round trip), but not where no batch of its priority or above is out, or
 * where a batch is full: serial readers then pay nothing, and parallel ones share calls.
 * A larger blob goes by a stream of its own. Demand goes before prefetch: one stream is
 * kept for it, and a prefetch is not sent while a demand waits for company.
 *
 * Times are monotonic nanoseconds, sizes bytes. batch_max is what one batch may carry, as
 * the server says: it may change. Threads: one at a time; the fetcher's mutex sees to
 * that.
 */
#pragma once

#include "lib/base/list.h"
#include "lib/cas/fetch.h"

#define FETCH_BATCH_BLOBS 512 /* in one call */

enum fetch_state {
	FETCH_NEW, /* in no list */
	FETCH_QUEUED,
	FETCH_FLYING,
	FETCH_RETRYING
};

/* Embedded in who waits. Set size and priority before it is added; the rest is the
 * queue's. */
struct fetch_item {
	struct list link;
	int64_t size;
	enum fetch_priority priority;
	enum fetch_priority sent_as; /* flying */
	enum fetch_state state;
	bool is_small;  /* queued: it goes in a batch */
	int64_t due_ns; /* queued: send by then; retrying: not before */
};

struct fetch_queue {
	struct list small[2]; /* by priority: what goes in batches … */
	struct list large[2]; /* … and what needs a stream */
	size_t n_small[2];    /* how many of them … */
	int64_t bytes[2];     /* … and their bytes */
	struct list retries;
	int64_t ahead_ns;            /* how long what is ahead waits for company */
	unsigned int n_flying[2];    /* batches, by priority */
	unsigned int n_streaming[2]; /* streams */
};

void fetch_queue_init(struct fetch_queue *queue);
/* A batch ahead of demand waits up to half a round trip, so that few go half empty. */
void fetch_queue_set_way(struct fetch_queue *queue, int64_t rtt_ns);
/* The item waits from now on; it is in no list. */
void fetch_queue_add(struct fetch_queue *queue, struct fetch_item *item, size_t batch_max,
		     int64_t now_ns);
/* Somebody waits for what was only to be at hand: it becomes a demand. */
void fetch_queue_raise(struct fetch_queue *queue, struct fetch_item *item,
		       size_t batch_max, int64_t now_ns);
/* The item waits for another try, until due_ns at least; it is in no list. */
void fetch_queue_put_off(struct fetch_queue *queue, struct fetch_item *item,
			 int64_t due_ns);
/* Adds what was put off until now or before. */
void fetch_queue_wake(struct fetch_queue *queue, size_t batch_max, int64_t now_ns);
/* Moves all that were put off into out, for an end. */
void fetch_queue_drop_retries(struct fetch_queue *queue, struct list *out);

/* When a batch of that priority may be sent: CLOCK_NEVER where there is none or too much
 * is out already, 0 where there is no reason to wait. */
int64_t fetch_queue_due(const struct fetch_queue *queue, enum fetch_priority priority);
/* When something is to be done at the earliest, retries included. */
int64_t fetch_queue_next_due(const struct fetch_queue *queue);

/* Takes a batch's worth, which counts as out until fetch_queue_landed(): how many, at
 * least one where fetch_queue_due() is not CLOCK_NEVER. */
size_t fetch_queue_take_batch(struct fetch_queue *queue, enum fetch_priority priority,
			      size_t batch_max,
			      struct fetch_item *items[static FETCH_BATCH_BLOBS]);
/* Out of the queue: nobody wants it any more. */
void fetch_queue_drop(struct fetch_queue *queue, struct fetch_item *item);
/* As above, one for a stream; NULL where none may go now. */
struct fetch_item *fetch_queue_take_large(struct fetch_queue *queue);
/* A call ended: a batch, or a stream; sent_as is what it was taken as. */
void fetch_queue_landed(struct fetch_queue *queue, bool is_stream,
			enum fetch_priority sent_as);
