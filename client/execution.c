/*
 * Owns one attempt's stream at a time. Each message is a whole Operation; the last
 * decides, and nothing is kept of those before it: there may be one a second, for a day.
 */
#include "client/execution.h"

#include <string.h>

#include "client/interrupt.h"
#include "client/retries.h"
#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/wire.h"
#include "lib/rpc/any.h"
#include "lib/rpc/stream.h"

#define LOG_MODULE "execution"
#include "lib/base/log.h"

#define EXECUTION_TEXT_TYPE "type.googleapis.com/google.protobuf.StringValue"
#define EXECUTION_ATTEMPTS  5
#define EXECUTION_UNKNOWN   3  /* of which the service did not find what it needs */
#define EXECUTION_BREAKS    20 /* two minutes: a server may be started anew meanwhile */

struct execution_tries {
	unsigned int n_failed; /* ends that were no result */
	bool is_waiting;       /* by WaitExecution, else by Execute */
	unsigned int n_breaks; /* the operation was out of sight */
	bool has_heard;        /* of the operation, at least once */
	bool is_renewed;       /* other credentials had their try */
	int64_t until_ns;      /* monotonic: then it is given up */
};

static const struct rpc_method execution_execute = {&reapi__execution__descriptor,
						    "Execute"};
static const struct rpc_method execution_wait_method = {&reapi__execution__descriptor,
							"WaitExecution"};
static const struct rpc_method execution_cancel_method = {
	&longrunning__operations__descriptor, "CancelOperation"};

void execution_outcome_deinit(struct execution_outcome *outcome)
{
	arena_deinit(&outcome->arena);
	free(take(outcome->operation));
	free(take(outcome->note));
}

static enum execution_stage execution_stage(
	const Reapi__ExecuteOperationMetadata *metadata)
{
	switch (metadata->stage) {
	case REAPI__EXECUTION_STAGE__VALUE__CACHE_CHECK:
		return EXECUTION_CACHE_CHECK;
	case REAPI__EXECUTION_STAGE__VALUE__QUEUED:
		return EXECUTION_QUEUED;
	case REAPI__EXECUTION_STAGE__VALUE__EXECUTING:
		return EXECUTION_RUNNING;
	case REAPI__EXECUTION_STAGE__VALUE__COMPLETED:
		return EXECUTION_DONE;
	default:
		return EXECUTION_SENT;
	}
}

const char *execution_stage_text(enum execution_stage stage)
{
	static const char *const texts[] = {
		[EXECUTION_SENT] = "sent",
		[EXECUTION_CACHE_CHECK] = "looking in the cache",
		[EXECUTION_QUEUED] = "queued",
		[EXECUTION_RUNNING] = "running",
		[EXECUTION_DONE] = "done",
	};

	return texts[stage];
}

/* A signal came: interrupt_fn. */
static void execution_interrupted(const void *ctx, const char *operation)
{
	const struct execution_config *config = ctx;
	struct error *err;

	if (config->is_left) {
		say("lazyroot: %s goes on; lazyroot wait gets back to it, lazyroot "
		    "cancel ends it",
		    operation);
		return;
	}
	say("lazyroot: cancelling %s", operation);
	err = execution_cancel(config->client, operation);
	if (err)
		say("lazyroot: it could not be cancelled: %s", error_text(err));
	error_free(err);
}

/* From here on, a signal cancels it first, or where is_left only says how to get back. */
static void execution_begin_watch(const struct execution_config *config,
				  const char *operation)
{
	if (!config->is_detached)
		interrupt_set(execution_interrupted, config, operation);
}

static void *execution_unpack(const ProtobufCMessageDescriptor *type, const Pb__Any *any,
			      struct arena *arena)
{
	return rpc_decode(type, (struct slice){any->value.data, any->value.len}, arena);
}

/* What the service says of a queued action in words (why it waits), each once. */
static void execution_note(const Reapi__ExecuteOperationMetadata *metadata,
			   struct execution_outcome *out)
{
	const Reapi__ExecutedActionMetadata *partial =
		metadata->partial_execution_metadata;

	for (size_t i = 0; partial && i < partial->n_auxiliary_metadata; i++) {
		const Pb__Any *any = partial->auxiliary_metadata[i];
		struct wire wire =
			wire_of((struct slice){any->value.data, any->value.len});
		struct wire_field field;

		if (strcmp(any->type_url, EXECUTION_TEXT_TYPE) != 0 ||
		    !wire_next(&wire, &field) || field.number != 1 ||
		    field.type != WIRE_BYTES)
			continue;
		if (out->note && slice_is(field.bytes, out->note))
			continue;
		free(out->note);
		out->note =
			alloc_string_n((const char *)field.bytes.data, field.bytes.len);
		if (say_few(&out->notes))
			say("lazyroot: %s", out->note);
	}
}

