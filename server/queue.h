/*
 * Jobs, the operations that clients know them by, and the bots that run them: all state
 * of execution, behind this one interface. It does no I/O and reads no clock (now is
 * handed in), so it can be tested without sockets and made durable without its callers
 * knowing.
 *
 * Threads: any; one lock inside. A wake function runs under that lock: it may queue
 * something, never call back.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/list.h"
#include "lib/tree/digest.h"
#include "server/queue_bytes.h"

#define QUEUE_NAME_MAX     400 /* of operations and sessions, with the NUL */
#define QUEUE_INSTANCE_MAX 255
#define QUEUE_LEASE_MAX    40     /* a lease's id, with the NUL */
#define QUEUE_JOBS_MAX     100000 /* jobs not completed */
#define QUEUE_SESSIONS_MAX 10000
#define QUEUE_CAPACITY_MAX 1024  /* jobs of one bot at once */
#define QUEUE_TAKEN_MAX    64    /* sessions that were taken over and are remembered */
#define QUEUE_TRIES_MAX    2     /* bots that may die with a job */
#define QUEUE_RETAINED_MAX 10000 /* completed operations that can be asked for */
/* Bytes of their responses; a watched one stays, and counts against its client. */
#define QUEUE_RETAINED_BYTES ((size_t)64 << 20)
#define QUEUE_BYTES_MAX      ((size_t)256 << 20) /* of jobs and watched responses */
#define QUEUE_OPERATIONS_MAX 200000              /* not completed */
/* One client's share of the bytes, and of the operations. */
#define QUEUE_CLIENT_BYTES      ((size_t)64 << 20)
#define QUEUE_CLIENT_OPERATIONS 20000
#define QUEUE_LIST_BYTES        ((size_t)2 << 20)  /* of one queue_list() */
#define QUEUE_LIST_RESPONSE_MAX ((size_t)64 << 10) /* larger ones are left out there */
#define QUEUE_TELL_BYTES        ((size_t)8 << 20)  /* of actions in one answer */
#define QUEUE_RETAINED_NS       (3600 * NS_PER_S)
#define QUEUE_UNREAD_NS         (2 * NS_PER_S) /* none is forgotten sooner for its bytes */
#define QUEUE_SILENCE_NS                                                                 \
	(60 * NS_PER_S) /* a bot which does not poll is lost after this */
#define QUEUE_BROKEN_NS    (10 * NS_PER_S) /* the same after its poll broke */
#define QUEUE_MATCH_NS     (3 * NS_PER_S) /* a job that no bot can have fails after this */
#define QUEUE_RETURN_NS    (20 * NS_PER_S) /* and not sooner after a bot left */
#define QUEUE_REQUIRED_MAX 64   /* properties: each is compared with each bot's */
#define QUEUE_REQUEST_MAX  4096 /* bytes of RequestMetadata that are kept */
#define QUEUE_SLACK_NS     (600 * NS_PER_S) /* for fetching and uploading around a run */
#define QUEUE_LOGS         2                /* of a job: stdout, stderr */

struct queue;

/* Whether a job that seemed to wait or run ended just before the server did: then its
 * response. wall_ns: when it was queued. */
struct queue_ended {
	bool (*look)(void *ctx, const char *instance, const struct digest *action,
		     int64_t wall_ns, struct buf *response_out);
	void *ctx;
};

struct queue_config {
	int64_t abandon_ns;  /* after its last watch, an operation is cancelled */
	bool waits_for_bots; /* a job that no bot can have is no error */
	/* The log of this name is over: called with the queue's lock, so it calls nothing
	 * here. NULL: there are none. */
	void (*log_ended)(void *ctx, const char *name);
	void *log_ctx;
};

/* NULL: nothing is abandoned, and everything waits. */
struct queue *queue_new(const struct queue_config *config);
void *queue_free(struct queue *queue); /* nothing may watch or poll any more */
CLEANUP_DEFINE(struct queue, queue_free)
/* Lost bots, jobs over their limit, old operations: about once a second. */
void queue_tick(struct queue *queue, int64_t now_ns);
/* The end begins: every poll and watch is woken, and finds that it is over. */
void queue_stop(struct queue *queue);

/* ---- jobs and operations ---------------------------------------------------------- */

struct queue_property {
	const char *name;
	const char *value;
};

