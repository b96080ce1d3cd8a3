/*
 * The action cache as a client uses it itself: looked up before anything is sent, since a
 * result that is there makes all the rest needless; given results where it is told to be.
 *
 * Threads: main; blocking.
 */
#pragma once

#include "client/execution.h"

/* *found_out: out is as if an execution had ended with a cached result; the caller
 * deinits it. A cache that fails, or one elsewhere whose result the storage has not, has
 * none. */
void cached_look_up(struct client *client, const struct digest *action,
		    struct execution_outcome *out, bool *found_out);
/* Whether cached_give() would give it. */
bool cached_takes(const struct client *client, const Reapi__ExecuteResponse *response);
/* Gives a result that was made just now to the cache of --action-cache that has push;
 * does nothing where there is none. One that does not take it is said, no more. */
void cached_give(struct client *client, const struct digest *action,
		 const Reapi__ExecuteResponse *response);
