/*
 * Owns the fetches in flight: one struct fetch_job per digest, from the first miss to the
 * last callback.
 *
 * A job waits in a queue (demand or prefetch, for a batch or for a stream of its own),
 * then is in flight, perhaps waits again for a retry, and ends by telling its waiters.
 * Where no batch of its priority or above is in flight a miss is sent at once; else it
 * waits up to FETCH_GATHER_NS for company, so that serial readers pay nothing and
 * parallel ones share calls. One stream is kept for demand.
 *
 * Threads: fetch_start from any; batch replies arrive on pollers and move to the pool;
 * big blobs occupy the threads of the streams pool; the timer thread sends what has
 * waited long enough and wakes retries. One mutex guards queues, table and counters; it
 * is never held while calling anything that blocks, sends or calls back.
 */
#include "lib/cas/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/htab.h"
#include "lib/base/latch.h"
#include "lib/base/sync.h"

#define LOG_MODULE "fetch"
#include "lib/base/log.h"

#define FETCH_BATCH_BLOBS 512 /* in one call */
#define FETCH_PREFETCH_BATCH                                                             \
	(1 << 20) /* bytes: a demand never waits for more than this */
#define FETCH_PREFETCH_IN_FLIGHT 4
#define FETCH_PREFETCH_STREAMS   (FETCH_STREAMS_MAX - 1)
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
	enum fetch_priority sent_as; /* of a stream in flight */
	unsigned int attempt;
	int64_t due_ns;        /* queued: send by then; retrying: not before */
	struct pool_task task; /* streams and local verification */
};

struct fetch_batch {
	struct pool_task task;
	struct fetch *fetch;
	struct fetch_job **jobs;
	size_t n;
	enum fetch_priority priority;
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

	struct sync_mutex mutex;
	struct sync_cond cond; /* timer: something to do; free: nothing left */
	struct htab jobs;      /* guarded by mutex, as all below */
	struct list queue[2];  /* by priority: what goes in batches … */
	struct list large[2];  /* … and what needs a stream */
	struct list retries;
	unsigned int n_flying[2];    /* batches, by priority */
	unsigned int n_streaming[2]; /* streams */
	unsigned int n_active;       /* tasks of ours that still touch this struct */
	bool is_stopping;
	bool is_giving_up;
	unsigned int n_attempts;

	_Atomic uint64_t n_ended; /* jobs, counted with the mutex held */
	_Atomic uint64_t n_hits, n_joined, n_batches, n_streams, n_blobs, bytes, n_failed;
};

static void fetch_send(struct fetch *fetch);

/* Counters and completion */

static void fetch_charge_trip(struct fetch_account *account)
{
	if (account)
		atomic_fetch_add(&account->round_trips, 1);
}

void fetch_charge(struct fetch *fetch, struct fetch_account *account, int64_t bytes)
{
	atomic_fetch_add(&fetch->n_blobs, 1);
	atomic_fetch_add(&fetch->bytes, (uint64_t)bytes);
	if (!account)
		return;
	atomic_fetch_add(&account->blobs, 1);
	atomic_fetch_add(&account->bytes, (uint64_t)bytes);
}

/* Tells one of several waiters: each has a descriptor of its own. */
static void fetch_tell_dup(const struct fetch_waiter *waiter, int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		waiter->done(waiter->ctx,
			     error_errno(errno, "duplicate a blob's descriptor"), -1);
	else
		waiter->done(waiter->ctx, NULL, copy);
}

/* Takes the job out of the table, so that nobody joins any more, then tells all waiters.
 * Consumes err, fd and the job. */
static void fetch_end(struct fetch_job *job, struct error *err, int fd)
{
	struct fetch *fetch = job->fetch;
	struct list *node;

	sync_lock(&fetch->mutex);
	htab_remove(&fetch->jobs, &job->node);
	atomic_fetch_add(&fetch->n_ended, 1);
	sync_unlock(&fetch->mutex);
	if (err)
		atomic_fetch_add(&fetch->n_failed, 1);
	while ((node = list_pop(&job->waiters))) {
		struct fetch_waiter *waiter =
			container_of(node, struct fetch_waiter, link);
		bool is_last = list_is_empty(&job->waiters);

		if (err)
			waiter->done(waiter->ctx, is_last ? take(err) : error_dup(err),
				     -1);
		else if (is_last)
			waiter->done(waiter->ctx, NULL, take_fd(fd));
		else
			fetch_tell_dup(waiter, fd);
		free(waiter);
	}
	free(job);
	sync_lock(&fetch->mutex);
	sync_broadcast(&fetch->cond);
	sync_unlock(&fetch->mutex);
}

