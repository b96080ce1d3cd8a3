/*
 * Results of actions, as the services see them: looked up (only where all their blobs are
 * there), inlined on request, checked, stored.
 */
#pragma once

#include "lib/cas/action_cache.h"
#include "server/completeness.h"
#include "server/service.h"

/* A result that is looked up step by step, zeroed before the first. */
struct action_look {
	bool has_begun, is_over;
	Reapi__ActionResult
		*result; /* once it is over: NULL, no entry, or a blob missing */
	struct completeness check;
};
/* One step more, until is_over; instance, action and arena stay the same. */
struct error *action_look_step(struct action_look *look, const struct server *server,
			       const char *instance, const struct digest *action,
			       struct arena *arena);
void action_look_deinit(struct action_look *look);
/* All of it at once. NULL in *result_out: no entry, or one with a blob missing. */
struct error *action_lookup(const struct server *server, const char *instance,
			    const struct digest *action, struct arena *arena,
			    Reapi__ActionResult **result_out);
/* As queue_ended.look, with a struct server: whether the action's result is of the job
 * that was queued then. */
bool action_of_job(void *ctx, const char *instance, const struct digest *action,
		   int64_t wall_ns, struct buf *response_out);
struct error *action_store(const struct server *server, const char *instance,
			   const struct digest *action,
			   const Reapi__ActionResult *result);

struct action_inline { /* what the client wants in the message */
	bool out, err;
	const char *const *files;
	size_t n_files;
};
/* Leaves out what would be too large; what was not asked for goes where it has a digest.
 */
void action_inline(const struct server *server, const struct action_inline *wanted,
		   struct arena *arena, Reapi__ActionResult *result);
