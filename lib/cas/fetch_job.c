/*
 * Owns the end of a job: another try or the last word, and what it cost whom. Waiters are
 * told without the mutex, since they may start other fetches.
 */
#include "lib/cas/fetch_job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"

#define LOG_MODULE "fetch"
#include "lib/base/log.h"

#define FETCH_ATTEMPTS 5

void fetch_job_charge_trip(struct fetch_account *account)
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

/* A wish did without the blob, and somebody who needs it joined since. Another process of
 * a shared store may have put its own file there meanwhile: that one is hashed. */
static struct error *fetch_job_open(struct fetch_job *job, int *fd_out)
{
	struct error *err = store_get_verified(job->fetch->store, &job->digest, fd_out);

	if (!err && *fd_out < 0)
		err = error_new(ERROR_UNAVAILABLE, "evicted as soon as it came");
	return err;
}

bool fetch_job_is_demand(struct fetch_job *job)
{
	bool is_demand;

	sync_lock(&job->fetch->mutex);
	is_demand = job->item.priority == FETCH_DEMAND;
	sync_unlock(&job->fetch->mutex);
	return is_demand;
}

/* Out of the table: nobody joins any more. */
static void fetch_job_detach(struct fetch_job *job) SYNC_REQUIRES(&job->fetch->mutex)
{
	struct fetch *fetch = job->fetch;

	htab_remove(&fetch->jobs, &job->node);
	if (job->item.priority == FETCH_DEMAND)
		fetch->demand_bytes -= job->digest.size;
	atomic_fetch_add(&fetch->n_ended, 1);
}

/* The same where it was only wished for. */
static bool fetch_job_detach_wish(struct fetch_job *job)
{
	bool is_wish;

	sync_lock(&job->fetch->mutex);
	is_wish = job->item.priority == FETCH_PREFETCH;
	if (is_wish)
		fetch_job_detach(job);
	sync_unlock(&job->fetch->mutex);
	return is_wish;
}

/* Tells all waiters of a job that nobody can join any more. Consumes all. */
static void fetch_job_tell(struct fetch_job *job, struct error *err, int fd)
{
	struct fetch *fetch = job->fetch;
	bool is_demand = job->item.priority == FETCH_DEMAND;
	struct list *node;

	if (!err && is_demand && fd < 0)
		err = fetch_job_open(job, &fd);
	if (err)
		atomic_fetch_add(&fetch->n_failed, 1);
	while ((node = list_pop(&job->waiters))) {
		struct fetch_waiter *waiter =
			container_of(node, struct fetch_waiter, link);
		bool is_last = list_is_empty(&job->waiters);

		if (!waiter->done)
			waiter->wished(waiter->ctx, err ? error_dup(err) : NULL);
		else if (err)
			waiter->done(waiter->ctx, error_dup(err), -1);
		else if (is_last)
			waiter->done(waiter->ctx, NULL, take_fd(fd));
		else
			fetch_tell_dup(waiter, fd);
		free(waiter);
	}
	error_free(err);
	if (fd >= 0)
		(void)close(fd);
	free(job);
	sync_lock(&fetch->mutex);
	sync_broadcast(&fetch->cond);
	sync_unlock(&fetch->mutex);
}

/* Puts a job off until due_ns; false where nothing is tried again any more. */
static bool fetch_job_put_off(struct fetch_job *job, int64_t due_ns)
{
	struct fetch *fetch = job->fetch;
	bool is_giving_up;

	sync_lock(&fetch->mutex);
	is_giving_up = fetch->is_giving_up;
	if (!is_giving_up) {
		job->attempt++;
		fetch_queue_put_off(&fetch->queue, &job->item, due_ns);
		sync_broadcast(&fetch->cond);
	}
	sync_unlock(&fetch->mutex);
	return !is_giving_up;
}

void fetch_job_end(struct fetch_job *job, struct error *err, int fd)
{
	sync_lock(&job->fetch->mutex);
	fetch_job_detach(job);
	sync_unlock(&job->fetch->mutex);
	fetch_job_tell(job, err, fd);
}

static unsigned int fetch_attempts(const struct fetch *fetch, const struct error *err,
				   bool has_retried)
{
	if (error_code(err) == ERROR_UNAVAILABLE && fetch->n_attempts)
		return fetch->n_attempts;
	if (error_is_unreachable(err) &&
	    rpc_chan_has_answered(remote_chan(fetch->remote)))
		return REMOTE_ATTEMPTS_PATIENT;
	return has_retried && error_code(err) != ERROR_DATA_LOSS ? 0 : FETCH_ATTEMPTS;
}

/* When a failed job is to be tried again; -1: not at all. */
static int64_t fetch_job_delay_ms(struct fetch_job *job, const struct error *err,
				  bool has_retried)
{
	unsigned int max_attempts = fetch_attempts(job->fetch, err, has_retried);
	struct rpc_chan *chan = remote_chan(job->fetch->remote);

	if (!has_retried && !job->is_renewed && rpc_chan_renew(chan, err)) {
		job->is_renewed = true;
		return 0;
	}
	if (error_code(err) == ERROR_DATA_LOSS && job->attempt + 1 < max_attempts)
		return 0; /* corrupt on the way, or a bad replica: ask once more */
	return rpc_retry_delay_ms(err, job->attempt, max_attempts);
}

void fetch_job_fail(struct fetch_job *job, struct error *err, bool has_retried,
		    bool *is_told)
{
	char name[DIGEST_STRING_MAX];
	int64_t delay_ms;

	if (fetch_job_detach_wish(job)) { /* whoever needs it asks again */
		fetch_job_tell(job, err, -1);
		return;
	}
	delay_ms = fetch_job_delay_ms(job, err, has_retried);
	(void)digest_format(&job->digest, name);
	if (delay_ms >= 0) {
		if (!*is_told)
			(void)rpc_chan_retried(remote_chan(job->fetch->remote), err,
					       delay_ms);
		*is_told = true;
		log_info("fetch %s: %s; again in %lld ms", name, error_text(err),
			 (long long)delay_ms);
		if (fetch_job_put_off(job, clock_mono_ns() + delay_ms * NS_PER_MS)) {
			error_free(err);
			return;
		}
	}
	fetch_job_end(job, error_wrap(err, "fetch %s", name), -1);
}

void fetch_job_leave(struct fetch *fetch)
{
	sync_lock(&fetch->mutex);
	fetch->n_active--;
	sync_broadcast(&fetch->cond);
	sync_unlock(&fetch->mutex);
}
