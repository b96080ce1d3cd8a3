/*
 * Owns the leases. Invariant: an assign action is emitted once for a lease, when the
 * server has acknowledged ACTIVE; a cancel action at most once, and only after the
 * assign.
 */
#include "worker/source/bots_sync.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/rpc/rpc.h"
#include "lib/tree/hasher.h"

#define LOG_MODULE "bots"
#include "lib/base/log.h"

#define BOTS_ACTION_TYPE "type.googleapis.com/build.bazel.remote.execution.v2.Action"
#define BOTS_DIGEST_TYPE "type.googleapis.com/build.bazel.remote.execution.v2.Digest"
#define BOTS_RESULT_TYPE                                                                 \
	"type.googleapis.com/build.bazel.remote.execution.v2.ActionResult"
#define BOTS_LEASES_MAX 1000
#define BOTS_ID_MAX     1024
/* Bytes of results that one request carries; one alone always fits (job.c). */
#define BOTS_RESULTS_MAX ((size_t)RPC_MESSAGE_MAX - (512 << 10))

struct bots_lease {
	struct list link;
	char *id;
	enum bots_lease_state state;
	bool is_told;             /* in its present state, by the last filled request */
	struct source_lease *job; /* OFFERED only */
	struct error *status;     /* FINISHED */
	struct buf result;        /* FINISHED: an ActionResult, or empty */
	uint64_t logs_key;        /* of the names that its logs have; 0: none were told */
};

static void bots_lease_free(struct bots_sync *sync, struct bots_lease *lease)
{
	list_remove(&lease->link);
	sync->n_leases--;
	source_lease_free(lease->job);
	error_free(lease->status);
	buf_deinit(&lease->result);
	free(lease->id);
	free(lease);
}

void *bots_action_free(struct bots_action *action)
{
	if (!action)
		return NULL;
	source_lease_free(action->job);
	free(action->id);
	free(action);
	return NULL;
}

void bots_sync_init(struct bots_sync *sync)
{
	*sync = (struct bots_sync){0};
	list_init(&sync->leases);
}

void bots_sync_deinit(struct bots_sync *sync)
{
	list_for_each_safe (node, &sync->leases) {
		bots_lease_free(sync, container_of(node, struct bots_lease, link));
	}
}

static void bots_lease_set_state(struct bots_sync *sync, struct bots_lease *lease,
				 enum bots_lease_state state)
{
	static const unsigned int legal[] = {
		[BOTS_OFFERED] =
			1u << BOTS_RUNNING | 1u << BOTS_CANCELLED | 1u << BOTS_FINISHED,
		[BOTS_RUNNING] =
			1u << BOTS_DROPPED | 1u << BOTS_STOPPING | 1u << BOTS_FINISHED,
		[BOTS_DROPPED] = 0,
		[BOTS_STOPPING] = 1u << BOTS_CANCELLED,
		[BOTS_FINISHED] = 0,
		[BOTS_CANCELLED] = 0,
	};

	require(legal[lease->state] & 1u << state);
	lease->state = state;
	lease->is_told = false;
	if (state == BOTS_FINISHED || state == BOTS_CANCELLED || state == BOTS_OFFERED)
		sync->has_news = true;
}

/* Telling */

static Bots__LeaseState bots_wire_state(enum bots_lease_state state)
{
	switch (state) {
	case BOTS_OFFERED:
	case BOTS_RUNNING:
	case BOTS_DROPPED:
	case BOTS_STOPPING:
		return BOTS__LEASE_STATE__ACTIVE;
	case BOTS_FINISHED:
		return BOTS__LEASE_STATE__COMPLETED;
	case BOTS_CANCELLED:
		return BOTS__LEASE_STATE__CANCELLED;
	}
	return BOTS__LEASE_STATE__LEASE_STATE_UNSPECIFIED;
}

