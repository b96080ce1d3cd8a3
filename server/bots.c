/*
 * Owns the Bots service, the worker's side of execution. CreateBotSession opens a session
 * in the queue; UpdateBotSession brings the bot's report and waits, if nothing in it asks
 * for an answer, until the queue has something for this bot or the poll's time is over.
 *
 * A completed lease carries the ActionResult; before the queue hears of it, it is
 * completed (when it was queued, who ran it) and put into the action cache, on a worker,
 * so that a client who hears of the result also finds it there.
 */
#define LOG_MODULE "bots"

#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/units.h"
#include "server/action.h"
#include "server/bots_logs.h"
#include "server/response.h"

#define BOTS_POLL_NS      (30 * NS_PER_S)
#define BOTS_MARGIN_MS    1000 /* before the call's deadline */
#define BOTS_METADATA_MAX 24   /* leases described in an answer's trailers ... */
#define BOTS_TRAILERS_MAX                                                                \
	((size_t)4 << 10) /* ... and bytes: all headers are 8 KiB at most */
#define BOTS_PROPERTIES_MAX 4096
#define BOTS_TEXT_MAX       ((size_t)64 << 10) /* bytes of properties: they stay in memory */
#define BOTS_ID_MAX         1024
#define BOTS_LEASES_MAX     (2 * QUEUE_CAPACITY_MAX) /* of one report */

static Pb__Timestamp *bots_expire_time(struct arena *arena)
{
	return response_timestamp(clock_wall_ns() + BOTS_POLL_NS + QUEUE_SILENCE_NS,
				  arena);
}

/* ---- CreateBotSession ----------------------------------------------------------- */

static struct error *bots_check_text(const struct queue_bot *bot)
{
	size_t len = 0;

	for (size_t i = 0; i < bot->n_properties; i++)
		len += strlen(bot->properties[i].name) + strlen(bot->properties[i].value);
	return len > BOTS_TEXT_MAX
		       ? error_new(ERROR_INVALID_ARGUMENT,
				   "%zu bytes of properties are too many", len)
		       : NULL;
}

/* Worker.properties and those of its devices: all of them are the bot's. */
static struct error *bots_properties(const Bots__Worker *worker, struct arena *arena,
				     struct queue_bot *bot)
{
	struct queue_property *list;
	size_t n = worker ? worker->n_properties : 0;

	for (size_t d = 0; worker && d < worker->n_devices; d++)
		n += worker->devices[d]->n_properties;
	if (n > BOTS_PROPERTIES_MAX)
		return error_new(ERROR_INVALID_ARGUMENT, "%zu properties are too many",
				 n);
	list = arena_array(arena, n, sizeof(*list));
	if (!list)
		return arena_error("the worker");
	bot->properties = list;
	bot->n_properties = n;
	for (size_t i = 0; worker && i < worker->n_properties; i++)
		*list++ = (struct queue_property){worker->properties[i]->key,
						  worker->properties[i]->value};
	for (size_t d = 0; worker && d < worker->n_devices; d++) {
		const Bots__Device *device = worker->devices[d];

		for (size_t i = 0; i < device->n_properties; i++)
			*list++ = (struct queue_property){device->properties[i]->key,
							  device->properties[i]->value};
	}
	return bots_check_text(bot);
}

static size_t bots_capacity(const Bots__Worker *worker)
{
	int64_t capacity = 1;

	for (size_t i = 0; worker && i < worker->n_configs; i++) {
		if (strcmp(worker->configs[i]->key, "capacity") == 0)
			error_free(units_parse_int(worker->configs[i]->value, 1,
						   QUEUE_CAPACITY_MAX, &capacity));
	}
	return (size_t)capacity;
}

/* Leases that the bot ran, or ended, when it lost its session. */
static struct error *bots_held(const Bots__BotSession *session, struct arena *arena,
			       struct queue_bot *bot)
{
	const char **held;

