/*
 * Owns the life of an incoming call: it arrives in a slot that was asked for, its step
 * runs whenever something happened, and one final batch ends it.
 *
 * Two atomics are the whole engine. `run`: a wake makes IDLE to QUEUED and puts the call
 * somewhere to run, or makes RUNNING to RERUN, so steps never overlap and no wake is
 * lost. `write`: a step that is done while a write is out leaves WRITE_THEN_FINISH
 * behind, and the write's event ends the call; nobody ever waits for an event inside an
 * event.
 *
 * Threads: pollers run the tags' functions and inline steps; workers run the other steps.
 * rpc_wake() comes from anywhere: for an inline call it posts an empty batch, whose event
 * brings the call to a poller; core allows that beside any other batch. Receiving batches
 * are started by the step's thread only, sending ones by it or, after its last step, by
 * the poller that saw the write end.
 *
 * References: one for the task until it is done, one for each batch, and those of holders
 * outside. The call is freed with the last, and only then the server counts it as gone.
 */
#define LOG_MODULE "call"

#include "lib/rpc/incoming.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/sync.h"

static bool rpc_in_is_inline(const struct rpc_in *in)
{
	return !in->entry->handler ||
	       ((in->entry->handler->flags & RPC_INLINE) && !in->is_large);
}

bool rpc_in_streams_requests(const struct rpc_in *in)
{
	const struct rpc_handler *handler = in->entry->handler;

	return handler &&
	       (handler->kind == RPC_CLIENT_STREAM || handler->kind == RPC_BIDI);
}

static bool rpc_in_streams_answers(const struct rpc_in *in)
{
	const struct rpc_handler *handler = in->entry->handler;

	return handler &&
	       (handler->kind == RPC_SERVER_STREAM || handler->kind == RPC_BIDI);
}

/* ---- references ----------------------------------------------------------------- */

struct rpc_in *rpc_in_ref(struct rpc_in *in)
{
	atomic_fetch_add_explicit(&in->refs, 1, memory_order_relaxed);
	return in;
}

static void rpc_in_free(struct rpc_in *in)
{
	struct rpc_server *server = in->server;
	bool was_call = in->call;

	rpc_message_deinit(&in->message);
	if (in->incoming)
		grpc_byte_buffer_destroy(in->incoming);
	if (in->sending)
		grpc_byte_buffer_destroy(in->sending);
	if (in->outgoing)
		grpc_byte_buffer_destroy(in->outgoing);
	for (size_t i = 0; i < in->n_trailers; i++) {
		grpc_slice_unref(in->trailers[i].key);
		grpc_slice_unref(in->trailers[i].value);
	}
	grpc_slice_unref(in->status_text);
	grpc_metadata_array_destroy(&in->metadata);
	grpc_call_details_destroy(&in->details);
	rpc_caller_deinit(in);
	arena_deinit(&in->arena);
	free(in->state);
	error_free(in->err);
	if (in->peer && in->sending_len > 0)
		peer_sent(in);
	if (in->peer)
		peer_release(in);
	if (in->call)
		grpc_call_unref(in->call);
	free(in);
	if (!was_call)
		return;
	sync_lock(&server->mutex);
	server->n_in--;
	sync_broadcast(&server->changed);
	sync_unlock(&server->mutex);
}

void *rpc_in_unref(struct rpc_in *in)
{
	if (in && atomic_fetch_sub_explicit(&in->refs, 1, memory_order_acq_rel) == 1)
		rpc_in_free(in);
	return NULL;
}

/* ---- the end of a call ---------------------------------------------------------- */

static void rpc_in_add_trailer(struct rpc_in *in, const char *name, struct slice value)
{
	require(in->n_trailers < RPC_TRAILERS_MAX);
	in->trailers[in->n_trailers++] =
		(grpc_metadata){.key = grpc_slice_from_copied_string(name),
				.value = rpc_slice_copy(value)};
}

void rpc_trailer_add(struct rpc_in *in, const char *name, struct slice value)
{
	if (in->n_trailers < RPC_TRAILERS_MAX - 1) /* one is the status's */
		rpc_in_add_trailer(in, name, value);
}

