/*
 * What the server's files share: the server, a method it offers, one incoming call.
 * Private to lib/rpc.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "lib/base/list.h"
#include "lib/base/pool.h"
#include "lib/base/sync.h"
#include "lib/rpc/caller.h"
#include "lib/rpc/core.h"
#include "lib/rpc/peer.h"
#include "lib/rpc/server.h"

#define RPC_SLOTS        4  /* calls of a method that may arrive while we look away */
#define RPC_TRAILERS_MAX 32 /* of one call */
#define RPC_INLINE_MAX   (64 << 10) /* bytes of a request that a poller deals with */
#define RPC_STATUS_LIMIT 4096 /* bytes of google.rpc.Status in the trailing metadata */

/* One method on offer; the last entry, without a handler, takes the unknown ones. */
struct rpc_entry {
	struct rpc_server *server;
	const struct rpc_handler *handler;
	const ProtobufCMethodDescriptor *types;
	void *service;
	char *path;
	void *handle; /* core's */
};

struct rpc_listener; /* listen.c */

struct rpc_server {
	grpc_server *server;
	grpc_completion_queue *queue;
	struct peers *peers;                                  /* and the workers */
	struct error *(*admit)(struct rpc_in *in, void *ctx); /* or NULL: all of them */
	void *admit_ctx;
	struct rpc_listener *listeners;
	size_t n_listeners;
	struct rpc_entry **entries;
	size_t n_entries, entries_cap;
	unsigned int n_pollers; /* wanted */
	unsigned int n_polling; /* started */
	pthread_t pollers[2];
	pthread_t timer;
	bool has_timer;
	struct rpc_tag shutdown_tag;
	bool has_started;
	struct sync_mutex mutex; /* a leaf */
	struct sync_cond changed;
	size_t n_in SYNC_GUARDED_BY(&mutex); /* calls that exist */
	bool has_shut SYNC_GUARDED_BY(&mutex);
	struct list timers SYNC_GUARDED_BY(&mutex); /* by time, earliest first */
	bool is_timer_done SYNC_GUARDED_BY(&mutex);
	struct sync_cond timer_changed;
};

enum rpc_run { RUN_IDLE, RUN_QUEUED, RUN_RUNNING, RUN_RERUN, RUN_DONE };
enum rpc_write { WRITE_IDLE, WRITE_BUSY, WRITE_THEN_FINISH };
enum rpc_read { READ_NONE, READ_PENDING, READ_READY, READ_END };

struct rpc_in {
	struct rpc_server *server;
	struct rpc_entry *entry;
	atomic_uint refs; /* the task until it is done, each batch, each holder outside */
	_Atomic enum rpc_run run;
	_Atomic enum rpc_write write;
	_Atomic enum rpc_read read;
	atomic_bool is_cancelled;
	atomic_bool is_long; /* its steps run where others go first: peer.h */
	struct rpc_tag arrived, closed, received, sent, finished, woken;
	struct pool_task task; /* its link is its peer's */

	/* The peer's, guarded by its lock: peer.h. */
	struct rpc_peer *peer;
	struct list wait_link, send_link; /* in its peer's lists */
	struct list told_link;            /* in a list of the thread that tells it */
	size_t reserve, held, answer, sending_len;
	bool is_heavy; /* it is one of the large ones that have begun */

	grpc_call *call;
	grpc_call_details details; /* of an unknown method */
	grpc_metadata_array metadata;
	gpr_timespec deadline;
	int core_cancelled;
	grpc_byte_buffer *incoming; /* filled by core: next message */
	grpc_byte_buffer *sending;  /* read by core */

	/* The step's, and of whoever runs it. */
	bool is_on_worker;
	/* of its request, written as that arrives: the call's end may be heard meanwhile
	 */
	atomic_bool is_large;      /* nothing for a poller */
	atomic_bool has_many;      /* PEER_HEAVY */
	size_t n_received, n_sent; /* bytes so far: one thread each at a time */
	bool watches_close;
	size_t arena_held; /* what the peer knows of */
	bool has_sent_headers;
	bool is_admitted;
	bool has_caller;
	struct rpc_caller caller;   /* caller.c's, as is auth */
	grpc_auth_context *auth;    /* the connection's, or NULL */
	struct rpc_message message; /* what rpc_receive() gave */
	grpc_byte_buffer *outgoing; /* what rpc_send() left to be sent after the step */
	void *state;
	void (*drop)(void *state);
	struct arena arena;
	struct error *err;
	grpc_metadata trailers[RPC_TRAILERS_MAX];
	size_t n_trailers;
	grpc_slice status_text;

	/* server->mutex guards both: the analysis cannot see that all calls in its list
	 * have the same server. */
	struct list timer_link;
	int64_t wake_ns;
};

/* Asks core for the next call of this method. */
void rpc_in_request(struct rpc_entry *entry);
/* Has the next message of a stream read, once the peer may; within a step or before the
 * first. */
void rpc_in_read(struct rpc_in *in);
void rpc_in_start_read(struct rpc_in *in); /* now: peer.c's */
bool rpc_in_streams_requests(const struct rpc_in *in);
void *rpc_timer_run(void *server);

/* caller.c: asks the server's admit, once a call; the refusal. */
struct error *rpc_in_admit(struct rpc_in *in);
void rpc_caller_deinit(struct rpc_in *in);

/* listen.c: binds all addresses before the server starts, and what is undone after it. */
struct error *rpc_listen(struct rpc_server *server,
			 const struct rpc_server_config *config);
void rpc_listen_end(struct rpc_server *server);
const char *rpc_listen_address(const struct rpc_server *server, size_t i);
