/*
 * Owns the fetches in flight: one struct fetch_job per digest, from the first miss to the
 * last callback.
 *
 * A job waits in one of the two queues (demand, prefetch), then is in flight, perhaps
 * waits again for a retry, and ends by telling its waiters. Where nothing is in flight a
 * miss is sent at once; else it waits up to FETCH_GATHER_NS for company, so that serial
 * readers pay nothing and parallel ones share calls.
 *
 * Threads: fetch_start from any; batch replies arrive on pollers and move to the pool;
 * big blobs occupy the threads of the streams pool; the timer thread sends what has
 * waited long enough and wakes retries. One mutex guards queues, table and counters; it
 * is never held while calling anything that blocks, sends or calls back.
 */
#include "lib/cas/fetch.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/htab.h"

#define LOG_MODULE "fetch"
#include "lib/base/log.h"

#define FETCH_BATCH_BLOBS 512 /* in one call */
#define FETCH_PREFETCH_BATCH                                                             \
	(1 << 20) /* bytes: a demand never waits for more than this */
#define FETCH_PREFETCH_IN_FLIGHT 4
#define FETCH_ATTEMPTS           5

enum fetch_state { FETCH_QUEUED, FETCH_FLYING, FETCH_RETRYING };

struct fetch_waiter {
	struct list link;
	fetch_done_fn *done;
	void *ctx;
};

struct fetch_job {
	struct hnode node;
	struct list link; /* in a queue or in retries */
	struct list waiters;
	struct fetch *fetch;
	struct digest digest;
	struct fetch_account *account;
	enum fetch_state state;
	enum fetch_priority priority;
	unsigned int attempt;
	int64_t due_ns;        /* queued: send by then; retrying: not before */
	struct pool_task task; /* streams and local verification */
};

struct fetch_batch {
	struct pool_task task;
	struct fetch *fetch;
	struct fetch_job **jobs;
	size_t n;
	bool is_prefetch;
	struct error *err;
	struct rpc_reply reply;
};

struct fetch {
	struct store *store;
	struct remote *remote;
	struct pool *pool;
	struct pool *streams;
	pthread_t timer;
	bool has_timer;

	pthread_mutex_t mutex;
	pthread_cond_t cond; /* timer: something to do; free: nothing left */
	struct htab jobs;    /* guarded by mutex, as all below */
	struct list queue[2];
	struct list retries;
	unsigned int n_flying;
	unsigned int n_prefetching;
	unsigned int n_active; /* tasks of ours that still touch this struct */
	bool is_stopping;

	_Atomic uint64_t n_hits, n_joined, n_batches, n_streams, n_blobs, bytes, n_failed;
};

static void fetch_send(struct fetch *fetch, bool is_due);

/* Counters and completion */

static void fetch_charge_trip(struct fetch_account *account)
{
	if (account)
		atomic_fetch_add(&account->round_trips, 1);
}

static void fetch_charge_blob(struct fetch *fetch, const struct fetch_job *job)
{
	atomic_fetch_add(&fetch->n_blobs, 1);
	atomic_fetch_add(&fetch->bytes, (uint64_t)job->digest.size);
	if (!job->account)
		return;
	atomic_fetch_add(&job->account->blobs, 1);
	atomic_fetch_add(&job->account->bytes, (uint64_t)job->digest.size);
}

/* Takes the job out of the table, so that nobody joins any more, then tells all waiters.
 * Consumes err, fd and the job. */
