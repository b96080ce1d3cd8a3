/*
 * The action cache, where whoever gives the job leaves it to the worker.
 */
#pragma once

#include "worker/action/job.h"

/* Stores the result (an ActionResult, encoded, whose outputs are stored) of an action
 * that ran to its end. Not where it failed or is not to be cached, nor under a digest
 * that is not the Action's. What goes wrong is only logged. */
void job_cache_result(const struct job_site *site, const struct plan *plan,
		      struct slice action, struct slice result);
