/*
 * Owns the choice of a place, and what an action has around its run on this machine: the
 * local action cache, and the outcome in the form in which a service gives it.
 */
#include "client/sandbox.h"

#include <string.h>

#include "client/cached.h"
#include "client/local_actions.h"
#include "client/namespaces.h"
#include "client/sandbox_impl.h"
#include "client/shared.h"

#define LOG_MODULE "client"
#include "lib/base/log.h"

#define SANDBOX_ACTION_MAX ((size_t)16 << 20) /* bytes */

static const char *const sandbox_place_names[] = {[SANDBOX_AUTO] = "auto",
						  [SANDBOX_NAMESPACES] = "namespaces",
						  [SANDBOX_PLAIN] = "plain",
						  [SANDBOX_REMOTE] = "remote"};

struct error *sandbox_place_parse(const char *word, enum sandbox_place *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(sandbox_place_names); i++) {
		if (word && strcmp(word, sandbox_place_names[i]) != 0)
			continue;
		*out = (enum sandbox_place)i; /* no word: the first, auto */
		return NULL;
	}
	return error_new(ERROR_INVALID_ARGUMENT,
			 "--sandbox is auto, namespaces, plain or remote, not \"%s\"",
			 word);
}

struct error *sandbox_settle(struct client *client, bool has_service,
			     enum sandbox_place *place)
{
	struct error *err;

	if (*place == SANDBOX_AUTO && has_service)
		*place = SANDBOX_REMOTE;
	if (*place == SANDBOX_REMOTE || *place == SANDBOX_PLAIN)
		return NULL;
	err = namespaces_enter(&client->local);
	if (!err)
		*place = SANDBOX_NAMESPACES;
	if (!err || *place == SANDBOX_NAMESPACES)
		return err;
	*place = SANDBOX_PLAIN;
	if (!client->is_quiet)
		say("lazyroot: %s: the command runs without isolation (--sandbox plain "
		    "says so)",
		    error_text(err));
	error_free(err);
	return NULL;
}

/* ---- the outcome ------------------------------------------------------------------ */

/* A timeout has a result beside it, and is told as a service tells it; any other status
 * is an error. Consumes it. */
static struct error *sandbox_status(struct execution_outcome *outcome,
				    Reapi__ExecuteResponse *response,
				    struct error *status)
{
	struct arena *arena = &outcome->arena;
	Rpcstatus__Status *wire;

	if (!status)
		return NULL;
	if (error_code(status) != ERROR_DEADLINE_EXCEEDED || !response->result)
		return status;
	wire = arena_new(arena, Rpcstatus__Status);
	response->message = arena_string(arena, error_text(status));
	error_free(status);
	if (!wire || !response->message)
		return arena_error("the result");
	rpcstatus__status__init(wire);
	wire->code = ERROR_DEADLINE_EXCEEDED;
	wire->message = RPC_TIMED_OUT;
	response->status = wire;
	return NULL;
}

/* Consumes status. */
static struct error *sandbox_outcome(struct slice result, struct error *status,
				     bool is_cached, struct execution_outcome *out)
{
	struct execution_outcome outcome = {.arena = ARENA_INIT(RPC_ARENA_MAX)};
	Reapi__ExecuteResponse *response =
		arena_new(&outcome.arena, Reapi__ExecuteResponse);
	struct error *err;

	reapi__execute_response__init(response);
	response->cached_result = is_cached;
	if (result.len)
		response->result = (Reapi__ActionResult *)rpc_decode(
			&reapi__action_result__descriptor, result, &outcome.arena);
	outcome.response = response;
	err = sandbox_status(&outcome, response, status);
	if (!err && !response->result)
		err = outcome.arena.is_full
			      ? arena_error("the result")
			      : error_new(ERROR_INTERNAL, "the command left no result");
	if (err) {
		execution_outcome_deinit(&outcome);
		return err;
	}
	*out = outcome;
	return NULL;
}

/* ---- an action on this machine ---------------------------------------------------- */

/* Whether the Action itself wants no cache. */
static struct error *sandbox_is_uncached(const struct execution_config *config, bool *out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	const Reapi__Action *action;
	struct error *err = fetch_bytes(config->client->fetch, config->action,
					SANDBOX_ACTION_MAX, NULL, &bytes);

	if (err)
		return err;
	action = (const Reapi__Action *)rpc_decode(&reapi__action__descriptor,
						   buf_slice(&bytes), &arena);
	*out = action && action->do_not_cache;
	return NULL;
}

static bool sandbox_has_succeeded(const struct execution_outcome *outcome)
{
	return !outcome->response->status && outcome->response->result->exit_code == 0;
}

static struct error *sandbox_execute(const struct sandbox_run_config *config,
				     bool is_stored, struct execution_outcome *out)
{
	const struct execution_config *execution = &config->execution;
	struct sandbox_result result = {.bytes = BUF_INIT};
	struct error *err;

	if (config->place == SANDBOX_NAMESPACES)
		sandbox_namespaces_run(execution, &result);
	else
		sandbox_plain_run(execution, &result);
	err = sandbox_outcome(buf_slice(&result.bytes), result.status, false, out);
	if (!err && is_stored && sandbox_has_succeeded(out))
		log_drop(LOG_WARN,
			 local_actions_put(execution->client, execution->action,
					   buf_slice(&result.bytes)),
			 "the result is not kept for next time");
	buf_deinit(&result.bytes);
	return err;
}

static struct error *sandbox_run_here(const struct sandbox_run_config *config,
				      struct execution_outcome *out)
{
	bool is_uncached = false;
	struct error *err = client_open_fetch(config->execution.client);

	if (!err)
		err = sandbox_is_uncached(&config->execution, &is_uncached);
	return err ? err : sandbox_execute(config, !is_uncached, out);
}

static struct error *sandbox_look_up_here(const struct execution_config *config,
					  struct execution_outcome *out, bool *found_out)
{
	_cleanup_buf_ struct buf result = BUF_INIT;
	bool is_found = false;
	struct error *err = client_open_fetch(config->client);

	if (err)
		return err;
	log_drop(LOG_WARN,
		 local_actions_get(config->client, config->action, &result, &is_found),
		 "results of before are not known");
	if (is_found)
		err = sandbox_outcome(buf_slice(&result), NULL, true, out);
	else
		shared_look_up(config->client, config->action, out, &is_found);
	if (!err)
		*found_out = is_found;
	return err;
}

struct error *sandbox_look_up(const struct sandbox_run_config *config,
			      struct execution_outcome *out, bool *found_out)
{
	const struct execution_config *execution = &config->execution;

	*found_out = false;
	if (config->place != SANDBOX_REMOTE)
		return sandbox_look_up_here(execution, out, found_out);
	cached_look_up(execution->client, execution->action, out, found_out);
	return NULL;
}

struct error *sandbox_run(const struct sandbox_run_config *config,
			  struct execution_outcome *out)
{
	return config->place == SANDBOX_REMOTE ? execution_run(&config->execution, out)
					       : sandbox_run_here(config, out);
}
