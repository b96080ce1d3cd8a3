/*
 * What the log is told at a job's end.
 */
#pragma once

#include "worker/action/job.h"

/* Pressure on the cache since before: evicting more than it holds (true) drops what this
 * action needed. */
bool job_log_evictions(const struct job_site *site, const struct store_stats *before);
void job_log_counts(const struct job_site *site);
