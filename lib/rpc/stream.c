/*
 * Owns a client's streaming call. It has a pluck queue of its own, so sender and receiver
 * each wait for their own event on their own thread. Three kinds of batch: the opening
 * one with the call's status, which completes at the end; one send at a time; one receive
 * at a time. Core allows a sending batch beside a receiving one, so there is no lock.
 *
 * Every batch that was started is waited for before the call goes away; one that takes
 * longer than the caller allows makes the call end. A peer may end the call early, too:
 * then a send fails, and what it said is learnt by rpc_stream_finish(), which reads away
 * the messages nobody asked for, since the status comes after them.
 */
#include "lib/rpc/stream.h"

#include "lib/base/alloc.h"
#include "lib/rpc/unary.h"

struct rpc_stream {
	struct rpc_chan *chan;
	struct rpc_route *route;
	grpc_call *call;
	uint64_t creds;
	grpc_completion_queue *queue;
	grpc_metadata_array initial, trailing;
	grpc_status_code status;
	grpc_slice status_text;
	struct rpc_message message; /* the receiver's */
	bool has_ended;             /* no message will come */
	bool has_finished;          /* the status is here */
	bool has_closed_send;
	int64_t idle_ms;
	char open_tag, status_tag, send_tag, receive_tag;
};

/* Where the peer lets us wait for longer than idle_ms, the call ends. */
static bool rpc_stream_wait(struct rpc_stream *stream, char *tag)
{
	grpc_event event = grpc_completion_queue_pluck(
		stream->queue, tag, rpc_deadline(stream->idle_ms), NULL);

	if (event.type == GRPC_QUEUE_TIMEOUT) {
		(void)grpc_call_cancel_with_status(
			stream->call, GRPC_STATUS_DEADLINE_EXCEEDED,
			"nothing moved for longer than the time allowed", NULL);
		event = grpc_completion_queue_pluck(
			stream->queue, tag, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
	}
	rpc_tag_acquire(tag);
	return event.success != 0;
}

struct error *rpc_stream_open(struct rpc_chan *chan, const struct rpc_method *method,
			      const struct rpc_options *options,
			      struct rpc_stream **stream_out)
{
	struct rpc_stream *stream = alloc_new(struct rpc_stream);
	struct rpc_headers headers;
	grpc_op open[2] = {0};
	grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};

	stream->chan = chan;
	stream->idle_ms = options ? options->idle_ms : 0;
	stream->route = rpc_chan_enter(chan, method);
	stream->queue = grpc_completion_queue_create_for_pluck(NULL);
	stream->status_text = grpc_empty_slice();
	grpc_metadata_array_init(&stream->initial);
	grpc_metadata_array_init(&stream->trailing);
	stream->call = grpc_channel_create_registered_call(
		chan->channel, NULL, GRPC_PROPAGATE_DEFAULTS, stream->queue,
		stream->route->handle, rpc_deadline(options ? options->timeout_ms : 0),
		NULL);
	rpc_headers_init(&headers, chan, options);
	stream->creds = headers.creds;
	status.data.recv_status_on_client.trailing_metadata = &stream->trailing;
	status.data.recv_status_on_client.status = &stream->status;
	status.data.recv_status_on_client.status_details = &stream->status_text;
	rpc_batch(stream->call, &status, 1, &stream->status_tag);
	open[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	open[0].data.send_initial_metadata.count = headers.n;
	open[0].data.send_initial_metadata.metadata = headers.list;
	open[1].op = GRPC_OP_RECV_INITIAL_METADATA;
	open[1].data.recv_initial_metadata.recv_initial_metadata = &stream->initial;
	rpc_batch(stream->call, open, ARRAY_SIZE(open), &stream->open_tag);
	rpc_headers_deinit(&headers);
	*stream_out = stream;
	return NULL;
}

static void rpc_stream_await_status(struct rpc_stream *stream)
{
	if (stream->has_finished)
		return;
	(void)rpc_stream_wait(stream, &stream->open_tag);
	(void)rpc_stream_wait(stream, &stream->status_tag);
	stream->has_finished = true;
}

void *rpc_stream_free(struct rpc_stream *stream)
{
	struct rpc_chan *chan;

	if (!stream)
		return NULL;
	chan = stream->chan;
	if (!stream->has_finished)
		(void)grpc_call_cancel(stream->call, NULL);
	rpc_stream_await_status(stream);
	rpc_message_deinit(&stream->message);
	grpc_metadata_array_destroy(&stream->initial);
	grpc_metadata_array_destroy(&stream->trailing);
	grpc_slice_unref(stream->status_text);
	grpc_call_unref(stream->call);
	grpc_completion_queue_shutdown(stream->queue);
	grpc_completion_queue_destroy(stream->queue);
	free(stream);
	rpc_chan_leave(chan);
	return NULL;
}

void rpc_stream_cancel(struct rpc_stream *stream)
{
	(void)grpc_call_cancel(stream->call, NULL);
}

static bool rpc_stream_send_buffer(struct rpc_stream *stream, grpc_byte_buffer *buffer)
{
	grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
	bool ok;

	op.data.send_message.send_message = buffer;
	rpc_batch(stream->call, &op, 1, &stream->send_tag);
	ok = rpc_stream_wait(stream, &stream->send_tag);
	grpc_byte_buffer_destroy(buffer);
	return ok;
}

struct error *rpc_stream_send(struct rpc_stream *stream, struct slice head,
			      struct slice tail, bool *is_broken_out)
{
	require(!stream->has_closed_send);
	/* Copied: core calls a message sent while its last bytes still lie in a buffer.
	 */
	*is_broken_out = !rpc_stream_send_buffer(stream, rpc_buffer_join(head, tail));
	return NULL;
}

struct error *rpc_stream_send_message(struct rpc_stream *stream,
				      const ProtobufCMessage *message,
				      bool *is_broken_out)
{
	require(!stream->has_closed_send);
	*is_broken_out = !rpc_stream_send_buffer(stream, rpc_buffer_encode(message));
	return NULL;
}

struct error *rpc_stream_close_send(struct rpc_stream *stream)
{
	grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};

	if (stream->has_closed_send)
		return NULL;
	stream->has_closed_send = true;
	rpc_batch(stream->call, &op, 1, &stream->send_tag);
	(void)rpc_stream_wait(stream, &stream->send_tag);
	return NULL; /* where it could not be sent, the status tells why */
}

static bool rpc_stream_next(struct rpc_stream *stream)
{
	grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

	rpc_message_deinit(&stream->message);
	if (stream->has_ended)
		return false;
	op.data.recv_message.recv_message = &stream->message.buffer;
	rpc_batch(stream->call, &op, 1, &stream->receive_tag);
	(void)rpc_stream_wait(stream, &stream->receive_tag);
	stream->has_ended = !stream->message.buffer;
	return !stream->has_ended;
}

struct error *rpc_stream_receive(struct rpc_stream *stream, bool *has_message_out,
				 struct slice *bytes_out)
{
	bool has_message = rpc_stream_next(stream);

	if (has_message)
		*bytes_out = rpc_message_bytes(&stream->message);
	*has_message_out = has_message;
	return NULL;
}

struct error *rpc_stream_finish(struct rpc_stream *stream)
{
	(void)rpc_stream_close_send(stream);
	while (rpc_stream_next(stream))
		;
	rpc_stream_await_status(stream);
	return rpc_chan_status(stream->chan, stream->route, stream->creds,
			       rpc_status_of_call(stream->status, &stream->status_text,
						  &stream->trailing));
}
