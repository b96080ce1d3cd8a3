/*
 * Owns jobs and operations; queue_bots.c owns sessions and leases.
 *
 * What must stay true: a job in state QUEUED is in the list of queued ones and has no
 * lease; OFFERED and RUNNING ones have exactly one lease that points back; a completed
 * one has neither. A job which may be joined is in `joinable` under its instance and
 * digest, at most one for each. An operation is completed where its job is, or where it
 * was cancelled on its own; from then on it is in `retired`, which forgets the oldest.
 *
 * A watch holds its operation: a watched one is not forgotten.
 */
#include "server/queue_impl.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/sync.h"
#include "server/response.h"

void queue_lock(struct queue *queue)
{
	sync_lock(&queue->mutex);
}

void queue_unlock(struct queue *queue)
{
	sync_unlock(&queue->mutex);
}

struct queue *queue_new(const struct queue_config *config)
{
	struct queue *queue = alloc_new(struct queue);

	sync_mutex_init(&queue->mutex);
	sync_mutex_rank(&queue->mutex, 1);
	if (config) {
		queue->waits_for_bots = config->waits_for_bots;
		queue->abandon_ns = config->abandon_ns;
		queue->log_ended = config->log_ended;
		queue->log_ctx = config->log_ctx;
	} else {
		queue->waits_for_bots = true;
		queue->abandon_ns = CLOCK_NEVER;
	}
	queue_lock(queue);
	queue->epoch = 1;
	list_init(&queue->unwatched);
	list_init(&queue->queued);
	list_init(&queue->all);
	list_init(&queue->retired);
	list_init(&queue->sessions);
	list_init(&queue->changed);
	queue_unlock(queue);
	return queue;
}

/* ---- properties ----------------------------------------------------------------- */

struct queue_props queue_props_copy(const struct queue_property *list, size_t n)
{
	struct queue_props props = {.n = n};

	props.list = alloc_array(n, sizeof(*props.list));
	for (size_t i = 0; i < n; i++) {
		props.list[i].name = alloc_string(list[i].name);
		props.list[i].value = alloc_string(list[i].value);
	}
	return props;
}

void queue_props_deinit(struct queue_props *props)
{
	for (size_t i = 0; i < props->n; i++) {
		free((char *)(uintptr_t)props->list[i].name);
		free((char *)(uintptr_t)props->list[i].value);
	}
	free(props->list);
	*props = (struct queue_props){0};
}

/* ---- jobs ----------------------------------------------------------------------- */

static uint64_t queue_job_key(const char *instance, const struct digest *digest)
{
	return digest_key(digest) ^ slice_hash(slice_of(instance));
}

struct queue_job *queue_job_joinable(struct queue *queue, const char *instance,
				     const struct digest *digest)
{
	uint64_t key = queue_job_key(instance, digest);

	for (struct hnode *n = htab_first(&queue->joinable, key); n;
	     n = htab_next(n, key)) {
		struct queue_job *job = container_of(n, struct queue_job, node);

		if (digest_equal(&job->digest, digest) &&
		    strcmp(job->instance, instance) == 0)
			return job;
	}
	return NULL;
}

void queue_job_make_joinable(struct queue *queue, struct queue_job *job)
{
	job->is_joinable = true;
	htab_insert(&queue->joinable, &job->node,
		    queue_job_key(job->instance, &job->digest));
}

static void queue_job_unjoin(struct queue *queue, struct queue_job *job)
	SYNC_REQUIRES(&queue->mutex)
{
	if (!job->is_joinable)
		return;
	job->is_joinable = false;
	htab_remove(&queue->joinable, &job->node);
}

size_t queue_spec_bytes(const struct queue_spec *spec)
{
	size_t bytes = sizeof(struct queue_job) + spec->action.len;

	for (size_t i = 0; i < spec->n_required; i++)
		bytes += sizeof(struct queue_property) + strlen(spec->required[i].name) +
			 strlen(spec->required[i].value);
	return bytes;
}

struct queue_job *queue_job_new(const struct queue_spec *spec, uint64_t id)
{
	struct queue_job *job = alloc_new(struct queue_job);