static void fetch_end(struct fetch_job *job, struct error *err, int fd)
{
	struct fetch *fetch = job->fetch;
	struct list *node;

	(void)pthread_mutex_lock(&fetch->mutex);
	htab_remove(&fetch->jobs, &job->node);
	(void)pthread_mutex_unlock(&fetch->mutex);
	if (err)
		atomic_fetch_add(&fetch->n_failed, 1);
	while ((node = list_pop(&job->waiters))) {
		struct fetch_waiter *waiter =
			container_of(node, struct fetch_waiter, link);
		bool is_last = list_is_empty(&job->waiters);

		if (err)
			waiter->done(waiter->ctx, is_last ? take(err) : error_dup(err),
				     -1);
		else
			waiter->done(waiter->ctx, NULL,
				     is_last ? take_fd(fd)
					     : fcntl(fd, F_DUPFD_CLOEXEC, 0));
		free(waiter);
	}
	free(job);
	(void)pthread_mutex_lock(&fetch->mutex);
	(void)pthread_cond_broadcast(&fetch->cond);
	(void)pthread_mutex_unlock(&fetch->mutex);
}

/* A failed attempt: again later, or the end. Consumes err. */
static void fetch_fail(struct fetch_job *job, struct error *err,
		       unsigned int max_attempts)
{
	struct fetch *fetch = job->fetch;
	int64_t delay_ms = rpc_retry_delay_ms(err, job->attempt, max_attempts);
	char name[DIGEST_STRING_MAX];

	if (error_code(err) == ERROR_DATA_LOSS && job->attempt + 1 < max_attempts)
		delay_ms = 0; /* corrupt on the way, or a bad replica: ask once more */
	if (delay_ms < 0) {
		fetch_end(job,
			  error_wrap(err, "fetch %s", digest_format(&job->digest, name)),
			  -1);
		return;
	}
	log_info("fetch %s: %s; again in %lld ms", digest_format(&job->digest, name),
		 error_text(err), (long long)delay_ms);
	error_free(err);
	(void)pthread_mutex_lock(&fetch->mutex);
	job->attempt++;
	job->state = FETCH_RETRYING;
	job->due_ns = clock_mono_ns() + delay_ms * NS_PER_MS;
	list_push(&fetch->retries, &job->link);
	(void)pthread_cond_broadcast(&fetch->cond);
	(void)pthread_mutex_unlock(&fetch->mutex);
}

/* A task's last touch of fetch. */
static void fetch_leave(struct fetch *fetch)
{
	(void)pthread_mutex_lock(&fetch->mutex);
	fetch->n_active--;
	(void)pthread_cond_broadcast(&fetch->cond);
	(void)pthread_mutex_unlock(&fetch->mutex);
}

/* A call ended: what waits may be sent now. */
static void fetch_landed(struct fetch *fetch, bool is_prefetch)
{
	(void)pthread_mutex_lock(&fetch->mutex);
	fetch->n_flying--;
	if (is_prefetch)
		fetch->n_prefetching--;
	(void)pthread_mutex_unlock(&fetch->mutex);
	fetch_send(fetch, false);
	fetch_leave(fetch);
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
		fetch_charge_blob(batch->fetch, job);
		err = store_put(batch->fetch->store, digest, bytes.data, bytes.len);
		if (error_code(err) == ERROR_INVALID_ARGUMENT)
			err = error_recode(err, ERROR_DATA_LOSS);
		if (!err)
			err = store_get(batch->fetch->store, digest, &fd);
		if (!err && fd < 0)
			err = error_new(ERROR_UNAVAILABLE, "evicted as soon as it came");
	}
	if (err)
		fetch_fail(job, err, FETCH_ATTEMPTS);
	else
		fetch_end(job, NULL, fd);
}

static void fetch_batch_run(struct pool_task *task)
{
	struct fetch_batch *batch = container_of(task, struct fetch_batch, task);
	struct fetch *fetch = batch->fetch;
	struct error *err = take(batch->err);

	if (!err)
		err = remote_batch_each(batch->reply.bytes, fetch_batch_blob, batch);
	for (size_t i = 0; i < batch->n; i++) {
		char name[DIGEST_STRING_MAX];

		if (!batch->jobs[i])
			continue;
		fetch_fail(batch->jobs[i],
			   err ? error_dup(err)
			       : error_new(ERROR_DATA_LOSS, "the reply leaves out %s",
					   digest_format(&batch->jobs[i]->digest, name)),
			   FETCH_ATTEMPTS);
	}
	error_free(err);
	rpc_reply_deinit(&batch->reply);
	fetch_landed(fetch, batch->is_prefetch);
	free(batch->jobs);
	free(batch);
}

