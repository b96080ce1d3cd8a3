/*
 * Owns the fetches in flight: one struct fetch_job per digest, from the first miss to the
 * last callback.
 *
 * A job waits in the queue (fetch_queue.c: what goes next), then is in flight
 * (fetch_send.c), perhaps waits again for a retry, and ends by telling its waiters
 * (fetch_job.c).
 *
 * Threads: fetch_start from any; batch replies arrive on pollers and move to the pool;
 * big blobs occupy the threads of the streams pool; the timer thread sends what has
 * waited long enough and wakes retries. The mutex is never held while calling anything
 * that blocks, sends or calls back.
 */
#include "lib/cas/fetch.h"

#include <pthread.h>
#include <stdatomic.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/htab.h"
#include "lib/base/latch.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "lib/cas/fetch_chunks.h"
#include "lib/cas/fetch_job.h"
#include "lib/cas/fetch_send.h"

void fetch_give_up(struct fetch *fetch)
{
	struct list given_up = LIST_INIT(given_up);
	struct list *node;

	sync_lock(&fetch->mutex);
	fetch->is_giving_up = true;
	fetch_queue_drop_retries(&fetch->queue, &given_up);
	sync_unlock(&fetch->mutex);
	while ((node = list_pop(&given_up)))
		fetch_job_end(container_of(node, struct fetch_job, item.link),
			      error_new(ERROR_UNAVAILABLE, "no time for another try"),
			      -1);
}

static size_t fetch_batch_max(const struct fetch *fetch)
{
	return fetch->remote ? remote_batch_max(fetch->remote) : 0;
}

static void *fetch_timer(void *arg)
{
	struct fetch *fetch = arg;

	sync_lock(&fetch->mutex);
	while (!fetch->is_stopping) {
		int64_t due = fetch_queue_next_due(&fetch->queue);
		int64_t now = clock_mono_ns();

		if (due > now) {
			(void)sync_wait_until(&fetch->cond, &fetch->mutex, due);
			continue;
		}
		fetch_queue_wake(&fetch->queue, fetch_batch_max(fetch), now);
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
		fetch_queue_add(&fetch->queue, &job->item, fetch_batch_max(fetch),
				clock_mono_ns());
		sync_unlock(&fetch->mutex);
		fetch_send(fetch);
		fetch_job_leave(fetch);
		return;
	}
	if (!err && fd < 0)
		err = remote_missing(&job->digest, "the local store");
	fetch_job_end(job,
		      err ? error_wrap(err, "fetch %s", digest_format(&job->digest, name))
			  : NULL,
		      fd);
	fetch_job_leave(fetch);
}

/* A fetch of the same digest, or NULL. */
static struct fetch_job *fetch_find(struct fetch *fetch, const struct digest *digest)
	SYNC_REQUIRES(&fetch->mutex)
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
	job->item.priority = priority;
	job->item.size = digest->size;
	job->account = account;
	list_init(&job->waiters);
	list_init(&job->item.link);
	return job;
}

/* The job that a miss joins or begins. */
static struct fetch_job *fetch_join(struct fetch *fetch, const struct digest *digest,
				    enum fetch_priority priority,
				    struct fetch_account *account)
	SYNC_REQUIRES(&fetch->mutex)
{
	struct fetch_job *job = fetch_find(fetch, digest);

	if (priority == FETCH_DEMAND && (!job || job->item.priority == FETCH_PREFETCH))
		fetch->demand_bytes += digest->size;
	if (job) {
		atomic_fetch_add(&fetch->n_joined, 1);
		if (priority == FETCH_DEMAND)
			fetch_queue_raise(&fetch->queue, &job->item,
					  fetch_batch_max(fetch), clock_mono_ns());
		return job;
	}
	job = fetch_job_new(fetch, digest, priority, account);
	htab_insert(&fetch->jobs, &job->node, digest_key(digest));
	if (fetch->remote && !store_is_suspect(fetch->store, digest)) {
		fetch_queue_add(&fetch->queue, &job->item, fetch_batch_max(fetch),
				clock_mono_ns());
	} else {
		job->item.state = FETCH_FLYING;
		job->task.run = fetch_local_run;
		fetch->n_active++;
		pool_push(fetch->pool, &job->task);
	}
	return job;
}

/* Queues a demand; what is at hand is given at once. */
static void fetch_start_one(struct fetch *fetch, const struct digest *digest,
			    struct fetch_account *account, fetch_done_fn *done, void *ctx)
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
			*waiter = (struct fetch_waiter){
				.done = done, .ctx = ctx, .account = account};
			list_push(&fetch_join(fetch, digest, FETCH_DEMAND, account)
					   ->waiters,
				  &waiter->link);
		}
		sync_unlock(&fetch->mutex);
	}
}

void fetch_start_all(struct fetch *fetch, const struct digest *digests, size_t n,
		     struct fetch_account *account, fetch_done_fn *done, void *ctx)
{
	for (size_t i = 0; i < n; i++)
		fetch_start_one(fetch, &digests[i], account, done, ctx);
	fetch_send(fetch);
}

void fetch_start(struct fetch *fetch, const struct digest *digest,
		 struct fetch_account *account, fetch_done_fn *done, void *ctx)
{
	fetch_start_all(fetch, digest, 1, account, done, ctx);
}

/* Wishes */

