/*
 * The queue as it was before the server was started anew, from the records that
 * queue_journal.h handed out.
 *
 * A bot goes on with its session as if nothing had been: it may report, or end, what it
 * had. One that does not come back within QUEUE_RETURN_NS, or no longer has a lease, has
 * lost it as ever, but that is no death of it: the job is queued as it was.
 *
 * Threads: one, before anybody else knows the queue.
 */
#pragma once

#include "lib/base/option.h"
#include "server/queue_record.h"

struct queue_restore;

struct queue_restore_config {
	struct queue *queue;
	const struct option_list *instances; /* that are offered; others' rows are not */
	int64_t now_ns;
	int64_t wall_ahead_ns;    /* wall time less monotonic time */
	struct queue_ended ended; /* look NULL: nobody knows */
};

struct queue_restored {
	size_t n_queued, n_running, n_completed, n_sessions;
	size_t n_left_out; /* rows that say what cannot be, or more than may be */
};

struct queue_restore *queue_restore_new(const struct queue_restore_config *config);
/* Rows come by kind, then by id. False: this one is left out. */
bool queue_restore_row(struct queue_restore *restore, enum queue_kind kind, uint64_t id,
		       struct slice head, struct slice response);
/* The queue is as the rows say. Frees restore. */
void queue_restore_end(struct queue_restore *restore, struct queue_restored *out);