/* Puts a job off until due_ns; false where nothing is tried again any more. */
static bool fetch_put_off(struct fetch_job *job, int64_t due_ns)
{
	struct fetch *fetch = job->fetch;
	bool is_giving_up;

	sync_lock(&fetch->mutex);
	is_giving_up = fetch->is_giving_up;
	if (!is_giving_up) {
		job->attempt++;
		job->state = FETCH_RETRYING;
		job->due_ns = due_ns;
		list_push(&fetch->retries, &job->link);
		sync_broadcast(&fetch->cond);
	}
	sync_unlock(&fetch->mutex);
	return !is_giving_up;
}

static unsigned int fetch_attempts(const struct fetch *fetch, const struct error *err,
				   bool has_retried)
{
	if (error_code(err) == ERROR_UNAVAILABLE && fetch->n_attempts)
		return fetch->n_attempts;
	return has_retried && error_code(err) != ERROR_DATA_LOSS ? 0 : FETCH_ATTEMPTS;
}

/* A failed attempt, which perhaps was several: again later, or the end. Consumes err. */
static void fetch_fail(struct fetch_job *job, struct error *err, bool has_retried)
{
	unsigned int max_attempts = fetch_attempts(job->fetch, err, has_retried);
	int64_t delay_ms = rpc_retry_delay_ms(err, job->attempt, max_attempts);
	char name[DIGEST_STRING_MAX];

	if (error_code(err) == ERROR_DATA_LOSS && job->attempt + 1 < max_attempts)
		delay_ms = 0; /* corrupt on the way, or a bad replica: ask once more */
	(void)digest_format(&job->digest, name);
	if (delay_ms >= 0) {
		log_info("fetch %s: %s; again in %lld ms", name, error_text(err),
			 (long long)delay_ms);
		if (fetch_put_off(job, clock_mono_ns() + delay_ms * NS_PER_MS)) {
			error_free(err);
			return;
		}
	}
	fetch_end(job, error_wrap(err, "fetch %s", name), -1);
}

void fetch_give_up(struct fetch *fetch)
{
	struct list given_up = LIST_INIT(given_up);
	struct list *node;

	sync_lock(&fetch->mutex);
	fetch->is_giving_up = true;
	list_splice(&given_up, &fetch->retries);
	sync_unlock(&fetch->mutex);
	while ((node = list_pop(&given_up)))
		fetch_end(container_of(node, struct fetch_job, link),
			  error_new(ERROR_UNAVAILABLE, "no time for another try"), -1);
}

/* A task's last touch of fetch. */
static void fetch_leave(struct fetch *fetch)
{
	sync_lock(&fetch->mutex);
	fetch->n_active--;
	sync_broadcast(&fetch->cond);
	sync_unlock(&fetch->mutex);
}

/* A call, counted by n_calls, ended: what waits may be sent now. */
static void fetch_landed(struct fetch *fetch, unsigned int *n_calls)
{
	sync_lock(&fetch->mutex);
	(*n_calls)--;
	sync_unlock(&fetch->mutex);
	fetch_send(fetch);
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
		fetch_charge(batch->fetch, job->account, job->digest.size);
		err = store_put(batch->fetch->store, digest, bytes.data, bytes.len);
		if (error_code(err) == ERROR_INVALID_ARGUMENT)
			err = error_recode(err, ERROR_DATA_LOSS);
		if (!err)
			err = store_get(batch->fetch->store, digest, &fd);
		if (!err && fd < 0)
			err = error_new(ERROR_UNAVAILABLE, "evicted as soon as it came");
	}
	if (err)
		fetch_fail(job, err, false);
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
			   false);
	}
	error_free(err);
	rpc_reply_deinit(&batch->reply);
	fetch_landed(fetch, &fetch->n_flying[batch->priority]);
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

	for (size_t i = 0; i < batch->n; i++) {
		struct fetch_account *account = batch->jobs[i]->account;
		size_t k = i;

		digests[i] = batch->jobs[i]->digest;
		while (k > 0 && batch->jobs[k - 1]->account != account)
			k--;
		if (k == 0) /* the first that it pays for */
			fetch_charge_trip(account);
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
	enum fetch_priority sent_as = job->sent_as;
	struct error *err;
	int fd = -1;

	atomic_fetch_add(&fetch->n_streams, 1);
	fetch_charge_trip(job->account);
	err = remote_read_blob(fetch->remote, &job->digest, fetch->store, &fd);
	if (err) {
		fetch_fail(job, err, true);
	} else {
		fetch_charge(fetch, job->account, job->digest.size);
		fetch_end(job, NULL, fd);
	}
	fetch_landed(fetch, &fetch->n_streaming[sent_as]);
}

/* Sending */

static bool fetch_is_large(const struct fetch *fetch, const struct digest *digest)
{
	return digest->size > (int64_t)remote_batch_max(fetch->remote);
}

