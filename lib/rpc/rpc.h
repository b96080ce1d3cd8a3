/*
 * gRPC core for the rest of lazyroot, which never includes a gRPC header: addresses,
 * methods, request options. Client calls: rpc/chan.h and rpc/stream.h; server:
 * rpc/server.h.
 *
 * Limits: a message of at most RPC_MESSAGE_MAX in both directions, a decoded one of at
 * most RPC_ARENA_MAX.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/error.h"
#include "proto/api.h"

#define RPC_MESSAGE_MAX  (16 << 20)
#define RPC_ARENA_MAX    ((size_t)512 << 20)
#define RPC_ELEMENTS_MAX ((size_t)2 << 20) /* of one decoded message, see count.h */
#define RPC_METADATA_MAX (64 << 10)
#define RPC_BATCH_MAX    ((4 << 20) - (64 << 10)) /* what we put in one batch, at most */
#define RPC_CHUNK        (1 << 20)                /* of a ByteStream message */

/* By main alone, before any channel or server; sets malloc up for large messages too.
 * RESOURCE_EXHAUSTED where the system has not the threads that core starts, and n_own
 * that the program starts beside them. */
struct error *rpc_init(size_t n_own);

/* A method: the service's descriptor gives path and types. */
struct rpc_method {
	const ProtobufCServiceDescriptor *service;
	const char *name;
};

struct rpc_header {
	const char *name; /* lower case; "-bin" at its end means bytes */
	struct slice value;
};

/* protobuf-c over an arena; NULL out of the cap, past RPC_ELEMENTS_MAX, or where bytes
 * are no such message. */
ProtobufCMessage *rpc_decode(const ProtobufCMessageDescriptor *type, struct slice bytes,
			     struct arena *arena);
void rpc_encode(const ProtobufCMessage *message, struct buf *out); /* appended */

/* google.rpc.Status, details included (MISSING violations, RetryInfo), both ways. */
void rpc_status_encode(const struct error *err, struct buf *out); /* NULL: code OK */
struct error *rpc_status_decode(struct slice bytes); /* NULL where the code is OK */
/* What an action's status says that ran past its timeout: siso tries again, for ever,
 * what says anything else with DEADLINE_EXCEEDED. Our words go into
 * ExecuteResponse.message. */
#define RPC_TIMED_OUT "execution timeout exceeded"
/* The same for a status that is part of a larger message; NULL where arena is full. */
Rpcstatus__Status *rpc_status_message(const struct error *err, struct arena *arena);
struct error *rpc_status_error(const Rpcstatus__Status *status);

/*
 * Addresses: grpc://HOST:PORT, grpcs://HOST:PORT, http(s) as the same two, unix:PATH,
 * HOST:PORT. INVALID_ARGUMENT names what is wrong. target_out is what gRPC core takes.
 */
struct rpc_address {
	char *target;
	bool is_tls;
	bool is_unix;
};
struct error *rpc_address_parse(const char *text, struct rpc_address *out);
void rpc_address_deinit(struct rpc_address *address);
/* A unix socket, a loopback address in digits, or "localhost". */
bool rpc_address_is_local(const struct rpc_address *address);
/* The same of a host: digits only. */
bool rpc_host_is_loopback(const char *host);
