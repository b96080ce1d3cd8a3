/* The queue's own structures, shared by queue.c (jobs, operations) and queue_bots.c. */
#pragma once

#include <stdatomic.h>

#include "lib/base/clock.h"
#include "lib/base/htab.h"
#include "lib/base/sync.h"
#include "server/queue_record.h"

enum queue_job_state {
	JOB_QUEUED,    /* in queue->queued */
	JOB_OFFERED,   /* leased, the bot has not taken it yet */
	JOB_RUNNING,   /* leased and taken */
	JOB_COMPLETED, /* response is final */
};

struct queue_props {
	struct queue_property *list;
	size_t n;
};

/* Embedded in what is kept on disk (queue_journal.c). */
struct queue_row {
	struct list link; /* in queue->changed while that is older than it */
	uint64_t id;
	enum queue_kind kind;
	bool is_kept; /* a record of it was handed out */
};

/* Who submits: it lives while it has an operation. */
struct queue_client {
	struct hnode node; /* by name */
	char *name;
	size_t n_operations; /* all that point here */
	size_t n_live;       /* of those, not completed */
	size_t bytes;        /* of its jobs and of its responses that are watched */
	uint64_t last_turn;  /* of its newest job */
};

/* Where a lease's stdout and stderr are read while it runs. */
struct queue_logs {
	char *names[QUEUE_LOGS];       /* to read by */
	char *write_names[QUEUE_LOGS]; /* NAME/TOKEN */
	bool has_begun[QUEUE_LOGS];    /* its bot writes it */
};

/* One run of an action, for all operations that ask for it. It lives as long as one does.
 */
struct queue_job {
	struct hnode node; /* in queue->joinable while it may be joined */
	bool is_joinable;
	struct list queue_link; /* in queue->queued */
	uint64_t turn;          /* its client's place among the others at its priority */
	struct queue_client *client; /* of the first operation, which outlives the run */
	size_t bytes; /* that it takes while it is not completed: its client's */
	struct list operations;
	size_t n_live; /* operations not completed on their own */
	enum queue_job_state state;
	char *instance;
	struct digest digest;
	struct buf action;
	struct queue_props required;
	int32_t priority;
	bool do_not_cache;
	int64_t queued_ns;      /* monotonic */
	uint64_t matched_epoch; /* of the queue: then some bot could have it */
	unsigned int n_tries;   /* bots that died with it */
	int64_t limit_ns;
	int64_t wall_ns;
	int64_t started_ns; /* JOB_RUNNING */
	struct buf partial;
	struct queue_bytes *response;
	struct queue_lease *lease; /* its lease, or NULL */
	struct queue_logs *logs;   /* of its lease, the last one too; or NULL */
	struct queue_row row;
	bool is_settled; /* completed, with one operation, whose record has it all */
};

struct queue_operation {
	struct hnode node; /* by name */
	struct list job_link;
	struct list all_link;     /* in queue->all, by age */
	struct list retired_link; /* in queue->retired once completed */
	struct list watches;
	char name[QUEUE_NAME_MAX];
	struct queue_job *job;
	struct queue_client *client;
	uint64_t serial;
	size_t held_bytes; /* of a response that stays for a watch: its client's */
	uint64_t version;
	bool is_cancelled;          /* completed on its own */
	bool is_detached;           /* it goes on without anybody who waits for it */
	struct list unwatched_link; /* in queue->unwatched while it may be abandoned */
	int64_t unwatched_ns;
	int64_t completed_ns;
	struct queue_bytes *cancelled; /* its ExecuteResponse then */
	struct buf request;            /* RequestMetadata of whoever asked for it */
	struct queue_row row;
};

/* A job in the hands of a bot. */
struct queue_lease {
	struct list link; /* in session->leases */
	char id[QUEUE_LEASE_MAX];
	enum queue_lease_state state;
	bool is_told;          /* the bot was told of this state */
	struct queue_job *job; /* NULL once cancelled */
	struct queue_session *session;
};

struct queue_session {
	struct hnode node; /* by name */
	struct list link;  /* in queue->sessions, the one that waits longest first */
	char name[QUEUE_NAME_MAX];
	char *instance;
	char *bot_id;
	char *owner;
	bool is_owner_proven; /* by a credential */
	struct queue_props properties;
	size_t capacity;
	struct list leases;
	size_t n_leases;
	bool takes_jobs;
	bool must_answer; /* the last report changed something */
	struct queue_poll *poll;
	int64_t expires_ns; /* while no poll waits */
	bool is_restored;   /* from disk: its bot has not been heard of since */
	struct queue_row row;
};