struct queue_spec { /* all borrowed; copied where kept */
	const char *instance;
	const char *client; /* whose turn it is counted as: the connection; NULL: nobody's
			     */
	struct digest action_digest;
	struct slice action; /* its bytes, as the bot gets them */
	const struct queue_property *required;
	size_t n_required;
	int64_t limit_ns;     /* of the run */
	int64_t wall_ns;      /* when it was queued */
	int32_t priority;     /* lower runs first */
	bool do_not_cache;    /* neither joined nor stored */
	bool is_detached;     /* it goes on when nobody watches it */
	struct slice request; /* RequestMetadata, or empty */
};

/* What a name says, if it is an operation's as this program makes them. */
bool queue_name_parse(const char *name, char instance_out[static QUEUE_INSTANCE_MAX + 1],
		      struct digest *action_out);
/*
 * A new operation, of a new job or of an identical one in flight. RESOURCE_EXHAUSTED:
 * the queue is full, or the client's share of it. At equal priority clients take turns.
 */
struct error *queue_submit(struct queue *queue, const struct queue_spec *spec,
			   int64_t now_ns, char name_out[static QUEUE_NAME_MAX]);
/* An operation that is complete from the start; response is an ExecuteResponse's bytes.
 * RESOURCE_EXHAUSTED: the client leaves too many such unread. */
struct error *queue_submit_done(struct queue *queue, const struct queue_spec *spec,
				struct slice response, int64_t now_ns,
				char name_out[static QUEUE_NAME_MAX]);

enum queue_stage { QUEUE_QUEUED, QUEUE_EXECUTING, QUEUE_COMPLETED };

/* A response, kept once for all who are told of it. */
#define QUEUE_BEFORE_MAX 1000
struct queue_state { /* in the arena it was asked into */
	const char *name;
	uint64_t serial; /* of the operation: later ones have higher */
	enum queue_stage stage;
	struct digest action_digest;
	bool has_no_bots;      /* it is queued, and nobody is here to run it */
	size_t n_before;       /* to who watches: it is queued behind so many, or more */
	struct slice partial;  /* ExecutedActionMetadata so far, as the bot sent it */
	struct slice response; /* once completed: ExecuteResponse */
	struct queue_bytes *shared; /* what response is a view of: a reference, or NULL */
	const char *logs[QUEUE_LOGS]; /* to be read by; NULL: nothing is in it */
	struct slice request; /* RequestMetadata of its client, for who asks by name */
};

/* Embedded in who wants to know of an operation's changes. */
struct queue_watch {
	struct list link;
	struct queue_operation *operation;
	uint64_t seen; /* version */
	void (*wake)(void *ctx);
	void *ctx;
};
struct error *queue_watch(struct queue *queue, const char *name,
			  struct queue_watch *watch);
/* Twice is harmless. The last one's end begins the time after which the operation is
 * given up. */
void queue_unwatch(struct queue *queue, struct queue_watch *watch, int64_t now_ns);
/* False: nothing new since the last time. *is_stopped_out: nothing ever will be. The
 * caller unrefs what the state shares; a state that does not fit into the arena leaves it
 * full. */
bool queue_watch_read(struct queue *queue, struct queue_watch *watch, struct arena *arena,
		      struct queue_state *out, bool *is_stopped_out);

struct error *queue_get(struct queue *queue, const char *name, struct arena *arena,
			struct queue_state *out); /* NOT_FOUND */
/* What of RequestMetadata can be asked for. */
enum queue_request_field {
	QUEUE_REQUEST_INVOCATION, /* tool_invocation_id */
	QUEUE_REQUEST_CORRELATED, /* correlated_invocations_id */
	QUEUE_REQUEST_TARGET,     /* target_id */
	QUEUE_REQUEST_FIELDS,
};
struct queue_filter {
	const char *instance;
	unsigned int stages;         /* 1 << enum queue_stage, any of them */
	const struct digest *action; /* NULL: any */
	/* Of its RequestMetadata: the field by QUEUE_REQUEST_..., which must be that. */
	struct slice request[QUEUE_REQUEST_FIELDS]; /* empty: any */
};
/* Those that fit in order of age, after the one with that serial (0: from the start),
 * whether it is still there or not; at most max, and about QUEUE_LIST_BYTES;
 * *has_more_out: others follow. Large responses are left out, nothing is shared. The
 * array lives in arena. */
size_t queue_list(struct queue *queue, const struct queue_filter *filter, uint64_t after,
		  size_t max, struct arena *arena, struct queue_state **out,
		  bool *has_more_out);
