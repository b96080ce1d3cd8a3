/*
 * Owns the session: one thread, at most one UpdateBotSession in flight. The call is a
 * long poll; news of ours (a job ended) cancels it so that the next one carries the news
 * at once.
 *
 * Threads: the session thread runs everything below source_bots_thread(), without the
 * mutex but for moments; report and drain come from others and only touch what it guards;
 * the callback of a call runs on a poller and only stores what came.
 */
#include "worker/source/source_bots.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "worker/source/bots_sync.h"

#define LOG_MODULE "bots"
#include "lib/base/log.h"

#define SOURCE_POLL_MS 60000 /* how long a long poll may take */
/* While something runs: BuildGrid, as long as a slot is free, tells only at the end of a
 * poll that a job was cancelled; of a poll under 3.75 s it makes none at all. */
#define SOURCE_BUSY_MS 5000
/* Shorter than what makes BuildGrid hold the call until there is work. */
#define SOURCE_CREATE_MS      6000
#define SOURCE_HURRIED_MS     10000
#define SOURCE_BACKOFF_MIN_MS 100
#define SOURCE_BACKOFF_MAX_MS 5000
#define SOURCE_QUICK_MS       1000 /* an answer that came sooner did not wait for news */
#define SOURCE_PAUSE_MIN_MS   50   /* after such a one that had none */
#define SOURCE_PAUSE_MAX_MS   1000
#define SOURCE_METADATA       "executeoperationmetadata-bin"
#define SOURCE_LOGS           "lazyroot-logs" /* they end with the operation */

static const struct rpc_method source_create = {&bots__bots__descriptor,
						"CreateBotSession"};
static const struct rpc_method source_update = {&bots__bots__descriptor,
						"UpdateBotSession"};

struct source_bots {
	struct source base;
	struct rpc_chan *chan;
	struct rpc_chan *cas_chan;
	const struct source_events *events;
	char *instance;
	char *bot_id;
	unsigned int n_slots;
	struct source_property *properties;
	size_t n_properties;
	pthread_t thread;
	bool has_thread;
	bool was_ready;   /* session thread only */
	char *session;    /* session thread only; NULL: none */
	char *version;    /* session thread only: of the session, as the server counts */
	int64_t pause_ms; /* session thread only */

	struct sync_mutex mutex;
	struct sync_cond cond;
	struct bots_sync sync SYNC_GUARDED_BY(&mutex);
	bool is_draining SYNC_GUARDED_BY(&mutex);
	/* while draining: a server that cannot be told is left */
	bool is_hurried SYNC_GUARDED_BY(&mutex);
	bool is_stopping SYNC_GUARDED_BY(&mutex);
	bool is_answered SYNC_GUARDED_BY(&mutex);
	struct error *answer_err SYNC_GUARDED_BY(&mutex);
	struct rpc_reply answer SYNC_GUARDED_BY(&mutex);
};

/* Requests */

/* One property as the worker's and its device's; false: the arena is full. */
static bool source_property(const struct source_property *property, struct arena *arena,
			    Bots__Worker *worker, Bots__Device *device)
{
	Bots__Device__Property *of_device = arena_new(arena, Bots__Device__Property);
	Bots__Worker__Property *of_worker = arena_new(arena, Bots__Worker__Property);

	if (!of_device || !of_worker)
		return false;
	bots__device__property__init(of_device);
	bots__worker__property__init(of_worker);
	of_device->key = of_worker->key = property->name;
	of_device->value = of_worker->value = property->value;
	device->properties[device->n_properties++] = of_device;
	worker->properties[worker->n_properties++] = of_worker;
	return true;
}

/* NULL: the arena is full. */
static Bots__Worker *source_worker(const struct source_bots *bots, struct arena *arena)
{
	Bots__Worker *worker = arena_new(arena, Bots__Worker);
	Bots__Device *device = arena_new(arena, Bots__Device);
	Bots__Worker__Config *capacity = arena_new(arena, Bots__Worker__Config);
	size_t n = bots->n_properties;

	if (!worker || !device || !capacity)
		return NULL;
	bots__worker__init(worker);
	bots__device__init(device);
	bots__worker__config__init(capacity);
	device->handle = bots->bot_id;
	device->properties = arena_array(arena, n, sizeof(*device->properties));
	worker->properties = arena_array(arena, n, sizeof(*worker->properties));
	worker->devices = arena_memdup(arena, &device, sizeof(device));
	worker->n_devices = 1;
	capacity->key = "capacity";
	capacity->value = arena_printf(arena, "%u", bots->n_slots);
	worker->configs = arena_memdup(arena, &capacity, sizeof(capacity));
	worker->n_configs = 1;
	for (size_t i = 0; i < n && !arena->is_full; i++)
		if (!source_property(&bots->properties[i], arena, worker, device))
			return NULL;
	return arena->is_full ? NULL : worker;
}

