/*
 * A bot that the test plays: it speaks Bots to the real server, takes leases and ends
 * them as it is told. Also the client's side of an execution, message by message.
 */
#pragma once

#include "tests/integration/server_fixture.h"

struct bot {
	struct fixture *fixture;
	const char *name; /* of the session */
	const char *bot_id;
	Bots__BotSession *told; /* the newest answer */
};

struct bot_options {
	const char *instance;
	const char *capacity;
	const char *const *properties; /* name, value, name, value, ..., NULL */
};

struct bot bot_open(struct fixture *fixture, const char *bot_id,
		    const struct bot_options *options);

/* UpdateBotSession; timeout_ms bounds the long poll (0: as long as the server likes). */
struct error *bot_update_status(struct bot *bot, Bots__Lease *lease,
				Bots__BotStatus status, int64_t timeout_ms);

struct error *bot_update(struct bot *bot, Bots__Lease *lease);

/* Waits for a lease and takes it. */
Bots__Lease *bot_take(struct bot *bot);

/* Completes a lease with a result, or with a status where result is NULL or code not 0.
 */
void bot_complete(struct bot *bot, Bots__Lease *lease, const Reapi__ActionResult *result,
		  int code);

void bot_complete_exit(struct bot *bot, Bots__Lease *lease, int exit_code);

/* Its last word, so that it takes no job of later tests. */
void bot_close(struct bot *bot);

/* ---- actions -------------------------------------------------------------------- */

struct action_options {
	bool do_not_cache;
	int64_t timeout_s;
	const char *const *properties; /* name, value, ..., NULL */
};

/* An action nobody ran before; all its blobs are stored. */
Reapi__Digest *put_action(struct fixture *fixture, const struct action_options *options);

/* ---- executions ----------------------------------------------------------------- */

struct run {
	struct fixture *fixture;
	struct rpc_stream *stream;
	Longrunning__Operation *operation; /* the newest message */
	Reapi__ExecuteOperationMetadata *metadata;
	Reapi__ExecuteResponse *response; /* once it is done */
};

void run_close(struct run *run);

struct run run_execute(struct fixture *fixture, Reapi__Digest *action, bool skips_cache,
		       int32_t priority);

struct run run_wait(struct fixture *fixture, const char *name);

/* The next message; false at the end of the stream. */
bool run_next(struct run *run);

/* Reads to the end, which must be orderly; the code of ExecuteResponse.status. */
int run_finish(struct run *run);

void run_until(struct run *run, Reapi__ExecutionStage__Value stage);
