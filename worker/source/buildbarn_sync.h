/*
 * One slot of the worker under Buildbarn's scheduler as a pure state machine: what a call
 * tells of it, and what the answer means. No sockets, no clock, no threads
 * (docs/protocol.md, "The worker's side of Buildbarn").
 */
#pragma once

#include "worker/source/source.h"

enum buildbarn_state {
	BUILDBARN_IDLE,
	BUILDBARN_RUNNING,   /* a lease is the worker's */
	BUILDBARN_STOPPING,  /* it is killed, and its result is nobody's: no call is made
			      */
	BUILDBARN_COMPLETED, /* its result is told until the scheduler has answered */
};

/* What an answer brought. */
enum buildbarn_news {
	BUILDBARN_NOTHING,
	BUILDBARN_CHANGE,  /* a job, or the end of one */
	BUILDBARN_REFUSAL, /* a job that we cannot run: no reason to hurry for the next */
};

/* An action as the scheduler named it, so that it knows the name again, and what the
 * worker makes of it: a lease, or why it cannot be one. */
struct buildbarn_task {
	char *hash; /* NULL: there is no task */
	int64_t size;
	struct source_lease *lease;
	struct error *refusal;
};

struct buildbarn_sync {
	enum buildbarn_state state;
	unsigned int slot;
	uint64_t n_leases; /* so far: they are called by number */
	char *id;          /* RUNNING, STOPPING: the lease's */
	struct buildbarn_task
		task; /* RUNNING, COMPLETED; of no lease once that is taken */
	struct buildbarn_task next; /* STOPPING: what comes then, if anything does */
	bool wants_cancel;          /* the lease of this id is to be cancelled */
	bool has_stage; /* RUNNING: stage was told of; it has only begun else */
	enum source_stage stage;
	struct buf completed; /* COMPLETED: an ExecuteResponse */
	bool has_failed;      /* its status is not OK */
};

void buildbarn_sync_init(struct buildbarn_sync *sync, unsigned int slot);
void buildbarn_sync_deinit(struct buildbarn_sync *sync);

/* Puts the slot's state into request; borrows of sync. False: the arena is full. */
bool buildbarn_sync_fill(const struct buildbarn_sync *sync, struct arena *arena,
			 Buildbarn__SynchronizeRequest *request);
/* Whether the scheduler may hold a call that tells this state until there is a job. */
bool buildbarn_sync_may_wait(const struct buildbarn_sync *sync);
/* The answer to what was filled last: desired may be NULL. INVALID_ARGUMENT: it cannot be
 * answered, and changed nothing. */
struct error *buildbarn_sync_answer(struct buildbarn_sync *sync, const char *prefix,
				    const Buildbarn__DesiredState *desired,
				    enum buildbarn_news *news_out);

/* What the worker is to do now, each once and in this order: to cancel the lease of this
 * id, to run this lease. NULL: nothing. The caller's. */
char *buildbarn_sync_take_cancel(struct buildbarn_sync *sync);
struct source_lease *buildbarn_sync_take_lease(struct buildbarn_sync *sync);

/* Whether id is of the lease that runs, or is being killed. */
bool buildbarn_sync_is_of(const struct buildbarn_sync *sync, const char *id);
/* How far it is; false: it is not of this slot, or nobody wants it any more. */
bool buildbarn_sync_stage(struct buildbarn_sync *sync, const char *id,
			  enum source_stage stage);
/* The end of what is_of() knew; consumes status and *result. */
void buildbarn_sync_finish(struct buildbarn_sync *sync, struct error *status,
			   struct buf *result);