enum rpc_verdict rpc_fail(struct rpc_in *in, struct error *err)
{
	if (in->err)
		error_free(err);
	else
		in->err = err;
	return RPC_DONE;
}

static grpc_op *rpc_in_headers_op(struct rpc_in *in, grpc_op *op)
{
	if (in->has_sent_headers)
		return op;
	in->has_sent_headers = true;
	op->op = GRPC_OP_SEND_INITIAL_METADATA;
	return op + 1;
}

static void rpc_in_moved(struct rpc_in *in, size_t *sum, size_t len)
{
	*sum += len;
	if (*sum > PEER_HEAVY)
		atomic_store(&in->is_long, true);
}

static grpc_op *rpc_in_message_op(struct rpc_in *in, grpc_op *op)
{
	if (!in->outgoing)
		return op;
	if (in->sending)
		grpc_byte_buffer_destroy(in->sending);
	in->sending = take(in->outgoing);
	rpc_in_moved(in, &in->n_sent, grpc_byte_buffer_length(in->sending));
	if (rpc_in_streams_answers(in))
		peer_sends(in, grpc_byte_buffer_length(in->sending));
	else
		peer_answer(in, grpc_byte_buffer_length(in->sending));
	op->op = GRPC_OP_SEND_MESSAGE;
	op->data.send_message.send_message = in->sending;
	return op + 1;
}

static void rpc_in_set_status(struct rpc_in *in)
{
	_cleanup_arena_ struct arena arena =
		ARENA_INIT(RPC_ARENA_MAX); /* in's may be full */
	_cleanup_buf_ struct buf details = BUF_INIT;

	if (!in->err)
		return;
	in->status_text = grpc_slice_from_copied_string(rpc_status_text(in->err, &arena));
	if (error_n_missing(in->err) == 0 && error_retry_delay_ms(in->err) < 0)
		return;
	rpc_status_encode_short(in->err, RPC_STATUS_LIMIT, &details);
	rpc_in_add_trailer(in, RPC_STATUS_HEADER, buf_slice(&details));
}

/* The last batch; the task's reference becomes its. */
static void rpc_in_end(struct rpc_in *in)
{
	grpc_op ops[4] = {0};
	grpc_op *op = rpc_in_message_op(in, rpc_in_headers_op(in, ops));

	rpc_in_set_status(in);
	op->op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	op->data.send_status_from_server.trailing_metadata_count = in->n_trailers;
	op->data.send_status_from_server.trailing_metadata = in->trailers;
	op->data.send_status_from_server.status = (grpc_status_code)error_code(in->err);
	op->data.send_status_from_server.status_details = &in->status_text;
	op++;
	if (!in->watches_close) {
		op->op = GRPC_OP_RECV_CLOSE_ON_SERVER;
		op->data.recv_close_on_server.cancelled = &in->core_cancelled;
		op++;
	}
	rpc_batch(in->call, ops, (size_t)(op - ops), &in->finished);
}

static void rpc_in_finished(struct rpc_tag *tag, bool ok)
{
	(void)ok; /* a peer that is gone does not want to know */
	rpc_in_unref(container_of(tag, struct rpc_in, finished));
}

static void rpc_in_cancel_timer(struct rpc_in *in)
{
	bool was_set;

	sync_lock(&in->server->mutex);
	was_set = !list_is_empty(&in->timer_link);
	list_remove(&in->timer_link);
	sync_unlock(&in->server->mutex);
	if (was_set)
		rpc_in_unref(in);
}