static bool bots_result_wire(const struct bots_lease *lease, struct arena *arena,
			     Bots__Lease *wire)
{
	Pb__Any *any = lease->result.len ? arena_new(arena, Pb__Any) : NULL;

	wire->status = rpc_status_message(lease->status, arena);
	if (!wire->status || (lease->result.len && !any))
		return false;
	if (!any)
		return true;
	pb__any__init(any);
	any->type_url = BOTS_RESULT_TYPE;
	any->value.data = lease->result.data;
	any->value.len = lease->result.len;
	wire->result = any;
	return true;
}

/* Without its result where that is for a later request. NULL: the arena is full. */
static Bots__Lease *bots_lease_wire(const struct bots_lease *lease, bool is_later,
				    struct arena *arena)
{
	Bots__Lease *wire = arena_new(arena, Bots__Lease);

	if (!wire)
		return NULL;
	bots__lease__init(wire);
	wire->id = lease->id;
	wire->state =
		is_later ? BOTS__LEASE_STATE__ACTIVE : bots_wire_state(lease->state);
	if (lease->state != BOTS_FINISHED || is_later)
		return wire;
	return bots_result_wire(lease, arena, wire) ? wire : NULL;
}

bool bots_sync_fill(struct bots_sync *sync, Bots__BotSession *session,
		    struct arena *arena)
{
	size_t room = BOTS_RESULTS_MAX;
	bool has_more = false;

	session->leases = arena_array(arena, sync->n_leases, sizeof(*session->leases));
	session->n_leases = 0;
	list_for_each (node, &sync->leases) {
		struct bots_lease *lease = container_of(node, struct bots_lease, link);
		bool is_later = lease->result.len > room;
		Bots__Lease *wire;

		/* one that the server no longer knows is not spoken of while it is killed
		 */
		if (lease->state == BOTS_DROPPED)
			continue;
		wire = session->leases ? bots_lease_wire(lease, is_later, arena) : NULL;
		if (!wire)
			return false;
		has_more = has_more || is_later;
		room -= is_later ? 0 : lease->result.len;
		session->leases[session->n_leases++] = wire;
	}
	list_for_each (node, &sync->leases) {
		struct bots_lease *lease = container_of(node, struct bots_lease, link);

		if (lease->state != BOTS_DROPPED)
			lease->is_told = true;
	}
	sync->has_news = false;
	sync->has_more = has_more;
	return true;
}

/* Hearing */

static struct bots_lease *bots_find(const struct bots_sync *sync, const char *id)
{
	list_for_each (node, &sync->leases) {
		struct bots_lease *lease = container_of(node, struct bots_lease, link);

		if (strcmp(lease->id, id) == 0)
			return lease;
	}
	return NULL;
}

/* A payload is an Action, or the Digest of one. */
static struct error *bots_payload(const Bots__Lease *wire, struct source_lease *job)
{
	const Pb__Any *any = wire->payload ? wire->payload : wire->inline_assignment;
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)1 << 20);
	Reapi__Digest *digest;

	if (!any)
		return error_new(ERROR_INVALID_ARGUMENT, "the lease has no payload");
	if (strcmp(any->type_url, BOTS_ACTION_TYPE) == 0) {
		buf_add(&job->action_bytes, any->value.data, any->value.len);
		hasher_digest(any->value.data, any->value.len, &job->action);
		return NULL;
	}
	if (strcmp(any->type_url, BOTS_DIGEST_TYPE) != 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the lease's payload is a %s, not an Action or a Digest",
				 any->type_url);
	digest = (Reapi__Digest *)rpc_decode(
		&reapi__digest__descriptor,
		(struct slice){any->value.data, any->value.len}, &arena);
	return digest_from_wire(digest, &job->action);
}

static const char *bots_wire_id(const Bots__Lease *wire)
{
	return *wire->id ? wire->id : wire->assignment;
}

/* NULL: it is not taken. */
static struct bots_lease *bots_offer(struct bots_sync *sync, const Bots__Lease *wire)
{
	struct bots_lease *lease;

