/*
 * Owns what a step may ask of its call: requests, replies, state, metadata, time. All of
 * it belongs to the one step that runs; only the flags that events set are atomic.
 */
#include "lib/rpc/incoming.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/rpc/count.h"

void *rpc_state(struct rpc_in *in, size_t size, void (*drop)(void *state))
{
	if (!in->state) {
		in->state = alloc_zero(size);
		in->drop = drop;
	}
	return in->state;
}

struct arena *rpc_arena(struct rpc_in *in)
{
	return &in->arena;
}

bool rpc_is_on_worker(const struct rpc_in *in)
{
	return in->is_on_worker;
}

bool rpc_receive(struct rpc_in *in, struct slice *bytes_out, bool *is_end_out)
{
	enum rpc_kind kind = in->entry->handler->kind;

	switch (atomic_load(&in->read)) {
	case READ_NONE:
	case READ_PENDING:
		return false;
	case READ_END:
		*bytes_out = (struct slice){NULL, 0};
		*is_end_out = true;
		return true;
	case READ_READY:
		break;
	}
	if (in->message.buffer)
		peer_hold(in, -(ptrdiff_t)grpc_byte_buffer_length(in->message.buffer));
	rpc_message_deinit(&in->message);
	in->message.buffer = take(in->incoming);
	*bytes_out = rpc_message_bytes(&in->message);
	*is_end_out = false;
	if (kind == RPC_CLIENT_STREAM || kind == RPC_BIDI)
		rpc_in_read(in); /* the next is on its way while this one is dealt with */
	else
		atomic_store(&in->read, READ_END);
	return true;
}

struct error *rpc_check_elements(const struct rpc_in *in, struct slice bytes)
{
	size_t max = in->entry->handler->flags & RPC_MANY ? RPC_IN_ELEMENTS_MANY
							  : RPC_IN_ELEMENTS;

	switch (count_elements(in->entry->types->input, bytes, max)) {
	case COUNT_FITS:
		return NULL;
	case COUNT_OVER:
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "%s: the request has more than %zu elements",
				 in->entry->path, max);
	case COUNT_MALFORMED:
		break;
	}
	return error_new(ERROR_INVALID_ARGUMENT, "%s: the request is malformed",
			 in->entry->path);
}

static struct error *rpc_request_decode(struct rpc_in *in, ProtobufCMessage **out)
{
	struct slice bytes;
	bool is_end = true;
	struct error *err;

	if (!rpc_receive(in, &bytes, &is_end) || is_end)
		return error_new(ERROR_INVALID_ARGUMENT, "%s: the call has no request",
				 in->entry->path);
	err = rpc_check_elements(in, bytes);
	if (err)
		return err;
	*out = rpc_decode(in->entry->types->input, bytes, &in->arena);
	if (*out)
		return NULL;
	return in->arena.is_full
		       ? arena_error("the request")
		       : error_new(ERROR_INVALID_ARGUMENT, "%s: the request is malformed",
				   in->entry->path);
}

ProtobufCMessage *rpc_request(struct rpc_in *in)
{
	ProtobufCMessage *request = NULL;
	struct error *err = rpc_request_decode(in, &request);

	if (err)
		(void)rpc_fail(in, err);
	return request;
}

static bool rpc_has_sent(const struct rpc_in *in)
{
	return !in->outgoing && atomic_load(&in->write) == WRITE_IDLE;
}

bool rpc_can_send(struct rpc_in *in)
{
	return rpc_has_sent(in) && peer_may_send(in);
}

size_t rpc_chunk(const struct rpc_in *in)
{
	return peer_chunk(in->peer);
}

const char *rpc_peer_name(const struct rpc_in *in)
{
	return peer_name(in->peer);
}

static void rpc_fail_too_large(struct rpc_in *in, size_t len)
{
	(void)rpc_fail(
		in,
		error_new(ERROR_RESOURCE_EXHAUSTED,
			  "%s: an answer of %zu bytes is larger than a message may be",
			  in->entry->path, len));
}

void rpc_send(struct rpc_in *in, const ProtobufCMessage *message)
{
	size_t len = protobuf_c_message_get_packed_size(message);

	require(rpc_has_sent(in));
	if (len > RPC_MESSAGE_MAX)
		rpc_fail_too_large(in, len);
	else
		in->outgoing = rpc_buffer_encode(message);
}

void rpc_send_raw(struct rpc_in *in, struct slice head, struct slice tail,
		  void (*release)(void *ctx), void *ctx)
{
	grpc_slice both[2];

	require(rpc_has_sent(in));
	if (head.len + tail.len > RPC_MESSAGE_MAX) {
		if (release)
			release(ctx);
		rpc_fail_too_large(in, head.len + tail.len);
		return;
	}
	both[0] = rpc_slice_copy(head);
	if (release)
		both[1] = grpc_slice_new_with_user_data((void *)(uintptr_t)tail.data,
							tail.len, release, ctx);
	else
		both[1] = rpc_slice_copy(tail);
	in->outgoing = grpc_raw_byte_buffer_create(both, ARRAY_SIZE(both));
	grpc_slice_unref(both[0]);
	grpc_slice_unref(both[1]);
}

bool rpc_is_cancelled(const struct rpc_in *in)
{
	return atomic_load(&in->is_cancelled);
}

int64_t rpc_time_left_ms(const struct rpc_in *in)
{
	gpr_timespec left;

	if (gpr_time_cmp(in->deadline, gpr_inf_future(in->deadline.clock_type)) == 0)
		return INT64_MAX;
	left = gpr_time_sub(in->deadline, gpr_now(in->deadline.clock_type));
	return (int64_t)left.tv_sec * 1000 + left.tv_nsec / 1000000;
}
