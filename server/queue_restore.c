/*
 * Owns what is needed to put the queue together again: jobs and sessions by the ids that
 * rows name them by, until all rows are there.
 *
 * Rows come from a file, so nothing in them is believed: sizes, counts and ranges are
 * those of requests, an action is what its digest says, an operation's name is its job's,
 * and what clients and the queue may hold holds here, too. A row that breaks one of these
 * is left out, and with it what hangs on it. What many rows are put in order by is
 * sorted, not inserted, so that no order of them takes long.
 */
#include "server/queue_restore.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/tree/hasher.h"
#include "server/queue_impl.h"
#include "server/service.h"

#define RESTORE_ARENA_MAX  ((size_t)8 << 20) /* of one record's strings */
#define RESTORE_LIMIT_MAX  (90 * 24 * 3600 * NS_PER_S)
#define RESTORE_TURN_MAX   ((uint64_t)1 << 62)
#define RESTORE_ID_MAX     ((uint64_t)1 << 62)
#define RESTORE_OWNER_MAX  127
#define RESTORE_BOT_MAX    1024
#define RESTORE_OFFERS_MAX 4096 /* properties of a bot */
#define RESTORE_CLIENT_MAX 256

struct restore_list { /* of pointers, by id where they have one */
	void **items;
	size_t n, cap;
};

struct queue_restore {
	struct queue_restore_config config;
	struct restore_list sessions, jobs; /* their rows, by id */
	struct restore_list retired;        /* operations */
	struct restore_list offers;         /* jobs that are queued */
	size_t n_bytes;                     /* of jobs */
	struct arena arena;
	struct queue_restored counts;
};

static void restore_add(struct restore_list *list, void *item)
{
	list->items =
		alloc_grow(list->items, &list->cap, list->n + 1, sizeof(*list->items));
	list->items[list->n++] = item;
}

/* Of rows that came in the order of their ids. */
static struct queue_row *restore_find(const struct restore_list *rows, uint64_t id)
{
	size_t low = 0, high = rows->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		struct queue_row *row = rows->items[middle];

		if (row->id == id)
			return row;
		if (row->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

struct queue_restore *queue_restore_new(const struct queue_restore_config *config)
{
	struct queue_restore *restore = alloc_new(struct queue_restore);

	restore->config = *config;
	restore->arena = ARENA_INIT(RESTORE_ARENA_MAX);
	return restore;
}

static bool restore_has_instance(const struct queue_restore *restore, const char *name)
{
	for (size_t i = 0; i < restore->config.instances->n; i++) {
		if (strcmp(restore->config.instances->items[i], name) == 0)
			return true;
	}
	return false;
}

/* A monotonic moment that is not to come; the wall's clock may have been set. */
static int64_t restore_mono(const struct queue_restore *restore, int64_t wall_ns)
{
	int64_t now_wall_ns = restore->config.now_ns + restore->config.wall_ahead_ns;
	int64_t age_ns = now_wall_ns > wall_ns ? now_wall_ns - wall_ns : 0;

	return restore->config.now_ns - age_ns;
}

/* ---- sessions ------------------------------------------------------------------- */

/* INSTANCE/ID, as rights are asked for by the instance of a name. */
static bool restore_is_named(const char *name, const char *instance)
{
	const char *slash = strrchr(name, '/');
	size_t n = slash ? (size_t)(slash - name) : 0;

	return strlen(name) < QUEUE_NAME_MAX && n == strlen(instance) &&
	       memcmp(name, instance, n) == 0 && (slash ? slash[1] : name[0]);
}

static bool restore_session(struct queue_restore *restore, uint64_t id, struct slice head)
{
	struct queue *queue = restore->config.queue;
	struct queue_saved_session saved;
	struct queue_session *session;

	sync_alone(&queue->mutex);
	if (!queue_record_read_session(head, &restore->arena, &saved) ||
	    !restore_has_instance(restore, saved.bot.instance) ||
	    !restore_is_named(saved.name, saved.bot.instance) || !saved.bot.bot_id[0] ||
	    strlen(saved.bot.bot_id) > RESTORE_BOT_MAX ||
	    strlen(saved.bot.owner) > RESTORE_OWNER_MAX || saved.bot.capacity == 0 ||
	    saved.bot.capacity > QUEUE_CAPACITY_MAX ||
	    saved.bot.n_properties > RESTORE_OFFERS_MAX ||
	    queue->n_sessions >= QUEUE_SESSIONS_MAX ||
	    queue_session_find(queue, saved.name) ||
	    queue_session_of_bot(queue, &saved.bot))
		return false;
	session = queue_session_add(queue, &saved.bot, saved.name, id,
				    restore->config.now_ns + QUEUE_RETURN_NS);
	session->is_restored = true;
	session->row.is_kept = true;
	restore_add(&restore->sessions, &session->row);
	return true;
}

static struct queue_session *restore_find_session(const struct queue_restore *restore,
						  uint64_t id)
{
	struct queue_row *row = restore_find(&restore->sessions, id);

	return row ? container_of(row, struct queue_session, row) : NULL;
}

/* ---- jobs ----------------------------------------------------------------------- */

static bool restore_action_is_right(const struct queue_spec *spec)
{
	struct digest digest;

	if (spec->action.len == 0 || spec->action.len > SERVER_MESSAGE)
		return false;
	hasher_digest(spec->action.data, spec->action.len, &digest);
	return digest_equal(&digest, &spec->action_digest);
}

/* An ExecuteResponse that a message holds. */
static bool restore_response_is_right(struct slice response)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);