struct queue {
	struct sync_mutex mutex;
	struct list queued
		SYNC_GUARDED_BY(&mutex);       /* jobs by priority, then turn, then age */
	uint64_t turn SYNC_GUARDED_BY(&mutex); /* of the job that was handed out last */
	struct htab clients SYNC_GUARDED_BY(&mutex);
	struct htab joinable SYNC_GUARDED_BY(&mutex);
	struct htab operations SYNC_GUARDED_BY(&mutex);
	struct list all SYNC_GUARDED_BY(&mutex);
	uint64_t serial SYNC_GUARDED_BY(&mutex); /* of the newest operation, job, session
						  */
	struct list retired SYNC_GUARDED_BY(&mutex);
	size_t n_retired SYNC_GUARDED_BY(&mutex);
	size_t n_jobs SYNC_GUARDED_BY(&mutex); /* not completed */
	size_t n_live SYNC_GUARDED_BY(&mutex); /* operations not completed */
	size_t bytes SYNC_GUARDED_BY(&mutex);  /* of jobs that are not completed */
	size_t retained_bytes SYNC_GUARDED_BY(&mutex); /* of responses */
	struct htab sessions_by_name SYNC_GUARDED_BY(&mutex);
	struct list sessions SYNC_GUARDED_BY(&mutex);
	size_t n_sessions SYNC_GUARDED_BY(&mutex);
	char taken[QUEUE_TAKEN_MAX][QUEUE_NAME_MAX] SYNC_GUARDED_BY(
		&mutex); /* names of sessions, in a ring */
	size_t n_taken SYNC_GUARDED_BY(&mutex);
	bool is_stopping SYNC_GUARDED_BY(&mutex);
	bool waits_for_bots;
	int64_t abandon_ns;
	void (*log_ended)(void *ctx, const char *name); /* or NULL: there are no logs */
	void *log_ctx;
	struct list unwatched SYNC_GUARDED_BY(
		&mutex); /* operations whose clients left, longest ago first */
	uint64_t epoch SYNC_GUARDED_BY(&mutex); /* of the set of sessions */
	int64_t left_ns
		SYNC_GUARDED_BY(&mutex); /* when the last one ended; 0: none did */
	uint64_t n_joined SYNC_GUARDED_BY(&mutex);
	uint64_t n_requeued SYNC_GUARDED_BY(&mutex);

	/* queue_journal.c's. */
	struct list changed SYNC_GUARDED_BY(&mutex); /* rows, longest ago first */
	uint64_t *gone SYNC_GUARDED_BY(&mutex);      /* ids of rows that were kept */
	size_t n_gone SYNC_GUARDED_BY(&mutex);
	size_t gone_cap SYNC_GUARDED_BY(&mutex);
	bool is_behind SYNC_GUARDED_BY(&mutex); /* nothing that is kept is right */
	void (*keep_wake)(void *ctx) SYNC_GUARDED_BY(&mutex); /* NULL: nobody keeps */
	void *keep_ctx SYNC_GUARDED_BY(&mutex);
};

void queue_lock(struct queue *queue) SYNC_ACQUIRES(&queue->mutex);
void queue_unlock(struct queue *queue) SYNC_RELEASES(&queue->mutex);
/* queue_name.c. action: NULL for sessions. */
void queue_make_name(const char *instance, const struct digest *action,
		     char name_out[static QUEUE_NAME_MAX]);
void queue_make_uuid(char out[static QUEUE_LEASE_MAX]);
uint64_t queue_name_hash(const char *name);
struct queue_props queue_props_copy(const struct queue_property *list, size_t n);
void queue_props_deinit(struct queue_props *props);
void queue_job_changed(struct queue *queue, struct queue_job *job);
/* The job is over with this response; consumes nothing. */
void queue_job_complete(struct queue *queue, struct queue_job *job, struct slice response,
			int64_t now_ns) SYNC_REQUIRES(&queue->mutex);
void queue_job_fail(struct queue *queue, struct queue_job *job, struct error *err,
		    int64_t now_ns) SYNC_REQUIRES(&queue->mutex); /* consumes err */
void queue_job_enqueue(struct queue *queue, struct queue_job *job)
	SYNC_REQUIRES(&queue->mutex);

size_t queue_spec_bytes(
	const struct queue_spec *spec); /* what a job of it takes, about */
struct queue_job *queue_job_new(const struct queue_spec *spec, uint64_t id);
void queue_job_free(struct queue *queue, struct queue_job *job)
	SYNC_REQUIRES(&queue->mutex);
/* The job that one of this action may join, or NULL; and makes a job such a one. */
struct queue_job *queue_job_joinable(struct queue *queue, const char *instance,
				     const struct digest *digest)
	SYNC_REQUIRES(&queue->mutex);
void queue_job_make_joinable(struct queue *queue, struct queue_job *job)
	SYNC_REQUIRES(&queue->mutex);
