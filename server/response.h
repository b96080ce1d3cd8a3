/*
 * Messages about an action's end, as bytes: ExecuteResponse and Operation. Pure.
 */
#pragma once

#include "lib/rpc/server.h"
#include "lib/tree/digest.h"
#include "server/queue.h"

/* An ExecuteResponse without a result, whose status is err. */
void response_of_error(const struct error *err, struct buf *out);
/* result may be NULL; status NULL: OK. */
void response_of_result(Reapi__ActionResult *result, bool is_cached,
			const Rpcstatus__Status *status, struct buf *out);
/* The Operation of a state; it and what it points at live in arena. NULL: it is full. */
Longrunning__Operation *response_operation(const struct queue_state *state,
					   struct arena *arena);
/* The same as a call's answer, with a large response sent from where it is kept; fails
 * the call where arena is full. Takes what the state shares. */
void response_send(struct rpc_in *in, struct queue_state *state);
/* ExecuteOperationMetadata for a lease's action. logs: by which names its bot writes
 * them; NULL: it does not. */
void response_lease_metadata(const struct digest *action, enum queue_stage stage,
			     const char *const logs[static QUEUE_LOGS], struct buf *out);
/* Both: NULL where arena is full. */
Pb__Any *response_any(const char *type, struct slice value, struct arena *arena);
Pb__Timestamp *response_timestamp(int64_t wall_ns, struct arena *arena);

#define RESPONSE_TYPE_PREFIX "type.googleapis.com/"
#define RESPONSE_REAPI       RESPONSE_TYPE_PREFIX "build.bazel.remote.execution.v2."
