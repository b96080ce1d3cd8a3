/*
 * Owns the calls: each slot of the worker is a worker by itself to the scheduler, with a
 * call of its own, which may take minutes while the slot is idle. One thread sees to all
 * slots: it hears what came, starts the calls that are due, and waits for news.
 *
 * Invariant: the process does not end well before each result was answered, and each slot
 * has heard that it may be idle: a call that was given up may have brought a job.
 *
 * Threads: the source's runs everything below source_buildbarn_thread(), with the mutex
 * but for calls, events and decoding; stage, report and drain come from others and only
 * touch what it guards; the callback of a call runs on a poller and only stores what
 * came.
 */
#include "worker/source/source_buildbarn.h"

#include <pthread.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "worker/source/buildbarn_sync.h"

#define LOG_MODULE "buildbarn"
#include "lib/base/log.h"

/* A call that waits for a job ends within two minutes by itself. */
#define BUILDBARN_WAIT_MS 150000
#define BUILDBARN_CALL_MS 10000
/* The scheduler's word when to come back holds up to here: with a clock that differs from
 * ours it could make a slot silent for the minute after which the scheduler drops it. */
#define BUILDBARN_SILENCE_NS (20 * NS_PER_S)
/* A stage is told of once it has lasted: a call that is on its way holds up the result.
 */
#define BUILDBARN_SETTLE_NS      (100 * NS_PER_MS)
#define BUILDBARN_QUICK_NS       NS_PER_S /* an answer that came sooner waited for nothing */
#define BUILDBARN_PAUSE_MIN_NS   (50 * NS_PER_MS) /* after such a one that had no news */
#define BUILDBARN_PAUSE_MAX_NS   NS_PER_S
#define BUILDBARN_BACKOFF_MIN_MS 100
#define BUILDBARN_BACKOFF_MAX_MS 5000
/* How often an idle slot that is to end asks again where its last call still lingers. */
#define BUILDBARN_GOODBYES_MAX 10

static const struct rpc_method buildbarn_synchronize = {
	&buildbarn__operation_queue__descriptor, "Synchronize"};

struct source_buildbarn;

struct buildbarn_slot { /* guarded by the source's mutex */
	struct source_buildbarn *owner;
	Buildbarn__SynchronizeRequest request; /* what is the same each time */
	struct buildbarn_sync sync;
	int64_t due_ns;  /* the next call */
	int64_t news_ns; /* or this, where that is sooner: there is something to tell */
	int64_t pause_ns;
	unsigned int n_failures; /* calls in a row */
	bool is_over;            /* while draining: it has heard that it may be idle */

	bool is_calling;
	uint64_t call;
	int64_t since_ns;
	bool may_wait;      /* the scheduler may hold the call */
	bool told_draining; /* in it */
	bool was_cancelled;
	bool is_answered;
	struct error *answer_err;
	struct rpc_reply answer;
};

struct source_buildbarn {
	struct source base;
	struct rpc_chan *chan;
	struct rpc_chan *cas_chan;
	const struct source_events *events;
	char *instance;
	char *worker_id;
	struct arena arena; /* of the requests' constant parts */
	unsigned int n_slots;
	pthread_t thread;
	bool has_thread;
	bool was_ready; /* the source's thread only */

	struct sync_mutex mutex;
	struct sync_cond cond;
	struct buildbarn_slot *slots SYNC_PT_GUARDED_BY(&mutex);
	bool has_news SYNC_GUARDED_BY(&mutex); /* since the thread looked at all slots */
	bool is_draining SYNC_GUARDED_BY(&mutex);
	bool is_hurried SYNC_GUARDED_BY(&mutex); /* a failure ends it */
	bool is_stopping SYNC_GUARDED_BY(&mutex);
};

static void source_wake(struct source_buildbarn *bb) SYNC_REQUIRES(&bb->mutex)
{
	bb->has_news = true;
	sync_broadcast(&bb->cond);
}

/* Calls */