/* Idempotent. The job ends with its last operation. NOT_FOUND. */
struct error *queue_cancel(struct queue *queue, const char *name, int64_t now_ns);

/* ---- bots ------------------------------------------------------------------------- */

struct queue_bot { /* borrowed */
	const char *instance;
	const char *bot_id;
	const char *owner;    /* whose session it will be: a credential, or a host */
	bool is_owner_proven; /* a credential */
	const struct queue_property *properties; /* value "*": any */
	size_t n_properties;
	size_t capacity;
	const char *const *held; /* ids of the leases that it says it has */
	size_t n_held;
};
/*
 * Takes over from an older session of the same bot and the same owner: what of its leases
 * the bot still holds stays the bot's, and all other jobs go back.
 * That counts against a job as a lost bot does only where the older one does not poll:
 * a bot that died and came back looks like that. ALREADY_EXISTS: the
 * older session is somebody else's.
 */
struct error *queue_session_open(struct queue *queue, const struct queue_bot *bot,
				 int64_t now_ns, char name_out[static QUEUE_NAME_MAX]);

enum queue_lease_state { LEASE_PENDING, LEASE_ACTIVE, LEASE_COMPLETED, LEASE_CANCELLED };

/* What a bot says of a lease. */
struct queue_claim {
	const char *id;
	enum queue_lease_state state;
	struct slice
		response;     /* LEASE_COMPLETED: ExecuteResponse, made from its result */
	struct slice partial; /* ExecutedActionMetadata, or empty */
};
struct queue_report {
	const struct queue_claim *claims;
	size_t n_claims;
	bool takes_jobs; /* false: it is ill or on its way out */
	bool is_last;    /* it waits for nothing any more */
};

/* What a bot is told. */
struct queue_lease_told {
	const char *id;
	enum queue_lease_state state;
	struct digest action_digest;
	struct slice action;
	const char *logs[QUEUE_LOGS]; /* to be written by; NULL: none were set */
};

/* Embedded in a call that waits for work. */
struct queue_poll {
	struct queue_session *session;
	bool is_superseded;
	void (*wake)(void *ctx);
	void *ctx;
};

struct queue_lease_job {
	const char *instance;
	const char *bot_id;
	struct digest action_digest;
	int64_t wall_ns;
	bool do_not_cache;
};
/* INVALID_ARGUMENT: no such session; the bot opens a new one. */
struct error *queue_session_check(struct queue *queue, const char *session);
/* The job of a lease, for making its response. False: no such lease, it is cancelled, or
 * arena is full. */
bool queue_lease_find(struct queue *queue, const char *session, const char *lease,
		      struct arena *arena, struct queue_lease_job *out);

/* By which names a lease's logs are written, copied; without the last part they are read
 * by them. False: they are known, or nobody wants them: it is no job's lease any more. */
bool queue_logs_set(struct queue *queue, const char *session, const char *lease,
		    const char *const names[static QUEUE_LOGS]);
/* One has its first bytes: whoever watches is told its name. */
void queue_logs_begun(struct queue *queue, const char *session, const char *lease,
		      unsigned int which);

/* Whether a session may be this owner's: without a credential, its name is the proof.
 * True where there is none. */
bool queue_session_is_of(struct queue *queue, const char *session, const char *owner);

/* Takes the report in, and the session's newest poll is this. INVALID_ARGUMENT: no such
 * session; the bot opens a new one. ALREADY_EXISTS: another bot took it over lately, so
 * that opening a new one would only take it back. *n_strange_out: claims about leases
 * that the session does not hold, which change nothing. */
struct error *queue_poll_begin(struct queue *queue, const char *session,
			       const struct queue_report *report, struct queue_poll *poll,
			       int64_t now_ns, size_t *n_strange_out);
/*
 * True: answer with these leases. False: wait to be woken, unless is_due. The answer is
 * what the bot must know from then on, so it is asked for once.
 */
bool queue_poll_answer(struct queue *queue, struct queue_poll *poll, bool is_due,
		       struct arena *arena, struct queue_lease_told **leases_out,
		       size_t *n_out);
/* is_broken: the call ended without its answer. Twice is harmless. */
void queue_poll_end(struct queue *queue, struct queue_poll *poll, bool is_broken,
		    int64_t now_ns);

struct queue_stats {
	size_t n_queued, n_running, n_operations, n_sessions;
	uint64_t n_joined, n_requeued;
};
void queue_stats(struct queue *queue, struct queue_stats *out);
