/*
 * What is kept on disk of a session, a job, an operation: a record of bytes each, and
 * beside it the response, where there is one. Times are of the wall, since monotonic ones
 * begin anew with the machine. Pure.
 *
 * Who reads records trusts nothing in them: these functions check their form, and
 * queue_restore.c what they say.
 */
#pragma once

#include "server/queue.h"

enum queue_kind { QUEUE_KIND_SESSION = 1, QUEUE_KIND_JOB, QUEUE_KIND_OPERATION };

struct queue_saved_session {
	const char *name;
	struct queue_bot bot;
};

struct queue_saved_job {
	struct queue_spec
		spec; /* without client and request; limits as they were asked */
	uint64_t turn;
	unsigned int n_tries;
	bool is_completed;
	uint64_t session; /* whose lease it is; 0: nobody's */
	const char *lease;
	bool is_running; /* the bot took it */
	int64_t started_wall_ns;
	struct slice partial;
};

struct queue_saved_operation {
	const char *name;
	const char *client;
	uint64_t job; /* 0: it is completed, and its record has the response */
	bool is_detached;
	bool is_cancelled;         /* on its own: its record has the response */
	int64_t completed_wall_ns; /* where it is completed */
	struct slice request;      /* RequestMetadata */
};

void queue_record_session(const struct queue_saved_session *saved, struct buf *out);
void queue_record_job(const struct queue_saved_job *saved, struct buf *out);
void queue_record_operation(const struct queue_saved_operation *saved, struct buf *out);
/* Strings go into arena, other bytes stay views of the record. False: it is no such
 * record, or arena is full. */
bool queue_record_read_session(struct slice record, struct arena *arena,
			       struct queue_saved_session *out);
bool queue_record_read_job(struct slice record, struct arena *arena,
			   struct queue_saved_job *out);
bool queue_record_read_operation(struct slice record, struct arena *arena,
				 struct queue_saved_operation *out);