static void source_answered(void *ctx, struct error *err, struct rpc_reply *reply)
{
	struct buildbarn_slot *slot = ctx;
	struct source_buildbarn *bb = slot->owner;

	sync_lock(&bb->mutex);
	slot->answer_err = err;
	if (!err) {
		slot->answer = *reply;
		*reply = (struct rpc_reply){0};
	}
	slot->is_answered = true;
	source_wake(bb);
	sync_unlock(&bb->mutex);
}

static struct error *source_call(struct source_buildbarn *bb, struct buildbarn_slot *slot)
	SYNC_REQUIRES(&bb->mutex)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)1 << 20);
	Buildbarn__SynchronizeRequest request = slot->request;
	struct rpc_options options = {.timeout_ms = BUILDBARN_CALL_MS};
	uint64_t call;

	if (!buildbarn_sync_fill(&slot->sync, &arena, &request))
		return arena_error("what a slot has to tell");
	slot->may_wait =
		buildbarn_sync_may_wait(&slot->sync) && !bb->is_draining && bb->was_ready;
	request.prefer_being_idle =
		!slot->may_wait &&
		(bb->is_draining || slot->sync.state != BUILDBARN_RUNNING);
	if (slot->may_wait)
		options.timeout_ms = BUILDBARN_WAIT_MS;
	slot->told_draining = bb->is_draining;
	slot->was_cancelled = false;
	slot->is_calling = true;
	slot->news_ns = CLOCK_NEVER;
	slot->since_ns = clock_mono_ns();
	sync_unlock(&bb->mutex);
	call = rpc_start(bb->chan, &buildbarn_synchronize, &request.base, &options,
			 source_answered, slot);
	sync_lock(&bb->mutex);
	slot->call = call; /* which may have ended already */
	return NULL;
}

static void source_cancel(struct source_buildbarn *bb, struct buildbarn_slot *slot)
	SYNC_REQUIRES(&bb->mutex)
{
	uint64_t call = slot->call;

	slot->was_cancelled = true;
	sync_unlock(&bb->mutex);
	rpc_cancel(bb->chan, call);
	sync_lock(&bb->mutex);
}

/* Answers */

/* How long until the scheduler wants to hear again; its clock is taken for ours. */
static int64_t source_asked_ns(const Pb__Timestamp *at)
{
	int64_t now = clock_wall_ns();
	int64_t most_s = (now + BUILDBARN_SILENCE_NS) / NS_PER_S;
	int64_t wait;

	if (!at || at->seconds < now / NS_PER_S || at->nanos < 0)
		return 0;
	if (at->seconds > most_s || at->nanos >= NS_PER_S)
		return BUILDBARN_SILENCE_NS;
	wait = at->seconds * NS_PER_S + at->nanos - now;
	if (wait > BUILDBARN_SILENCE_NS)
		return BUILDBARN_SILENCE_NS;
	return wait > 0 ? wait : 0;
}

/* When the slot calls next if nothing happens: as the scheduler says, but one that
 * answers at once though it has nothing new is not asked again at once. */
static void source_plan(struct buildbarn_slot *slot, const Pb__Timestamp *asked,
			enum buildbarn_news news)
{
	int64_t now = clock_mono_ns();
	int64_t wait = news == BUILDBARN_REFUSAL ? 0 : source_asked_ns(asked);

	if (news == BUILDBARN_CHANGE || now - slot->since_ns >= BUILDBARN_QUICK_NS) {
		slot->pause_ns = BUILDBARN_PAUSE_MIN_NS;
	} else {
		wait = wait > slot->pause_ns ? wait : slot->pause_ns;
		slot->pause_ns *= 2;
		if (slot->pause_ns > BUILDBARN_PAUSE_MAX_NS)
			slot->pause_ns = BUILDBARN_PAUSE_MAX_NS;
	}
	slot->due_ns = now + wait;
}

