/*
 * Where outputs of earlier runs were put: inputs among which one of them lies have times,
 * since a tool must not take them for newer than what they were made of (--mtimes auto).
 * A list of absolute paths in the user's cache directory; losing it loses only that.
 *
 * Threads: main. Errors are none of its callers': what cannot be read is not known.
 */
#pragma once

#include "client/client.h"

/* paths: absolute, a NUL after each. A list that cannot be written is only said at debug.
 */
void output_places_note(struct client *client, struct slice paths);
/* Whether something that was noted lies at path or below, and is there still. */
bool output_places_is_below(struct client *client, const char *path);
