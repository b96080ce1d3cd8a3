/*
 * The worker's places: one thread each, one job at a time. Jobs wait here for a free
 * slot, which a server that counts right never makes them do.
 */
#pragma once

#include "worker/job.h"

struct slots;

struct error *slots_new(const struct job_site *site, unsigned int n, struct slots **out);
/* Waits for what runs. */
void *slots_free(struct slots *slots);
CLEANUP_DEFINE(struct slots, slots_free)
/* Where results go; before the first job. */
void slots_set_source(struct slots *slots, struct source *source);

void slots_assign(struct slots *slots,
		  struct source_job *order);            /* any thread; consumes */
void slots_cancel(struct slots *slots, const char *id); /* NULL: all */