/* Called with the mutex held, as all up to fetch_send(). */
static bool fetch_may_send(const struct fetch *fetch, enum fetch_priority priority)
{
	unsigned int n_all =
		fetch->n_flying[FETCH_DEMAND] + fetch->n_flying[FETCH_PREFETCH] +
		fetch->n_streaming[FETCH_DEMAND] + fetch->n_streaming[FETCH_PREFETCH];

	if (list_is_empty(&fetch->queue[priority]) || n_all >= FETCH_IN_FLIGHT_MAX)
		return false;
	/* a demand that still waits for company does not lose its place to a prefetch */
	return priority == FETCH_DEMAND ||
	       (list_is_empty(&fetch->queue[FETCH_DEMAND]) &&
		fetch->n_flying[FETCH_PREFETCH] < FETCH_PREFETCH_IN_FLIGHT);
}

/* When the first of a queue has waited long enough: now, where nothing is in flight that
 * others could come back with. */
static int64_t fetch_due(const struct fetch *fetch, enum fetch_priority priority)
{
	bool is_quiet = !fetch->n_flying[FETCH_DEMAND] &&
			(priority == FETCH_DEMAND || !fetch->n_flying[FETCH_PREFETCH]);

	return is_quiet
		       ? 0
		       : container_of(fetch->queue[priority].next, struct fetch_job, link)
				 ->due_ns;
}

/* Takes a batch's worth out of one queue, which is not empty. */
static struct fetch_batch *fetch_gather(struct fetch *fetch, enum fetch_priority priority)
{
	size_t limit = remote_batch_max(fetch->remote);
	struct fetch_batch *batch = alloc_new(struct fetch_batch);
	struct list *queue = &fetch->queue[priority];
	size_t bytes = 0;

	if (priority == FETCH_PREFETCH && limit > FETCH_PREFETCH_BATCH)
		limit = FETCH_PREFETCH_BATCH;
	batch->fetch = fetch;
	batch->task.run = fetch_batch_run;
	batch->priority = priority;
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
	fetch->n_flying[priority]++;
	fetch->n_active++;
	return batch;
}

/* Puts large blobs on the streams' threads, as many as there are. */
static void fetch_send_large(struct fetch *fetch)
{
	for (enum fetch_priority p = FETCH_DEMAND; p <= FETCH_PREFETCH; p++) {
		while (!list_is_empty(&fetch->large[p]) &&
		       fetch->n_streaming[FETCH_DEMAND] +
				       fetch->n_streaming[FETCH_PREFETCH] <
			       FETCH_STREAMS_MAX &&
		       (p == FETCH_DEMAND ||
			fetch->n_streaming[p] < FETCH_PREFETCH_STREAMS)) {
			struct fetch_job *job = container_of(list_pop(&fetch->large[p]),
							     struct fetch_job, link);

			job->state = FETCH_FLYING;
			job->sent_as = p;
			job->task.run = fetch_stream_run;
			fetch->n_streaming[p]++;
			fetch->n_active++;
			pool_push(fetch->streams, &job->task);
		}
	}
}

/* Sends what may go and is due, demand first. */
static void fetch_send(struct fetch *fetch)
{
	for (enum fetch_priority p = FETCH_DEMAND; p <= FETCH_PREFETCH;) {
		struct fetch_batch *batch = NULL;

		sync_lock(&fetch->mutex);
		fetch_send_large(fetch);
		if (fetch_may_send(fetch, p)) {
			if (fetch_due(fetch, p) <= clock_mono_ns())
				batch = fetch_gather(fetch, p);
			else
				sync_broadcast(&fetch->cond);
		}
		sync_unlock(&fetch->mutex);
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
		if (fetch_may_send(fetch, p) && fetch_due(fetch, p) < due)
			due = fetch_due(fetch, p);
	}
	list_for_each (node, &fetch->retries) {
		struct fetch_job *job = container_of(node, struct fetch_job, link);

		due = job->due_ns < due ? job->due_ns : due;
	}
	return due;
}

/* Called with the mutex held: a job into the queue that is its own. */
static void fetch_enqueue(struct fetch_job *job)
{
	struct fetch *fetch = job->fetch;

	job->state = FETCH_QUEUED;
	job->due_ns = clock_mono_ns() + FETCH_GATHER_NS;
	list_push(fetch_is_large(fetch, &job->digest) ? &fetch->large[job->priority]
						      : &fetch->queue[job->priority],
		  &job->link);
}

/* Called with the mutex held: somebody waits for what was only to be at hand. */
static void fetch_raise(struct fetch_job *job)
{
	if (job->priority == FETCH_DEMAND)
		return;
	job->priority = FETCH_DEMAND;
	if (job->state != FETCH_QUEUED)
		return;
	list_remove(&job->link);
	fetch_enqueue(job);
}