	if (session->n_leases > BOTS_LEASES_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%zu leases are more than a bot can have",
				 session->n_leases);
	held = arena_array(arena, session->n_leases, sizeof(*held));
	if (!held)
		return arena_error("the session");
	for (size_t i = 0; i < session->n_leases; i++) {
		const Bots__Lease *lease = session->leases[i];

		if (lease->state == BOTS__LEASE_STATE__ACTIVE ||
		    lease->state == BOTS__LEASE_STATE__COMPLETED)
			held[bot->n_held++] = lease->id;
	}
	bot->held = held;
	return NULL;
}

/* Named in the answer are those that are still its: how they end is for its report. */
static void bots_keep(const struct server *server, const char *name, struct arena *arena,
		      Bots__BotSession *session)
{
	struct queue_lease_job job;
	size_t n = 0;

	for (size_t i = 0; i < session->n_leases; i++) {
		Bots__Lease *lease = session->leases[i];
		const char *id = lease->id;

		if (!queue_lease_find(server->queue, name, id, arena, &job))
			continue;
		bots__lease__init(lease);
		lease->id = id;
		lease->state = BOTS__LEASE_STATE__ACTIVE;
		session->leases[n++] = lease;
	}
	session->n_leases = n;
}

static enum rpc_verdict bots_create(struct rpc_in *in, void *service)
{
	Bots__CreateBotSessionRequest *request = (void *)rpc_request(in);
	const struct server *server = service;
	Bots__BotSession *session;
	char name[QUEUE_NAME_MAX], owner[ACCESS_OWNER_MAX];
	struct queue_bot bot = {0};
	struct error *err;

	if (!request)
		return RPC_DONE;
	session = request->bot_session;
	err = server_check_instance(server, in, request->parent);
	if (!err && (!session || !session->bot_id[0]))
		err = error_new(ERROR_INVALID_ARGUMENT, "the session has no bot_id");
	if (!err && strlen(session->bot_id) > BOTS_ID_MAX)
		err = error_new(ERROR_INVALID_ARGUMENT, "the bot_id is longer than %d",
				BOTS_ID_MAX);
	if (!err)
		err = bots_properties(session->worker, rpc_arena(in), &bot);
	if (!err)
		err = bots_held(session, rpc_arena(in), &bot);
	if (err)
		return rpc_fail(in, err);
	bot.instance = request->parent;
	bot.bot_id = session->bot_id;
	bot.owner = owner;
	bot.capacity = bots_capacity(session->worker);
	bot.is_owner_proven = access_owner(server->access, in, owner);
	err = queue_session_open(server->queue, &bot, clock_mono_ns(), name);
	if (error_code(err) == ERROR_ALREADY_EXISTS)
		log_warn("%s wanted to be bot \"%s\", which is somebody else's", owner,
			 bot.bot_id);
	if (err)
		return rpc_fail(in, err);
	log_info("bot \"%s\" is here, %zu jobs at once", bot.bot_id, bot.capacity);
	session->name = name;
	bots_keep(server, name, rpc_arena(in), session);
	session->expire_time = bots_expire_time(rpc_arena(in));
	rpc_send(in, &session->base);
	return RPC_DONE;
}

/* ---- completed leases ----------------------------------------------------------- */

static Reapi__ActionResult *bots_result(const Bots__Lease *lease, struct arena *arena)
{
	const char *type = lease->result ? strrchr(lease->result->type_url, '/') : NULL;

	if (!type || strcmp(type, "/build.bazel.remote.execution.v2.ActionResult") != 0)
		return NULL;
	return (Reapi__ActionResult *)rpc_decode(
		&reapi__action_result__descriptor,
		(struct slice){lease->result->value.data, lease->result->value.len},
		arena);
}

