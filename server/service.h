/*
 * What the services of the server share: the parts they work on, and the checks that
 * every request goes through. One struct server is handed to each step.
 */
#pragma once

#include "lib/base/clock.h"
#include "lib/base/option.h"
#include "lib/rpc/server.h"
#include "lib/store/store.h"
#include "server/access.h"
#include "server/queue.h"

struct action_cache;
struct asset_cache;
struct health;
struct journal;
struct logstreams;
struct chunks;
struct uploads;

/* Whom zstd is offered. It is slower than the loopback, and faster than most networks. */
enum server_compression {
	SERVER_COMPRESS_AUTO, /* who is not on this machine */
	SERVER_COMPRESS_ALWAYS,
	SERVER_COMPRESS_NEVER, /* nor is it taken */
};

/* Who is told of chunks: it takes longer to put a blob together than to send it over the
 * loopback. */
enum server_chunks {
	SERVER_CHUNKS_AUTO, /* who is not on this machine */
	SERVER_CHUNKS_ALWAYS,
	SERVER_CHUNKS_NEVER, /* nor is anything split or spliced */
};

struct server {
	struct store *store;
	struct chunks *chunks; /* what the store has, and parts of large blobs in it */
	enum server_chunks chunks_offer;
	struct action_cache *cache;
	struct asset_cache *assets; /* NULL: none are offered */
	struct queue *queue;
	struct journal *journal; /* of the queue */
	struct uploads *uploads;
	struct debts *debts; /* of who names chunks */
	struct logstreams *logstreams;
	struct health *health;
	struct access *access;
	struct option_list instances; /* at least one; "" is the nameless one */
	int64_t limit_ns;             /* of one action's run */
	int64_t heartbeat_ns; /* an execution's stream is silent so long at most */
	int64_t start_ns;     /* monotonic */
	enum server_compression compression;
};

#define SERVER_BLOB_MAX   ((int64_t)1 << 40) /* bytes; announced to clients */
#define SERVER_LOST_NS    (600 * NS_PER_S)
#define SERVER_MESSAGE    ((size_t)4 << 20)  /* an Action, a Command at most */
#define SERVER_INLINE_MAX ((int64_t)1 << 20) /* bytes inlined into an ActionResult */
/* An ActionResult with what is inlined: a message holds it, and an Operation around it.
 */
#define SERVER_RESULT_MAX ((int64_t)RPC_MESSAGE_MAX - (256 << 10))

/* INVALID_ARGUMENT names the unknown instance and the known ones; PERMISSION_DENIED or
 * UNAUTHENTICATED: the caller may not do in it what this method is for. */
struct error *server_check_instance(const struct server *server, struct rpc_in *in,
				    const char *instance);
/* The same for what an operation or a session is called: INSTANCE/ID. Whether there is
 * one is not asked. */
struct error *server_check_name(const struct server *server, struct rpc_in *in,
				const char *name);
/* Whether an operation that is not there may have been before this server was started
 * anew, a short while ago. */
bool server_may_have_lost(const struct server *server, const char *operation);
/* INVALID_ARGUMENT unless it is the one offered, or none. */
struct error *server_check_compressor(const struct server *server,
				      Reapi__Compressor__Value compressor);
/* INVALID_ARGUMENT unless it is SHA256 or left out. */
struct error *server_check_function(Reapi__DigestFunction__Value function);
/* Both of them. */
struct error *server_check(const struct server *server, struct rpc_in *in,
			   const char *instance, Reapi__DigestFunction__Value function);
/* The empty blob always; counts as a use. It may be a part of a larger blob: *holder_out
 * is the one that has its bytes. */
bool server_find(const struct server *server, const struct digest *digest,
		 struct digest *holder_out);
bool server_has(const struct server *server, const struct digest *digest);
/* As store_read(), parts of larger blobs included. */
struct error *server_read(const struct server *server, const struct digest *digest,
			  size_t limit, struct buf *out);
/* Reads and decodes a blob into arena. NOT_FOUND; INVALID_ARGUMENT where it is no such
 * message, naming what. */
struct error *server_read_message(const struct server *server,
				  const struct digest *digest,
				  const ProtobufCMessageDescriptor *type,
				  const char *what, struct arena *arena,
				  ProtobufCMessage **message_out);
/* "blobs/HASH/SIZE" as a missing one of err. */
void server_add_missing(struct error *err, const struct digest *digest);

/* The services, one file each: their methods. */
struct rpc_handlers {
	const struct rpc_handler *list;
	size_t n;
};
extern const struct rpc_handlers cas_handlers, bytestream_handlers, action_handlers,
	capabilities_handlers, execution_handlers, operations_handlers, bots_handlers,
	asset_handlers, logstream_handlers, health_handlers, reflection_handlers;
#define SERVER_SERVICES 11
extern const struct rpc_handlers *const server_services[SERVER_SERVICES];
/* Whether they are on offer: not all are, by the server's options. */
bool server_offers(const struct server *server, const struct rpc_handlers *handlers);
/* The i-th service on offer, with its package; NULL: there are no more. */
const char *server_service_name(const struct server *server, size_t i);