/* How many are handed out before a queued one, where the service tells that. */
static int64_t execution_behind(const Reapi__ExecuteOperationMetadata *metadata,
				struct arena *arena)
{
	const Reapi__ExecutedActionMetadata *partial =
		metadata->partial_execution_metadata;

	for (size_t i = 0; partial && i < partial->n_auxiliary_metadata; i++) {
		const Lazyroot__QueuePlace *place =
			(const Lazyroot__QueuePlace *)rpc_any_message(
				partial->auxiliary_metadata[i],
				&lazyroot__queue_place__descriptor, arena);

		if (place && place->behind > 0)
			return place->behind;
	}
	return 0;
}

static void execution_take_metadata(const struct execution_config *config,
				    const Reapi__ExecuteOperationMetadata *metadata,
				    struct execution_outcome *out)
{
	struct error *err = digest_from_wire(metadata->action_digest, &out->action);

	out->has_answered = true;
	out->has_action = out->has_action || !err;
	log_drop(LOG_DEBUG, err, "the service does not name the action");
	if (config->stage)
		config->stage(config->ctx, execution_stage(metadata),
			      execution_behind(metadata, &out->arena));
	if (config->live)
		live_follow(config->live, metadata);
	if (!config->client->is_quiet)
		execution_note(metadata, out);
}

/* One Operation; *is_done_out where it is the last. Errors of the service are errors. */
static struct error *execution_take(const struct execution_config *config,
				    struct slice bytes, struct execution_outcome *out,
				    bool *is_done_out)
{
	const Reapi__ExecuteOperationMetadata *metadata = NULL;
	const Longrunning__Operation *op;

	arena_reset(&out->arena);
	op = (const Longrunning__Operation *)rpc_decode(
		&longrunning__operation__descriptor, bytes, &out->arena);
	if (!op)
		return error_new(ERROR_INTERNAL,
				 "the service's Operation does not decode");
	if (!*op->name && !op->metadata && !op->done)
		return error_new(ERROR_INTERNAL, "the service's Operation says nothing");
	if (!out->operation && *op->name) {
		out->operation = alloc_string(op->name);
		execution_begin_watch(config, op->name);
	}
	if (op->metadata)
		metadata =
			execution_unpack(&reapi__execute_operation_metadata__descriptor,
					 op->metadata, &out->arena);
	if (metadata)
		execution_take_metadata(config, metadata, out);
	*is_done_out = op->done;
	if (!op->done)
		return NULL;
	if (op->result_case == LONGRUNNING__OPERATION__RESULT_ERROR)
		return error_new((enum error_code)(op->error->code ? op->error->code
								   : ERROR_UNKNOWN),
				 "%s", op->error->message);
	if (op->result_case == LONGRUNNING__OPERATION__RESULT_RESPONSE)
		out->response = execution_unpack(&reapi__execute_response__descriptor,
						 op->response, &out->arena);
	if (!out->response)
		return error_new(ERROR_INTERNAL,
				 "the service ended the operation without result");
	return NULL;
}

/* ExecuteResponse.status as an error, details kept; a timeout with a result is none. */
static struct error *execution_status(const struct execution_outcome *out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	const Rpcstatus__Status *status = out->response->status;

	if (!status || !status->code)
		return NULL;
	if (status->code == ERROR_DEADLINE_EXCEEDED && out->response->result)
		return NULL;
	/* a timeout says the same for all clients, and what it is about beside it */
	if (status->code == ERROR_DEADLINE_EXCEEDED && *out->response->message)
		return error_new(ERROR_DEADLINE_EXCEEDED, "%s", out->response->message);
	rpc_encode(&status->base, &bytes);
	return rpc_status_decode(buf_slice(&bytes));
}

static struct error *execution_follow(const struct execution_config *config,
				      struct rpc_stream *stream,
				      struct execution_outcome *out)
{
	bool is_done = false;
	struct error *err = NULL;

	while (!err && !is_done) {
		bool has_message = false;
		struct slice bytes;

		err = rpc_stream_receive(stream, &has_message, &bytes);
		if (!err && !has_message) {
			err = rpc_stream_finish(stream);
			return err ? err
				   : error_new(ERROR_UNAVAILABLE,
					       "the stream ended before the operation");
		}
		if (!err)
			err = execution_take(config, bytes, out, &is_done);
		if (!err && config->is_detached && out->operation)
			return NULL;
	}
	return err ? err : execution_status(out);
}

static int64_t execution_left_ms(const struct execution_tries *tries)
{
	int64_t left_ns = tries->until_ns - clock_mono_ns();

	/* rounded up, so that when the call's time is over, ours is, too */
	return left_ns > 0 ? left_ns / NS_PER_MS + 2 : 1;
}

