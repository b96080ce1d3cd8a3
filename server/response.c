/* Owns no state: builds the messages that say how an action stands. */
#include "server/response.h"

#include "lib/base/clock.h"
#include "lib/base/wire.h"
#include "lib/rpc/any.h"

void response_of_result(Reapi__ActionResult *result, bool is_cached,
			const Rpcstatus__Status *status, struct buf *out)
{
	Reapi__ExecuteResponse response = REAPI__EXECUTE_RESPONSE__INIT;
	Rpcstatus__Status told;

	response.result = result;
	response.cached_result = is_cached;
	response.status = (Rpcstatus__Status *)(uintptr_t)status;
	if (status && status->code == ERROR_DEADLINE_EXCEEDED) {
		told = *status;
		told.message = RPC_TIMED_OUT;
		response.message = status->message;
		response.status = &told;
	}
	rpc_encode(&response.base, out);
}

void response_of_error(const struct error *err, struct buf *out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);

	response_of_result(NULL, false, rpc_status_message(err, &arena), out);
}

Pb__Any *response_any(const char *type, struct slice value, struct arena *arena)
{
	Pb__Any *any = arena_new(arena, Pb__Any);

	if (!any)
		return NULL;
	pb__any__init(any);
	any->type_url = type;
	any->value.data = (uint8_t *)(uintptr_t)value.data;
	any->value.len = value.len;
	return any;
}

Pb__Timestamp *response_timestamp(int64_t wall_ns, struct arena *arena)
{
	Pb__Timestamp *stamp = arena_new(arena, Pb__Timestamp);

	if (!stamp)
		return NULL;
	pb__timestamp__init(stamp);
	stamp->seconds = wall_ns / NS_PER_S;
	stamp->nanos = (int32_t)(wall_ns % NS_PER_S);
	return stamp;
}

static Reapi__ExecutionStage__Value response_stage(enum queue_stage stage)
{
	switch (stage) {
	case QUEUE_QUEUED:
		return REAPI__EXECUTION_STAGE__VALUE__QUEUED;
	case QUEUE_EXECUTING:
		return REAPI__EXECUTION_STAGE__VALUE__EXECUTING;
	case QUEUE_COMPLETED:
		return REAPI__EXECUTION_STAGE__VALUE__COMPLETED;
	}
	return REAPI__EXECUTION_STAGE__VALUE__UNKNOWN;
}

#define RESPONSE_NO_BOTS "no worker is connected: the action waits for one"

/* Whoever may add to what is known of a run, at most so much of it. */
#define RESPONSE_EXTRA_MAX 2

/* Where nobody is here to run a queued operation: in words, which clients print. */
static Pb__Any *response_no_bots(struct arena *arena)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	void *copy;

	wire_put_bytes(&bytes, 1, slice_of(RESPONSE_NO_BOTS)); /* a StringValue */
	copy = arena_memdup(arena, bytes.data, bytes.len);
	return copy ? response_any(RESPONSE_TYPE_PREFIX "google.protobuf.StringValue",
				   (struct slice){copy, bytes.len}, arena)
		    : NULL;
}

static Pb__Any *response_place(size_t n_before, struct arena *arena)
{
	Lazyroot__QueuePlace place = LAZYROOT__QUEUE_PLACE__INIT;

	place.behind = (int64_t)n_before;
	return rpc_any_of(&place.base, arena);
}

/* What is known before the end, and for who asks by name, who asked for it. NULL where
 * that is nothing, or arena is full. */
static Reapi__ExecutedActionMetadata *response_partial(const struct queue_state *state,
						       struct arena *arena)
{
	Reapi__ExecutedActionMetadata *partial = NULL;
	Pb__Any *extra[RESPONSE_EXTRA_MAX] = {0};
	size_t n_extra = 0;
	Pb__Any **list;
	size_t n;