	queue_row_init(&job->row, QUEUE_KIND_JOB, id);
	list_init(&job->queue_link);
	list_init(&job->operations);
	job->instance = alloc_string(spec->instance);
	job->digest = spec->action_digest;
	buf_add(&job->action, spec->action.data, spec->action.len);
	job->required = queue_props_copy(spec->required, spec->n_required);
	job->priority = spec->priority;
	job->do_not_cache = spec->do_not_cache;
	job->limit_ns = spec->limit_ns;
	job->wall_ns = spec->wall_ns;
	return job;
}

void queue_job_free(struct queue *queue, struct queue_job *job)
{
	queue_row_forget(queue, &job->row);
	require(!job->lease && !job->is_joinable && list_is_empty(&job->operations));
	queue_props_deinit(&job->required);
	buf_deinit(&job->action);
	buf_deinit(&job->partial);
	if (job->response)
		queue->retained_bytes -= job->response->len;
	queue_bytes_unref(job->response);
	queue_logs_free(job->logs);
	free(job->instance);
	free(job);
}

static bool queue_runs_before(const struct list *link, const struct queue_job *job)
{
	const struct queue_job *other = container_of(link, struct queue_job, queue_link);

	if (other->priority != job->priority)
		return other->priority < job->priority;
	if (other->turn != job->turn)
		return other->turn < job->turn;
	return other->wall_ns <= job->wall_ns;
}

/*
 * Into the list before the first that must run later. Its place is near the end for most,
 * near the front for a client that has few: it is looked for from both sides.
 */
void queue_job_enqueue(struct queue *queue, struct queue_job *job)
{
	struct list *first = queue->queued.next; /* all before it run before the job */
	struct list *last = &queue->queued;      /* it and all after it run later */

	job->state = JOB_QUEUED;
	queue_row_touch(queue, &job->row);
	while (first != last && !queue_runs_before(last->prev, job)) {
		last = last->prev;
		if (first == last || !queue_runs_before(first, job)) {
			last = first;
			break;
		}
		first = first->next;
	}
	list_insert_before(last, &job->queue_link);
}

/* ---- responses ------------------------------------------------------------------ */

static void queue_bytes_share(struct queue_bytes *bytes, struct queue_state *state)
{
	state->shared = queue_bytes_ref(bytes);
	state->response = (struct slice){bytes->data, bytes->len};
}

/* An operation that is over but watched keeps its response at its client's expense. */
static void queue_operation_hold(struct queue_operation *operation)
{
	const struct queue_bytes *response =
		operation->is_cancelled ? operation->cancelled : operation->job->response;

	if (!response || operation->held_bytes > 0 || list_is_empty(&operation->watches))
		return;
	operation->held_bytes = response->len;
	operation->client->bytes += response->len;
}

static void queue_operation_let_go(struct queue_operation *operation)
{
	operation->client->bytes -= operation->held_bytes;
	operation->held_bytes = 0;
}

static bool queue_operation_is_done(const struct queue_operation *operation)
{
	return operation->is_cancelled || operation->job->state == JOB_COMPLETED;
}

static void queue_operation_changed(struct queue_operation *operation)
{
	operation->version++;
	list_for_each (it, &operation->watches) {
		struct queue_watch *watch = container_of(it, struct queue_watch, link);

		watch->wake(watch->ctx);
	}
}

void queue_job_changed(struct queue *queue, struct queue_job *job)
{
	(void)queue;
	list_for_each (it, &job->operations) {
		struct queue_operation *operation =
			container_of(it, struct queue_operation, job_link);

		if (!operation->is_cancelled)
			queue_operation_changed(operation);
	}
}

void queue_operation_retire(struct queue *queue, struct queue_operation *operation,
			    int64_t now_ns)
{
	operation->completed_ns = now_ns;
	operation->client->n_live--;
	operation->client->bytes -= operation->request.len;
	queue->bytes -= operation->request.len;
	queue->retained_bytes += operation->request.len;
	queue->n_live--;
	queue_row_touch(queue, &operation->row);
	list_remove(&operation->unwatched_link);
	list_push(&queue->retired, &operation->retired_link);
	queue->n_retired++;
	queue_operation_hold(operation);
}

