/*
 * An Action and its Command out of the store.
 */
#pragma once

#include "client/client.h"

/* After client_open_fetch(); main, fetches both. Both live as long as the arena.
 * INVALID_ARGUMENT: the blob is no Action, or its Command is none. */
struct error *action_get(struct client *client, const struct digest *digest,
			 struct arena *arena, Reapi__Action **action_out,
			 Reapi__Command **command_out);
