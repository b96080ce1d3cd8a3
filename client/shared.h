/*
 * Results that a team shares without a farm: of commands that run on this machine, the
 * action cache of --action-cache is asked, and with push given what ran here, once the
 * storage has all that the result names. --server alone is not enough for that: who runs
 * a command here rather than there wants it to run.
 *
 * Threads: main; blocking.
 */
#pragma once

#include "client/artifact.h"
#include "client/execution.h"

/* INVALID_ARGUMENT: there is such a cache, and no storage for what its results name. */
struct error *shared_check(const struct client *client);
/* As cached_look_up(), where there is such a cache; after client_open_fetch(). */
void shared_look_up(struct client *client, const struct digest *action,
		    struct execution_outcome *out, bool *found_out);
/* What cannot be given is said, no more. */
void shared_give(struct client *client, const struct digest *action,
		 const struct artifact_source *source,
		 const Reapi__ExecuteResponse *response);
