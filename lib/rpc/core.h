/*
 * What the files of lib/rpc share, and the only header here that shows gRPC's types. A
 * completion queue's tag is a struct rpc_tag embedded in its owner: the function to run.
 */
#pragma once

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

#include "lib/rpc/rpc.h"

struct rpc_tag {
	void (*fn)(struct rpc_tag *tag, bool ok);
};

/*
 * Core is not instrumented, so the thread sanitizer cannot see that it hands a tag from
 * the thread that starts a batch to the one that gets its event.
 */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define rpc_tag_release(tag) __tsan_release(tag)
#define rpc_tag_acquire(tag) __tsan_acquire(tag)
#else
#define rpc_tag_release(tag) ((void)(tag))
#define rpc_tag_acquire(tag) ((void)(tag))
#endif

/* Runs tags until the queue is shut down: the body of a poller thread. */
void rpc_poll(grpc_completion_queue *queue);
/* A refused batch is a bug of ours: core refuses only misuse. */
void rpc_batch(grpc_call *call, const grpc_op *ops, size_t n_ops, void *tag);

grpc_slice rpc_slice_copy(struct slice bytes);
struct slice rpc_slice_view(const grpc_slice *slice); /* borrowed: keep *slice in place */
grpc_byte_buffer *rpc_buffer_encode(const ProtobufCMessage *message);
grpc_byte_buffer *rpc_buffer_join(struct slice head, struct slice tail); /* copies */

/* A received message as contiguous bytes: in place where it is one slice already. */
struct rpc_message {
	grpc_byte_buffer *buffer;
	grpc_slice joined;
	bool has_joined;
};
struct slice rpc_message_bytes(struct rpc_message *message);
void rpc_message_deinit(struct rpc_message *message); /* empty again */
/* Copies a whole message into arena; false out of its cap. */
bool rpc_buffer_copy(grpc_byte_buffer *buffer, struct arena *arena, struct slice *out);

char *rpc_path(const struct rpc_method *method); /* "/pkg.Service/Name" */
const ProtobufCMethodDescriptor *rpc_method_find(const struct rpc_method *method);
gpr_timespec rpc_deadline(int64_t timeout_ms); /* 0: none */

/* The error's text as a protobuf string, in arena; never NULL. */
const char *rpc_status_text(const struct error *err, struct arena *arena);
/* As rpc_status_encode, leaving out details that would make it longer than limit. */
void rpc_status_encode_short(const struct error *err, size_t limit, struct buf *out);
/* From the end of a call: code, text, and google.rpc.Status where the peer sent one. */
struct error *rpc_status_of_call(grpc_status_code code, const grpc_slice *text,
				 const grpc_metadata_array *trailers);

#define RPC_STATUS_HEADER "grpc-status-details-bin"

/* Both sides agree on these. */
#define RPC_KEEPALIVE_CLIENT_MS  300000 /* what strange servers tolerate by default */
#define RPC_KEEPALIVE_SERVER_MS  60000
#define RPC_KEEPALIVE_TIMEOUT_MS 20000
#define RPC_PING_INTERVAL_MS     5000 /* the least that our server tolerates */

static inline grpc_arg rpc_arg_int(const char *name, int value)
{
	return (grpc_arg){.type = GRPC_ARG_INTEGER,
			  .key = (char *)(uintptr_t)name,
			  .value.integer = value};
}

static inline grpc_arg rpc_arg_string(const char *name, const char *value)
{
	return (grpc_arg){.type = GRPC_ARG_STRING,
			  .key = (char *)(uintptr_t)name,
			  .value.string = (char *)(uintptr_t)value};
}
