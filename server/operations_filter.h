/*
 * The filter of ListOperations: FIELD=VALUE, several joined by AND, "&" or a space, and
 * all of them must hold. A value may stand in quotes. Fields: stage (queued, executing,
 * completed), done (true, false), action (the digest as HASH/SIZE), and of the client's
 * RequestMetadata tool_invocation_id, correlated_invocations_id and target_id. Pure.
 */
#pragma once

#include "server/queue.h"

#define OPERATIONS_FILTER_MAX 1024 /* bytes */

struct operations_filter {
	unsigned int stages; /* as struct queue_filter has them */
	bool has_action;
	struct digest action;
	struct slice request[QUEUE_REQUEST_FIELDS]; /* views of the text */
};

/* INVALID_ARGUMENT says what is not understood, and what would be. */
struct error *operations_filter_parse(const char *text, struct operations_filter *out);