/* The scheduler speaks: for the first time there is something to say about it. */
static void source_heard(struct source_buildbarn *bb) SYNC_REQUIRES(&bb->mutex)
{
	if (bb->was_ready)
		return;
	bb->was_ready = true;
	bb->has_news = true;
	sync_unlock(&bb->mutex);
	source_found("Buildbarn's OperationQueue", bb->chan, bb->cas_chan, bb->instance);
	bb->events->ready(bb->events->ctx, bb->worker_id);
	sync_lock(&bb->mutex);
}

static struct error *source_hear(struct source_buildbarn *bb, struct buildbarn_slot *slot,
				 struct rpc_reply *reply) SYNC_REQUIRES(&bb->mutex)
{
	const Buildbarn__SynchronizeResponse *response;
	enum buildbarn_news news;
	struct error *err;

	sync_unlock(&bb->mutex);
	response = (const Buildbarn__SynchronizeResponse *)rpc_decode(
		&buildbarn__synchronize_response__descriptor, reply->bytes,
		&reply->arena);
	sync_lock(&bb->mutex);
	if (!response)
		return error_new(ERROR_INTERNAL,
				 "the scheduler's answer does not decode");
	err = buildbarn_sync_answer(&slot->sync, bb->instance, response->desired_state,
				    &news);
	if (err)
		return err;
	if (slot->n_failures)
		log_info("slot %u: %s answers again", slot->sync.slot,
			 rpc_chan_address(bb->chan));
	slot->n_failures = 0;
	slot->is_over = slot->told_draining && slot->sync.state == BUILDBARN_IDLE;
	source_plan(slot, response->next_synchronization_at, news);
	source_heard(bb);
	return NULL;
}

/* A scheduler that will not have us: waiting would hide the mistake. */
static bool source_is_hopeless(const struct source_buildbarn *bb, const struct error *err)
{
	enum error_code code = error_code(err);

	return !bb->was_ready &&
	       (code == ERROR_UNIMPLEMENTED || code == ERROR_PERMISSION_DENIED ||
		code == ERROR_UNAUTHENTICATED || code == ERROR_INVALID_ARGUMENT ||
		code == ERROR_NOT_FOUND);
}

/* Doubling, and spread by the clock's last digits: slots do not come back all at once. */
static int64_t source_back_off_ms(unsigned int n_failures)
{
	int64_t delay = BUILDBARN_BACKOFF_MIN_MS;

	for (unsigned int i = 1; i < n_failures && delay < BUILDBARN_BACKOFF_MAX_MS; i++)
		delay *= 2;
	if (delay > BUILDBARN_BACKOFF_MAX_MS)
		delay = BUILDBARN_BACKOFF_MAX_MS;
	return delay / 2 + clock_mono_ns() / 1000 % (delay / 2);
}

/* A call failed; consumes err, or returns it where the source can go on no more. What the
 * slot has to tell is told again, and the scheduler may think that it has a job. */
static struct error *source_failed(struct source_buildbarn *bb,
				   struct buildbarn_slot *slot, struct error *err)
	SYNC_REQUIRES(&bb->mutex)
{
	bool lingers = error_code(err) == ERROR_RESOURCE_EXHAUSTED;
	int64_t delay_ms;

	if (source_is_hopeless(bb, err))
		return error_wrap(err, "ask %s for jobs", rpc_chan_address(bb->chan));
	if (bb->is_hurried)
		return err;
	slot->n_failures++;
	if (bb->is_draining && slot->sync.state == BUILDBARN_IDLE &&
	    (!lingers || slot->n_failures >= BUILDBARN_GOODBYES_MAX)) {
		slot->is_over = true;
		log_drop(LOG_INFO, err, "slot %u leaves without an answer",
			 slot->sync.slot);
		return NULL;
	}
	delay_ms = source_back_off_ms(slot->n_failures);
	slot->due_ns = clock_mono_ns() + delay_ms * NS_PER_MS;
	log_drop(slot->n_failures > 1 ? LOG_DEBUG
		 : lingers            ? LOG_INFO
				      : LOG_WARN,
		 err, "slot %u asks %s again in %lld ms", slot->sync.slot,
		 rpc_chan_address(bb->chan), (long long)delay_ms);
	return NULL;
}

