/*
 * The server loop: a call is a task, its handler a step. A step does what can be done
 * now, never waits for the peer, and returns a verdict; a received message, a finished
 * write, a cancellation and rpc_wake() make it run again. Steps of one call never
 * overlap.
 *
 * Threads: pollers run the completion queue and inline steps; workers run the others.
 */
#pragma once

#include "lib/rpc/rpc.h"

struct rpc_server;
struct rpc_in; /* one incoming call; a reference is held from the first step to its drop
		*/

enum rpc_kind { RPC_UNARY, RPC_CLIENT_STREAM, RPC_SERVER_STREAM, RPC_BIDI };

enum rpc_verdict {
	RPC_DONE,  /* ended: with rpc_fail()'s error, else OK */
	RPC_LATER, /* run me when something happened */
	RPC_AGAIN, /* run me on, after others' turns: one step is not to take long */
	RPC_BLOCK, /* run me now, on a worker: I am about to touch a disk, or hash; not
		    * from a step that rpc_is_on_worker() already */
};

#define RPC_INLINE 1u /* steps run on the poller; without it, on a worker */
#define RPC_MANY   2u /* a request may have RPC_IN_ELEMENTS_MANY, not RPC_IN_ELEMENTS */
#define RPC_LONG   4u /* each step takes long: on workers that let others go first */
/* What the server's admit() is to ask of the caller; the bits are the server's. */
#define RPC_RIGHTS(bits) ((unsigned int)(bits) << 8)

struct rpc_handler {
	struct rpc_method method;
	enum rpc_kind kind;
	unsigned int flags;
	enum rpc_verdict (*step)(struct rpc_in *in, void *service);
};

/* Elements of one request, see count.h: a whole message of digests has three for each 71
 * bytes. */
#define RPC_IN_ELEMENTS      ((size_t)64 << 10)
#define RPC_IN_ELEMENTS_MANY ((size_t)1 << 20)
#define RPC_STREAMS_MAX      1000                /* calls of one connection at once */
#define RPC_IN_ARENA         ((size_t)128 << 20) /* for decoding and answering one call */

struct rpc_server_config {
	const char *const *addresses; /* as rpc_address_parse() takes them */
	size_t n_addresses;
	unsigned int n_pollers; /* 1 or 2 */
	unsigned int n_workers;
	/* For grpcs:// addresses; read again when they change, for the next connection.
	 */
	const char *cert_file, *key_file, *client_ca_file;
	bool is_cert_optional; /* with client_ca_file: also without a certificate */
	/* Before a call's first step: the refusal, or NULL. Any of the steps' threads. */
	struct error *(*admit)(struct rpc_in *in, void *ctx);
	void *admit_ctx;
};

/* Binds. An address in use is an error that names it. */
struct error *rpc_server_new(const struct rpc_server_config *config,
			     struct rpc_server **server_out);
/* Before the start. handlers must outlive the server; service is handed to each step. */
void rpc_server_add(struct rpc_server *server, const struct rpc_handler *handlers,
		    size_t n, void *service);
/* Serves. */
struct error *rpc_server_start(struct rpc_server *server);
/* The i-th address with its true port, as a client would write it. */
const char *rpc_server_address(const struct rpc_server *server, size_t i);
/* Refuses new calls, gives running ones grace_ms, cancels the rest, joins all threads. */
void rpc_server_stop(struct rpc_server *server, int64_t grace_ms);
void *rpc_server_free(struct rpc_server *server);
CLEANUP_DEFINE(struct rpc_server, rpc_server_free)

/* What the handler of this call says with RPC_RIGHTS(). */
unsigned int rpc_rights(const struct rpc_in *in);

/* Within a step. State is zeroed at first use and dropped after the call's last step. */
void *rpc_state(struct rpc_in *in, size_t size, void (*drop)(void *state));
struct arena *rpc_arena(struct rpc_in *in);
bool rpc_is_on_worker(const struct rpc_in *in);
/* The connection that it came by, as gRPC writes it; the port is the client's. */
const char *rpc_peer_name(const struct rpc_in *in);
/* Next message's bytes, valid until the next receive; *is_end_out: none will come. False:
 * none is here yet. */
bool rpc_receive(struct rpc_in *in, struct slice *bytes_out, bool *is_end_out);
/* The unary or server-stream request, decoded; NULL: rpc_fail() was called for it. */
ProtobufCMessage *rpc_request(struct rpc_in *in);
/* Whether a request that a step reads by hand has no more elements than its method takes.
 */
struct error *rpc_check_elements(const struct rpc_in *in, struct slice bytes);
/* One write may be outstanding, and a peer's as a whole are bounded; false: the step runs
 * again when it may. */
bool rpc_can_send(struct rpc_in *in);
/* How large a piece of a stream should be just now. */
size_t rpc_chunk(const struct rpc_in *in);
void rpc_send(struct rpc_in *in, const ProtobufCMessage *message);
/* head is copied; tail is sent without a copy and released (any thread) after the write.
 */
void rpc_send_raw(struct rpc_in *in, struct slice head, struct slice tail,
		  void (*release)(void *ctx), void *ctx);
/* The client left, or the server stops. A step that sees it and returns RPC_LATER all the
 * same is done: with CANCELLED, after its state's drop. */
bool rpc_is_cancelled(const struct rpc_in *in);
/* Consumes err; what RPC_DONE then ends the call with. Returns RPC_DONE. */
enum rpc_verdict rpc_fail(struct rpc_in *in, struct error *err);
/* Request metadata by name, and trailers for the end of the call; values are copied. */
bool rpc_header_get(const struct rpc_in *in, const char *name, struct slice *value_out);
void rpc_trailer_add(struct rpc_in *in, const char *name, struct slice value);
int64_t rpc_time_left_ms(const struct rpc_in *in); /* INT64_MAX: no deadline */

/* Queues a step; any thread, may hold locks. The caller holds a reference. */
void rpc_wake(struct rpc_in *in);
struct rpc_in *rpc_in_ref(struct rpc_in *in);
void *rpc_in_unref(struct rpc_in *in);
/* Runs the next step of this call at this monotonic time even if nothing happens. */
void rpc_wake_at(struct rpc_in *in, int64_t mono_ns);
