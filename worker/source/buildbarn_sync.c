/*
 * Owns what a slot does. Invariant: a lease is given out once, cancelled at most once and
 * only after that; the next one is given out when the one before has ended.
 */
#include "worker/source/buildbarn_sync.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/wire.h"
#include "lib/rpc/rpc.h"

#define LOG_MODULE "buildbarn"
#include "lib/base/log.h"

#define BUILDBARN_HASH_MAX     256 /* of any digest function, with room */
#define BUILDBARN_INSTANCE_MAX 1024
#define BUILDBARN_METADATA_MAX ((size_t)64 << 10)
/* Fields of an ExecuteResponse. */
#define BUILDBARN_RESULT  1
#define BUILDBARN_STATUS  3
#define BUILDBARN_MESSAGE 5

static void buildbarn_task_deinit(struct buildbarn_task *task)
{
	free(task->hash);
	source_lease_free(task->lease);
	error_free(task->refusal);
	*task = (struct buildbarn_task){0};
}

void buildbarn_sync_init(struct buildbarn_sync *sync, unsigned int slot)
{
	*sync = (struct buildbarn_sync){.slot = slot};
}

void buildbarn_sync_deinit(struct buildbarn_sync *sync)
{
	buildbarn_task_deinit(&sync->task);
	buildbarn_task_deinit(&sync->next);
	buf_deinit(&sync->completed);
	free(sync->id);
}

static void buildbarn_set_state(struct buildbarn_sync *sync, enum buildbarn_state state)
{
	static const unsigned int legal[] = {
		[BUILDBARN_IDLE] = 1u << BUILDBARN_RUNNING | 1u << BUILDBARN_COMPLETED,
		[BUILDBARN_RUNNING] = 1u << BUILDBARN_IDLE | 1u << BUILDBARN_STOPPING |
				      1u << BUILDBARN_COMPLETED,
		[BUILDBARN_STOPPING] = 1u << BUILDBARN_IDLE,
		[BUILDBARN_COMPLETED] = 1u << BUILDBARN_IDLE,
	};

	require(legal[sync->state] & 1u << state);
	sync->state = state;
}

/* Telling */

static Buildbarn__CurrentState__Executing *buildbarn_executing(
	const struct buildbarn_sync *sync, struct arena *arena)
{
	static Pb__Empty nothing = PB__EMPTY__INIT;
	static const Buildbarn__CurrentState__Executing__ExecutionStateCase stages[] = {
		BUILDBARN__CURRENT_STATE__EXECUTING__EXECUTION_STATE_FETCHING_INPUTS,
		BUILDBARN__CURRENT_STATE__EXECUTING__EXECUTION_STATE_RUNNING,
		BUILDBARN__CURRENT_STATE__EXECUTING__EXECUTION_STATE_UPLOADING_OUTPUTS};
	Buildbarn__CurrentState__Executing *executing =
		arena_new(arena, Buildbarn__CurrentState__Executing);
	Reapi__Digest *digest = arena_new(arena, Reapi__Digest);

	if (!executing || !digest)
		return NULL;
	buildbarn__current_state__executing__init(executing);
	reapi__digest__init(digest);
	digest->hash = sync->task.hash;
	digest->size_bytes = sync->task.size;
	executing->action_digest = digest;
	if (sync->state == BUILDBARN_COMPLETED) {
		executing->execution_state_case =
			BUILDBARN__CURRENT_STATE__EXECUTING__EXECUTION_STATE_COMPLETED;
		executing->completed.data = sync->completed.data;
		executing->completed.len = sync->completed.len;
		return executing;
	}
	executing->execution_state_case =
		sync->has_stage
			? stages[sync->stage]
			: BUILDBARN__CURRENT_STATE__EXECUTING__EXECUTION_STATE_STARTED;
	executing->started = &nothing; /* the same place in each of these cases */
	return executing;
}

bool buildbarn_sync_fill(const struct buildbarn_sync *sync, struct arena *arena,
			 Buildbarn__SynchronizeRequest *request)
{
	static Pb__Empty nothing = PB__EMPTY__INIT;
	Buildbarn__CurrentState *state = arena_new(arena, Buildbarn__CurrentState);

	require(sync->state != BUILDBARN_STOPPING);
	if (!state)
		return false;
	buildbarn__current_state__init(state);
	request->current_state = state;
	if (sync->state == BUILDBARN_IDLE) {
		state->worker_state_case = BUILDBARN__CURRENT_STATE__WORKER_STATE_IDLE;
		state->idle = &nothing;
		return true;
	}
	state->worker_state_case = BUILDBARN__CURRENT_STATE__WORKER_STATE_EXECUTING;
	state->executing = buildbarn_executing(sync, arena);
	return state->executing != NULL;
}

