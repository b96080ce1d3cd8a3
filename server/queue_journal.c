/*
 * Owns the list of what changed. A row (struct queue_row) is embedded in each session,
 * job and operation; it is in the list while what is on disk is older than it. What ends
 * goes out of the list, and its id, if it was ever handed out, to those that are gone.
 *
 * A job that completed with one operation has no record of its own: the operation's has
 * the response, and its name the rest.
 */
#include "server/queue_journal.h"

#include "lib/base/alloc.h"
#include "server/queue_impl.h"

#define JOURNAL_RECORDS  256               /* of a batch */
#define JOURNAL_BYTES    ((size_t)1 << 20) /* of their heads, about */
#define JOURNAL_GONE_MAX 65536             /* more, and all is written anew */

void queue_batch_deinit(struct queue_batch *batch)
{
	for (size_t i = 0; i < batch->n; i++) {
		buf_deinit(&batch->records[i].head);
		queue_bytes_unref(batch->records[i].response);
	}
	free(batch->records);
	free(batch->gone);
	*batch = (struct queue_batch){0};
}

/* ---- noting --------------------------------------------------------------------- */

void queue_row_init(struct queue_row *row, enum queue_kind kind, uint64_t id)
{
	list_init(&row->link);
	row->kind = kind;
	row->id = id;
}

static bool queue_journal_has_nothing(const struct queue *queue)
	SYNC_REQUIRES(&queue->mutex)
{
	return list_is_empty(&queue->changed) && queue->n_gone == 0 && !queue->is_behind;
}

void queue_row_touch(struct queue *queue, struct queue_row *row)
{
	if (!queue->keep_wake || !list_is_empty(&row->link))
		return;
	if (queue_journal_has_nothing(queue))
		queue->keep_wake(queue->keep_ctx);
	list_push(&queue->changed, &row->link);
}

void queue_row_forget(struct queue *queue, struct queue_row *row)
{
	list_remove(&row->link);
	if (!row->is_kept || !queue->keep_wake)
		return;
	row->is_kept = false;
	if (queue_journal_has_nothing(queue))
		queue->keep_wake(queue->keep_ctx);
	if (queue->n_gone == JOURNAL_GONE_MAX)
		queue->is_behind = true;
	if (queue->is_behind) {
		queue->n_gone = 0;
		return;
	}
	queue->gone = alloc_grow(queue->gone, &queue->gone_cap, queue->n_gone + 1,
				 sizeof(*queue->gone));
	queue->gone[queue->n_gone++] = row->id;
}

void queue_job_settle(struct queue *queue, struct queue_job *job)
{
	struct list *first = job->operations.next;

	job->is_settled = first != &job->operations && first->next == &job->operations;
	if (!job->is_settled) {
		queue_row_touch(queue, &job->row);
		return;
	}
	queue_row_forget(queue, &job->row);
	queue_row_touch(queue,
			&container_of(first, struct queue_operation, job_link)->row);
}

/* ---- records -------------------------------------------------------------------- */

/* A moment of the wall clock, for a monotonic one. */
static int64_t journal_wall(int64_t mono_ns, int64_t wall_ahead_ns)
{
	int64_t wall_ns = mono_ns + wall_ahead_ns;

	return wall_ns > 0 ? wall_ns : 1;
}

static void journal_session(const struct queue_session *session, struct queue_record *out)
{
	const struct queue_saved_session saved = {
		.name = session->name,
		.bot = {.instance = session->instance,
			.bot_id = session->bot_id,
			.owner = session->owner,
			.is_owner_proven = session->is_owner_proven,
			.properties = session->properties.list,
			.n_properties = session->properties.n,
			.capacity = session->capacity},
	};

	queue_record_session(&saved, &out->head);
}

static void journal_job(const struct queue_job *job, int64_t wall_ahead_ns,
			struct queue_record *out)
{
	struct queue_saved_job saved = {
		.spec = {.instance = job->instance,
			 .action_digest = job->digest,
			 .required = job->required.list,
			 .n_required = job->required.n,
			 .limit_ns = job->limit_ns,
			 .wall_ns = job->wall_ns,
			 .priority = job->priority,
			 .do_not_cache = job->do_not_cache},
		.turn = job->turn,
		.n_tries = job->n_tries,
		.is_completed = job->state == JOB_COMPLETED,
	};

