/*
 * Owns the calls in flight: batches, whose answers come on a poller and move to the pool,
 * and streams, each of which occupies a thread of the streams' pool.
 */
#include "lib/cas/fetch_send.h"

#include <stdatomic.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/cas/fetch_chunks.h"

#define LOG_MODULE "fetch"
#include "lib/base/log.h"

struct fetch_batch {
	struct pool_task task;
	struct fetch *fetch;
	struct fetch_job **jobs;
	size_t n;
	enum fetch_priority priority;
	struct fetch_pace_mark mark;
	int64_t bytes; /* of the blobs: asked for, then of those that came */
	bool is_told;  /* that some are tried again */
	struct error *err;
	struct rpc_reply reply;
};

/* A call ended: what waits may be sent now. */
static void fetch_send_landed(struct fetch *fetch, bool is_stream,
			      enum fetch_priority sent_as)
{
	sync_lock(&fetch->mutex);
	fetch_queue_landed(&fetch->queue, is_stream, sent_as);
	sync_unlock(&fetch->mutex);
	fetch_send(fetch);
	fetch_job_leave(fetch);
}

/* Batches */

static void fetch_batch_blob(void *ctx, const struct digest *digest, struct error *err,
			     struct slice bytes)
{
	struct fetch_batch *batch = ctx;
	struct fetch_job *job = NULL;
	int fd = -1;

	for (size_t i = 0; i < batch->n && !job; i++) {
		if (batch->jobs[i] && digest_equal(&batch->jobs[i]->digest, digest))
			job = take(batch->jobs[i]);
	}
	if (!job) { /* not asked for, or named twice */
		error_free(err);
		return;
	}
	if (!err) {
		fetch_charge(batch->fetch, job->account, job->digest.size);
		batch->bytes += job->digest.size;
		err = store_put(batch->fetch->store, digest, bytes.data, bytes.len);
		if (error_code(err) == ERROR_INVALID_ARGUMENT)
			err = error_recode(err, ERROR_DATA_LOSS);
		if (!err && fetch_job_is_demand(job))
			err = store_get_verified(batch->fetch->store, digest, &fd);
	}
	if (err)
		fetch_job_fail(job, err, false, &batch->is_told);
	else
		fetch_job_end(job, NULL, fd);
}

static void fetch_batch_run(struct pool_task *task)
{
	struct fetch_batch *batch = container_of(task, struct fetch_batch, task);
	struct fetch *fetch = batch->fetch;
	struct error *err = take(batch->err);

	batch->bytes = 0;
	if (!err)
		err = remote_batch_each(batch->reply.bytes, fetch_batch_blob, batch);
	for (size_t i = 0; i < batch->n; i++) {
		char name[DIGEST_STRING_MAX];

		if (!batch->jobs[i])
			continue;
		fetch_job_fail(
			batch->jobs[i],
			err ? error_dup(err)
			    : error_new(ERROR_DATA_LOSS, "the reply leaves out %s",
					digest_format(&batch->jobs[i]->digest, name)),
			false, &batch->is_told);
	}
	error_free(err);
	if (batch->bytes > (int64_t)batch->reply.bytes.len)
		atomic_fetch_add(&fetch->saved,
				 (uint64_t)batch->bytes - batch->reply.bytes.len);
	rpc_reply_deinit(&batch->reply);
	fetch_send_landed(fetch, false, batch->priority);
	free(batch->jobs);
	free(batch);
}

static void fetch_batch_done(void *ctx, struct error *err, struct rpc_reply *reply)
{
	struct fetch_batch *batch = ctx;

	batch->err = err;
	if (!err) {
		sync_lock(&batch->fetch->mutex);
		/* blobs' bytes, compressed or not: those are what is wished for */
		fetch_pace_landed(&batch->fetch->pace, &batch->mark, batch->bytes,
				  clock_mono_ns());
		fetch_queue_set_way(&batch->fetch->queue, batch->fetch->pace.rtt_ns);
		sync_unlock(&batch->fetch->mutex);
		batch->reply = *reply;
		*reply = (struct rpc_reply){0};
	}
	pool_push(batch->fetch->pool, &batch->task);
}

static void fetch_batch_start(struct fetch_batch *batch)
{
	_cleanup_free_ struct digest *digests = alloc_array(batch->n, sizeof(*digests));

	for (size_t i = 0; i < batch->n; i++) {
		struct fetch_account *account = batch->jobs[i]->account;
		size_t k = i;

		digests[i] = batch->jobs[i]->digest;
		while (k > 0 && batch->jobs[k - 1]->account != account)
			k--;
		if (k == 0) /* the first that it pays for */
			fetch_job_charge_trip(account);
	}
	log_debug("%zu blobs %s", batch->n,
		  batch->priority == FETCH_DEMAND ? "for who waits" : "ahead");
	atomic_fetch_add(&batch->fetch->n_batches, 1);
	remote_read_batch(batch->fetch->remote, digests, batch->n, fetch_batch_done,
			  batch);
}

