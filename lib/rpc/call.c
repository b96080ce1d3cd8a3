/*
 * Owns unary calls on their way.
 *
 * Blocking calls use a pluck queue of the calling thread, so that thread does the I/O
 * itself. Calls with a callback share the channel's queue, which one poller thread runs;
 * it starts with the first such call, since an idle poller would take the blocking calls'
 * I/O to itself and hand it over. Callbacks run on the poller, without locks held; where
 * it cannot be started, on the thread that wants the call.
 *
 * The call's event may come before rpc_start() returns, so a call enters the table of
 * calls before its batch starts, with its id; rpc_cancel() finds it there, and takes a
 * reference of core's call under the lock because the poller may end the call meanwhile.
 *
 * Threads: any may call; callbacks run on the channel's poller.
 */
#include <pthread.h>

#include "lib/base/alloc.h"
#include "lib/base/thread.h"
#include "lib/rpc/chan.h"
#include "lib/rpc/unary.h"

struct rpc_async {
	struct rpc_tag tag;
	struct rpc_unary unary;
	struct hnode node;
	uint64_t id;
	rpc_done_fn *done;
	void *ctx;
};

/* ---- blocking calls ------------------------------------------------------------- */

static pthread_key_t rpc_pluck_key;

static void rpc_pluck_free(void *queue)
{
	grpc_completion_queue_shutdown(queue);
	grpc_completion_queue_destroy(queue);
}

static void rpc_pluck_init(void)
{
	require(pthread_key_create(&rpc_pluck_key, rpc_pluck_free) == 0);
}

static grpc_completion_queue *rpc_pluck_queue(void)
{
	static struct sync_once once = SYNC_ONCE_INIT;
	grpc_completion_queue *queue;

	sync_once(&once, rpc_pluck_init);
	queue = pthread_getspecific(rpc_pluck_key);
	if (!queue) {
		queue = grpc_completion_queue_create_for_pluck(NULL);
		require(pthread_setspecific(rpc_pluck_key, queue) == 0);
	}
	return queue;
}

static struct error *rpc_call_once(struct rpc_chan *chan, const struct rpc_method *method,
				   const ProtobufCMessage *request,
				   const struct rpc_options *options,
				   struct rpc_reply *reply_out)
{
	grpc_completion_queue *queue = rpc_pluck_queue();
	struct rpc_unary unary;
	struct error *err;

	rpc_unary_prepare(&unary, chan, method, options, queue);
	rpc_unary_send(&unary, request, options, &unary);
	(void)grpc_completion_queue_pluck(queue, &unary,
					  gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
	rpc_tag_acquire(&unary);
	err = rpc_unary_end(&unary, reply_out);
	rpc_chan_leave(chan);
	return err;
}

struct error *rpc_call(struct rpc_chan *chan, const struct rpc_method *method,
		       const ProtobufCMessage *request, const struct rpc_options *options,
		       struct rpc_reply *reply_out)
{
	struct error *err = rpc_call_once(chan, method, request, options, reply_out);

	if (!rpc_chan_renew(chan, err))
		return err;
	(void)rpc_chan_retried(chan, err, 0);
	error_free(err);
	return rpc_call_once(chan, method, request, options, reply_out);
}

struct error *rpc_call_message(struct rpc_chan *chan, const struct rpc_method *method,
			       const ProtobufCMessage *request,
			       const struct rpc_options *options, struct arena *arena,
			       ProtobufCMessage **message_out)
{
	_cleanup_rpc_reply_ struct rpc_reply reply = {0};
	ProtobufCMessage *message;
	struct error *err;

	err = rpc_call(chan, method, request, options, &reply);
	if (err)
		return err;
	message = rpc_decode(rpc_method_find(method)->output, reply.bytes, arena);
	if (!message)
		return error_new(ERROR_INTERNAL,
				 "%s at %s: the reply is malformed or too large",
				 method->name, chan->address);
	*message_out = message;
	return NULL;
}

void rpc_reply_deinit(struct rpc_reply *reply)
{
	arena_deinit(&reply->arena);
	*reply = (struct rpc_reply){0};
}

/* ---- calls with a callback ------------------------------------------------------ */

static void *rpc_chan_poller(void *chan)
{
	rpc_poll(((struct rpc_chan *)chan)->queue);
	return NULL;
}

static void rpc_async_done(struct rpc_tag *tag, bool ok)
{
	struct rpc_async *async = container_of(tag, struct rpc_async, tag);
	struct rpc_chan *chan = async->unary.chan;
	struct rpc_reply reply = {0};
	struct error *err;

	(void)ok; /* the batch has the status of the call, which says more */
	sync_lock(&chan->mutex);
	htab_remove(&chan->calls, &async->node);
	sync_unlock(&chan->mutex);
	err = rpc_unary_end(&async->unary, &reply);
	async->done(async->ctx, err, &reply);
	rpc_reply_deinit(&reply);
	free(async);
	rpc_chan_leave(chan);
}

/* *id_out is the next call's, also where it cannot be made. */
static struct error *rpc_chan_poll(struct rpc_chan *chan, uint64_t *id_out)
{
	struct error *err = NULL;

	sync_lock(&chan->mutex);
	*id_out = ++chan->last_id;
	if (!chan->has_poller) {
		err = thread_start("rpc-client", rpc_chan_poller, chan, &chan->poller);
		chan->has_poller = !err;
	}
	sync_unlock(&chan->mutex);
	return error_wrap(err, "%s", chan->address);
}

uint64_t rpc_start(struct rpc_chan *chan, const struct rpc_method *method,
		   const ProtobufCMessage *request, const struct rpc_options *options,
		   rpc_done_fn *done, void *ctx)
{
	struct rpc_async *async;
	uint64_t id;
	struct error *err = rpc_chan_poll(chan, &id);

	if (err) {
		struct rpc_reply none = {0};

		done(ctx, err, &none);
		return id;
	}
	async = alloc_new(struct rpc_async);
	async->id = id;
	async->tag.fn = rpc_async_done;
	async->done = done;
	async->ctx = ctx;
	rpc_unary_prepare(&async->unary, chan, method, options, chan->queue);
	sync_lock(&chan->mutex);
	htab_insert(&chan->calls, &async->node, id);
	sync_unlock(&chan->mutex);
	rpc_unary_send(&async->unary, request, options, &async->tag);
	return id;
}

void rpc_cancel(struct rpc_chan *chan, uint64_t id)
{
	grpc_call *call = NULL;

	sync_lock(&chan->mutex);
	for (struct hnode *n = htab_first(&chan->calls, id); n; n = htab_next(n, id)) {
		struct rpc_async *async = container_of(n, struct rpc_async, node);

		if (async->id == id)
			call = async->unary.call;
	}
	if (call)
		grpc_call_ref(call);
	sync_unlock(&chan->mutex);
	if (!call)
		return;
	(void)grpc_call_cancel(call, NULL);
	grpc_call_unref(call);
}