static void fetch_batch_done(void *ctx, struct error *err, struct rpc_reply *reply)
{
	struct fetch_batch *batch = ctx;

	batch->err = err;
	if (!err) {
		batch->reply = *reply;
		*reply = (struct rpc_reply){0};
	}
	pool_push(batch->fetch->pool, &batch->task);
}

static void fetch_batch_start(struct fetch_batch *batch)
{
	_cleanup_free_ struct digest *digests = alloc_array(batch->n, sizeof(*digests));
	struct fetch_account *charged = NULL;

	for (size_t i = 0; i < batch->n; i++) {
		digests[i] = batch->jobs[i]->digest;
		if (batch->jobs[i]->account != charged) {
			charged = batch->jobs[i]->account;
			fetch_charge_trip(charged);
		}
	}
	atomic_fetch_add(&batch->fetch->n_batches, 1);
	remote_read_batch(batch->fetch->remote, digests, batch->n, fetch_batch_done,
			  batch);
}

/* Streams: blobs too large for a batch */

static void fetch_stream_run(struct pool_task *task)
{
	struct fetch_job *job = container_of(task, struct fetch_job, task);
	struct fetch *fetch = job->fetch;
	struct error *err;
	int fd = -1;

	atomic_fetch_add(&fetch->n_streams, 1);
	fetch_charge_trip(job->account);
	err = remote_read_blob(fetch->remote, &job->digest, fetch->store, &fd);
	if (err) {
		/* remote_read_blob has its own retries: only corrupt bytes come again */
		fetch_fail(job, err,
			   error_code(err) == ERROR_DATA_LOSS ? FETCH_ATTEMPTS : 0);
	} else {
		fetch_charge_blob(fetch, job);
		fetch_end(job, NULL, fd);
	}
	fetch_landed(fetch, false);
}

/* Sending */

static bool fetch_is_large(const struct fetch *fetch, const struct digest *digest)
{
	return digest->size > (int64_t)remote_batch_max(fetch->remote);
}

static bool fetch_may_send(const struct fetch *fetch, enum fetch_priority priority)
{
	return fetch->n_flying < FETCH_IN_FLIGHT_MAX &&
	       (priority == FETCH_DEMAND ||
		fetch->n_prefetching < FETCH_PREFETCH_IN_FLIGHT);
}

/* Called with the mutex held: takes a batch's worth out of one queue, or NULL. */
static struct fetch_batch *fetch_gather(struct fetch *fetch, enum fetch_priority priority)
{
	size_t limit = priority == FETCH_DEMAND ? remote_batch_max(fetch->remote)
						: FETCH_PREFETCH_BATCH;
	struct list *queue = &fetch->queue[priority];
	struct fetch_batch *batch;
	size_t bytes = 0;

	if (list_is_empty(queue))
		return NULL;
	batch = alloc_new(struct fetch_batch);
	batch->fetch = fetch;
	batch->task.run = fetch_batch_run;
	batch->is_prefetch = priority == FETCH_PREFETCH;
	batch->jobs = alloc_array(FETCH_BATCH_BLOBS, sizeof(*batch->jobs));
	list_for_each_safe (node, queue) {
		struct fetch_job *job = container_of(node, struct fetch_job, link);
		size_t size =
			(size_t)job->digest.size + 256; /* and its place in the reply */

		if (batch->n == FETCH_BATCH_BLOBS || (batch->n && bytes + size > limit))
			break;
		bytes += size;
		list_remove(&job->link);
		job->state = FETCH_FLYING;
		batch->jobs[batch->n++] = job;
	}
	fetch->n_flying++;
	fetch->n_active++;
	if (batch->is_prefetch)
		fetch->n_prefetching++;
	return batch;
}

