/*
 * The parts of a client call that blocking calls, calls with a callback and streams
 * share: the channel, its routes and headers, and the one batch of a unary call. Private
 * to lib/rpc.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "lib/base/htab.h"
#include "lib/base/sync.h"
#include "lib/rpc/chan.h"
#include "lib/rpc/core.h"
#include "lib/rpc/creds.h"

/* A method as this channel knows it: registered with core once, and counted. */
struct rpc_route {
	struct hnode node;
	char *path;
	void *handle;
	_Atomic uint64_t n_calls;
};

struct rpc_chan {
	grpc_channel *channel;
	grpc_completion_queue *queue; /* of calls with a callback */
	char *address;
	_Atomic bool has_answered;
	struct buf request_metadata; /* RequestMetadata, encoded; empty: not sent */
	void (*retried)(void *ctx, const struct error *err, int64_t delay_ms);
	void *retried_ctx;
	struct rpc_creds *creds;                     /* or NULL */
	grpc_tls_certificate_provider *certificates; /* or NULL */
	struct sync_mutex mutex;
	struct sync_cond idle;
	pthread_t poller SYNC_GUARDED_BY(&mutex);
	bool has_poller
		SYNC_GUARDED_BY(&mutex); /* the first call that needs it starts it */
	struct htab routes SYNC_GUARDED_BY(&mutex); /* they live as long as the channel */
	struct htab calls SYNC_GUARDED_BY(&mutex);  /* those with a callback, by id */
	uint64_t last_id SYNC_GUARDED_BY(&mutex);
	size_t n_running SYNC_GUARDED_BY(&mutex); /* calls of any kind */
};

/* Counts a call that begins; rpc_chan_leave() at its end, the last touch of chan. */
struct rpc_route *rpc_chan_enter(struct rpc_chan *chan, const struct rpc_method *method);
void rpc_chan_leave(struct rpc_chan *chan);

/* The metadata a call sends, borrowed from chan and options but for the slices. */
struct rpc_headers {
	grpc_metadata *list;
	size_t n;
	uint64_t creds; /* which of the channel's credentials are among them */
};
void rpc_headers_init(struct rpc_headers *headers, const struct rpc_chan *chan,
		      const struct rpc_options *options);
void rpc_headers_deinit(struct rpc_headers *headers);
/* A call's end: its status, after its own words for where; creds, of which it sent those
 * (rpc_headers), hear of a refusal. */
struct error *rpc_chan_status(struct rpc_chan *chan, const struct rpc_route *route,
			      uint64_t creds, struct error *err);

/* One unary call, as a single batch. */
struct rpc_unary {
	struct rpc_chan *chan;
	struct rpc_route *route;
	grpc_call *call;
	uint64_t creds;
	grpc_byte_buffer *received;
	grpc_metadata_array initial, trailing;
	grpc_status_code status;
	grpc_slice status_text;
};
/* Between the two, the call can be cancelled but not yet end. */
void rpc_unary_prepare(struct rpc_unary *unary, struct rpc_chan *chan,
		       const struct rpc_method *method, const struct rpc_options *options,
		       grpc_completion_queue *queue);
void rpc_unary_send(struct rpc_unary *unary, const ProtobufCMessage *request,
		    const struct rpc_options *options, void *tag);
/* After the batch's event. On success *reply_out is filled. unary is dead afterwards; the
 * caller leaves chan. */
struct error *rpc_unary_end(struct rpc_unary *unary, struct rpc_reply *reply_out);