	/* no server that means well has as many, or such names */
	if (sync->n_leases >= BOTS_LEASES_MAX ||
	    strnlen(bots_wire_id(wire), BOTS_ID_MAX + 1) > BOTS_ID_MAX)
		return NULL;
	lease = alloc_new(struct bots_lease);
	lease->id = alloc_string(bots_wire_id(wire));
	lease->job = alloc_new(struct source_lease);
	lease->job->id = alloc_string(lease->id);
	lease->state = BOTS_OFFERED;
	lease->status = bots_payload(wire, lease->job);
	list_push(&sync->leases, &lease->link);
	sync->n_leases++;
	sync->has_news = true;
	if (lease->status)
		bots_lease_set_state(sync, lease, BOTS_FINISHED);
	return lease;
}

static void bots_emit(struct list *actions, enum bots_action_kind kind,
		      struct bots_lease *lease)
{
	struct bots_action *action = alloc_new(struct bots_action);

	action->kind = kind;
	action->id = alloc_string(lease->id);
	if (kind == BOTS_ASSIGN)
		action->job = take(lease->job);
	list_push(actions, &action->link);
}

/* True where it changes anything. */
static bool bots_hear_known(struct bots_sync *sync, struct bots_lease *lease,
			    Bots__LeaseState said, struct list *actions)
{
	bool is_cancelled = said == BOTS__LEASE_STATE__CANCELLED;
	enum bots_lease_state before = lease->state;

	switch (lease->state) {
	case BOTS_OFFERED:
		if (is_cancelled) {
			bots_lease_set_state(sync, lease, BOTS_CANCELLED);
		} else if (said == BOTS__LEASE_STATE__ACTIVE && lease->is_told) {
			bots_lease_set_state(sync, lease, BOTS_RUNNING);
			bots_emit(actions, BOTS_ASSIGN, lease);
		}
		break;
	case BOTS_RUNNING:
		if (is_cancelled) {
			bots_lease_set_state(sync, lease, BOTS_STOPPING);
			bots_emit(actions, BOTS_CANCEL, lease);
		}
		break;
	case BOTS_DROPPED:
	case BOTS_STOPPING:
	case BOTS_FINISHED:
	case BOTS_CANCELLED:
		break;
	}
	return lease->state != before;
}

/*
 * One that we know nothing of. PENDING asks whether we take it, and waits for our word.
 * ACTIVE tells that it is ours already: some servers (BuildGrid) ask nobody. Any other
 * state is of a lease that is over.
 */
static bool bots_hear_unknown(struct bots_sync *sync, const Bots__Lease *wire,
			      struct list *actions)
{
	struct bots_lease *lease = NULL;

	switch (wire->state) {
	case BOTS__LEASE_STATE__PENDING:
		return bots_offer(sync, wire) != NULL;
	case BOTS__LEASE_STATE__ACTIVE:
		lease = bots_offer(sync, wire);
		if (lease && lease->state == BOTS_OFFERED) {
			bots_lease_set_state(sync, lease, BOTS_RUNNING);
			bots_emit(actions, BOTS_ASSIGN, lease);
		}
		return lease != NULL;
	default:
		log_info("lease %.200s, which is not ours, is said to be in state %d",
			 bots_wire_id(wire), (int)wire->state);
		return false;
	}
}

/* A lease that we told of and the server does not name: it let go of it. */
static void bots_hear_nothing(struct bots_sync *sync, struct bots_lease *lease,
			      struct list *actions)
{
	switch (lease->state) {
	case BOTS_OFFERED:
	case BOTS_FINISHED:
	case BOTS_CANCELLED:
		bots_lease_free(sync, lease);
		break;
	case BOTS_RUNNING:
		bots_lease_set_state(sync, lease, BOTS_DROPPED);
		bots_emit(actions, BOTS_CANCEL, lease);
		break;
	case BOTS_DROPPED:
	case BOTS_STOPPING:
		break;
	}
}

static bool bots_is_named(const Bots__BotSession *session, const char *id)
{
	for (size_t i = 0; i < session->n_leases; i++) {
		if (strcmp(bots_wire_id(session->leases[i]), id) == 0)
			return true;
	}
	return false;
}

bool bots_sync_answer(struct bots_sync *sync, const Bots__BotSession *session,
		      struct list *actions)
{
	bool has_changed = false;