	return response.len <= RPC_MESSAGE_MAX &&
	       rpc_decode(&reapi__execute_response__descriptor, response, &arena);
}

static bool restore_job_is_right(const struct queue_restore *restore,
				 const struct queue_saved_job *saved,
				 struct slice response)
{
	const struct queue_spec *spec = &saved->spec;

	if (!restore_has_instance(restore, spec->instance) ||
	    spec->n_required > QUEUE_REQUIRED_MAX || saved->turn > RESTORE_TURN_MAX)
		return false;
	if (saved->is_completed)
		return spec->action.len == 0 && restore_response_is_right(response);
	return restore_action_is_right(spec) && spec->limit_ns > 0 &&
	       spec->limit_ns <= RESTORE_LIMIT_MAX && saved->n_tries < QUEUE_TRIES_MAX &&
	       saved->partial.len <= RPC_METADATA_MAX;
}

/* The bot has it still, if it is one that was here and may. */
static bool restore_lease(struct queue_restore *restore, struct queue_job *job,
			  const struct queue_saved_job *saved)
{
	struct queue_session *session = restore_find_session(restore, saved->session);
	struct queue *queue = restore->config.queue;
	struct queue_lease *lease;

	sync_alone(&queue->mutex);
	if (!session || !saved->lease[0] || strlen(saved->lease) >= QUEUE_LEASE_MAX ||
	    strcmp(session->instance, job->instance) != 0 ||
	    session->n_leases >= session->capacity ||
	    queue_session_lease(session, saved->lease))
		return false;
	lease = queue_lease_add(queue, session, job, saved->lease);
	if (!saved->is_running)
		return true;
	lease->state = LEASE_ACTIVE;
	lease->is_told = true;
	job->state = JOB_RUNNING;
	job->started_ns = restore_mono(restore, saved->started_wall_ns);
	buf_add(&job->partial, saved->partial.data, saved->partial.len);
	return true;
}

static bool restore_job(struct queue_restore *restore, uint64_t id, struct slice head,
			struct slice response)
{
	struct queue *queue = restore->config.queue;
	struct queue_saved_job saved;
	struct queue_job *job;

	sync_alone(&queue->mutex);
	if (!queue_record_read_job(head, &restore->arena, &saved) ||
	    !restore_job_is_right(restore, &saved, response) ||
	    restore->jobs.n >= QUEUE_JOBS_MAX + QUEUE_RETAINED_MAX)
		return false;
	restore->n_bytes += queue_spec_bytes(&saved.spec) + response.len;
	if (restore->n_bytes > QUEUE_BYTES_MAX + QUEUE_RETAINED_BYTES)
		return false;
	job = queue_job_new(&saved.spec, id);
	job->turn = saved.turn;
	job->n_tries = saved.n_tries;
	job->queued_ns = restore->config.now_ns;
	job->row.is_kept = true;
	restore_add(&restore->jobs, &job->row);
	if (saved.is_completed) {
		job->state = JOB_COMPLETED;
		job->response = queue_bytes_new(response);
		queue->retained_bytes += response.len;
		return true;
	}
	if (!restore_lease(restore, job, &saved))
		restore_add(&restore->offers, job);
	return true;
}

