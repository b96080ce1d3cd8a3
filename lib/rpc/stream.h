/*
 * A client's streaming call, blocking: the caller's thread waits for its peer. For pool
 * threads, the client command and the worker's source thread, never for FUSE or pollers.
 *
 * Threads: one at a time may send, one at a time may receive, any may cancel.
 */
#pragma once

#include "lib/rpc/chan.h"

struct rpc_stream;

struct error *rpc_stream_open(struct rpc_chan *chan, const struct rpc_method *method,
			      const struct rpc_options *options,
			      struct rpc_stream **stream_out);
/* Cancels what still runs. */
void *rpc_stream_free(struct rpc_stream *stream);
CLEANUP_DEFINE(struct rpc_stream, rpc_stream_free)

/* Any thread, before the free: who sends or receives is told that it is over. */
void rpc_stream_cancel(struct rpc_stream *stream);

/* Sends one message and waits until it is written. head and tail are joined (so a payload
 * needs no copy beside its protobuf header); tail may be empty. *is_broken_out: the peer
 * ended the call, ask rpc_stream_finish() why. */
struct error *rpc_stream_send(struct rpc_stream *stream, struct slice head,
			      struct slice tail, bool *is_broken_out);
struct error *rpc_stream_send_message(struct rpc_stream *stream,
				      const ProtobufCMessage *message,
				      bool *is_broken_out);
struct error *rpc_stream_close_send(struct rpc_stream *stream);

/* Next message's bytes, valid until the next receive or free; *has_message_out false at
 * the end of the stream. */
struct error *rpc_stream_receive(struct rpc_stream *stream, bool *has_message_out,
				 struct slice *bytes_out);
/* The call's status, after the last message; waits for it. */
struct error *rpc_stream_finish(struct rpc_stream *stream);