	if (!saved.is_completed)
		saved.spec.action = buf_slice(&job->action);
	if (job->lease) {
		saved.session = job->lease->session->row.id;
		saved.lease = job->lease->id;
	}
	if (job->state == JOB_RUNNING) {
		saved.is_running = true;
		saved.started_wall_ns = journal_wall(job->started_ns, wall_ahead_ns);
		saved.partial = buf_slice(&job->partial);
	}
	queue_record_job(&saved, &out->head);
	if (job->response)
		out->response = queue_bytes_ref(job->response);
}

static void journal_operation(const struct queue_operation *operation,
			      int64_t wall_ahead_ns, struct queue_record *out)
{
	const struct queue_job *job = operation->job;
	struct queue_bytes *response = operation->cancelled;
	struct queue_saved_operation saved = {
		.name = operation->name,
		.client = operation->client->name,
		.job = job->is_settled ? 0 : job->row.id,
		.is_detached = operation->is_detached,
		.is_cancelled = operation->is_cancelled,
		.request = buf_slice(&operation->request),
	};

	if (!response && job->is_settled)
		response = job->response;
	if (operation->is_cancelled || job->state == JOB_COMPLETED)
		saved.completed_wall_ns =
			journal_wall(operation->completed_ns, wall_ahead_ns);
	queue_record_operation(&saved, &out->head);
	if (response)
		out->response = queue_bytes_ref(response);
}

static void journal_row(struct queue_row *row, int64_t wall_ahead_ns,
			struct queue_record *out)
{
	row->is_kept = true;
	out->kind = row->kind;
	out->id = row->id;
	switch (row->kind) {
	case QUEUE_KIND_SESSION:
		journal_session(container_of(row, struct queue_session, row), out);
		break;
	case QUEUE_KIND_JOB:
		journal_job(container_of(row, struct queue_job, row), wall_ahead_ns, out);
		break;
	case QUEUE_KIND_OPERATION:
		journal_operation(container_of(row, struct queue_operation, row),
				  wall_ahead_ns, out);
		break;
	}
}

/* ---- handing out ---------------------------------------------------------------- */

static void journal_note(struct queue *queue, struct queue_row *row)
	SYNC_REQUIRES(&queue->mutex)
{
	if (list_is_empty(&row->link))
		list_push(&queue->changed, &row->link);
}

static void journal_note_all(struct queue *queue) SYNC_REQUIRES(&queue->mutex)
{
	list_for_each (it, &queue->sessions)
		journal_note(queue, &container_of(it, struct queue_session, link)->row);
	list_for_each (it, &queue->all) {
		struct queue_operation *operation =
			container_of(it, struct queue_operation, all_link);

		if (!operation->job->is_settled)
			journal_note(queue, &operation->job->row);
		journal_note(queue, &operation->row);
	}
}

void queue_journal_begin(struct queue *queue, bool is_behind, void (*wake)(void *ctx),
			 void *ctx)
{
	sync_lock(&queue->mutex);
	queue->keep_wake = wake;
	queue->keep_ctx = ctx;
	queue->is_behind = is_behind;
	if (is_behind)
		wake(ctx);
	sync_unlock(&queue->mutex);
}

void queue_journal_end(struct queue *queue)
{
	sync_lock(&queue->mutex);
	queue->keep_wake = NULL;
	sync_unlock(&queue->mutex);
}

void queue_journal_take(struct queue *queue, int64_t wall_ahead_ns,
			struct queue_batch *out)
{
	struct queue_batch batch = {0};
	size_t n_bytes = 0;

	batch.records = alloc_array(JOURNAL_RECORDS, sizeof(*batch.records));
	sync_lock(&queue->mutex);
	batch.is_all = queue->is_behind;
	if (queue->is_behind)
		journal_note_all(queue);
	queue->is_behind = false;
	while (!list_is_empty(&queue->changed) && batch.n < JOURNAL_RECORDS &&
	       n_bytes < JOURNAL_BYTES) {
		struct list *first = list_pop(&queue->changed);
		struct queue_record *record = &batch.records[batch.n++];

		journal_row(container_of(first, struct queue_row, link), wall_ahead_ns,
			    record);
		n_bytes += record->head.len;
	}
	batch.has_more = !list_is_empty(&queue->changed);
	batch.gone = take(queue->gone);
	batch.n_gone = queue->n_gone;
	queue->gone_cap = queue->n_gone = 0;
	sync_unlock(&queue->mutex);
	*out = batch;
}

void queue_journal_fail(struct queue *queue)
{
	sync_lock(&queue->mutex);
	queue->is_behind = true;
	queue->n_gone = 0;
	sync_unlock(&queue->mutex);
}