void queue_job_complete(struct queue *queue, struct queue_job *job, struct slice response,
			int64_t now_ns)
{
	require(job->state != JOB_COMPLETED);
	list_remove(&job->queue_link);
	queue_job_unjoin(queue, job);
	job->state = JOB_COMPLETED;
	job->lease = NULL;
	queue_job_logs_end(queue, job, true);
	job->response = queue_bytes_new(response);
	queue->retained_bytes += response.len;
	queue->n_jobs--;
	queue->bytes -= job->bytes;
	job->client->bytes -= job->bytes;
	list_for_each (it, &job->operations) {
		struct queue_operation *operation =
			container_of(it, struct queue_operation, job_link);

		if (!operation->is_cancelled)
			queue_operation_retire(queue, operation, now_ns);
	}
	queue_job_settle(queue, job);
	queue_job_changed(queue, job);
}

void queue_job_fail(struct queue *queue, struct queue_job *job, struct error *err,
		    int64_t now_ns)
{
	_cleanup_buf_ struct buf response = BUF_INIT;

	response_of_error(err, &response);
	error_free(err);
	queue_job_complete(queue, job, buf_slice(&response), now_ns);
}

/* ---- operations ----------------------------------------------------------------- */

struct queue_operation *queue_find(const struct queue *queue, const char *name)
{
	uint64_t hash = queue_name_hash(name);

	for (struct hnode *n = htab_first(&queue->operations, hash); n;
	     n = htab_next(n, hash)) {
		struct queue_operation *found =
			container_of(n, struct queue_operation, node);

		if (strcmp(found->name, name) == 0)
			return found;
	}
	return NULL;
}

static struct error *queue_find_named(const struct queue *queue, const char *name,
				      struct queue_operation **out)
	SYNC_REQUIRES(&queue->mutex)
{
	*out = queue_find(queue, name);
	return *out ? NULL
		    : error_new(
			      ERROR_NOT_FOUND,
			      "operation \"%.320s\" is unknown: it never was, or is long "
			      "over",
			      name);
}

struct queue_operation *queue_operation_add(struct queue *queue, struct queue_job *job,
					    const char *client, struct slice request,
					    const char *name, uint64_t serial)
{
	struct queue_operation *operation = alloc_new(struct queue_operation);

	operation->job = job;
	operation->client = queue_client_get(queue, client ? client : "");
	operation->client->n_live++;
	operation->client->bytes += request.len;
	queue->bytes += request.len;
	queue->n_live++;
	operation->version = 1;
	operation->serial = serial;
	buf_add(&operation->request, request.data, request.len);
	queue_row_init(&operation->row, QUEUE_KIND_OPERATION, serial);
	list_init(&operation->watches);
	list_init(&operation->retired_link);
	list_init(&operation->unwatched_link);
	(void)snprintf(operation->name, sizeof(operation->name), "%s", name);
	htab_insert(&queue->operations, &operation->node,
		    queue_name_hash(operation->name));
	list_push(&job->operations, &operation->job_link);
	list_push(&queue->all, &operation->all_link);
	job->n_live++;
	queue_row_touch(queue, &operation->row);
	return operation;
}

static struct queue_operation *queue_operation_new(struct queue *queue,
						   struct queue_job *job,
						   const struct queue_spec *spec)
	SYNC_REQUIRES(&queue->mutex)
{
	struct queue_operation *operation;
	char name[QUEUE_NAME_MAX];

	queue_make_name(job->instance, &job->digest, name);
	operation = queue_operation_add(queue, job, spec->client, spec->request, name,
					++queue->serial);
	operation->is_detached = spec->is_detached;
	return operation;
}

static void queue_operation_free(struct queue *queue, struct queue_operation *operation)
	SYNC_REQUIRES(&queue->mutex)
{
	struct queue_job *job = operation->job;

	queue_row_forget(queue, &operation->row);
	if (queue_operation_is_done(operation))
		queue->retained_bytes -= operation->request.len;
	buf_deinit(&operation->request);
	htab_remove(&queue->operations, &operation->node);
	list_remove(&operation->job_link);
	list_remove(&operation->all_link);
	list_remove(&operation->retired_link);
	list_remove(&operation->unwatched_link);
	queue_bytes_unref(operation->cancelled);
	queue_client_put(queue, operation->client);
	free(operation);
	if (list_is_empty(&job->operations))
		queue_job_free(queue, job);
}