static void rpc_in_finish(struct rpc_in *in)
{
	const struct rpc_handler *handler = in->entry->handler;
	enum rpc_write busy = WRITE_BUSY;
	bool is_single = handler && (handler->kind == RPC_UNARY ||
				     handler->kind == RPC_CLIENT_STREAM);

	rpc_in_cancel_timer(in);
	if (in->drop)
		in->drop(in->state);
	/* The client may take its time to read the answer: nothing else is kept for it.
	 */
	rpc_message_deinit(&in->message);
	arena_deinit(&in->arena);
	peer_leave(in);
	if (is_single && !in->err && !in->outgoing) {
		(void)rpc_fail(in,
			       atomic_load(&in->is_cancelled)
				       ? error_new(ERROR_CANCELLED, "the client left")
				       : error_new(ERROR_INTERNAL, "there is no answer"));
	}
	if (is_single && in->err && in->outgoing) {
		grpc_byte_buffer_destroy(in->outgoing);
		in->outgoing = NULL;
	}
	log_debug("%s %s of %s", in->entry->path, error_code_name(error_code(in->err)),
		  peer_name(in->peer));
	if (!atomic_compare_exchange_strong(&in->write, &busy, WRITE_THEN_FINISH))
		rpc_in_end(in);
}

/* ---- steps ---------------------------------------------------------------------- */

static void rpc_in_flush(struct rpc_in *in)
{
	grpc_op ops[2] = {0};
	grpc_op *op;

	if (!in->outgoing)
		return;
	op = rpc_in_message_op(in, rpc_in_headers_op(in, ops));
	atomic_store(&in->write, WRITE_BUSY);
	rpc_in_ref(in);
	rpc_batch(in->call, ops, (size_t)(op - ops), &in->sent);
}

static void rpc_in_watch_close(struct rpc_in *in)
{
	grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};

	if (in->watches_close)
		return;
	in->watches_close = true;
	op.data.recv_close_on_server.cancelled = &in->core_cancelled;
	rpc_in_ref(in);
	rpc_batch(in->call, &op, 1, &in->closed);
}

/* The one request of a call that has one is not here yet. */
static bool rpc_in_is_early(const struct rpc_in *in)
{
	enum rpc_read read = atomic_load(&in->read);

	return !rpc_in_streams_requests(in) &&
	       (read == READ_NONE || read == READ_PENDING);
}

static enum rpc_verdict rpc_in_step(struct rpc_in *in)
{
	/* Checked first: a step has seen the cancellation before it decides anything. */
	bool was_cancelled = atomic_load(&in->is_cancelled);
	enum rpc_verdict verdict;
	struct error *err;

	if (!in->entry->handler) {
		struct slice path = rpc_slice_view(&in->details.method);

		return rpc_fail(in, error_new(ERROR_UNIMPLEMENTED,
					      "this server has no method %.*s",
					      (int)(path.len < 200 ? path.len : 200),
					      (const char *)path.data));
	}
	err = rpc_in_admit(in);
	if (err)
		return rpc_fail(in, err);
	verdict = rpc_in_is_early(in) ? RPC_LATER
				      : in->entry->handler->step(in, in->entry->service);
	if (in->err && verdict == RPC_LATER)
		return RPC_DONE; /* what it sent could not be sent */
	if (was_cancelled && verdict == RPC_LATER)
		return rpc_fail(in, error_new(ERROR_CANCELLED, "the client left"));
	return verdict;
}

/* What the step built stays for as long as the call waits: its peer holds it. */
static void rpc_in_note_arena(struct rpc_in *in)
{
	if (in->arena.total == in->arena_held)
		return;
	peer_hold(in, (ptrdiff_t)in->arena.total - (ptrdiff_t)in->arena_held);
	in->arena_held = in->arena.total;
}

/* Hands the call to a worker, to be run there. */
static void rpc_in_pass_on(struct rpc_in *in, bool is_first)
{
	rpc_in_flush(in);
	rpc_in_watch_close(in);
	atomic_store(&in->run, RUN_QUEUED);
	peer_run(in, is_first);
}