/* A call is over. */
static struct error *source_end_call(struct source_buildbarn *bb,
				     struct buildbarn_slot *slot)
	SYNC_REQUIRES(&bb->mutex)
{
	_cleanup_rpc_reply_ struct rpc_reply reply = slot->answer;
	struct error *err = take(slot->answer_err);

	slot->answer = (struct rpc_reply){0};
	slot->is_answered = slot->is_calling = false;
	if (!err) {
		err = source_hear(bb, slot, &reply);
	} else if ((slot->was_cancelled && error_code(err) == ERROR_CANCELLED) ||
		   (slot->may_wait && error_code(err) == ERROR_DEADLINE_EXCEEDED)) {
		slot->due_ns = clock_mono_ns();
		err = error_free(err);
	}
	return err ? source_failed(bb, slot, err) : NULL;
}

/* The thread */

/* What the slot's state wants done, outside the mutex. */
static void source_act(struct source_buildbarn *bb, struct buildbarn_slot *slot)
	SYNC_REQUIRES(&bb->mutex)
{
	_cleanup_free_ char *cancelled = buildbarn_sync_take_cancel(&slot->sync);
	struct source_lease *lease = buildbarn_sync_take_lease(&slot->sync);

	if (!cancelled && !lease)
		return;
	sync_unlock(&bb->mutex);
	if (cancelled) {
		log_info("lease %s: cancelled", cancelled);
		bb->events->cancel(bb->events->ctx, cancelled);
	}
	if (lease) {
		log_debug("lease %s: start", lease->id);
		bb->events->assign(bb->events->ctx, lease);
	}
	sync_lock(&bb->mutex);
}

/* When it calls: after a failure not before its time, whatever there is to tell. */
static int64_t source_due_ns(const struct buildbarn_slot *slot)
{
	return !slot->n_failures && slot->news_ns < slot->due_ns ? slot->news_ns
								 : slot->due_ns;
}

/* One look at a slot; *due_ns is lowered to when it wants the next. */
static struct error *source_step(struct source_buildbarn *bb, struct buildbarn_slot *slot,
				 int64_t *due_ns) SYNC_REQUIRES(&bb->mutex)
{
	struct error *err = slot->is_answered ? source_end_call(bb, slot) : NULL;

	if (err)
		return err;
	source_act(bb, slot);
	if (slot->is_calling) {
		/* the scheduler holds it, and does not know that we leave */
		if (bb->is_draining && slot->may_wait && !slot->was_cancelled &&
		    !slot->is_answered)
			source_cancel(bb, slot);
		return NULL;
	}
	if (slot->is_over || slot->sync.state == BUILDBARN_STOPPING ||
	    (!bb->was_ready && slot->sync.slot > 0))
		return NULL;
	if (source_due_ns(slot) <= clock_mono_ns())
		return source_call(bb, slot);
	if (source_due_ns(slot) < *due_ns)
		*due_ns = source_due_ns(slot);
	return NULL;
}

static bool source_is_over(const struct source_buildbarn *bb) SYNC_REQUIRES(&bb->mutex)
{
	if (bb->is_stopping)
		return true;
	/* before the first answer nobody but the first slot has said anything */
	for (unsigned int i = 0; i < bb->n_slots; i++)
		if (!bb->slots[i].is_over && (bb->was_ready || i == 0))
			return false;
	return bb->is_draining;
}

static struct error *source_loop(struct source_buildbarn *bb) SYNC_REQUIRES(&bb->mutex)
{
	struct error *err = NULL;

	while (!source_is_over(bb)) {
		int64_t due_ns = CLOCK_NEVER;

		bb->has_news = false;
		for (unsigned int i = 0; i < bb->n_slots && !err; i++)
			err = source_step(bb, &bb->slots[i], &due_ns);
		if (err)
			return err;
		while (!bb->has_news && !bb->is_stopping && !source_is_over(bb) &&
		       clock_mono_ns() < due_ns)
			(void)sync_wait_until(&bb->cond, &bb->mutex, due_ns);
	}
	return NULL;
}