static struct error *source_session(struct source_bots *bots, struct arena *arena,
				    Bots__BotSession **session_out)
{
	Bots__BotSession *session = arena_new(arena, Bots__BotSession);
	bool is_filled;

	if (!session)
		return arena_error("the bot session");
	bots__bot_session__init(session);
	session->name = bots->session ? bots->session : "";
	session->bot_id = bots->bot_id;
	session->worker = source_worker(bots, arena);
	session->version = bots->version ? bots->version : "";
	sync_lock(&bots->mutex);
	session->status = bots->is_draining ? BOTS__BOT_STATUS__BOT_TERMINATING
					    : BOTS__BOT_STATUS__OK;
	is_filled = session->worker && bots_sync_fill(&bots->sync, session, arena);
	sync_unlock(&bots->mutex);
	if (!is_filled)
		return arena_error("the bot session");
	*session_out = session;
	return NULL;
}

static void source_answered(void *ctx, struct error *err, struct rpc_reply *reply)
{
	struct source_bots *bots = ctx;

	sync_lock(&bots->mutex);
	bots->answer_err = err;
	if (!err) {
		bots->answer = *reply;
		*reply = (struct rpc_reply){0};
	}
	bots->is_answered = true;
	sync_broadcast(&bots->cond);
	sync_unlock(&bots->mutex);
}

/* Acts on what the server said. */
static void source_act(struct source_bots *bots, struct list *actions)
{
	struct list *node;

	while ((node = list_pop(actions))) {
		_cleanup_(bots_action_freep) struct bots_action *action =
			container_of(node, struct bots_action, link);

		switch (action->kind) {
		case BOTS_ASSIGN:
			log_debug("lease %s: start", action->id);
			/* of which a lease says nothing itself */
			action->job->instance = alloc_string(bots->instance);
			action->job->digest_function =
				REAPI__DIGEST_FUNCTION__VALUE__SHA256;
			bots->events->assign(bots->events->ctx, take(action->job));
			break;
		case BOTS_CANCEL:
			log_info("lease %s: cancelled", action->id);
			bots->events->cancel(bots->events->ctx, action->id);
			break;
		}
	}
}

/* Until there is an answer; where may_cancel, also (false) until there is news of ours.
 */
static bool source_await(struct source_bots *bots, bool may_cancel)
{
	bool is_answered;

	sync_lock(&bots->mutex);
	while (!bots->is_answered &&
	       !(may_cancel && (bots->sync.has_news || bots->is_stopping)))
		sync_wait(&bots->cond, &bots->mutex);
	is_answered = bots->is_answered;
	sync_unlock(&bots->mutex);
	return is_answered;
}

/* The answer to the call, which news of our own cancel. */
static struct error *source_wait(struct source_bots *bots, uint64_t call,
				 struct rpc_reply *reply_out)
{
	bool was_cancelled = !source_await(bots, true);
	struct error *err;

	if (was_cancelled) {
		rpc_cancel(bots->chan, call);
		(void)source_await(bots, false);
	}
	sync_lock(&bots->mutex);
	bots->is_answered = false;
	err = take(bots->answer_err);
	*reply_out = bots->answer;
	bots->answer = (struct rpc_reply){0};
	sync_unlock(&bots->mutex);
	if (err && was_cancelled && error_code(err) == ERROR_CANCELLED)
		return error_free(err);
	return err;
}

/* A server that answers at once though it has nothing to say is not asked again at once;
 * news of ours end the pause. */