/* A service that knows the operation says at once how it stands; one that has taken an
 * action in may look at its cache first. */
static struct error *execution_stream(const struct execution_config *config,
				      const struct rpc_method *method,
				      const ProtobufCMessage *request,
				      const struct execution_tries *tries,
				      struct execution_outcome *out)
{
	/* our server cancels an operation that all clients left, unless it has this */
	const struct rpc_header detached = {"lazyroot-detached", slice_of("1")};
	const struct rpc_options options = {
		.timeout_ms = execution_left_ms(tries),
		.idle_ms = config->patience.silence_ns / NS_PER_MS,
		.headers = &detached,
		.n_headers = config->is_detached ? 1 : 0,
	};
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	bool is_broken = false;
	struct error *err;

	err = rpc_stream_open(remote_chan(config->client->execution), method, &options,
			      &stream);
	if (!err)
		err = rpc_stream_send_message(stream, request, &is_broken);
	if (!err && !is_broken)
		err = rpc_stream_close_send(stream);
	return err ? err : execution_follow(config, stream, out);
}

static struct error *execution_start(const struct execution_config *config,
				     const struct execution_tries *tries,
				     struct execution_outcome *out)
{
	Reapi__ExecuteRequest request = REAPI__EXECUTE_REQUEST__INIT;
	Reapi__ExecutionPolicy policy = REAPI__EXECUTION_POLICY__INIT;
	Reapi__Digest action = REAPI__DIGEST__INIT;
	char hex[DIGEST_HEX_MAX];

	request.instance_name = remote_instance(config->client->execution);
	digest_to_wire(config->action, hex, &action);
	request.action_digest = &action;
	request.skip_cache_lookup = config->skip_cache_lookup;
	policy.priority = config->priority;
	request.execution_policy = &policy;
	return execution_stream(config, &execution_execute, &request.base, tries, out);
}

static struct error *execution_resume(const struct execution_config *config,
				      const char *operation,
				      const struct execution_tries *tries,
				      struct execution_outcome *out)
{
	Reapi__WaitExecutionRequest request = REAPI__WAIT_EXECUTION_REQUEST__INIT;

	request.name = operation;
	return execution_stream(config, &execution_wait_method, &request.base, tries,
				out);
}

/* What came before a break is not the result: start afresh, but keep the name. */
static void execution_reset(struct execution_outcome *out, bool keeps_operation)
{
	arena_reset(&out->arena);
	out->response = NULL;
	out->has_answered = out->has_action = false;
	if (!keeps_operation)
		free(take(out->operation));
}

/* Not there any more, on a service that cannot wait for operations, or on one that keeps
 * silent about what it is asked for (some do, which have no WaitExecution). */
static bool execution_is_lost(const struct error *err, bool has_answered)
{
	return error_code(err) == ERROR_NOT_FOUND ||
	       error_code(err) == ERROR_UNIMPLEMENTED ||
	       (error_code(err) == ERROR_DEADLINE_EXCEEDED && !has_answered);
}

/* The operation, not a call, ended with this error: so would another try. INTERNAL may
 * be an accident of one worker (its sandbox was killed), so it has a second try. */
static bool execution_is_final(const struct error *err, unsigned int n_failed)
{
	if (error_code(err) == ERROR_INTERNAL)
		return n_failed > 0;
	return error_code(err) != ERROR_UNAVAILABLE && error_code(err) != ERROR_ABORTED &&
	       error_code(err) != ERROR_RESOURCE_EXHAUSTED;
}

/* The inputs went between their upload and Execute: the service names them, or says no
 * more than that something was not found. */
static bool execution_lacks_blobs(const struct execution_config *config,
				  const struct error *err,
				  const struct execution_tries *tries)
{
	if (!config->resend || tries->n_failed + 1 >= EXECUTION_ATTEMPTS)
		return false;
	if (error_code(err) == ERROR_NOT_FOUND)
		return !tries->is_waiting && tries->n_failed + 1 < EXECUTION_UNKNOWN;
	return error_code(err) == ERROR_FAILED_PRECONDITION && error_n_missing(err);
}

/* When to try again; -1: not at all. Credentials have one second try, beside the others.
 */
static int64_t execution_delay_ms(const struct execution_config *config,
				  const struct error *err, struct execution_tries *tries,
				  const struct execution_outcome *out)
{
	struct rpc_chan *chan = remote_chan(config->client->execution);

	if (!out->response && !tries->is_renewed && rpc_chan_renew(chan, err)) {
		tries->is_renewed = true;
		return 0;
	}
	if (out->operation && !out->response && tries->has_heard)
		return rpc_retry_delay_ms(err, tries->n_breaks++, EXECUTION_BREAKS);
	return rpc_retry_delay_ms(err, tries->n_failed++, EXECUTION_ATTEMPTS);
}