/* Sends what may go: all of it where is_due, else only if nothing is in flight or it is
 * time. */
static void fetch_send(struct fetch *fetch, bool is_due)
{
	for (enum fetch_priority p = FETCH_DEMAND; p <= FETCH_PREFETCH;) {
		struct fetch_batch *batch = NULL;

		(void)pthread_mutex_lock(&fetch->mutex);
		if (!list_is_empty(&fetch->queue[p]) && fetch_may_send(fetch, p)) {
			struct fetch_job *first = container_of(fetch->queue[p].next,
							       struct fetch_job, link);

			if (is_due || !fetch->n_flying ||
			    first->due_ns <= clock_mono_ns())
				batch = fetch_gather(fetch, p);
			else
				(void)pthread_cond_broadcast(&fetch->cond);
		}
		(void)pthread_mutex_unlock(&fetch->mutex);
		if (batch)
			fetch_batch_start(batch);
		else
			p++;
	}
}

/* Called with the mutex held: the next moment at which something is due. */
static int64_t fetch_next_due(const struct fetch *fetch)
{
	int64_t due = CLOCK_NEVER;

	for (enum fetch_priority p = FETCH_DEMAND; p <= FETCH_PREFETCH; p++) {
		if (!list_is_empty(&fetch->queue[p]) && fetch_may_send(fetch, p)) {
			struct fetch_job *job = container_of(fetch->queue[p].next,
							     struct fetch_job, link);

			due = job->due_ns < due ? job->due_ns : due;
		}
	}
	list_for_each (node, &fetch->retries) {
		struct fetch_job *job = container_of(node, struct fetch_job, link);

		due = job->due_ns < due ? job->due_ns : due;
	}
	return due;
}

/* Called with the mutex held: a job into the queue, or onto the streams' threads. */
static void fetch_enqueue(struct fetch_job *job)
{
	struct fetch *fetch = job->fetch;

	if (fetch_is_large(fetch, &job->digest)) {
		job->state = FETCH_FLYING;
		job->task.run = fetch_stream_run;
		fetch->n_flying++;
		fetch->n_active++;
		if (job->priority == FETCH_DEMAND)
			pool_push_urgent(fetch->streams, &job->task);
		else
			pool_push(fetch->streams, &job->task);
		return;
	}
	job->state = FETCH_QUEUED;
	job->due_ns = clock_mono_ns() + FETCH_GATHER_NS;
	list_push(&fetch->queue[job->priority], &job->link);
}

static void *fetch_timer(void *arg)
{
	struct fetch *fetch = arg;

	(void)pthread_mutex_lock(&fetch->mutex);
	while (!fetch->is_stopping) {
		int64_t due = fetch_next_due(fetch);
		int64_t now = clock_mono_ns();

		if (due == CLOCK_NEVER) {
			(void)pthread_cond_wait(&fetch->cond, &fetch->mutex);
			continue;
		}
		if (due > now) {
			struct timespec at = {due / NS_PER_S, due % NS_PER_S};

			(void)pthread_cond_timedwait(&fetch->cond, &fetch->mutex, &at);
			continue;
		}
		list_for_each_safe (node, &fetch->retries) {
			struct fetch_job *job =
				container_of(node, struct fetch_job, link);

			if (job->due_ns > now)
				continue;
			list_remove(&job->link);
			fetch_enqueue(job);
		}
		(void)pthread_mutex_unlock(&fetch->mutex);
		fetch_send(fetch, false);
		(void)pthread_mutex_lock(&fetch->mutex);
	}
	(void)pthread_mutex_unlock(&fetch->mutex);
	return NULL;
}