static struct queue_job *restore_find_job(const struct queue_restore *restore,
					  uint64_t id)
{
	struct queue_row *row = restore_find(&restore->jobs, id);

	return row ? container_of(row, struct queue_job, row) : NULL;
}

/* ---- operations ----------------------------------------------------------------- */

/* The job of an operation that has its response itself. */
static struct queue_job *restore_settled(struct queue *queue, const char *instance,
					 const struct digest *digest,
					 struct slice response)
	SYNC_REQUIRES(&queue->mutex)
{
	const struct queue_spec spec = {.instance = instance, .action_digest = *digest};
	struct queue_job *job = queue_job_new(&spec, 0); /* it is never kept */

	job->state = JOB_COMPLETED;
	job->is_settled = true;
	job->response = queue_bytes_new(response);
	queue->retained_bytes += response.len;
	return job;
}

/* NULL: there is none that the row could mean. */
static struct queue_job *restore_job_of(struct queue_restore *restore,
					const struct queue_saved_operation *saved,
					struct slice response)
{
	struct queue_job *job = restore_find_job(restore, saved->job);
	char instance[QUEUE_INSTANCE_MAX + 1];
	bool has_response = saved->is_cancelled || saved->job == 0;
	struct queue *queue = restore->config.queue;
	struct digest digest;

	sync_alone(&queue->mutex);
	if (!queue_name_parse(saved->name, instance, &digest) ||
	    !restore_has_instance(restore, instance) ||
	    (has_response && !restore_response_is_right(response)))
		return NULL;
	if (saved->job == 0)
		return restore_settled(queue, instance, &digest, response);
	return job && digest_equal(&job->digest, &digest) &&
			       strcmp(job->instance, instance) == 0
		       ? job
		       : NULL;
}

/* The first operation of a job pays for it. */
static void restore_charge(struct queue *queue, struct queue_job *job,
			   struct queue_client *client, size_t n_bytes)
	SYNC_REQUIRES(&queue->mutex)
{
	if (job->client)
		return;
	if (job->state == JOB_COMPLETED) {
		job->client = client;
		return;
	}
	queue_job_charge(queue, job, client, n_bytes);
	if (client->last_turn < job->turn)
		client->last_turn = job->turn;
}

static size_t restore_job_bytes(const struct queue_job *job)
{
	const struct queue_spec spec = {.action = buf_slice(&job->action),
					.required = job->required.list,
					.n_required = job->required.n};

	return queue_spec_bytes(&spec);
}

/* What a request would be refused for; what is over was let in once. */
static bool restore_has_room(const struct queue *queue, const char *client,
			     size_t n_bytes, bool is_done) SYNC_REQUIRES(&queue->mutex)
{
	_cleanup_error_ struct error *err = NULL;

	if (!is_done)
		err = queue_client_check(queue, client, n_bytes, true);
	if (err || !is_done)
		return !err;
	return queue->operations.len < QUEUE_OPERATIONS_MAX + QUEUE_RETAINED_MAX &&
	       queue->bytes + queue->retained_bytes + n_bytes <=
		       QUEUE_BYTES_MAX + QUEUE_RETAINED_BYTES;
}

/* Its state, now that it stands among the others. */
static void restore_operation_state(struct queue_restore *restore,
				    struct queue_operation *operation,
				    const struct queue_saved_operation *saved,
				    struct slice response)
{
	struct queue *queue = restore->config.queue;

	sync_alone(&queue->mutex);
	operation->is_detached = saved->is_detached;
	operation->row.is_kept = true;
	if (saved->is_cancelled && saved->job != 0) {
		operation->is_cancelled = true;
		operation->cancelled = queue_bytes_new(response);
		operation->job->n_live--;
	}
	if (!operation->is_cancelled && operation->job->state != JOB_COMPLETED)
		return;
	queue_operation_retire(queue, operation,
			       restore_mono(restore, saved->completed_wall_ns));
	restore_add(&restore->retired, operation);
}

