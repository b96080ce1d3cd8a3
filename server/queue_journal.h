/*
 * What of the queue is not on disk yet. The queue only notes which of its things changed;
 * whoever keeps them (journal.c) comes for their records when it is ready to write, so
 * that of what came and went meanwhile nothing is written, and what waits takes no memory
 * of its own.
 *
 * Threads: any; the queue's lock.
 */
#pragma once

#include "server/queue_record.h"

struct queue_record {
	enum queue_kind kind;
	uint64_t id;
	struct buf head;
	struct queue_bytes *response; /* a reference, or NULL */
};

struct queue_batch {
	bool is_all; /* what was kept before is void: these and the following are all */
	bool has_more;
	struct queue_record *records;
	size_t n;
	uint64_t *gone; /* ids of things that are no more */
	size_t n_gone;
};
void queue_batch_deinit(struct queue_batch *batch);

/* From here on changes are noted. wake runs under the queue's lock, once for each time
 * that there is something again after nothing was; it may neither block nor call the
 * queue. is_behind: nothing of what is in the queue is kept. */
void queue_journal_begin(struct queue *queue, bool is_behind, void (*wake)(void *ctx),
			 void *ctx);
/* Nobody comes for them any more; wake is not called again. */
void queue_journal_end(struct queue *queue);
/* The next of what changed, as it is now; a batch is small, so that nobody waits long for
 * the queue. wall_ahead_ns: wall time less monotonic time. */
void queue_journal_take(struct queue *queue, int64_t wall_ahead_ns,
			struct queue_batch *out);
/* What was taken is not kept: the next batch begins with all. Does not wake. */
void queue_journal_fail(struct queue *queue);