static void source_pause(struct source_bots *bots, bool has_changed, int64_t since_ns)
{
	int64_t until;
	bool was_draining;

	if (has_changed || clock_mono_ns() - since_ns >= SOURCE_QUICK_MS * NS_PER_MS) {
		bots->pause_ms = SOURCE_PAUSE_MIN_MS;
		return;
	}
	until = clock_mono_ns() + bots->pause_ms * NS_PER_MS;
	sync_lock(&bots->mutex);
	was_draining = bots->is_draining; /* told already: no news */
	while (!bots->sync.has_news && !bots->sync.has_more && !bots->is_stopping &&
	       bots->is_draining == was_draining && clock_mono_ns() < until)
		(void)sync_wait_until(&bots->cond, &bots->mutex, until);
	sync_unlock(&bots->mutex);
	bots->pause_ms *= 2;
	if (bots->pause_ms > SOURCE_PAUSE_MAX_MS)
		bots->pause_ms = SOURCE_PAUSE_MAX_MS;
}

static struct error *source_decode(struct rpc_reply *reply, Bots__BotSession **out)
{
	*out = (Bots__BotSession *)rpc_decode(&bots__bot_session__descriptor,
					      reply->bytes, &reply->arena);
	return *out ? NULL
		    : error_new(ERROR_INTERNAL,
				"the server's bot session does not decode");
}

/* Where the commands' logs are wanted: the trailers say so, in order of the leases. */
static void source_take_logs(struct source_bots *bots, struct rpc_reply *reply,
			     struct list *actions) SYNC_REQUIRES(&bots->mutex)
{
	bool may_be_left_out = false;

	for (size_t i = 0; i < reply->n_trailers; i++)
		may_be_left_out = may_be_left_out ||
				  strcmp(reply->trailers[i].name, SOURCE_LOGS) == 0;
	for (size_t i = 0; i < reply->n_trailers; i++) {
		const struct rpc_header *trailer = &reply->trailers[i];
		const ProtobufCMessage *message =
			strcmp(trailer->name, SOURCE_METADATA) == 0
				? rpc_decode(
					  &reapi__execute_operation_metadata__descriptor,
					  trailer->value, &reply->arena)
				: NULL;

		if (message)
			bots_sync_logs(&bots->sync, actions, (const void *)message,
				       may_be_left_out);
	}
}

/* What the server said of the session: the version is its to count, and ours to repeat.
 */
static bool source_take_session(struct source_bots *bots, const Bots__BotSession *session,
				struct rpc_reply *reply)
{
	struct list actions = LIST_INIT(actions);
	bool has_changed;

	free(bots->version);
	bots->version = alloc_string(session->version);
	sync_lock(&bots->mutex);
	has_changed = bots_sync_answer(&bots->sync, session, &actions);
	source_take_logs(bots, reply, &actions);
	sync_unlock(&bots->mutex);
	source_act(bots, &actions);
	return has_changed;
}

static struct error *source_hear(struct source_bots *bots, struct rpc_reply *reply,
				 int64_t since_ns)
{
	Bots__BotSession *session;
	struct error *err;

	if (!reply->bytes.len)
		return NULL; /* our own cancellation: nothing was said */
	err = source_decode(reply, &session);
	if (err)
		return err;
	source_pause(bots, source_take_session(bots, session, reply), since_ns);
	return NULL;
}

static bool source_is_hurried(struct source_bots *bots)
{
	bool is_hurried;

	sync_lock(&bots->mutex);
	is_hurried = bots->is_hurried;
	sync_unlock(&bots->mutex);
	return is_hurried;
}

/* One round of UpdateBotSession. */
static struct error *source_poll(struct source_bots *bots)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	Bots__UpdateBotSessionRequest request = BOTS__UPDATE_BOT_SESSION_REQUEST__INIT;
	struct rpc_options options = {.timeout_ms = SOURCE_HURRIED_MS};
	_cleanup_rpc_reply_ struct rpc_reply reply = {0};
	int64_t since_ns = clock_mono_ns();
	struct error *err;
	uint64_t call;

	request.name = bots->session;
	err = source_session(bots, &arena, &request.bot_session);
	if (err)
		return err;
	sync_lock(&bots->mutex);
	if (!bots->is_hurried && !bots->sync.has_more)
		options.timeout_ms =
			bots_sync_is_idle(&bots->sync) ? SOURCE_POLL_MS : SOURCE_BUSY_MS;
	sync_unlock(&bots->mutex);
	call = rpc_start(bots->chan, &source_update, &request.base, &options,
			 source_answered, bots);
	err = source_wait(bots, call, &reply);
	if (error_code(err) == ERROR_DEADLINE_EXCEEDED && !source_is_hurried(bots)) {
		error_free(err); /* a long poll without news */
		return NULL;
	}
	return err ? err : source_hear(bots, &reply, since_ns);
}

