/*
 * The action cache of this machine's user: results of commands that ran here, by digest
 * of their Action. A result counts while all that it names is in the local store.
 *
 * Threads: main.
 */
#pragma once

#include "client/client.h"
#include "lib/cas/action_cache.h"

/* The database. Of its instances, "" has what the rest of this header is about. */
struct error *local_actions_open(struct client *client, struct action_cache **out);
/* Appends the encoded ActionResult; *found_out false: none, or not all of it is there any
 * more. */
struct error *local_actions_get(struct client *client, const struct digest *action,
				struct buf *out, bool *found_out);
struct error *local_actions_put(struct client *client, const struct digest *action,
				struct slice result);