static void bots_fill_metadata(Reapi__ActionResult *result,
			       const struct queue_lease_job *job, struct arena *arena)
{
	Reapi__ExecutedActionMetadata *metadata = result->execution_metadata;

	if (!metadata) {
		metadata = arena_new(arena, Reapi__ExecutedActionMetadata);
		if (!metadata)
			return;
		reapi__executed_action_metadata__init(metadata);
		result->execution_metadata = metadata;
	}
	if (!metadata->worker[0])
		metadata->worker = job->bot_id;
	metadata->queued_timestamp = response_timestamp(job->wall_ns, arena);
}

/* Into the cache goes what ran well and may be kept. */
static void bots_cache(const struct server *server, const struct queue_lease_job *job,
		       const Reapi__ActionResult *result)
{
	if (job->do_not_cache || result->exit_code != 0)
		return;
	log_drop(LOG_ERROR,
		 action_store(server, job->instance, &job->action_digest, result),
		 "a result is not cached");
}

/* The ExecuteResponse of a lease's end; one that no message holds is an error. */
static void bots_response(const struct server *server, const struct queue_lease_job *job,
			  const Bots__Lease *lease, struct arena *arena, struct buf *out)
{
	const Rpcstatus__Status *status = lease->status;
	_cleanup_error_ struct error *err = NULL;
	Reapi__ActionResult *result = bots_result(lease, arena);
	bool is_ok = !status || status->code == ERROR_OK;

	if (result)
		bots_fill_metadata(result, job, arena);
	if (!result && is_ok && arena->is_full)
		err = arena_error("the worker's ActionResult");
	else if (!result && is_ok)
		err = error_new(ERROR_INTERNAL, "worker \"%s\" gave no ActionResult",
				job->bot_id);
	if (!err)
		response_of_result(result, false, status, out);
	if (out->len > (size_t)SERVER_RESULT_MAX) {
		buf_clear(out);
		err = error_new(ERROR_RESOURCE_EXHAUSTED,
				"the action's result is too large for a message");
	}
	if (err)
		response_of_error(err, out);
	else if (result && is_ok)
		bots_cache(server, job, result);
}

static void bots_complete(const struct server *server, const char *session,
			  const Bots__Lease *lease, struct arena *arena,
			  struct queue_claim *claim)
{
	_cleanup_buf_ struct buf response = BUF_INIT;
	struct queue_lease_job job;

	if (!queue_lease_find(server->queue, session, lease->id, arena, &job))
		return; /* cancelled, or told again: nobody wants the result */
	bots_response(server, &job, lease, arena, &response);
	claim->response = (struct slice){arena_memdup(arena, response.data, response.len),
					 response.len};
}

/* ---- UpdateBotSession ----------------------------------------------------------- */

struct bots_poll {
	struct server *server;
	struct rpc_in *in;
	Bots__UpdateBotSessionRequest *request;
	struct queue_poll poll;
	bool is_waiting;
	bool is_answered;
	int64_t due_ns;
};

static void bots_drop(void *state)
{
	struct bots_poll *update = state;

	if (!update->is_waiting)
		return;
	queue_poll_end(update->server->queue, &update->poll, !update->is_answered,
		       clock_mono_ns());
	rpc_in_unref(update->in);
}

static void bots_wake(void *ctx)
{
	rpc_wake(ctx);
}

static bool bots_has_completed(const Bots__BotSession *session)
{
	for (size_t i = 0; i < session->n_leases; i++) {
		if (session->leases[i]->state == BOTS__LEASE_STATE__COMPLETED)
			return true;
	}
	return false;
}

static struct queue_claim bots_claim(struct bots_poll *update, const Bots__Lease *lease)
{
	struct queue_claim claim = {.id = lease->id, .state = LEASE_PENDING};
	char header[64 + QUEUE_LEASE_MAX];