/* No call is left behind. */
static void source_end_calls(struct source_buildbarn *bb) SYNC_REQUIRES(&bb->mutex)
{
	for (unsigned int i = 0; i < bb->n_slots; i++) {
		struct buildbarn_slot *slot = &bb->slots[i];

		if (slot->is_calling && !slot->is_answered)
			source_cancel(bb, slot);
		while (slot->is_calling && !slot->is_answered)
			sync_wait(&bb->cond, &bb->mutex);
	}
}

static void *source_buildbarn_thread(void *arg)
{
	struct source_buildbarn *bb = arg;
	struct error *err;

	sync_lock(&bb->mutex);
	err = source_loop(bb);
	source_end_calls(bb);
	sync_unlock(&bb->mutex);
	bb->events->ended(bb->events->ctx, err);
	return NULL;
}

/* The interface */

static void source_buildbarn_stage(struct source *source, const char *id,
				   enum source_stage stage)
{
	struct source_buildbarn *bb = container_of(source, struct source_buildbarn, base);
	int64_t news_ns = clock_mono_ns() + BUILDBARN_SETTLE_NS;

	sync_lock(&bb->mutex);
	for (unsigned int i = 0; i < bb->n_slots; i++) {
		struct buildbarn_slot *slot = &bb->slots[i];

		if (!buildbarn_sync_stage(&slot->sync, id, stage))
			continue;
		slot->news_ns = news_ns;
		source_wake(bb);
		break;
	}
	sync_unlock(&bb->mutex);
}

static void source_buildbarn_report(struct source *source, const char *id,
				    struct error *status, struct buf *result)
{
	struct source_buildbarn *bb = container_of(source, struct source_buildbarn, base);

	sync_lock(&bb->mutex);
	for (unsigned int i = 0; i < bb->n_slots; i++) {
		struct buildbarn_slot *slot = &bb->slots[i];

		if (!buildbarn_sync_is_of(&slot->sync, id))
			continue;
		buildbarn_sync_finish(&slot->sync, take(status), result);
		slot->news_ns = 0;
		source_wake(bb);
		break;
	}
	sync_unlock(&bb->mutex);
	error_free(status);
	buf_deinit(result);
}

static void source_buildbarn_drain(struct source *source)
{
	struct source_buildbarn *bb = container_of(source, struct source_buildbarn, base);

	sync_lock(&bb->mutex);
	bb->is_hurried = bb->is_draining;
	bb->is_draining = true;
	for (unsigned int i = 0; i < bb->n_slots; i++) {
		bb->slots[i].due_ns = 0;
		bb->slots[i].n_failures = 0;
	}
	source_wake(bb);
	sync_unlock(&bb->mutex);
}

static void *source_buildbarn_free(struct source *source)
{
	struct source_buildbarn *bb = container_of(source, struct source_buildbarn, base);

	sync_lock(&bb->mutex);
	bb->is_stopping = true;
	source_wake(bb);
	sync_unlock(&bb->mutex);
	if (bb->has_thread)
		(void)pthread_join(bb->thread, NULL);
	sync_alone(&bb->mutex);
	for (unsigned int i = 0; i < bb->n_slots; i++) {
		buildbarn_sync_deinit(&bb->slots[i].sync);
		rpc_reply_deinit(&bb->slots[i].answer);
		error_free(bb->slots[i].answer_err);
	}
	free(bb->slots);
	arena_deinit(&bb->arena);
	free(bb->instance);
	free(bb->worker_id);
	sync_cond_deinit(&bb->cond);
	sync_mutex_deinit(&bb->mutex);
	free(bb);
	return NULL;
}

static const struct source_impl source_buildbarn_impl = {
	.stage = source_buildbarn_stage,
	.report = source_buildbarn_report,
	.drain = source_buildbarn_drain,
	.free = source_buildbarn_free,
};

