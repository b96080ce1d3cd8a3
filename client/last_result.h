/*
 * What runs of an action ended with that no action cache takes: a failed command's
 * result, kept beside the local action cache, so that its outputs can be looked at.
 *
 * Threads: main.
 */
#pragma once

#include "client/client.h"

/* Keeps the result of a run that failed. That it cannot be kept is only logged. */
void last_result_note(struct client *client, const struct digest *action,
		      const Reapi__ExecuteResponse *response);
/*
 * The result of an action: out of the local action cache, else the service's where one is
 * named, else what it failed with here. NULL: nobody knows one. It lives in arena.
 */
struct error *last_result_find(struct client *client, const struct digest *action,
			       struct arena *arena, Reapi__ActionResult **out);