static bool restore_operation(struct queue_restore *restore, uint64_t id,
			      struct slice head, struct slice response)
{
	struct queue *queue = restore->config.queue;
	struct queue_saved_operation saved;
	struct queue_operation *operation;
	struct queue_job *job;
	size_t n_bytes;
	bool is_done;

	sync_alone(&queue->mutex);
	if (!queue_record_read_operation(head, &restore->arena, &saved) ||
	    strlen(saved.name) >= QUEUE_NAME_MAX || queue_find(queue, saved.name) ||
	    strlen(saved.client) > RESTORE_CLIENT_MAX ||
	    saved.request.len > QUEUE_REQUEST_MAX)
		return false;
	n_bytes = saved.request.len + response.len;
	job = restore_find_job(restore, saved.job);
	is_done = saved.is_cancelled || !job || job->state == JOB_COMPLETED;
	if (job && !job->client && !is_done)
		n_bytes += restore_job_bytes(job);
	if (!restore_has_room(queue, saved.client, n_bytes, is_done))
		return false;
	job = restore_job_of(restore, &saved, response);
	if (!job)
		return false;
	operation = queue_operation_add(queue, job, saved.client, saved.request,
					saved.name, id);
	restore_charge(queue, job, operation->client, restore_job_bytes(job));
	restore_operation_state(restore, operation, &saved, response);
	return true;
}

bool queue_restore_row(struct queue_restore *restore, enum queue_kind kind, uint64_t id,
		       struct slice head, struct slice response)
{
	struct queue *queue = restore->config.queue;
	bool is_right = false;

	sync_alone(&queue->mutex);
	if (id > 0 && id < RESTORE_ID_MAX) {
		if (queue->serial < id)
			queue->serial = id;
		switch (kind) {
		case QUEUE_KIND_SESSION:
			is_right = restore_session(restore, id, head);
			break;
		case QUEUE_KIND_JOB:
			is_right = restore_job(restore, id, head, response);
			break;
		case QUEUE_KIND_OPERATION:
			is_right = restore_operation(restore, id, head, response);
			break;
		}
	}
	restore->counts.n_left_out += !is_right;
	arena_reset(&restore->arena);
	return is_right;
}

/* ---- all of it ------------------------------------------------------------------ */

static int restore_by_place(const void *one, const void *two)
{
	const struct queue_job *a = *(struct queue_job *const *)one;
	const struct queue_job *b = *(struct queue_job *const *)two;

	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	if (a->turn != b->turn)
		return a->turn < b->turn ? -1 : 1;
	if (a->wall_ns != b->wall_ns)
		return a->wall_ns < b->wall_ns ? -1 : 1;
	return a->row.id < b->row.id ? -1 : a->row.id > b->row.id;
}

static int restore_by_end(const void *one, const void *two)
{
	const struct queue_operation *a = *(struct queue_operation *const *)one;
	const struct queue_operation *b = *(struct queue_operation *const *)two;

	if (a->completed_ns != b->completed_ns)
		return a->completed_ns < b->completed_ns ? -1 : 1;
	return a->serial < b->serial ? -1 : a->serial > b->serial;
}

static void restore_sort(struct restore_list *list,
			 int (*compare)(const void *, const void *))
{
	if (list->n > 1)
		qsort(list->items, list->n, sizeof(*list->items), compare);
}

/* Into the queue in their order; a new client's turn comes after who went before. */
static void restore_enqueue(struct queue_restore *restore)
{
	struct queue *queue = restore->config.queue;
	uint64_t first = UINT64_MAX;

	sync_alone(&queue->mutex);
	restore_sort(&restore->offers, restore_by_place);
	for (size_t i = 0; i < restore->offers.n; i++) {
		struct queue_job *job = restore->offers.items[i];

		if (list_is_empty(&job->operations))
			continue;
		if (job->turn < first)
			first = job->turn;
		queue_job_enqueue(queue, job);
		restore->counts.n_queued++;
	}
	if (first != UINT64_MAX && first > 0 && queue->turn < first - 1)
		queue->turn = first - 1;
}