/* Making one */

static const Reapi__Platform *source_platform(const struct source_config *config,
					      struct arena *arena)
{
	Reapi__Platform *platform = arena_new(arena, Reapi__Platform);

	if (!platform)
		return NULL;
	reapi__platform__init(platform);
	platform->properties =
		arena_array(arena, config->n_properties, sizeof(*platform->properties));
	for (size_t i = 0; i < config->n_properties && !arena->is_full; i++) {
		Reapi__Platform__Property *property =
			arena_new(arena, Reapi__Platform__Property);

		if (!property)
			return NULL;
		reapi__platform__property__init(property);
		property->name = arena_string(arena, config->properties[i].name);
		property->value = arena_string(arena, config->properties[i].value);
		platform->properties[platform->n_properties++] = property;
	}
	return arena->is_full ? NULL : platform;
}

/* Who the slot is: the worker's name, and its own number. */
static bool source_name(struct source_buildbarn *bb, struct buildbarn_slot *slot)
{
	const char *const labels[][2] = {
		{"worker", bb->worker_id},
		{"slot", arena_printf(&bb->arena, "%u", slot->sync.slot)}};
	Buildbarn__SynchronizeRequest *request = &slot->request;

	request->worker_id =
		arena_array(&bb->arena, ARRAY_SIZE(labels), sizeof(*request->worker_id));
	for (size_t i = 0; i < ARRAY_SIZE(labels) && !bb->arena.is_full; i++) {
		Buildbarn__SynchronizeRequest__WorkerIdEntry *entry = arena_new(
			&bb->arena, Buildbarn__SynchronizeRequest__WorkerIdEntry);

		if (!entry)
			return false;
		buildbarn__synchronize_request__worker_id_entry__init(entry);
		entry->key = labels[i][0];
		entry->value = labels[i][1];
		request->worker_id[request->n_worker_id++] = entry;
	}
	return !bb->arena.is_full;
}

static struct error *source_make_slots(struct source_buildbarn *bb,
				       const struct source_config *config)
	SYNC_REQUIRES(&bb->mutex)
{
	const Reapi__Platform *platform = source_platform(config, &bb->arena);

	bb->n_slots = config->n_slots;
	bb->slots = alloc_array(bb->n_slots, sizeof(*bb->slots));
	for (unsigned int i = 0; i < bb->n_slots; i++) {
		struct buildbarn_slot *slot = &bb->slots[i];

		slot->owner = bb;
		slot->pause_ns = BUILDBARN_PAUSE_MIN_NS;
		slot->news_ns = CLOCK_NEVER;
		buildbarn_sync_init(&slot->sync, i);
		buildbarn__synchronize_request__init(&slot->request);
		slot->request.instance_name_prefix = bb->instance;
		slot->request.platform = (Reapi__Platform *)(uintptr_t)platform;
		slot->request.size_class = config->size_class;
		if (!platform || !source_name(bb, slot))
			return arena_error("what the worker says of itself");
	}
	return NULL;
}

struct error *source_buildbarn_start(const struct source_config *config,
				     struct source **source_out)
{
	struct source_buildbarn *bb = alloc_new(struct source_buildbarn);
	struct error *err;

	bb->base.impl = &source_buildbarn_impl;
	bb->chan = config->chan;
	bb->cas_chan = config->cas_chan;
	bb->events = config->events;
	bb->instance = alloc_string(config->instance);
	bb->worker_id = alloc_string(config->worker_id);
	bb->arena = ARENA_INIT((size_t)64 << 20);
	sync_mutex_init(&bb->mutex);
	sync_cond_init(&bb->cond);
	sync_alone(&bb->mutex);
	err = source_make_slots(bb, config);
	if (!err)
		err = thread_start("source", source_buildbarn_thread, bb, &bb->thread);
	bb->has_thread = !err;
	if (err) {
		source_buildbarn_free(&bb->base);
		return err;
	}
	*source_out = &bb->base;
	return NULL;
}