/* What the store could not answer at once: perhaps it must only be verified. */
static void fetch_local_run(struct pool_task *task)
{
	struct fetch_job *job = container_of(task, struct fetch_job, task);
	struct fetch *fetch = job->fetch;
	char name[DIGEST_STRING_MAX];
	struct error *err;
	int fd = -1;

	err = store_get_verified(fetch->store, &job->digest, &fd);
	if (!err && fd < 0 && fetch->remote) {
		(void)pthread_mutex_lock(&fetch->mutex);
		fetch_enqueue(job);
		(void)pthread_mutex_unlock(&fetch->mutex);
		fetch_send(fetch, false);
		fetch_leave(fetch);
		return;
	}
	if (!err && fd < 0)
		err = remote_missing(&job->digest, "the local store");
	fetch_end(job,
		  err ? error_wrap(err, "fetch %s", digest_format(&job->digest, name))
		      : NULL,
		  fd);
	fetch_leave(fetch);
}

/* Called with the mutex held: joins a fetch of the same digest, or NULL. */
static struct fetch_job *fetch_find(struct fetch *fetch, const struct digest *digest)
{
	uint64_t hash = digest_key(digest);

	for (struct hnode *n = htab_first(&fetch->jobs, hash); n;
	     n = htab_next(n, hash)) {
		struct fetch_job *job = container_of(n, struct fetch_job, node);

		if (digest_equal(&job->digest, digest))
			return job;
	}
	return NULL;
}

static struct fetch_job *fetch_job_new(struct fetch *fetch, const struct digest *digest,
				       enum fetch_priority priority,
				       struct fetch_account *account)
{
	struct fetch_job *job = alloc_new(struct fetch_job);

	job->fetch = fetch;
	job->digest = *digest;
	job->priority = priority;
	job->account = account;
	list_init(&job->waiters);
	list_init(&job->link);
	return job;
}

void fetch_start(struct fetch *fetch, const struct digest *digest,
		 enum fetch_priority priority, struct fetch_account *account,
		 fetch_done_fn *done, void *ctx)
{
	struct fetch_waiter *waiter;
	struct fetch_job *job;
	struct error *err;
	int fd = -1;

	err = store_get(fetch->store, digest, &fd);
	if (err || fd >= 0) {
		atomic_fetch_add(&fetch->n_hits, 1);
		done(ctx, err, fd);
		return;
	}
	waiter = alloc_new(struct fetch_waiter);
	*waiter = (struct fetch_waiter){.done = done, .ctx = ctx};
	(void)pthread_mutex_lock(&fetch->mutex);
	job = fetch_find(fetch, digest);
	if (job) {
		atomic_fetch_add(&fetch->n_joined, 1);
		list_push(&job->waiters, &waiter->link);
		if (priority == FETCH_DEMAND && job->priority == FETCH_PREFETCH) {
			job->priority = FETCH_DEMAND;
			if (job->state == FETCH_QUEUED) {
				list_remove(&job->link);
				list_push(&fetch->queue[FETCH_DEMAND], &job->link);
			}
		}
		(void)pthread_mutex_unlock(&fetch->mutex);
		fetch_send(fetch, false);
		return;
	}
	job = fetch_job_new(fetch, digest, priority, account);
	list_push(&job->waiters, &waiter->link);
	htab_insert(&fetch->jobs, &job->node, digest_key(digest));
	if (fetch->remote && !store_is_suspect(fetch->store, digest)) {
		fetch_enqueue(job);
	} else {
		job->state = FETCH_FLYING;
		job->task.run = fetch_local_run;
		fetch->n_active++;
		pool_push(fetch->pool, &job->task);
	}
	(void)pthread_mutex_unlock(&fetch->mutex);
	fetch_send(fetch, false);
}

/* Blocking forms */

struct fetch_wait {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool is_done;
	struct error *err;
	int fd;
};

static void fetch_wait_done(void *ctx, struct error *err, int fd)
{
	struct fetch_wait *wait = ctx;

	(void)pthread_mutex_lock(&wait->mutex);
	wait->err = err;
	wait->fd = fd;
	wait->is_done = true;
	(void)pthread_cond_signal(&wait->cond);
	(void)pthread_mutex_unlock(&wait->mutex);
}