bool buildbarn_sync_may_wait(const struct buildbarn_sync *sync)
{
	return sync->state == BUILDBARN_IDLE ||
	       (sync->state == BUILDBARN_COMPLETED && !sync->has_failed);
}

/* Hearing */

/* Status and *result become what the task is completed with; both are consumed. */
static void buildbarn_complete(struct buildbarn_sync *sync, struct error *status,
			       struct buf *result)
{
	_cleanup_buf_ struct buf encoded = BUF_INIT;

	buildbarn_set_state(sync, BUILDBARN_COMPLETED);
	sync->has_failed = status != NULL;
	if (result->len)
		wire_put_bytes(&sync->completed, BUILDBARN_RESULT, buf_slice(result));
	if (error_code(status) == ERROR_DEADLINE_EXCEEDED) {
		wire_put_bytes(&sync->completed, BUILDBARN_MESSAGE,
			       slice_of(error_text(status)));
		error_free(status);
		status = error_new(ERROR_DEADLINE_EXCEEDED, RPC_TIMED_OUT);
	}
	if (status) {
		rpc_status_encode(status, &encoded);
		wire_put_bytes(&sync->completed, BUILDBARN_STATUS, buf_slice(&encoded));
	}
	buf_deinit(result);
	error_free(status);
}

/* From IDLE: what comes next, if anything does. */
static void buildbarn_begin(struct buildbarn_sync *sync)
{
	struct buf none = BUF_INIT;

	if (!sync->next.hash)
		return;
	sync->task = sync->next;
	sync->next = (struct buildbarn_task){0};
	if (sync->task.refusal) {
		buildbarn_complete(sync, take(sync->task.refusal), &none);
		return;
	}
	buildbarn_set_state(sync, BUILDBARN_RUNNING);
	sync->id = alloc_string(sync->task.lease->id);
	sync->has_stage = false;
}

/* What the slot does is wanted no more. */
static void buildbarn_leave(struct buildbarn_sync *sync)
{
	buildbarn_task_deinit(&sync->next);
	switch (sync->state) {
	case BUILDBARN_IDLE:
	case BUILDBARN_STOPPING:
		return;
	case BUILDBARN_RUNNING:
		if (!sync->task.lease) { /* the worker has it */
			buildbarn_set_state(sync, BUILDBARN_STOPPING);
			sync->wants_cancel = true;
			break;
		}
		buildbarn_set_state(sync, BUILDBARN_IDLE);
		free(take(sync->id));
		break;
	case BUILDBARN_COMPLETED:
		buildbarn_set_state(sync, BUILDBARN_IDLE);
		buf_deinit(&sync->completed);
		break;
	}
	buildbarn_task_deinit(&sync->task);
}

/* Our part of the instance and the rest that the scheduler gives; NULL: too long. */
static char *buildbarn_instance(const char *prefix, const char *suffix)
{
	size_t room = BUILDBARN_INSTANCE_MAX;

	if (strnlen(prefix, room) + strnlen(suffix, room) >= room)
		return NULL;
	return alloc_printf("%s%s%s", prefix, *prefix && *suffix ? "/" : "", suffix);
}

/* What of the result's metadata the scheduler knows; more than there is room for is left
 * out, since nothing but tools that look at it miss it. */
static void buildbarn_metadata(const Buildbarn__DesiredState__Executing *wire,
			       struct buf *out)
{
	Reapi__ExecutedActionMetadata metadata = REAPI__EXECUTED_ACTION_METADATA__INIT;

	metadata.queued_timestamp = wire->queued_timestamp;
	metadata.auxiliary_metadata = wire->auxiliary_metadata;
	metadata.n_auxiliary_metadata = wire->n_auxiliary_metadata;
	if (protobuf_c_message_get_packed_size(&metadata.base) > BUILDBARN_METADATA_MAX)
		metadata.n_auxiliary_metadata = 0;
	rpc_encode(&metadata.base, out);
}

static struct error *buildbarn_lease(const struct buildbarn_sync *sync,
				     const char *prefix,
				     const Buildbarn__DesiredState__Executing *wire,
				     struct source_lease *lease)
{
	Reapi__DigestFunction__Value function = wire->digest_function;