static void queue_forget_old(struct queue *queue, int64_t now_ns)
	SYNC_REQUIRES(&queue->mutex)
{
	list_for_each_safe (it, &queue->retired) {
		struct queue_operation *operation =
			container_of(it, struct queue_operation, retired_link);

		int64_t age_ns = now_ns - operation->completed_ns;
		/* one that is new is about to be watched */
		bool is_too_large = queue->retained_bytes > QUEUE_RETAINED_BYTES &&
				    age_ns >= QUEUE_UNREAD_NS;

		if (queue->n_retired <= QUEUE_RETAINED_MAX && !is_too_large &&
		    age_ns < QUEUE_RETAINED_NS)
			return;
		/* A job that runs on for others goes only with its last operation. */
		if (!list_is_empty(&operation->watches) ||
		    operation->job->state != JOB_COMPLETED)
			continue;
		queue->n_retired--;
		queue_operation_free(queue, operation);
	}
}

static struct error *queue_check(const struct queue *queue, const struct queue_spec *spec)
	SYNC_REQUIRES(&queue->mutex)
{
	if (queue->is_stopping)
		return error_new(ERROR_UNAVAILABLE, "the server is stopping");
	if (queue->n_jobs >= QUEUE_JOBS_MAX)
		return error_new(ERROR_RESOURCE_EXHAUSTED, "%d jobs are queued already",
				 QUEUE_JOBS_MAX);
	return queue_client_check(queue, spec->client ? spec->client : "",
				  queue_spec_bytes(spec) + spec->request.len, true);
}

void queue_job_charge(struct queue *queue, struct queue_job *job,
		      struct queue_client *client, size_t n_bytes)
{
	job->client = client;
	job->bytes = n_bytes;
	client->bytes += n_bytes;
	queue->bytes += n_bytes;
	queue->n_jobs++;
}

/* The job of an operation that is new, too, which makes the client its owner. */
static struct queue_operation *queue_begin(struct queue *queue,
					   const struct queue_spec *spec)
	SYNC_REQUIRES(&queue->mutex)
{
	struct queue_job *job = queue_job_new(spec, ++queue->serial);
	struct queue_operation *operation = queue_operation_new(queue, job, spec);

	queue_job_charge(queue, job, operation->client, queue_spec_bytes(spec));
	return operation;
}

static void queue_join(struct queue *queue, const struct queue_spec *spec,
		       struct queue_job *job) SYNC_REQUIRES(&queue->mutex)
{
	queue->n_joined++;
	if (spec->priority < job->priority && job->state == JOB_QUEUED) {
		job->priority = spec->priority;
		list_remove(&job->queue_link);
		queue_job_enqueue(queue, job);
	}
}

static void queue_add(struct queue *queue, const struct queue_spec *spec,
		      struct queue_job *job, int64_t now_ns) SYNC_REQUIRES(&queue->mutex)
{
	if (!spec->do_not_cache)
		queue_job_make_joinable(queue, job);
	job->turn = queue_client_turn(queue, job->client);
	job->queued_ns = now_ns;
	queue_job_enqueue(queue, job);
	queue_job_offer(queue, job);
}

struct error *queue_submit(struct queue *queue, const struct queue_spec *spec,
			   int64_t now_ns, char name_out[static QUEUE_NAME_MAX])
{
	struct queue_operation *operation;
	struct queue_job *job = NULL;
	struct error *err;

	queue_lock(queue);
	err = queue_check(queue, spec);
	if (err) {
		queue_unlock(queue);
		return err;
	}
	if (!spec->do_not_cache)
		job = queue_job_joinable(queue, spec->instance, &spec->action_digest);
	if (job) {
		queue_join(queue, spec, job);
		operation = queue_operation_new(queue, job, spec);
	} else {
		operation = queue_begin(queue, spec);
		queue_add(queue, spec, operation->job, now_ns);
	}
	memcpy(name_out, operation->name, QUEUE_NAME_MAX);
	queue_forget_old(queue, now_ns);
	queue_unlock(queue);
	return NULL;
}

struct error *queue_submit_done(struct queue *queue, const struct queue_spec *spec,
				struct slice response, int64_t now_ns,
				char name_out[static QUEUE_NAME_MAX])
{
	struct queue_operation *operation;
	struct error *err;

	queue_lock(queue);
	queue_forget_old(queue, now_ns);
	err = queue_client_check(queue, spec->client ? spec->client : "",
				 response.len + spec->request.len, false);
	if (!err) {
		operation = queue_begin(queue, spec);
		memcpy(name_out, operation->name, QUEUE_NAME_MAX);
		queue_job_complete(queue, operation->job, response, now_ns);
		queue_forget_old(queue, now_ns);
	}
	queue_unlock(queue);
	return err;
}

