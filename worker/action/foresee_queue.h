/*
 * What waits to be told to the thread that thinks, and whose turn it is. Each job has a
 * queue of notes, and stands in the desk's row while there is something for it to do: who
 * had its turn goes behind all others.
 *
 * A queue is bounded. What is only an open may be refused, and costs a prediction then:
 * of a blob that was at hand first, since nobody waited for that. All else is kept: it
 * comes once for each thing that was asked for.
 *
 * Threads: the mutex of whoever owns the desk guards the desk and its queues.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/list.h"

#define FORESEE_QUEUE_MAX ((size_t)4 << 20) /* bytes of notes that may be refused */

struct foresee_desk {
	struct list row;
};

struct foresee_queue {
	struct list link; /* in a row; else in no list */
	struct list notes;
	size_t bytes;      /* of those that could have been refused */
	int64_t n_refused; /* ever */
};

enum foresee_worth { FORESEE_KEPT, FORESEE_MISSED, FORESEE_HAD };

struct foresee_note {
	struct list link;
	enum foresee_worth worth;
	size_t bytes; /* what it takes up */
};

void foresee_desk_init(struct foresee_desk *desk);
void foresee_queue_init(struct foresee_queue *queue);

/* False: it was refused, and is the caller's still. */
bool foresee_queue_push(struct foresee_desk *desk, struct foresee_queue *queue,
			struct foresee_note *note);
/* The oldest, or NULL. */
struct foresee_note *foresee_queue_pop(struct foresee_queue *queue);

/* Moves all whose turn it is into a row of its own, where they stay until they are taken
 * out. */
void foresee_desk_round(struct foresee_desk *desk, struct list *row);
/* The next one of a round, or NULL. */
struct foresee_queue *foresee_desk_next(struct list *row);
/* After its turn, or where something else is to be done: it stands in the row again where
 * it has notes, or more to do. */
void foresee_desk_again(struct foresee_desk *desk, struct foresee_queue *queue,
			bool has_more);