	lease->id =
		alloc_printf("%u.%llu", sync->slot, (unsigned long long)sync->n_leases);
	lease->wants_caching = true;
	if (function != REAPI__DIGEST_FUNCTION__VALUE__UNKNOWN &&
	    function != REAPI__DIGEST_FUNCTION__VALUE__SHA256)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "digest function %d: this worker has SHA256",
				 (int)function);
	lease->digest_function = REAPI__DIGEST_FUNCTION__VALUE__SHA256;
	lease->instance = buildbarn_instance(prefix, wire->instance_name_suffix);
	if (!lease->instance)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the action's instance has a name of more than %d bytes",
				 BUILDBARN_INSTANCE_MAX);
	buf_add(&lease->action_bytes, wire->action.data, wire->action.len);
	buildbarn_metadata(wire, &lease->metadata);
	return digest_from_wire(wire->action_digest, &lease->action);
}

static void buildbarn_hear_task(struct buildbarn_sync *sync, const char *prefix,
				const Buildbarn__DesiredState__Executing *wire)
{
	struct buildbarn_task *next = &sync->next;

	next->hash = alloc_string(wire->action_digest->hash);
	next->size = wire->action_digest->size_bytes;
	next->lease = alloc_new(struct source_lease);
	sync->n_leases++;
	next->refusal = buildbarn_lease(sync, prefix, wire, next->lease);
	if (!next->refusal)
		return;
	log_info("action %.*s: %s", BUILDBARN_HASH_MAX, next->hash,
		 error_text(next->refusal));
	next->lease = source_lease_free(next->lease);
}

/* A task without a name that can be repeated cannot be refused, either. */
static struct error *buildbarn_check_name(const Buildbarn__DesiredState__Executing *wire)
{
	size_t room = BUILDBARN_HASH_MAX + 1;

	if (!wire->action_digest || !*wire->action_digest->hash)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the scheduler gave a job without an action's digest");
	if (strnlen(wire->action_digest->hash, room) == room)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the scheduler gave a job with a hash of more than %d "
				 "bytes",
				 BUILDBARN_HASH_MAX);
	return NULL;
}

struct error *buildbarn_sync_answer(struct buildbarn_sync *sync, const char *prefix,
				    const Buildbarn__DesiredState *desired,
				    enum buildbarn_news *news_out)
{
	bool was_busy = sync->state != BUILDBARN_IDLE;
	struct error *err;

	*news_out = BUILDBARN_NOTHING;
	if (!desired)
		return NULL;
	switch (desired->worker_state_case) {
	case BUILDBARN__DESIRED_STATE__WORKER_STATE_IDLE:
		buildbarn_leave(sync);
		*news_out = was_busy ? BUILDBARN_CHANGE : BUILDBARN_NOTHING;
		return NULL;
	case BUILDBARN__DESIRED_STATE__WORKER_STATE_EXECUTING:
		err = buildbarn_check_name(desired->executing);
		if (err)
			return err;
		buildbarn_leave(sync);
		buildbarn_hear_task(sync, prefix, desired->executing);
		*news_out = sync->next.lease ? BUILDBARN_CHANGE : BUILDBARN_REFUSAL;
		if (sync->state == BUILDBARN_IDLE)
			buildbarn_begin(sync);
		return NULL;
	default:
		return NULL; /* to go on; or what nobody told us of yet */
	}
}

/* Doing */

char *buildbarn_sync_take_cancel(struct buildbarn_sync *sync)
{
	if (!sync->wants_cancel)
		return NULL;
	sync->wants_cancel = false;
	return alloc_string(sync->id);
}

struct source_lease *buildbarn_sync_take_lease(struct buildbarn_sync *sync)
{
	return sync->state == BUILDBARN_RUNNING ? take(sync->task.lease) : NULL;
}

bool buildbarn_sync_is_of(const struct buildbarn_sync *sync, const char *id)
{
	return sync->id && strcmp(sync->id, id) == 0;
}

bool buildbarn_sync_stage(struct buildbarn_sync *sync, const char *id,
			  enum source_stage stage)
{
	if (sync->state != BUILDBARN_RUNNING || !buildbarn_sync_is_of(sync, id))
		return false;
	sync->has_stage = true;
	sync->stage = stage;
	return true;
}

void buildbarn_sync_finish(struct buildbarn_sync *sync, struct error *status,
			   struct buf *result)
{
	require(sync->id);
	free(take(sync->id));
	sync->wants_cancel = false;
	if (sync->state == BUILDBARN_RUNNING) {
		buildbarn_complete(sync, status, result);
		return;
	}
	error_free(status);
	buf_deinit(result);
	buildbarn_set_state(sync, BUILDBARN_IDLE);
	buildbarn_begin(sync);
}