/* run is QUEUED and this thread has the call. Afterwards in may be gone. */
static void rpc_in_run(struct rpc_in *in, bool is_on_worker)
{
	for (;;) {
		enum rpc_run running = RUN_RUNNING;
		bool was_long = atomic_load(&in->is_long);

		atomic_store(&in->run, RUN_RUNNING);
		in->is_on_worker = is_on_worker;
		switch (rpc_in_step(in)) {
		case RPC_DONE:
			atomic_store(&in->run, RUN_DONE);
			rpc_in_finish(in);
			return;
		case RPC_BLOCK:
			require(!is_on_worker);
			rpc_in_pass_on(in, false);
			return;
		case RPC_AGAIN:
			atomic_store(&in->is_long, true);
			rpc_in_pass_on(in, true);
			return;
		case RPC_LATER:
			rpc_in_note_arena(in);
			rpc_in_flush(in);
			rpc_in_watch_close(in);
			if (atomic_compare_exchange_strong(&in->run, &running, RUN_IDLE))
				return;
			/* woken meanwhile: here again, unless it is for others by now */
			if (!is_on_worker || was_long || !atomic_load(&in->is_long))
				break;
			rpc_in_pass_on(in, false);
			return;
		}
	}
}

static void rpc_in_task(struct pool_task *task)
{
	rpc_in_run(container_of(task, struct rpc_in, task), true);
}

static void rpc_in_woken(struct rpc_tag *tag, bool ok)
{
	(void)ok;
	rpc_in_run(container_of(tag, struct rpc_in, woken), false);
}

/* True where the caller has to make it run. */
static bool rpc_in_queue(struct rpc_in *in)
{
	enum rpc_run run = atomic_load(&in->run);

	for (;;) {
		enum rpc_run next = run == RUN_IDLE ? RUN_QUEUED : RUN_RERUN;

		if (run != RUN_IDLE && run != RUN_RUNNING)
			return false;
		if (atomic_compare_exchange_weak(&in->run, &run, next))
			return next == RUN_QUEUED;
	}
}

void rpc_wake(struct rpc_in *in)
{
	if (!rpc_in_queue(in))
		return;
	if (rpc_in_is_inline(in))
		rpc_batch(in->call, NULL, 0, &in->woken);
	else
		peer_run(in, false);
}

/* The same on a poller, which can run an inline step itself. */
static void rpc_in_wake_here(struct rpc_in *in)
{
	if (!rpc_in_queue(in))
		return;
	if (rpc_in_is_inline(in))
		rpc_in_run(in, false);
	else
		peer_run(in, false);
}

/* ---- events --------------------------------------------------------------------- */

static void rpc_in_sent(struct rpc_tag *tag, bool ok)
{
	struct rpc_in *in = container_of(tag, struct rpc_in, sent);

	(void)ok; /* where it failed, the call is cancelled, and says so itself */
	peer_sent(in);
	if (atomic_exchange(&in->write, WRITE_IDLE) == WRITE_THEN_FINISH)
		rpc_in_end(in);
	else
		rpc_in_wake_here(in);
	rpc_in_unref(in);
}

static void rpc_in_received(struct rpc_tag *tag, bool ok)
{
	struct rpc_in *in = container_of(tag, struct rpc_in, received);
	size_t len = 0;

	if (!in->incoming && (!ok || grpc_call_failed_before_recv_message(in->call)))
		atomic_store(&in->is_cancelled, true);
	if (in->incoming)
		len = grpc_byte_buffer_length(in->incoming);
	peer_received(in, len);
	rpc_in_moved(in, &in->n_received, len);
	if (!rpc_in_streams_requests(in)) {
		in->is_large = len > RPC_INLINE_MAX;
		in->has_many = len > PEER_HEAVY;
	}
	atomic_store(&in->read, in->incoming ? READ_READY : READ_END);
	rpc_in_wake_here(in);
	rpc_in_unref(in);
}

static void rpc_in_closed(struct rpc_tag *tag, bool ok)
{
	struct rpc_in *in = container_of(tag, struct rpc_in, closed);

	if (!ok || in->core_cancelled) {
		atomic_store(&in->is_cancelled, true);
		rpc_in_wake_here(in);
	}
	rpc_in_unref(in);
}

void rpc_in_start_read(struct rpc_in *in)
{
	grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

	op.data.recv_message.recv_message = &in->incoming;
	rpc_in_ref(in);
	rpc_batch(in->call, &op, 1, &in->received);
}

void rpc_in_read(struct rpc_in *in)
{
	atomic_store(&in->read, READ_PENDING);
	if (peer_admit(in))
		rpc_in_start_read(in);
}