static void *fetch_timer(void *arg)
{
	struct fetch *fetch = arg;

	sync_lock(&fetch->mutex);
	while (!fetch->is_stopping) {
		int64_t due = fetch_next_due(fetch);
		int64_t now = clock_mono_ns();

		if (due > now) {
			(void)sync_wait_until(&fetch->cond, &fetch->mutex, due);
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
		sync_unlock(&fetch->mutex);
		fetch_send(fetch);
		sync_lock(&fetch->mutex);
	}
	sync_unlock(&fetch->mutex);
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
		sync_lock(&fetch->mutex);
		fetch_enqueue(job);
		sync_unlock(&fetch->mutex);
		fetch_send(fetch);
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

/* The job that a miss joins or begins; the mutex held. */
static struct fetch_job *fetch_join(struct fetch *fetch, const struct digest *digest,
				    enum fetch_priority priority,
				    struct fetch_account *account)
{
	struct fetch_job *job = fetch_find(fetch, digest);

	if (job) {
		atomic_fetch_add(&fetch->n_joined, 1);
		if (priority == FETCH_DEMAND)
			fetch_raise(job);
		return job;
	}
	job = fetch_job_new(fetch, digest, priority, account);
	htab_insert(&fetch->jobs, &job->node, digest_key(digest));
	if (fetch->remote && !store_is_suspect(fetch->store, digest)) {
		fetch_enqueue(job);
	} else {
		job->state = FETCH_FLYING;
		job->task.run = fetch_local_run;
		fetch->n_active++;
		pool_push(fetch->pool, &job->task);
	}
	return job;
}

void fetch_start(struct fetch *fetch, const struct digest *digest,
		 enum fetch_priority priority, struct fetch_account *account,
		 fetch_done_fn *done, void *ctx)
{
	struct fetch_waiter *waiter = NULL;

	while (!waiter) {
		uint64_t n_ended = atomic_load(&fetch->n_ended);
		struct error *err;
		int fd = -1;

		err = store_get(fetch->store, digest, &fd);
		if (err || fd >= 0) {
			atomic_fetch_add(&fetch->n_hits, 1);
			done(ctx, err, fd);
			return;
		}
		sync_lock(&fetch->mutex);
		/* else a fetch ended since we looked, perhaps of this blob: look again */
		if (fetch->n_ended == n_ended) {
			waiter = alloc_new(struct fetch_waiter);
			*waiter = (struct fetch_waiter){.done = done, .ctx = ctx};
			list_push(&fetch_join(fetch, digest, priority, account)->waiters,
				  &waiter->link);
		}
		sync_unlock(&fetch->mutex);
	}
	fetch_send(fetch);
}

/* Blocking forms */

struct fetch_wait {
	struct latch latch;
	struct error *err;
	int fd;
};

static void fetch_wait_done(void *ctx, struct error *err, int fd)
{
	struct fetch_wait *wait = ctx;

	wait->err = err;
	wait->fd = fd;
	latch_down(&wait->latch);
}

struct error *fetch_fd(struct fetch *fetch, const struct digest *digest,
		       struct fetch_account *account, int *fd_out)
{
	struct fetch_wait wait = {.fd = -1};

	latch_init(&wait.latch, 1);
	fetch_start(fetch, digest, FETCH_DEMAND, account, fetch_wait_done, &wait);
	latch_wait(&wait.latch);
	latch_deinit(&wait.latch);
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
	struct error *err;

	fetch->store = config->store;
	fetch->remote = config->remote;
	fetch->pool = config->pool;
	fetch->n_attempts = config->n_attempts;
	sync_mutex_init(&fetch->mutex);
	sync_cond_init(&fetch->cond);
	for (enum fetch_priority p = FETCH_DEMAND; p <= FETCH_PREFETCH; p++) {
		list_init(&fetch->queue[p]);
		list_init(&fetch->large[p]);
	}
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
		remote_learn(fetch->remote);
	}
	*fetch_out = take(fetch);
	return NULL;
}

void *fetch_free(struct fetch *fetch)
{
	if (!fetch)
		return NULL;
	sync_lock(&fetch->mutex);
	while (fetch->jobs.len || fetch->n_active)
		sync_wait(&fetch->cond, &fetch->mutex);
	fetch->is_stopping = true;
	sync_broadcast(&fetch->cond);
	sync_unlock(&fetch->mutex);
	if (fetch->has_timer)
		(void)pthread_join(fetch->timer, NULL);
	pool_free(fetch->streams);
	htab_deinit(&fetch->jobs);
	sync_cond_deinit(&fetch->cond);
	sync_mutex_deinit(&fetch->mutex);
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