/* Empty, and the arena full, where it does not fit. */
struct slice queue_copy(struct arena *arena, struct slice bytes)
{
	void *copy = arena_memdup(arena, bytes.data, bytes.len);

	return copy ? (struct slice){copy, bytes.len} : (struct slice){NULL, 0};
}

enum queue_stage queue_stage_of(const struct queue_operation *operation)
{
	if (operation->is_cancelled)
		return QUEUE_COMPLETED;
	switch (operation->job->state) {
	case JOB_QUEUED:
	case JOB_OFFERED:
		break;
	case JOB_RUNNING:
		return QUEUE_EXECUTING;
	case JOB_COMPLETED:
		return QUEUE_COMPLETED;
	}
	return QUEUE_QUEUED;
}

struct queue_state queue_state_of(const struct queue *queue,
				  const struct queue_operation *operation,
				  struct arena *arena)
{
	const struct queue_job *job = operation->job;
	struct queue_state state = {.name = arena_string(arena, operation->name),
				    .serial = operation->serial,
				    .stage = queue_stage_of(operation),
				    .action_digest = job->digest};

	queue_job_logs_show(job, arena, &state);
	switch (state.stage) {
	case QUEUE_QUEUED:
		state.has_no_bots = !queue_has_bots(queue, job->instance);
		break;
	case QUEUE_EXECUTING:
		state.partial = queue_copy(arena, buf_slice(&job->partial));
		break;
	case QUEUE_COMPLETED:
		queue_bytes_share(operation->is_cancelled ? operation->cancelled
							  : job->response,
				  &state);
		break;
	}
	return state;
}

struct error *queue_watch(struct queue *queue, const char *name,
			  struct queue_watch *watch)
{
	struct error *err;

	queue_lock(queue);
	err = queue_find_named(queue, name, &watch->operation);
	watch->seen = 0;
	if (!err) {
		list_push(&watch->operation->watches, &watch->link);
		list_remove(&watch->operation->unwatched_link);
		queue_operation_hold(watch->operation);
	}
	queue_unlock(queue);
	return err;
}

/* Consumes err, with which it ends. */
static void queue_operation_cancel(struct queue *queue, struct queue_operation *operation,
				   struct error *err, int64_t now_ns)
	SYNC_REQUIRES(&queue->mutex)
{
	struct queue_job *job = operation->job;
	_cleanup_buf_ struct buf response = BUF_INIT;

	response_of_error(err, &response);
	operation->cancelled = queue_bytes_new(buf_slice(&response));
	operation->is_cancelled = true;
	queue_operation_retire(queue, operation, now_ns);
	queue_operation_changed(operation);
	if (--job->n_live > 0) {
		error_free(err);
		return;
	}
	if (job->lease)
		queue_lease_cancel(job->lease);
	queue_job_fail(queue, job, err, now_ns);
}

static void queue_abandon_tick(struct queue *queue, int64_t now_ns)
	SYNC_REQUIRES(&queue->mutex)
{
	list_for_each_safe (it, &queue->unwatched) {
		struct queue_operation *operation =
			container_of(it, struct queue_operation, unwatched_link);

		if (now_ns - operation->unwatched_ns < queue->abandon_ns)
			return;
		queue_operation_cancel(
			queue, operation,
			error_new(ERROR_CANCELLED,
				  "nobody waits for operation \"%s\" any more: it was "
				  "cancelled",
				  operation->name),
			now_ns);
	}
}

/* Its client may come back; else what it asked for is given up. */
static void queue_operation_left(struct queue *queue, struct queue_operation *operation,
				 int64_t now_ns) SYNC_REQUIRES(&queue->mutex)
{
	if (operation->is_detached || queue->is_stopping ||
	    queue_operation_is_done(operation))
		return;
	operation->unwatched_ns = now_ns;
	list_push(&queue->unwatched, &operation->unwatched_link);
	if (queue->abandon_ns == 0)
		queue_abandon_tick(queue, now_ns);
}

void queue_unwatch(struct queue *queue, struct queue_watch *watch, int64_t now_ns)
{
	if (!watch->operation)
		return;
	queue_lock(queue);
	list_remove(&watch->link);
	if (list_is_empty(&watch->operation->watches)) {
		queue_operation_let_go(watch->operation);
		queue_operation_left(queue, watch->operation, now_ns);
	}
	watch->operation = NULL;
	queue_unlock(queue);
}

