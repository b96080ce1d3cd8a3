/*
 * The worker's slots: one thread each, one lease at a time. Leases wait here for a free
 * slot, which a server that counts right never makes them do.
 */
#pragma once

#include "worker/metrics.h"
#include "worker/action/live_log.h"
#include "worker/sites.h"
#include "worker/source/source.h"

struct slots;

/* All borrowed. */
struct error *slots_new(struct sites *sites, struct metrics *metrics,
			struct live_logs *logs, unsigned int n, struct slots **out);
/* Waits for what runs. */
void *slots_free(struct slots *slots);
CLEANUP_DEFINE(struct slots, slots_free)
/* Where results go; before the first lease. */
void slots_set_source(struct slots *slots, struct source *source);

/* Both from any thread. */
void slots_assign(struct slots *slots, struct source_lease *lease); /* consumes */
void slots_cancel(struct slots *slots, const char *id); /* of the lease; NULL: all */