struct error *fetch_fd(struct fetch *fetch, const struct digest *digest,
		       struct fetch_account *account, int *fd_out)
{
	struct fetch_wait wait = {.mutex = PTHREAD_MUTEX_INITIALIZER,
				  .cond = PTHREAD_COND_INITIALIZER,
				  .fd = -1};

	fetch_start(fetch, digest, FETCH_DEMAND, account, fetch_wait_done, &wait);
	(void)pthread_mutex_lock(&wait.mutex);
	while (!wait.is_done)
		(void)pthread_cond_wait(&wait.cond, &wait.mutex);
	(void)pthread_mutex_unlock(&wait.mutex);
	if (wait.err)
		return wait.err;
	*fd_out = wait.fd;
	return NULL;
}

struct error *fetch_bytes(struct fetch *fetch, const struct digest *digest, size_t limit,
			  struct fetch_account *account, struct buf *out)
{
	_cleanup_fd_ int fd = -1;
	char name[DIGEST_STRING_MAX];
	struct error *err;

	if ((uint64_t)digest->size > limit)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%s is over the limit of %zu bytes",
				 digest_format(digest, name), limit);
	err = fetch_fd(fetch, digest, account, &fd);
	if (err)
		return err;
	return file_read_fd(fd, limit, out);
}

struct error *fetch_new(const struct fetch_config *config, struct fetch **fetch_out)
{
	_cleanup_(fetch_freep) struct fetch *fetch = alloc_new(struct fetch);
	pthread_condattr_t attr;
	struct error *err;

	fetch->store = config->store;
	fetch->remote = config->remote;
	fetch->pool = config->pool;
	(void)pthread_mutex_init(&fetch->mutex, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&fetch->cond, &attr);
	(void)pthread_condattr_destroy(&attr);
	list_init(&fetch->queue[FETCH_DEMAND]);
	list_init(&fetch->queue[FETCH_PREFETCH]);
	list_init(&fetch->retries);
	if (fetch->remote) {
		int errnum;

		err = pool_new("fetch-stream", FETCH_STREAMS_MAX, &fetch->streams);
		if (err)
			return err;
		errnum = pthread_create(&fetch->timer, NULL, fetch_timer, fetch);
		if (errnum)
			return error_errno(errnum, "start the fetcher's timer thread");
		fetch->has_timer = true;
	}
	*fetch_out = take(fetch);
	return NULL;
}

void *fetch_free(struct fetch *fetch)
{
	if (!fetch)
		return NULL;
	(void)pthread_mutex_lock(&fetch->mutex);
	while (fetch->jobs.len || fetch->n_active)
		(void)pthread_cond_wait(&fetch->cond, &fetch->mutex);
	fetch->is_stopping = true;
	(void)pthread_cond_broadcast(&fetch->cond);
	(void)pthread_mutex_unlock(&fetch->mutex);
	if (fetch->has_timer)
		(void)pthread_join(fetch->timer, NULL);
	pool_free(fetch->streams);
	htab_deinit(&fetch->jobs);
	(void)pthread_cond_destroy(&fetch->cond);
	(void)pthread_mutex_destroy(&fetch->mutex);
	free(fetch);
	return NULL;
}

struct store *fetch_store(const struct fetch *fetch)
{
	return fetch->store;
}

struct remote *fetch_remote(const struct fetch *fetch)
{
	return fetch->remote;
}

void fetch_stats(const struct fetch *fetch, struct fetch_stats *out)
{
	*out = (struct fetch_stats){
		.n_hits = fetch->n_hits,
		.n_joined = fetch->n_joined,
		.n_batches = fetch->n_batches,
		.n_streams = fetch->n_streams,
		.n_blobs = fetch->n_blobs,
		.bytes = fetch->bytes,
		.n_failed = fetch->n_failed,
	};
}