/*
 * After a failure: what to do next. MISSING: upload again and Execute. A lost operation:
 * Execute. Else, where the code may pass: WaitExecution if there is an operation that did
 * not end, or Execute. Consumes err and returns it where nothing helps.
 */
static struct error *execution_mend(const struct execution_config *config,
				    struct error *err, struct execution_tries *tries,
				    struct execution_outcome *out)
{
	bool has_answered = out->has_answered;
	bool has_ended = out->response != NULL;
	bool is_out_of_sight = out->operation && !has_ended;
	int64_t delay_ms;

	if (clock_mono_ns() >= tries->until_ns)
		return err;
	tries->has_heard = tries->has_heard || has_answered;
	if (execution_lacks_blobs(config, err, tries)) {
		tries->n_failed++;
		retries_add();
		log_drop(LOG_WARN, err,
			 "blobs are missing at the server, sending them again");
		execution_reset(out, false);
		return config->resend(config->ctx);
	}
	if (tries->is_waiting && execution_is_lost(err, has_answered) &&
	    is_out_of_sight && config->action &&
	    tries->n_failed + 1 < EXECUTION_ATTEMPTS) {
		tries->n_failed++;
		retries_add();
		log_drop(LOG_WARN, err, "the operation is lost, starting it again");
		execution_reset(out, false);
		return NULL;
	}
	/* who only waits cannot begin it again */
	if (has_ended && (!config->action || execution_is_final(err, tries->n_failed)))
		return err;
	delay_ms = execution_delay_ms(config, err, tries, out);
	if (delay_ms < 0)
		return err;
	delay_ms = rpc_retry_jitter_ms(delay_ms);
	retries_add();
	log_drop(LOG_WARN, err, "%s; again in %lld ms",
		 is_out_of_sight ? "lost sight of the operation" : "no result",
		 (long long)delay_ms);
	clock_sleep_ms(delay_ms);
	execution_reset(out, !has_ended);
	return NULL;
}

/* Nobody will want what it makes any more. */
static struct error *execution_give_up(const struct execution_config *config,
				       struct error *err,
				       const struct execution_outcome *out)
{
	const char *name = out->operation ? out->operation : "it had no name yet";

	if (out->operation && !config->is_left)
		error_free(execution_cancel(config->client, name));
	error_free(err);
	return error_new(ERROR_DEADLINE_EXCEEDED,
			 "no result after the time that --give-up allows; the operation "
			 "%s: %s",
			 config->is_left ? "goes on" : "was cancelled", name);
}

static struct error *execution_loop(const struct execution_config *config,
				    struct execution_outcome *out)
{
	struct execution_tries tries = {.until_ns = clock_mono_ns() +
						    config->patience.give_up_ns};

	for (;;) {
		_cleanup_free_ char *operation =
			out->operation ? alloc_string(out->operation) : NULL;
		struct error *err;

		tries.is_waiting = operation != NULL;
		err = operation ? execution_resume(config, operation, &tries, out)
				: execution_start(config, &tries, out);
		if (!err)
			return NULL;
		err = execution_mend(config, err, &tries, out);
		if (err && clock_mono_ns() >= tries.until_ns)
			return execution_give_up(config, err, out);
		if (err)
			return err;
	}
}

static struct error *execution_finish(const struct execution_config *config,
				      struct execution_outcome *outcome,
				      struct error *err, struct execution_outcome *out)
{
	if (!config->is_detached)
		interrupt_set(NULL, NULL, NULL);
	if (err) {
		execution_outcome_deinit(outcome);
		return err;
	}
	*out = *outcome;
	return NULL;
}

struct error *execution_run(const struct execution_config *config,
			    struct execution_outcome *out)
{
	struct execution_outcome outcome = {.arena = ARENA_INIT(RPC_ARENA_MAX)};
	struct error *err = execution_loop(config, &outcome);

	return execution_finish(config, &outcome, err, out);
}

struct error *execution_wait(const struct execution_config *config, const char *operation,
			     struct execution_outcome *out)
{
	struct execution_outcome outcome = {.arena = ARENA_INIT(RPC_ARENA_MAX),
					    .operation = alloc_string(operation)};
	struct error *err;

	execution_begin_watch(config, operation);
	err = execution_loop(config, &outcome);
	return execution_finish(config, &outcome, err, out);
}

struct error *execution_cancel(struct client *client, const char *operation)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)1 << 20);
	Longrunning__CancelOperationRequest request =
		LONGRUNNING__CANCEL_OPERATION_REQUEST__INIT;
	struct rpc_options options = {.timeout_ms = 10000};
	ProtobufCMessage *reply = NULL;

	request.name = operation;
	return rpc_call_message(remote_chan(client->execution), &execution_cancel_method,
				&request.base, &options, &arena, &reply);
}