	if (state->partial.len > 0)
		partial = (Reapi__ExecutedActionMetadata *)rpc_decode(
			&reapi__executed_action_metadata__descriptor, state->partial,
			arena);
	if (state->has_no_bots)
		extra[n_extra++] = response_no_bots(arena);
	else if (state->n_before)
		extra[n_extra++] = response_place(state->n_before, arena);
	if (state->request.len > 0)
		extra[n_extra++] = response_any(RESPONSE_REAPI "RequestMetadata",
						state->request, arena);
	if (!n_extra)
		return partial;
	if (!partial) {
		partial = arena_new(arena, Reapi__ExecutedActionMetadata);
		if (!partial)
			return NULL;
		reapi__executed_action_metadata__init(partial);
	}
	n = partial->n_auxiliary_metadata;
	list = arena_array(arena, n + n_extra, sizeof(Pb__Any *));
	if (!list)
		return NULL;
	for (size_t i = 0; i < n; i++)
		list[i] = partial->auxiliary_metadata[i];
	for (size_t i = 0; i < n_extra; i++)
		list[n + i] = extra[i];
	partial->auxiliary_metadata = list;
	partial->n_auxiliary_metadata = n + n_extra;
	return arena->is_full ? NULL : partial;
}

static void response_metadata(const struct digest *action, enum queue_stage stage,
			      Reapi__ExecutedActionMetadata *partial,
			      const char *const logs[static QUEUE_LOGS], struct buf *out)
{
	Reapi__ExecuteOperationMetadata metadata =
		REAPI__EXECUTE_OPERATION_METADATA__INIT;
	Reapi__Digest digest = REAPI__DIGEST__INIT;
	char hex[DIGEST_HEX_MAX];

	digest_to_wire(action, hex, &digest);
	metadata.stage = response_stage(stage);
	metadata.action_digest = &digest;
	metadata.partial_execution_metadata = partial;
	if (logs[0])
		metadata.stdout_stream_name = logs[0];
	if (logs[1])
		metadata.stderr_stream_name = logs[1];
	metadata.digest_function = REAPI__DIGEST_FUNCTION__VALUE__SHA256;
	rpc_encode(&metadata.base, out);
}

void response_lease_metadata(const struct digest *action, enum queue_stage stage,
			     const char *const logs[static QUEUE_LOGS], struct buf *out)
{
	response_metadata(action, stage, NULL, logs, out);
}

Longrunning__Operation *response_operation(const struct queue_state *state,
					   struct arena *arena)
{
	Longrunning__Operation *operation = arena_new(arena, Longrunning__Operation);
	_cleanup_buf_ struct buf metadata = BUF_INIT;
	struct slice bytes;

	if (!operation)
		return NULL;
	response_metadata(&state->action_digest, state->stage,
			  response_partial(state, arena), state->logs, &metadata);
	bytes = (struct slice){arena_memdup(arena, metadata.data, metadata.len),
			       metadata.len};
	longrunning__operation__init(operation);
	operation->name = state->name;
	operation->metadata =
		response_any(RESPONSE_REAPI "ExecuteOperationMetadata", bytes, arena);
	if (state->stage == QUEUE_COMPLETED) {
		operation->done = true;
		operation->result_case = LONGRUNNING__OPERATION__RESULT_RESPONSE;
		operation->response = response_any(RESPONSE_REAPI "ExecuteResponse",
						   state->response, arena);
	}
	return arena->is_full ? NULL : operation;
}

static void response_release(void *shared)
{
	queue_bytes_unref(shared);
}

/*
 * The response goes last, and its bytes last within it, so that all before them is a head
 * and they are sent as they are kept.
 */
void response_send(struct rpc_in *in, struct queue_state *state)
{
	_cleanup_(queue_bytes_unrefp) struct queue_bytes *shared = take(state->shared);
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	_cleanup_buf_ struct buf any = BUF_INIT;
	_cleanup_buf_ struct buf head = BUF_INIT;
	struct slice response = state->response;
	Longrunning__Operation *operation;

	operation = response_operation(state, &arena);
	if (!operation) {
		(void)rpc_fail(in, arena_error("the operation"));
		return;
	}
	if (!shared) {
		rpc_send(in, &operation->base);
		return;
	}
	operation->result_case = LONGRUNNING__OPERATION__RESULT__NOT_SET;
	operation->response = NULL;
	rpc_encode(&operation->base, &head);
	wire_put_bytes(&any, 1, slice_of(RESPONSE_REAPI "ExecuteResponse"));
	wire_put_head(&any, 2, response.len);
	wire_put_head(&head, 5, any.len + response.len);
	buf_add(&head, any.data, any.len);
	rpc_send_raw(in, buf_slice(&head), response, response_release, take(shared));
}
