/*
 * One blob's fetch, as the fetcher's files share it: from the first miss to the last
 * callback. fetch.c begins jobs, fetch_send.c sends for them, and both end them here.
 *
 * Threads: any; fetch->mutex guards a job's waiters, its account's charge not, and what
 * fetch_queue.h has of it.
 */
#pragma once

#include "lib/base/htab.h"
#include "lib/base/sync.h"
#include "lib/cas/fetch_pace.h"
#include "lib/cas/fetch_queue.h"

struct fetch_waiter {
	struct list link;
	fetch_done_fn *done;   /* NULL: a wish, which is not given the blob */
	fetch_wish_fn *wished; /* of a wish … */
	const void *owner;     /* … and whose it is */
	void *ctx;
	struct fetch_account *account; /* lives until the waiter was told */
};

struct fetch_job {
	struct hnode node;
	struct fetch_item item;
	struct list waiters;
	struct fetch *fetch;
	struct digest digest;
	struct fetch_account *account; /* of a waiter that is there still */
	unsigned int attempt;          /* of whoever has the job: it flies */
	bool is_renewed;               /* the same: other credentials had their try */
	struct pool_task task;         /* streams and local verification */
};

struct fetch {
	struct store *store;
	struct remote *remote;
	struct pool *pool;
	struct pool *streams;
	struct chunks *chunks; /* or NULL */
	pthread_t timer;
	bool has_timer;
	unsigned int n_attempts;

	struct sync_mutex mutex;
	struct sync_cond cond; /* timer: something to do; free: nothing left */
	struct htab jobs SYNC_GUARDED_BY(&mutex);
	struct fetch_queue queue SYNC_GUARDED_BY(&mutex);
	struct fetch_pace pace SYNC_GUARDED_BY(&mutex);
	int64_t demand_bytes SYNC_GUARDED_BY(&mutex); /* of jobs that are demands */
	/* Tasks of ours that still touch this struct. */
	unsigned int n_active SYNC_GUARDED_BY(&mutex);
	bool is_stopping SYNC_GUARDED_BY(&mutex);
	bool is_giving_up SYNC_GUARDED_BY(&mutex);

	_Atomic uint64_t n_ended; /* jobs, counted with the mutex held */
	_Atomic uint64_t n_hits, n_joined, n_batches, n_streams, n_blobs, bytes, n_failed;
	_Atomic unsigned int n_chunked; /* streams' threads that wait for chunks */
	_Atomic uint64_t chunk_bytes;
	_Atomic uint64_t saved; /* of bytes, by batches that came compressed */
};

/* Counts a call for whoever caused it; account may be NULL. */
void fetch_job_charge_trip(struct fetch_account *account);
/* Whether somebody waits for the blob itself. */
bool fetch_job_is_demand(struct fetch_job *job) SYNC_EXCLUDES(&job->fetch->mutex);
/* Takes the job out of the table, so that nobody joins any more, then tells all waiters.
 * Consumes err, fd and the job. */
void fetch_job_end(struct fetch_job *job, struct error *err, int fd)
	SYNC_EXCLUDES(&job->fetch->mutex);
/* A failed attempt, which was several where has_retried: again later, or the end.
 * *is_told: others of the same call are tried again, too, and that was said. Consumes err
 * and the job. */
void fetch_job_fail(struct fetch_job *job, struct error *err, bool has_retried,
		    bool *is_told) SYNC_EXCLUDES(&job->fetch->mutex);
/* A task's last touch of fetch. */
void fetch_job_leave(struct fetch *fetch) SYNC_EXCLUDES(&fetch->mutex);
