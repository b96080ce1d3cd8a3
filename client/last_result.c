/* Owns nothing: the database is opened for each look. */
#include "client/last_result.h"

#include "client/local_actions.h"

#define LOG_MODULE "client"
#include "lib/base/log.h"

#define LAST_RESULT_INSTANCE "failed" /* the local action cache's own is "" */

static struct error *last_result_put(struct client *client, const struct digest *action,
				     const Reapi__ActionResult *result)
{
	_cleanup_(action_cache_closep) struct action_cache *cache = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct error *err = local_actions_open(client, &cache);

	if (err)
		return err;
	rpc_encode(&result->base, &bytes);
	return action_cache_put(cache, LAST_RESULT_INSTANCE, action, buf_slice(&bytes));
}

void last_result_note(struct client *client, const struct digest *action,
		      const Reapi__ExecuteResponse *response)
{
	bool has_failed = (response->status && response->status->code) ||
			  response->result->exit_code != 0;

	if (has_failed)
		log_drop(LOG_WARN, last_result_put(client, action, response->result),
			 "the result is not kept for lazyroot shell --result");
}

static struct error *last_result_here(struct client *client, const struct digest *action,
				      struct buf *out, bool *found_out)
{
	_cleanup_(action_cache_closep) struct action_cache *cache = NULL;
	struct error *err = local_actions_open(client, &cache);

	return err ? err
		   : action_cache_get(cache, LAST_RESULT_INSTANCE, action, out,
				      found_out);
}

struct error *last_result_find(struct client *client, const struct digest *action,
			       struct arena *arena, Reapi__ActionResult **out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	Reapi__ActionResult *result = NULL;
	bool is_found = false;
	struct error *err = local_actions_get(client, action, &bytes, &is_found);

	if (!err && !is_found && client_has_server(client)) {
		err = remote_get_action(client->action_cache, action, arena, &result);
		if (err || result) {
			*out = result;
			return err;
		}
	}
	if (!err && !is_found)
		err = last_result_here(client, action, &bytes, &is_found);
	if (err)
		return err;
	if (is_found)
		result = (Reapi__ActionResult *)rpc_decode(
			&reapi__action_result__descriptor, buf_slice(&bytes), arena);
	*out = result;
	return NULL;
}