/* Who waited has not come back yet, and may. */
static void restore_leave(struct queue_restore *restore)
{
	struct queue *queue = restore->config.queue;
	int64_t from_ns = restore->config.now_ns;

	sync_alone(&queue->mutex);
	if (queue->abandon_ns < QUEUE_RETURN_NS)
		from_ns += QUEUE_RETURN_NS - queue->abandon_ns;
	list_for_each (it, &queue->all) {
		struct queue_operation *operation =
			container_of(it, struct queue_operation, all_link);

		if (operation->is_detached || operation->is_cancelled ||
		    operation->job->state == JOB_COMPLETED)
			continue;
		operation->unwatched_ns = from_ns;
		list_push(&queue->unwatched, &operation->unwatched_link);
	}
}

/* Those that are over stood in the order of their beginning. */
static void restore_retire(struct queue_restore *restore)
{
	struct queue *queue = restore->config.queue;

	sync_alone(&queue->mutex);
	restore_sort(&restore->retired, restore_by_end);
	for (size_t i = 0; i < restore->retired.n; i++) {
		struct queue_operation *operation = restore->retired.items[i];

		list_remove(&operation->retired_link);
		list_push(&queue->retired, &operation->retired_link);
	}
	restore->counts.n_completed = restore->retired.n;
}

static void restore_free(struct queue_restore *restore)
{
	free(restore->sessions.items);
	free(restore->jobs.items);
	free(restore->retired.items);
	free(restore->offers.items);
	arena_deinit(&restore->arena);
	free(restore);
}

/* The last moments before the end may not have been written: an end that was told to a
 * client stands in the action cache, though. */
static void restore_look(struct queue_restore *restore, struct queue_job *job)
{
	const struct queue_ended *ended = &restore->config.ended;
	struct queue *queue = restore->config.queue;
	_cleanup_buf_ struct buf response = BUF_INIT;

	sync_alone(&queue->mutex);
	if (!ended->look || job->state == JOB_COMPLETED || job->do_not_cache ||
	    list_is_empty(&job->operations) || job->n_live == 0 ||
	    !ended->look(ended->ctx, job->instance, &job->digest, job->wall_ns,
			 &response))
		return;
	if (job->lease)
		queue_lease_cancel(job->lease);
	queue_job_complete(queue, job, buf_slice(&response), restore->config.now_ns);
}

/* One that nobody asks for is none. */
static void restore_job_end(struct queue_restore *restore, struct queue_job *job)
{
	struct queue *queue = restore->config.queue;

	sync_alone(&queue->mutex);
	restore_look(restore, job);
	if (!list_is_empty(&job->operations) &&
	    (job->state == JOB_COMPLETED || job->n_live > 0)) {
		restore->counts.n_running += job->lease != NULL;
		if (job->state != JOB_COMPLETED && !job->do_not_cache &&
		    !queue_job_joinable(queue, job->instance, &job->digest))
			queue_job_make_joinable(queue, job);
		return;
	}
	restore->counts.n_left_out++;
	if (job->lease)
		queue_lease_cancel(job->lease);
	if (list_is_empty(&job->operations))
		queue_job_free(queue, job);
	else
		queue_job_fail(queue, job,
			       error_new(ERROR_CANCELLED,
					 "all of its operations were cancelled"),
			       restore->config.now_ns);
}

void queue_restore_end(struct queue_restore *restore, struct queue_restored *out)
{
	struct queue *queue = restore->config.queue;

	sync_alone(&queue->mutex);
	restore_enqueue(restore);
	for (size_t i = 0; i < restore->jobs.n; i++)
		restore_job_end(restore,
				container_of((struct queue_row *)restore->jobs.items[i],
					     struct queue_job, row));
	restore_retire(restore);
	restore_leave(restore);
	restore->counts.n_sessions = queue->n_sessions;
	if (queue->n_sessions > 0)
		queue->left_ns = restore->config.now_ns; /* they are coming back */
	*out = restore->counts;
	restore_free(restore);
}