/* How many are handed out before a queued one: told each of those that wait, so it is no
 * walk over all of them. */
static size_t queue_before(const struct queue *queue, const struct queue_job *job)
	SYNC_REQUIRES(&queue->mutex)
{
	size_t n = 0;

	if (job->state != JOB_QUEUED)
		return 0;
	for (const struct list *it = job->queue_link.prev;
	     it != &queue->queued && n < QUEUE_BEFORE_MAX; it = it->prev)
		n++;
	return n;
}

bool queue_watch_read(struct queue *queue, struct queue_watch *watch, struct arena *arena,
		      struct queue_state *out, bool *is_stopped_out)
{
	bool is_new;

	queue_lock(queue);
	is_new = watch->operation->version != watch->seen;
	if (is_new) {
		watch->seen = watch->operation->version;
		*out = queue_state_of(queue, watch->operation, arena);
		if (out->stage == QUEUE_QUEUED && !out->has_no_bots)
			out->n_before = queue_before(queue, watch->operation->job);
	}
	*is_stopped_out = queue->is_stopping;
	queue_unlock(queue);
	return is_new;
}

struct error *queue_get(struct queue *queue, const char *name, struct arena *arena,
			struct queue_state *out)
{
	struct queue_operation *operation;
	struct error *err;

	queue_lock(queue);
	err = queue_find_named(queue, name, &operation);
	if (!err) {
		*out = queue_state_of(queue, operation, arena);
		out->request = queue_copy(arena, buf_slice(&operation->request));
	}
	queue_unlock(queue);
	return err;
}

struct error *queue_cancel(struct queue *queue, const char *name, int64_t now_ns)
{
	struct queue_operation *operation;
	struct error *err;

	queue_lock(queue);
	err = queue_find_named(queue, name, &operation);
	if (!err && !queue_operation_is_done(operation))
		queue_operation_cancel(queue, operation,
				       error_new(ERROR_CANCELLED,
						 "operation \"%s\" was cancelled",
						 operation->name),
				       now_ns);
	queue_unlock(queue);
	return err;
}

/* ---- as a whole ----------------------------------------------------------------- */

void queue_tick(struct queue *queue, int64_t now_ns)
{
	queue_lock(queue);
	queue_bots_tick(queue, now_ns);
	queue_match_tick(queue, now_ns);
	queue_abandon_tick(queue, now_ns);
	queue_forget_old(queue, now_ns);
	queue_unlock(queue);
}

static void queue_wake_watches(struct hnode *node, void *ctx)
{
	(void)ctx;
	list_for_each (it, &container_of(node, struct queue_operation, node)->watches) {
		struct queue_watch *watch = container_of(it, struct queue_watch, link);

		watch->wake(watch->ctx);
	}
}

void queue_stop(struct queue *queue)
{
	queue_lock(queue);
	queue->is_stopping = true;
	queue_bots_stop(queue);
	htab_each(&queue->operations, queue_wake_watches, NULL);
	queue_unlock(queue);
}

void *queue_free(struct queue *queue)
{
	if (!queue)
		return NULL;
	queue_lock(queue);
	queue_bots_free(queue);
	list_for_each_safe (it, &queue->all) {
		struct queue_operation *operation =
			container_of(it, struct queue_operation, all_link);

		require(list_is_empty(&operation->watches));
		list_remove(&operation->job->queue_link);
		queue_job_unjoin(queue, operation->job);
		queue_operation_free(queue, operation);
	}
	htab_deinit(&queue->clients);
	htab_deinit(&queue->joinable);
	htab_deinit(&queue->operations);
	htab_deinit(&queue->sessions_by_name);
	free(queue->gone);
	queue_unlock(queue);
	sync_mutex_deinit(&queue->mutex);
	free(queue);
	return NULL;
}

void queue_stats(struct queue *queue, struct queue_stats *out)
{
	*out = (struct queue_stats){0};
	queue_lock(queue);
	list_for_each (it, &queue->queued)
		out->n_queued++;
	out->n_running = queue->n_jobs - out->n_queued;
	out->n_operations = queue->operations.len;
	out->n_sessions = queue->n_sessions;
	out->n_joined = queue->n_joined;
	out->n_requeued = queue->n_requeued;
	queue_unlock(queue);
}