/* Queues a wish; false where the blob is at hand already. */
static bool fetch_wish_one(struct fetch *fetch, const struct fetch_wish *wish)
{
	for (;;) { /* as fetch_start() */
		uint64_t n_ended = atomic_load(&fetch->n_ended);
		struct fetch_waiter *waiter = NULL;

		if (store_has(fetch->store, &wish->digest))
			return false;
		sync_lock(&fetch->mutex);
		if (fetch->n_ended == n_ended) {
			waiter = alloc_new(struct fetch_waiter);
			*waiter = (struct fetch_waiter){.wished = wish->done,
							.owner = wish->owner,
							.ctx = wish->ctx,
							.account = wish->account};
			list_push(&fetch_join(fetch, &wish->digest, FETCH_PREFETCH,
					      wish->account)
					   ->waiters,
				  &waiter->link);
		}
		sync_unlock(&fetch->mutex);
		if (waiter)
			return true;
	}
}

void fetch_wish(struct fetch *fetch, const struct fetch_wish *wishes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!fetch_wish_one(fetch, &wishes[i]))
			wishes[i].done(wishes[i].ctx, NULL);
	fetch_send(fetch);
}

struct fetch_cancel {
	struct fetch_queue *queue;
	const void *owner;
	struct list waiters; /* taken out */
	struct list idle;    /* jobs that nobody waits for any more, by their item */
};

static void fetch_cancel_in_job(struct hnode *node, void *ctx)
{
	struct fetch_job *job = container_of(node, struct fetch_job, node);
	struct fetch_cancel *cancel = ctx;

	if (job->item.state != FETCH_QUEUED)
		return;
	list_for_each_safe (link, &job->waiters) {
		struct fetch_waiter *waiter =
			container_of(link, struct fetch_waiter, link);

		if (waiter->done || waiter->owner != cancel->owner)
			continue;
		list_remove(link);
		list_push(&cancel->waiters, link);
	}
	if (!list_is_empty(&job->waiters)) {
		/* whoever paid may be gone with its wish */
		job->account = container_of(job->waiters.next, struct fetch_waiter, link)
				       ->account;
		return;
	}
	fetch_queue_drop(cancel->queue, &job->item);
	list_push(&cancel->idle, &job->item.link);
}

void fetch_cancel_wishes(struct fetch *fetch, const void *owner)
{
	struct fetch_cancel cancel = {.queue = &fetch->queue, .owner = owner};
	struct list *node;

	list_init(&cancel.waiters);
	list_init(&cancel.idle);
	sync_lock(&fetch->mutex);
	htab_each(&fetch->jobs, fetch_cancel_in_job, &cancel);
	while ((node = list_pop(&cancel.idle))) {
		struct fetch_job *job = container_of(node, struct fetch_job, item.link);

		htab_remove(&fetch->jobs, &job->node);
		free(job);
	}
	sync_broadcast(&fetch->cond);
	sync_unlock(&fetch->mutex);
	while ((node = list_pop(&cancel.waiters))) {
		struct fetch_waiter *waiter =
			container_of(node, struct fetch_waiter, link);

		waiter->wished(waiter->ctx,
			       error_new(ERROR_CANCELLED, "not wanted any more"));
		free(waiter);
	}
}

void fetch_way(struct fetch *fetch, struct fetch_way *out)
{
	sync_lock(&fetch->mutex);
	*out = (struct fetch_way){.rtt_ns = fetch->pace.rtt_ns,
				  .rate = fetch_pace_rate(&fetch->pace),
				  .window = fetch_pace_window(&fetch->pace),
				  .demand_waiting = fetch->demand_bytes};
	sync_unlock(&fetch->mutex);
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
	fetch_start(fetch, digest, account, fetch_wait_done, &wait);
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
	fetch->chunks = config->chunks;
	fetch->n_attempts = config->n_attempts;
	sync_mutex_init(&fetch->mutex);
	sync_mutex_rank(&fetch->mutex, 1);
	sync_cond_init(&fetch->cond);
	fetch_queue_init(&fetch->queue);
	if (fetch->remote) {
		err = pool_new("fetch-stream", FETCH_STREAMS_MAX, &fetch->streams);
		if (!err)
			err = thread_start("fetch-timer", fetch_timer, fetch,
					   &fetch->timer);
		if (err)
			return err;
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
	sync_alone(&fetch->mutex);
	htab_deinit(&fetch->jobs);
	sync_cond_deinit(&fetch->cond);
	sync_mutex_deinit(&fetch->mutex);
	free(fetch);
	return NULL;
}

void fetch_came(struct fetch *fetch, const struct digest *blob)
{
	if (fetch->remote)
		fetch_chunks_came(fetch, blob);
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
	/* read before the bytes that it is a part of */
	uint64_t saved = fetch->saved + (fetch->remote ? remote_saved(fetch->remote) : 0);

	*out = (struct fetch_stats){
		.n_hits = fetch->n_hits,
		.n_joined = fetch->n_joined,
		.n_batches = fetch->n_batches,
		.n_streams = fetch->n_streams,
		.n_blobs = fetch->n_blobs,
		.bytes = fetch->bytes,
		.chunk_bytes = fetch->chunk_bytes,
		.n_failed = fetch->n_failed,
	};
	out->wire_bytes = out->bytes > saved ? out->bytes - saved : 0;
}