/* The client pays for a job that runs for it. */
void queue_job_charge(struct queue *queue, struct queue_job *job,
		      struct queue_client *client, size_t n_bytes)
	SYNC_REQUIRES(&queue->mutex);
struct queue_operation *queue_find(const struct queue *queue, const char *name)
	SYNC_REQUIRES(&queue->mutex);
/* Another operation of the job, not completed. client NULL: nobody's. */
struct queue_operation *queue_operation_add(struct queue *queue, struct queue_job *job,
					    const char *client, struct slice request,
					    const char *name, uint64_t serial)
	SYNC_REQUIRES(&queue->mutex);
/* It is completed, later than all others that are. */
void queue_operation_retire(struct queue *queue, struct queue_operation *operation,
			    int64_t now_ns) SYNC_REQUIRES(&queue->mutex);
enum queue_stage queue_stage_of(const struct queue_operation *operation);
struct queue_state queue_state_of(const struct queue *queue,
				  const struct queue_operation *operation,
				  struct arena *arena);
struct slice queue_copy(struct arena *arena, struct slice bytes);

/* queue_journal.c: what is to be kept on disk. */
void queue_row_init(struct queue_row *row, enum queue_kind kind, uint64_t id);
/* It has changed, or is new. */
void queue_row_touch(struct queue *queue, struct queue_row *row)
	SYNC_REQUIRES(&queue->mutex);
void queue_row_forget(struct queue *queue, struct queue_row *row)
	SYNC_REQUIRES(&queue->mutex);
/* A job has completed. */
void queue_job_settle(struct queue *queue, struct queue_job *job)
	SYNC_REQUIRES(&queue->mutex);

/* queue_client.c: who submits, its share, its turns. */
struct queue_client *queue_client_find(const struct queue *queue, const char *name)
	SYNC_REQUIRES(&queue->mutex);
/* Made where it is not there. */
struct queue_client *queue_client_get(struct queue *queue, const char *name)
	SYNC_REQUIRES(&queue->mutex);
void queue_client_put(struct queue *queue, struct queue_client *client)
	SYNC_REQUIRES(&queue->mutex);
/* Whether it may have so many bytes more, and another operation. */
struct error *queue_client_check(const struct queue *queue, const char *name,
				 size_t n_bytes, bool is_live)
	SYNC_REQUIRES(&queue->mutex);
/* The turn of its next job: after its others, and not before what runs now. */
uint64_t queue_client_turn(const struct queue *queue, struct queue_client *client)
	SYNC_REQUIRES(&queue->mutex);

/* queue_match.c */
bool queue_props_match(const struct queue_props *has, const struct queue_props *required);
bool queue_has_bots(const struct queue *queue, const char *instance);
/* Ends the jobs that no bot could ever have. */
void queue_match_tick(struct queue *queue, int64_t now_ns) SYNC_REQUIRES(&queue->mutex);

/* queue_logs.c */
void *queue_logs_free(struct queue_logs *logs);
/* Of its lease, which is over; with the job they may still be read. */
void queue_job_logs_end(struct queue *queue, struct queue_job *job, bool are_kept)
	SYNC_REQUIRES(&queue->mutex);
void queue_job_logs_show(const struct queue_job *job, struct arena *arena,
			 struct queue_state *out);

/* queue_bots.c */
/* The job of a session's lease, or NULL. */
struct queue_job *queue_leased_job(const struct queue *queue, const char *session,
				   const char *lease) SYNC_REQUIRES(&queue->mutex);
/* Gives a queued job to a bot that waits, if one may have it. */
void queue_job_offer(struct queue *queue, struct queue_job *job)
	SYNC_REQUIRES(&queue->mutex);
/* A session, and a lease of it, by these names; the job is offered. */
struct queue_session *queue_session_add(struct queue *queue, const struct queue_bot *bot,
					const char *name, uint64_t id, int64_t expires_ns)
	SYNC_REQUIRES(&queue->mutex);
struct queue_session *queue_session_find(const struct queue *queue, const char *name)
	SYNC_REQUIRES(&queue->mutex);
struct queue_session *queue_session_of_bot(const struct queue *queue,
					   const struct queue_bot *bot)
	SYNC_REQUIRES(&queue->mutex);
struct queue_lease *queue_lease_add(struct queue *queue, struct queue_session *session,
				    struct queue_job *job, const char *id)
	SYNC_REQUIRES(&queue->mutex);
struct queue_lease *queue_session_lease(struct queue_session *session, const char *id);
/* The bot is told to end it; the job is no longer its. */
void queue_lease_cancel(struct queue_lease *lease);
void queue_bots_tick(struct queue *queue, int64_t now_ns) SYNC_REQUIRES(&queue->mutex);
void queue_bots_stop(struct queue *queue);
void queue_bots_free(struct queue *queue) SYNC_REQUIRES(&queue->mutex);
