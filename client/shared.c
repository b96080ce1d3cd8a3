/* Owns nothing; main thread. What goes to the storage is the result as an artifact: its
 * Directory has all that the result names, Action and Command too. */
#include "client/shared.h"

#include "client/cached.h"
#include "client/inputs.h"

static bool shared_is_wished(const struct client *client)
{
	return client->action_cache_at.list.n > 0;
}

struct error *shared_check(const struct client *client)
{
	return shared_is_wished(client) && !client_has_server(client)
		       ? error_new(ERROR_INVALID_ARGUMENT,
				   "--action-cache needs --storage (or --server), which "
				   "keeps what its results name")
		       : NULL;
}

void shared_look_up(struct client *client, const struct digest *action,
		    struct execution_outcome *out, bool *found_out)
{
	*found_out = false;
	if (shared_is_wished(client))
		cached_look_up(client, action, out, found_out);
}

void shared_give(struct client *client, const struct digest *action,
		 const struct artifact_source *source,
		 const Reapi__ExecuteResponse *response)
{
	struct digest root;
	struct error *err;

	if (!cached_takes(client, response))
		return;
	err = artifact_make(client, source, &root);
	if (!err)
		err = inputs_send_known(client, &root);
	if (err)
		say("lazyroot: the storage did not take what the result names: %s",
		    error_text(err));
	else
		cached_give(client, action, response);
	error_free(err);
}