	switch ((int)lease->state) {
	case BOTS__LEASE_STATE__ACTIVE:
		claim.state = LEASE_ACTIVE;
		(void)snprintf(header, sizeof(header),
			       "partial-execution-metadata-%.*s-bin", QUEUE_LEASE_MAX,
			       lease->id);
		(void)rpc_header_get(update->in, header, &claim.partial);
		break;
	case BOTS__LEASE_STATE__COMPLETED:
		claim.state = LEASE_COMPLETED;
		bots_complete(update->server, update->request->name, lease,
			      rpc_arena(update->in), &claim);
		break;
	case BOTS__LEASE_STATE__CANCELLED:
		claim.state = LEASE_CANCELLED;
		break;
	}
	return claim;
}

/* Takes the bot's report in; from here on the poll may be woken. */
static struct error *bots_report(struct bots_poll *update)
{
	const Bots__BotSession *session = update->request->bot_session;
	struct arena *arena = rpc_arena(update->in);
	struct queue_claim *claims =
		arena_array(arena, session->n_leases, sizeof(*claims));
	struct queue_report report = {.claims = claims, .n_claims = session->n_leases};
	int64_t left_ms = rpc_time_left_ms(update->in);
	int64_t now_ns = clock_mono_ns();
	size_t n_strange = 0;
	struct error *err;

	for (size_t i = 0; claims && i < session->n_leases; i++)
		claims[i] = bots_claim(update, session->leases[i]);
	if (arena->is_full)
		return arena_error("the session's report");
	report.takes_jobs = session->status == BOTS__BOT_STATUS__OK;
	report.is_last = session->status == BOTS__BOT_STATUS__BOT_TERMINATING ||
			 session->status == BOTS__BOT_STATUS__HOST_REBOOTING;
	update->poll.wake = bots_wake;
	update->poll.ctx = update->in;
	update->due_ns = now_ns + BOTS_POLL_NS;
	if (left_ms < BOTS_POLL_NS / NS_PER_MS + BOTS_MARGIN_MS)
		update->due_ns = now_ns + (left_ms - BOTS_MARGIN_MS) * NS_PER_MS;
	err = queue_poll_begin(update->server->queue, update->request->name, &report,
			       &update->poll, now_ns, &n_strange);
	if (err)
		return err;
	if (n_strange)
		log_warn("bot \"%s\" told of %zu leases that it does not hold",
			 session->bot_id, n_strange);
	rpc_in_ref(update->in);
	update->is_waiting = true;
	return NULL;
}

static Bots__LeaseState bots_state(enum queue_lease_state state)
{
	switch (state) {
	case LEASE_PENDING:
		return BOTS__LEASE_STATE__PENDING;
	case LEASE_ACTIVE:
		return BOTS__LEASE_STATE__ACTIVE;
	case LEASE_COMPLETED:
		return BOTS__LEASE_STATE__COMPLETED;
	case LEASE_CANCELLED:
		return BOTS__LEASE_STATE__CANCELLED;
	}
	return BOTS__LEASE_STATE__LEASE_STATE_UNSPECIFIED;
}

/* Describes the leases that bring an action, as many as fit, in the trailers. */
static void bots_describe(const struct bots_poll *update,
			  const struct queue_lease_told *leases, size_t n)
{
	const char *session = update->request->name;
	size_t n_bytes = 0, n_told = 0;

	for (size_t i = 0; i < n && n_told < BOTS_METADATA_MAX; i++) {
		_cleanup_buf_ struct buf metadata = BUF_INIT;

		if (leases[i].action.len == 0)
			continue;
		if (n_bytes + bots_logs_size(session) > BOTS_TRAILERS_MAX)
			return;
		bots_logs_metadata(update->server, session, &leases[i], &metadata);
		rpc_trailer_add(update->in, "executeoperationmetadata-bin",
				buf_slice(&metadata));
		n_bytes += metadata.len;
		n_told++;
	}
	if (n_told > 0)
		rpc_trailer_add(update->in, "lazyroot-logs", slice_of("may-be-left-out"));
}

