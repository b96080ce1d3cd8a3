/* Owns nothing; main thread. */
#include "client/cached.h"

#include "lib/base/alloc.h"

#define LOG_MODULE "cached"
#include "lib/base/log.h"

struct cached_names {
	struct digest *digests;
	size_t n;
	struct error *err;
};

static void cached_name(struct cached_names *names, const Reapi__Digest *wire)
{
	if (!names->err && wire)
		names->err = digest_from_wire(wire, &names->digests[names->n++]);
}

/* All that the result names by itself is in the storage, which is not the cache's own;
 * what lies in its directories is found missing later, if it is. */
static struct error *cached_check(struct client *client,
				  const Reapi__ActionResult *result)
{
	size_t max = result->n_output_files + result->n_output_directories + 2;
	_cleanup_free_ struct digest *digests = alloc_array(max, sizeof(*digests));
	_cleanup_free_ bool *is_missing = alloc_array(max, sizeof(bool));
	struct cached_names names = {.digests = digests};
	struct error *err;

	for (size_t i = 0; i < result->n_output_files; i++)
		cached_name(&names, result->output_files[i]->digest);
	for (size_t i = 0; i < result->n_output_directories; i++) {
		const Reapi__OutputDirectory *dir = result->output_directories[i];

		cached_name(&names, dir->root_directory_digest
					    ? dir->root_directory_digest
					    : dir->tree_digest);
	}
	if (!result->stdout_raw.len)
		cached_name(&names, result->stdout_digest);
	if (!result->stderr_raw.len)
		cached_name(&names, result->stderr_digest);
	err = take(names.err);
	if (!err)
		err = remote_find_missing(client->remote, digests, names.n, is_missing);
	for (size_t i = 0; !err && i < names.n; i++) {
		if (is_missing[i])
			err = remote_missing(&digests[i], "the storage");
	}
	return err;
}

void cached_look_up(struct client *client, const struct digest *action,
		    struct execution_outcome *out, bool *found_out)
{
	struct execution_outcome found = {.arena = ARENA_INIT(RPC_ARENA_MAX)};
	Reapi__ExecuteResponse *response;
	Reapi__ActionResult *result = NULL;
	struct error *err =
		remote_get_action(client->action_cache, action, &found.arena, &result);

	*found_out = false;
	if (!err && result && client->action_cache != client->remote)
		err = cached_check(client, result);
	response = arena_new(&found.arena, Reapi__ExecuteResponse);
	if (err || !result || !response) {
		if (err)
			log_drop(LOG_INFO, err, "the action cache is of no use");
		execution_outcome_deinit(&found);
		return;
	}
	*response = (Reapi__ExecuteResponse)REAPI__EXECUTE_RESPONSE__INIT;
	response->result = result;
	response->cached_result = true;
	found.response = response;
	*out = found;
	*found_out = true;
}

bool cached_takes(const struct client *client, const Reapi__ExecuteResponse *response)
{
	return client->action_cache_end.is_pushed_to && !response->cached_result &&
	       !response->result->exit_code &&
	       !(response->status && response->status->code);
}

void cached_give(struct client *client, const struct digest *action,
		 const Reapi__ExecuteResponse *response)
{
	struct error *err;

	if (!cached_takes(client, response))
		return;
	err = remote_put_action(client->action_cache, action, response->result);
	if (err)
		say("lazyroot: the action cache did not take the result: %s",
		    error_text(err));
	error_free(err);
}
