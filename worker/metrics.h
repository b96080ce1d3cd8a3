/*
 * What the worker has done so far and holds now, counted for its operator, as one page in
 * Prometheus' text format 0.0.4. Counters start at zero with the process.
 *
 * Threads: any; a page takes the cache's and the channels' mutexes for a moment each.
 */
#pragma once

#include "worker/action/job.h"
#include "worker/sites.h"

struct metrics;

struct metrics *metrics_new(void);
void *metrics_free(struct metrics *metrics);
CLEANUP_DEFINE(struct metrics, metrics_free)

/* Around each job_run(); every begin has its end. */
void metrics_job_begins(struct metrics *metrics);
void metrics_job_ended(struct metrics *metrics, const struct job_outcome *outcome);

struct metrics_page {
	const struct metrics *metrics;
	struct sites *sites;
	struct rpc_chan *server_chan;
	unsigned int n_slots;
};
/* Appends the page. */
void metrics_write(const struct metrics_page *page, struct buf *out);