static enum rpc_verdict bots_answer(struct bots_poll *update,
				    const struct queue_lease_told *leases, size_t n)
{
	Bots__BotSession *session = update->request->bot_session;
	struct arena *arena = rpc_arena(update->in);
	Bots__Lease *list = arena_array(arena, n, sizeof(*list));

	session->leases = arena_array(arena, n, sizeof(*session->leases));
	session->n_leases = n;
	session->name = update->request->name;
	session->expire_time = bots_expire_time(arena);
	for (size_t i = 0; i < n && !arena->is_full; i++) {
		Bots__Lease *lease = &list[i];

		bots__lease__init(lease);
		lease->id = leases[i].id;
		lease->state = bots_state(leases[i].state);
		session->leases[i] = lease;
		if (leases[i].action.len > 0)
			lease->payload = response_any(RESPONSE_REAPI "Action",
						      leases[i].action, arena);
	}
	if (arena->is_full)
		return rpc_fail(update->in, arena_error("the session's answer"));
	bots_describe(update, leases, n);
	update->is_answered = true;
	rpc_send(update->in, &session->base);
	return RPC_DONE;
}

/* Before anything is built from it. */
/* The name of a session cannot be guessed, which is proof enough where the bot has no
 * credential; who has one must show the same at each report. */
static struct error *bots_check_owner(const struct bots_poll *update)
{
	const struct server *server = update->server;
	const char *name = update->request->name;
	char owner[ACCESS_OWNER_MAX];
	struct error *err = server_check_name(server, update->in, name);

	if (err)
		return err;
	(void)access_owner(server->access, update->in, owner);
	if (queue_session_is_of(server->queue, name, owner))
		return NULL;
	log_warn("%s reported for a bot's session that is not its", owner);
	return error_new(ERROR_PERMISSION_DENIED,
			 "the bot's session belongs to somebody else");
}

/* Before anything is built of the report. */
static struct error *bots_check(const struct bots_poll *update)
{
	const Bots__BotSession *session = update->request->bot_session;
	struct error *err;

	if (!session)
		return error_new(ERROR_INVALID_ARGUMENT, "the request has no session");
	if (session->n_leases > BOTS_LEASES_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%zu leases are more than a bot can have",
				 session->n_leases);
	err = bots_check_owner(update);
	return err ? err
		   : queue_session_check(update->server->queue, update->request->name);
}

static enum rpc_verdict bots_update(struct rpc_in *in, void *service)
{
	struct bots_poll *update = rpc_state(in, sizeof(*update), bots_drop);
	struct queue_lease_told *leases = NULL;
	struct error *err;
	size_t n = 0;

	if (!update->request) {
		update->server = service;
		update->in = in;
		update->request = (void *)rpc_request(in);
		if (!update->request)
			return RPC_DONE;
		err = bots_check(update);
		if (err)
			return rpc_fail(in, err);
		if (bots_has_completed(update->request->bot_session) &&
		    !rpc_is_on_worker(in))
			return RPC_BLOCK;
	}
	if (!update->is_waiting) {
		err = bots_report(update);
		if (err)
			return rpc_fail(in, err);
		rpc_wake_at(in, update->due_ns);
	}
	if (rpc_is_cancelled(in))
		return rpc_fail(in, error_new(ERROR_CANCELLED, "the bot left"));
	if (!queue_poll_answer(update->server->queue, &update->poll,
			       clock_mono_ns() >= update->due_ns, rpc_arena(in), &leases,
			       &n))
		return RPC_LATER;
	return bots_answer(update, leases, n);
}

#define BOTS_SERVICE &bots__bots__descriptor
#define BOTS_FLAGS   (RPC_INLINE | RPC_RIGHTS(ACCESS_WORKER))

static const struct rpc_handler bots_list[] = {
	{{BOTS_SERVICE, "CreateBotSession"}, RPC_UNARY, BOTS_FLAGS, bots_create},
	{{BOTS_SERVICE, "UpdateBotSession"}, RPC_UNARY, BOTS_FLAGS, bots_update},
};
const struct rpc_handlers bots_handlers = {bots_list, ARRAY_SIZE(bots_list)};
