/* Owns nothing; main thread. */
#include "client/cached.h"

#include "client/artifact.h"
#include "client/result_outputs.h"
#include "lib/base/alloc.h"
#include "lib/tree/dirset.h"

#define LOG_MODULE "cached"
#include "lib/base/log.h"

/* Of a result in a cache that is not the storage; one that has more is made again. */
#define CACHED_NAMES_MAX ((size_t)1 << 20)
#define CACHED_TREES_MAX ((size_t)64 << 20) /* bytes of Directories */

/* What a result names, by itself and below its directories. */
struct cached_names {
	struct client *client;
	struct dirset seen;  /* without bytes: each digest once */
	struct dirset trees; /* the same, of those that were looked into */
	size_t trees_left;   /* bytes of Directories that may still be looked at */
};

static struct error *cached_add(struct cached_names *names, const struct digest *digest)
{
	if (digest->size)
		(void)dirset_add(&names->seen, digest, (struct slice){0});
	if (names->seen.n > CACHED_NAMES_MAX)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "a cached result names too many blobs");
	return NULL;
}

/* All below a directory. A Tree has its Directories within, and they need be nowhere
 * else. */
static struct error *cached_add_tree(struct cached_names *names,
				     const struct result_output *output)
{
	_cleanup_free_ struct digest *blobs = NULL;
	size_t n = 0, n_dirs = 0;
	struct artifact_limits limits = {.entries = CACHED_NAMES_MAX};
	struct digest root;
	struct error *err = NULL;

	if ((uint64_t)output->digest.size > names->trees_left)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "the trees of a cached result are too large");
	limits.bytes = names->trees_left -= (size_t)output->digest.size;
	err = client_open_fetch(names->client);
	if (!err)
		err = result_outputs_root(names->client, output, &root);
	if (!err)
		err = artifact_blobs(names->client->dirs, &root, limits, &blobs, &n,
				     &n_dirs);
	for (size_t i = 0; !err && i < n; i++)
		if (i >= n_dirs || digest_equal(&root, &output->digest))
			err = cached_add(names, &blobs[i]);
	return err;
}

static struct error *cached_add_output(void *ctx, const struct result_output *output)
{
	struct cached_names *names = ctx;
	struct error *err;

	if (output->kind == RESULT_LINK)
		return NULL;
	err = cached_add(names, &output->digest);
	if (err || output->kind != RESULT_TREE || !output->digest.size ||
	    !dirset_add(&names->trees, &output->digest, (struct slice){0}))
		return err;
	return cached_add_tree(names, output);
}

static struct error *cached_add_log(struct cached_names *names,
				    const ProtobufCBinaryData *raw,
				    const Reapi__Digest *wire)
{
	struct digest digest;
	struct error *err;

	if (raw->len || !wire)
		return NULL;
	err = digest_from_wire(wire, &digest);
	return err ? err : cached_add(names, &digest);
}

static struct error *cached_find(const struct cached_names *names)
{
	size_t n = names->seen.n;
	_cleanup_free_ struct digest *digests = alloc_array(n, sizeof(*digests));
	_cleanup_free_ bool *is_missing = alloc_array(n, sizeof(bool));
	struct error *err;

	for (size_t i = 0; i < n; i++)
		digests[i] = dirset_item(&names->seen, i).digest;
	err = remote_find_missing(names->client->remote, digests, n, is_missing);
	for (size_t i = 0; !err && i < n; i++) {
		if (is_missing[i])
			err = remote_missing(&digests[i], "the storage");
	}
	return err;
}

/* All of the result is in the storage, which is not the cache's own. */
static struct error *cached_check(struct client *client,
				  const Reapi__ActionResult *result)
{
	struct cached_names names = {.client = client, .trees_left = CACHED_TREES_MAX};
	struct error *err =
		cached_add_log(&names, &result->stdout_raw, result->stdout_digest);

	if (!err)
		err = cached_add_log(&names, &result->stderr_raw, result->stderr_digest);
	if (!err)
		err = result_outputs_each(result, cached_add_output, &names);
	if (!err)
		err = cached_find(&names);
	dirset_deinit(&names.seen);
	dirset_deinit(&names.trees);
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