static struct error *source_open(struct source_bots *bots)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	Bots__CreateBotSessionRequest request = BOTS__CREATE_BOT_SESSION_REQUEST__INIT;
	struct rpc_options options = {.timeout_ms = SOURCE_CREATE_MS};
	_cleanup_rpc_reply_ struct rpc_reply reply = {0};
	Bots__BotSession *session;
	struct error *err;

	request.parent = bots->instance;
	free(take(bots->version));
	sync_lock(&bots->mutex);
	bots_sync_restart(&bots->sync);
	sync_unlock(&bots->mutex);
	err = source_session(bots, &arena, &request.bot_session);
	if (err)
		return err;
	err = rpc_call(bots->chan, &source_create, &request.base, &options, &reply);
	if (!err)
		err = source_decode(&reply, &session);
	if (err)
		return err;
	bots->session = alloc_string(session->name);
	log_info("session %s", bots->session);
	if (!bots->was_ready) {
		bots->was_ready = true;
		source_found("Remote Workers API", bots->chan, bots->cas_chan,
			     bots->instance);
		bots->events->ready(bots->events->ctx, bots->bot_id);
	}
	(void)source_take_session(bots, session, &reply);
	return NULL;
}

static bool source_is_session_lost(const struct error *err)
{
	switch (error_code(err)) {
	case ERROR_INVALID_ARGUMENT:
	case ERROR_NOT_FOUND:
	case ERROR_FAILED_PRECONDITION:
	case ERROR_DATA_LOSS:
	case ERROR_ABORTED:
		return true;
	default:
		return false;
	}
}

/* Sleeps unless the source ends. */
static void source_back_off(struct source_bots *bots, int64_t *delay_ms)
{
	int64_t until = clock_mono_ns() + *delay_ms * NS_PER_MS;

	sync_lock(&bots->mutex);
	while (!bots->is_stopping && !bots->is_hurried && clock_mono_ns() < until)
		(void)sync_wait_until(&bots->cond, &bots->mutex, until);
	sync_unlock(&bots->mutex);
	*delay_ms = *delay_ms * 2 > SOURCE_BACKOFF_MAX_MS ? SOURCE_BACKOFF_MAX_MS
							  : *delay_ms * 2;
}

static bool source_is_over(struct source_bots *bots)
{
	bool is_over;

	sync_lock(&bots->mutex);
	is_over = bots->is_stopping ||
		  (bots->is_draining && bots_sync_is_idle(&bots->sync));
	sync_unlock(&bots->mutex);
	return is_over;
}

/* Whether a failure ends it: there is nobody to be told, or no time. */
static bool source_is_leaving(struct source_bots *bots)
{
	bool is_leaving;

	sync_lock(&bots->mutex);
	is_leaving = bots->is_hurried || (bots->is_draining && bots->is_stopping);
	sync_unlock(&bots->mutex);
	return is_leaving;
}

/* A server that will not have us: waiting would hide the mistake. */
static bool source_is_hopeless(const struct source_bots *bots, const struct error *err)
{
	enum error_code code = error_code(err);

	return !bots->was_ready &&
	       (code == ERROR_UNIMPLEMENTED || code == ERROR_PERMISSION_DENIED ||
		code == ERROR_UNAUTHENTICATED || code == ERROR_INVALID_ARGUMENT ||
		code == ERROR_NOT_FOUND);
}

static struct error *source_loop(struct source_bots *bots)
{
	int64_t delay_ms = SOURCE_BACKOFF_MIN_MS;

	while (!source_is_over(bots)) {
		struct error *err = bots->session ? source_poll(bots) : source_open(bots);

		if (!err) {
			delay_ms = SOURCE_BACKOFF_MIN_MS;
			continue;
		}
		if (source_is_hopeless(bots, err))
			return error_wrap(err, "open a session at %s",
					  rpc_chan_address(bots->chan));
		if (bots->session && error_code(err) == ERROR_ALREADY_EXISTS)
			return error_wrap(err, "this worker ends, since two would take "
					       "their jobs from each other");
		if (bots->session && source_is_session_lost(err)) {
			free(take(bots->session));
			log_drop(LOG_WARN, err,
				 "the server lost our session, opening a new one");
			continue;
		}
		if (source_is_leaving(bots))
			return err;
		log_drop(LOG_WARN, err, "session at %s, again in %lld ms",
			 rpc_chan_address(bots->chan), (long long)delay_ms);
		source_back_off(bots, &delay_ms);
	}
	return NULL;
}