/* Takes a batch out of one queue, which is not empty. */
static struct fetch_batch *fetch_batch_take(struct fetch *fetch,
					    enum fetch_priority priority)
	SYNC_REQUIRES(&fetch->mutex)
{
	struct fetch_item *items[FETCH_BATCH_BLOBS];
	struct fetch_batch *batch = alloc_new(struct fetch_batch);

	batch->fetch = fetch;
	batch->task.run = fetch_batch_run;
	batch->priority = priority;
	batch->n = fetch_queue_take_batch(&fetch->queue, priority,
					  remote_batch_max(fetch->remote), items);
	batch->jobs = alloc_array(batch->n, sizeof(struct fetch_job *));
	for (size_t i = 0; i < batch->n; i++) {
		batch->jobs[i] = container_of(items[i], struct fetch_job, item);
		batch->bytes += items[i]->size;
	}
	batch->mark = fetch_pace_sent(&fetch->pace, clock_mono_ns());
	fetch->n_active++;
	return batch;
}

/* Streams: blobs too large for a batch */

/* True: it came by those of its chunks that were not here. */
static bool fetch_stream_chunks(struct fetch *fetch, struct fetch_job *job)
{
	struct fetch_account *account = job->account;
	struct fetch_chunked came;
	bool is_here =
		fetch_chunks_get(fetch, &job->digest, fetch_job_is_demand(job), &came);

	for (uint64_t i = 0; i < came.n_trips; i++)
		fetch_job_charge_trip(account);
	if (!is_here)
		return false;
	atomic_fetch_add(&fetch->chunk_bytes, (uint64_t)came.saved);
	/* the chunks' bytes were counted as they came: what is left is whose they are */
	fetch_charge(fetch, account, 0);
	if (account)
		atomic_fetch_add(&account->bytes, (uint64_t)came.bytes);
	fetch_job_end(job, NULL, came.fd);
	return true;
}

static void fetch_stream_whole(struct fetch *fetch, struct fetch_job *job)
{
	struct fetch_pace_mark mark;
	bool is_told = false;
	struct error *err;
	int fd = -1;

	sync_lock(&fetch->mutex);
	mark = fetch_pace_sent(&fetch->pace, clock_mono_ns());
	sync_unlock(&fetch->mutex);
	atomic_fetch_add(&fetch->n_streams, 1);
	fetch_job_charge_trip(job->account);
	err = remote_read_blob(fetch->remote, &job->digest, fetch->store, &fd);
	if (err) {
		fetch_job_fail(job, err, true, &is_told);
	} else {
		sync_lock(&fetch->mutex);
		fetch_pace_landed(&fetch->pace, &mark, job->digest.size, clock_mono_ns());
		sync_unlock(&fetch->mutex);
		fetch_charge(fetch, job->account, job->digest.size);
		fetch_chunks_came(fetch, &job->digest);
		fetch_job_end(job, NULL, fd);
	}
}

static void fetch_stream_run(struct pool_task *task)
{
	struct fetch_job *job = container_of(task, struct fetch_job, task);
	struct fetch *fetch = job->fetch;
	enum fetch_priority sent_as = job->item.sent_as;

	if (!fetch_stream_chunks(fetch, job))
		fetch_stream_whole(fetch, job);
	fetch_send_landed(fetch, true, sent_as);
}

/* Puts large blobs on the streams' threads, as many as there are. */
static void fetch_send_large(struct fetch *fetch) SYNC_REQUIRES(&fetch->mutex)
{
	struct fetch_item *item;

	while ((item = fetch_queue_take_large(&fetch->queue))) {
		struct fetch_job *job = container_of(item, struct fetch_job, item);

		job->task.run = fetch_stream_run;
		fetch->n_active++;
		pool_push(fetch->streams, &job->task);
	}
}

void fetch_send(struct fetch *fetch)
{
	for (enum fetch_priority p = FETCH_DEMAND; p <= FETCH_PREFETCH;) {
		struct fetch_batch *batch = NULL;
		int64_t due;

		sync_lock(&fetch->mutex);
		fetch_send_large(fetch);
		due = fetch_queue_due(&fetch->queue, p);
		if (due <= clock_mono_ns())
			batch = fetch_batch_take(fetch, p);
		else if (due != CLOCK_NEVER)
			sync_broadcast(&fetch->cond);
		sync_unlock(&fetch->mutex);
		if (batch)
			fetch_batch_start(batch);
		else
			p++;
	}
}