static void rpc_in_arrived(struct rpc_tag *tag, bool ok)
{
	struct rpc_in *in = container_of(tag, struct rpc_in, arrived);

	if (!ok) { /* the server stops; there is no call */
		in->call = NULL;
		rpc_in_unref(in);
		return;
	}
	sync_lock(&in->server->mutex);
	in->server->n_in++;
	sync_unlock(&in->server->mutex);
	rpc_in_request(in->entry);
	in->peer = peer_get(in->server->peers, in->call);
	if (in->entry->handler && (in->entry->handler->flags & RPC_LONG))
		atomic_store(&in->is_long, true);
	if (!in->entry->handler) {
		atomic_store(&in->run, RUN_QUEUED);
		rpc_in_run(in, false);
		return;
	}
	/* Events of the one may bring the call to its end before the other is begun. */
	rpc_in_ref(in);
	rpc_in_watch_close(in);
	rpc_in_read(in);
	rpc_in_unref(in);
}

void rpc_in_request(struct rpc_entry *entry)
{
	struct rpc_in *in = alloc_new(struct rpc_in);
	struct rpc_server *server = entry->server;
	grpc_call_error r;

	in->server = server;
	in->entry = entry;
	atomic_init(&in->refs, 1);
	in->arrived.fn = rpc_in_arrived;
	in->closed.fn = rpc_in_closed;
	in->received.fn = rpc_in_received;
	in->sent.fn = rpc_in_sent;
	in->finished.fn = rpc_in_finished;
	in->woken.fn = rpc_in_woken;
	in->task.run = rpc_in_task;
	in->arena = ARENA_INIT(RPC_IN_ARENA);
	in->status_text = grpc_empty_slice();
	in->deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
	list_init(&in->timer_link);
	list_init(&in->wait_link);
	list_init(&in->told_link);
	list_init(&in->send_link);
	grpc_metadata_array_init(&in->metadata);
	grpc_call_details_init(&in->details);
	rpc_tag_release(&in->arrived);
	if (entry->handler)
		r = grpc_server_request_registered_call(
			server->server, entry->handle, &in->call, &in->deadline,
			&in->metadata, NULL, server->queue, server->queue, &in->arrived);
	else
		r = grpc_server_request_call(server->server, &in->call, &in->details,
					     &in->metadata, server->queue, server->queue,
					     &in->arrived);
	require(r == GRPC_CALL_OK);
}

/* ---- time ----------------------------------------------------------------------- */

void rpc_wake_at(struct rpc_in *in, int64_t mono_ns)
{
	struct rpc_server *server = in->server;
	struct list *at;

	sync_lock(&server->mutex);
	if (list_is_empty(&in->timer_link))
		rpc_in_ref(in);
	list_remove(&in->timer_link);
	in->wake_ns = mono_ns;
	/* From the end: most have the same delay, so the latest set is the last due. */
	for (at = &server->timers; at->prev != &server->timers; at = at->prev) {
		if (container_of(at->prev, struct rpc_in, timer_link)->wake_ns <= mono_ns)
			break;
	}
	list_insert_before(at, &in->timer_link);
	if (server->timers.next == &in->timer_link)
		sync_signal(&server->timer_changed);
	sync_unlock(&server->mutex);
}

void *rpc_timer_run(void *arg)
{
	struct rpc_server *server = arg;

	sync_lock(&server->mutex);
	while (!server->is_timer_done) {
		struct rpc_in *in =
			container_of(server->timers.next, struct rpc_in, timer_link);

		if (list_is_empty(&server->timers)) {
			sync_wait(&server->timer_changed, &server->mutex);
			continue;
		}
		if (in->wake_ns > clock_mono_ns()) {
			(void)sync_wait_until(&server->timer_changed, &server->mutex,
					      in->wake_ns);
			continue;
		}
		list_remove(&in->timer_link);
		sync_unlock(&server->mutex);
		rpc_wake(in);
		rpc_in_unref(in);
		sync_lock(&server->mutex);
	}
	sync_unlock(&server->mutex);
	return NULL;
}