/* Says goodbye, so that the server gives our place away at once. */
static void source_close(struct source_bots *bots)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	Bots__UpdateBotSessionRequest request = BOTS__UPDATE_BOT_SESSION_REQUEST__INIT;
	struct rpc_options options = {.timeout_ms = 1000};
	ProtobufCMessage *reply = NULL;
	struct error *err;

	if (!bots->session)
		return;
	sync_lock(&bots->mutex);
	bots->is_draining = true;
	bots->is_stopping = true; /* do not wait for an answer to a long poll */
	bots->sync.has_news = false;
	sync_unlock(&bots->mutex);
	request.name = bots->session;
	err = source_session(bots, &arena, &request.bot_session);
	if (!err)
		err = rpc_call_message(bots->chan, &source_update, &request.base,
				       &options, &arena, &reply);
	log_drop(LOG_DEBUG, err, "say goodbye");
}

static void *source_bots_thread(void *arg)
{
	struct source_bots *bots = arg;
	struct error *err;

	err = source_loop(bots);
	source_close(bots);
	bots->events->ended(bots->events->ctx, err);
	return NULL;
}

/* The interface */

static void source_bots_report(struct source *source, const char *id,
			       struct error *status, struct buf *result)
{
	struct source_bots *bots = container_of(source, struct source_bots, base);

	sync_lock(&bots->mutex);
	bots_sync_finish(&bots->sync, id, status, result);
	sync_broadcast(&bots->cond);
	sync_unlock(&bots->mutex);
}

static void source_bots_drain(struct source *source)
{
	struct source_bots *bots = container_of(source, struct source_bots, base);

	sync_lock(&bots->mutex);
	bots->is_hurried = bots->is_draining;
	bots->is_draining = true;
	bots->sync.has_news = true;
	sync_broadcast(&bots->cond);
	sync_unlock(&bots->mutex);
}

static void *source_bots_free(struct source *source)
{
	struct source_bots *bots = container_of(source, struct source_bots, base);

	sync_lock(&bots->mutex);
	bots->is_stopping = true;
	sync_broadcast(&bots->cond);
	sync_unlock(&bots->mutex);
	if (bots->has_thread)
		(void)pthread_join(bots->thread, NULL);
	bots_sync_deinit(&bots->sync);
	rpc_reply_deinit(&bots->answer);
	for (size_t i = 0; i < bots->n_properties; i++) {
		free((char *)(uintptr_t)bots->properties[i].name);
		free((char *)(uintptr_t)bots->properties[i].value);
	}
	free(bots->properties);
	free(bots->instance);
	free(bots->bot_id);
	free(bots->session);
	free(bots->version);
	sync_cond_deinit(&bots->cond);
	sync_mutex_deinit(&bots->mutex);
	free(bots);
	return NULL;
}

static const struct source_impl source_bots_impl = {
	.stage = NULL, /* a lease that runs is ACTIVE, and nothing tells more */
	.report = source_bots_report,
	.drain = source_bots_drain,
	.free = source_bots_free,
};

struct error *source_bots_start(const struct source_config *config,
				struct source **source_out)
{
	struct source_bots *bots = alloc_new(struct source_bots);
	struct error *err;

	bots->base.impl = &source_bots_impl;
	bots->chan = config->chan;
	bots->cas_chan = config->cas_chan;
	bots->events = config->events;
	bots->instance = alloc_string(config->instance);
	bots->bot_id = alloc_string(config->worker_id);
	bots->n_slots = config->n_slots;
	bots->pause_ms = SOURCE_PAUSE_MIN_MS;
	bots->n_properties = config->n_properties;
	bots->properties = alloc_array(config->n_properties, sizeof(*bots->properties));
	for (size_t i = 0; i < config->n_properties; i++) {
		bots->properties[i].name = alloc_string(config->properties[i].name);
		bots->properties[i].value = alloc_string(config->properties[i].value);
	}
	bots_sync_init(&bots->sync);
	sync_mutex_init(&bots->mutex);
	sync_cond_init(&bots->cond);
	err = thread_start("source", source_bots_thread, bots, &bots->thread);
	bots->has_thread = !err;
	if (err) {
		source_bots_free(&bots->base);
		return err;
	}
	*source_out = &bots->base;
	return NULL;
}