	list_for_each_safe (node, &sync->leases) {
		struct bots_lease *lease = container_of(node, struct bots_lease, link);

		if (lease->is_told && !bots_is_named(session, lease->id)) {
			bots_hear_nothing(sync, lease, actions);
			has_changed = true;
		}
	}
	for (size_t i = 0; i < session->n_leases; i++) {
		const Bots__Lease *wire = session->leases[i];
		struct bots_lease *lease = bots_find(sync, bots_wire_id(wire));

		if (lease ? bots_hear_known(sync, lease, wire->state, actions)
			  : bots_hear_unknown(sync, wire, actions))
			has_changed = true;
	}
	return has_changed;
}

/* The lease's job, which may just have been given out; NULL: it is under way. */
static struct source_lease *bots_lease_job(const struct bots_lease *lease,
					   const struct list *actions)
{
	list_for_each (node, actions) {
		struct bots_action *begun = container_of(node, struct bots_action, link);

		if (begun->job && strcmp(begun->id, lease->id) == 0)
			return begun->job;
	}
	return lease->job;
}

/* The first that these logs can be of; NULL: none, or they are known. */
static struct bots_lease *bots_find_logless(const struct bots_sync *sync,
					    const struct list *actions,
					    const struct digest *action,
					    uint64_t logs_key)
{
	struct bots_lease *found = NULL;

	list_for_each (node, &sync->leases) {
		struct bots_lease *lease = container_of(node, struct bots_lease, link);
		const struct source_lease *job = bots_lease_job(lease, actions);

		if (lease->logs_key == logs_key)
			return NULL;
		if (!found && job && !lease->logs_key &&
		    digest_equal(&job->action, action))
			found = lease;
	}
	return found;
}

void bots_sync_logs(struct bots_sync *sync, struct list *actions,
		    const Reapi__ExecuteOperationMetadata *metadata, bool may_be_left_out)
{
	const char *names[] = {metadata->stdout_stream_name,
			       metadata->stderr_stream_name};
	uint64_t key = slice_hash(slice_of(names[0])) ^ ~slice_hash(slice_of(names[1]));
	struct source_lease *job;
	struct bots_lease *lease;
	struct digest action;
	struct error *err = digest_from_wire(metadata->action_digest, &action);

	if (err || (!names[0][0] && !names[1][0]) ||
	    strnlen(names[0], BOTS_ID_MAX + 1) > BOTS_ID_MAX ||
	    strnlen(names[1], BOTS_ID_MAX + 1) > BOTS_ID_MAX) {
		error_free(err);
		return;
	}
	lease = bots_find_logless(sync, actions, &action, key);
	if (!lease)
		return;
	lease->logs_key = key;
	job = bots_lease_job(lease, actions);
	job->log_names[0] = alloc_string(names[0]);
	job->log_names[1] = alloc_string(names[1]);
	job->may_leave_logs_out = may_be_left_out;
}

void bots_sync_restart(struct bots_sync *sync)
{
	list_for_each_safe (node, &sync->leases) {
		struct bots_lease *lease = container_of(node, struct bots_lease, link);

		if (lease->state == BOTS_OFFERED)
			bots_lease_free(sync, lease);
		else
			lease->is_told = false;
	}
}

void bots_sync_finish(struct bots_sync *sync, const char *id, struct error *status,
		      struct buf *result)
{
	struct bots_lease *lease = bots_find(sync, id);
	_cleanup_error_ struct error *owned = status;

	if (!lease || lease->state == BOTS_DROPPED) {
		if (lease)
			bots_lease_free(sync, lease);
	} else if (lease->state == BOTS_STOPPING) {
		bots_lease_set_state(sync, lease, BOTS_CANCELLED);
	} else {
		bots_lease_set_state(sync, lease, BOTS_FINISHED);
		lease->status = take(owned);
		lease->result = *result;
		*result = BUF_INIT;
	}
	buf_deinit(result);
}

bool bots_sync_is_idle(const struct bots_sync *sync)
{
	return list_is_empty(&sync->leases);
}
