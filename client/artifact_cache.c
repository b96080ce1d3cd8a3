/*
 * Owns the caches: each has a connection, a fetcher and a memory of Directories of its
 * own over the user's one store, so that what one cache began the next goes on with. A
 * cache that was found to be down is not asked again by the same command.
 */
#include "client/artifact_cache.h"

#include <limits.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/cas/upload.h"
#include "lib/rpc/rpc.h"

struct cache {
	struct endpoint endpoint;
	struct fetch *fetch; /* made by cache_open_fetch() */
	struct dircache *dirs;
	bool is_down;    /* nobody answers there */
	bool has_failed; /* to take what was pushed to it, the last time */
};

static void cache_deinit(struct cache *cache)
{
	dircache_free(cache->dirs);
	fetch_free(cache->fetch);
	endpoint_deinit(&cache->endpoint);
}

void artifact_caches_deinit(struct artifact_caches *caches)
{
	for (size_t i = 0; i < caches->n; i++)
		cache_deinit(&caches->list[i]);
	free(caches->list);
	option_list_deinit(&caches->records.list);
}

struct error *artifact_caches_open(struct artifact_caches *caches, struct client *client)
{
	const struct option_list *records = &caches->records.list;
	struct error *err = client_begin(client);

	if (err || caches->list)
		return err;
	caches->list = alloc_array(records->n, sizeof(*caches->list));
	caches->n = records->n;
	for (size_t i = 0; !err && i < records->n; i++) {
		struct endpoint *endpoint = &caches->list[i].endpoint;

		err = endpoint_read(records->items[i], "--artifacts", endpoint);
		if (!err && !endpoint->timeout_ns)
			endpoint->timeout_ns = client->rpc_timeout_ns;
		if (!err)
			err = endpoint_open(endpoint, "--artifacts");
	}
	return err;
}

static bool cache_has_names(const struct cache *cache)
{
	return cache->endpoint.type != ENDPOINT_STORAGE;
}

static bool cache_has_blobs(const struct cache *cache)
{
	return cache->endpoint.type != ENDPOINT_INDEX;
}

size_t artifact_caches_n_pushed_to(const struct artifact_caches *caches)
{
	size_t n = 0;

	for (size_t i = 0; i < caches->n; i++)
		n += caches->list[i].endpoint.is_pushed_to;
	return n;
}

/* Consumes err: the next cache may do better. */
static void cache_pass_over(struct cache *cache, const char *what, struct error *err)
{
	if (error_code(err) == ERROR_UNIMPLEMENTED && cache_has_names(cache))
		say("lazyroot: artifact cache %s has no Remote Asset API, which names of "
		    "artifacts need (with \"type: storage\" it keeps blobs only): %s",
		    cache->endpoint.url, error_text(err));
	else
		say("lazyroot: artifact cache %s: %s: %s", cache->endpoint.url, what,
		    error_text(err));
	cache->is_down = cache->is_down || error_code(err) == ERROR_UNAVAILABLE;
	error_free(err);
}

/* Pull */

static struct error *cache_open_fetch(struct cache *cache, struct client *client)
{
	struct fetch_config config = {.remote = cache->endpoint.remote};
	struct error *err;

	if (cache->dirs)
		return NULL;
	err = local_open_store(&client->local);
	if (err)
		return err;
	config.store = client->local.store;
	config.pool = client->local.pool;
	err = fetch_new(&config, &cache->fetch);
	if (!err)
		cache->dirs = dircache_new(cache->fetch, DIRCACHE_MEMORY_MAX);
	return err;
}

static struct error *cache_find(struct cache *cache, const char *uri,
				struct artifact_name *name)
{
	return remote_fetch_directory(cache->endpoint.remote, uri, &name->root,
				      &name->expires_s);
}

/* *found_out: name is what a cache says of it. */
static void caches_find(struct artifact_caches *caches, struct artifact_name *name,
			bool *found_out)
{
	_cleanup_free_ char *uri = artifact_uri(name->name);

	*found_out = false;
	for (size_t i = 0; !*found_out && i < caches->n; i++) {
		struct cache *cache = &caches->list[i];
		struct error *err;

		if (!cache_has_names(cache) || cache->is_down)
			continue;
		err = cache_find(cache, uri, name);
		*found_out = !err;
		if (error_code(err) == ERROR_NOT_FOUND)
			error_free(err);
		else if (err)
			cache_pass_over(cache, "passed over", err);
	}
}

/* All that the store lacks of it and this cache has. */
static struct error *cache_bring(struct cache *cache, struct client *client,
				 const struct digest *root)
{
	_cleanup_free_ struct digest *blobs = NULL;
	size_t n;
	struct error *err = cache_open_fetch(cache, client);

	if (!err)
		err = artifact_blobs(cache->dirs, root, artifact_limits(client), &blobs,
				     &n, NULL);
	return err ? err : artifact_bring(cache->fetch, blobs, n);
}

struct error *artifact_caches_pull(struct artifact_caches *caches, struct client *client,
				   struct artifact_name *name)
{
	bool is_found;

	caches_find(caches, name, &is_found);
	if (!is_found)
		return error_new(ERROR_NOT_FOUND,
				 "no artifact cache that answers knows \"%s\"",
				 name->name);
	for (size_t i = 0; i < caches->n; i++) {
		struct cache *cache = &caches->list[i];
		struct error *err;

		if (!cache_has_blobs(cache) || cache->is_down)
			continue;
		err = cache_bring(cache, client, &name->root);
		if (!err)
			return NULL;
		cache_pass_over(cache, "not all blobs came from it", err);
	}
	return error_new(ERROR_UNAVAILABLE,
			 "no artifact cache that answers has all blobs of \"%s\"",
			 name->name);
}

/* Verbs */

struct error *artifact_caches_go_on(const char *verb, struct error *err, int n,
				    int *code_out)
{
	if (!err || n == 1)
		return err;
	say("lazyroot %s: %s", verb, error_text(err));
	*code_out = CLIENT_FAILED;
	return error_free(err);
}

bool artifact_caches_parse(struct artifact_caches *caches, struct client *client,
			   const struct option_program *program, int argc, char **argv,
			   int *operands_out, int *exit_out)
{
	struct error *err = NULL;

	if (!client_parse_operands(program, argc, argv, 1, INT_MAX,
				   "name at least one artifact", operands_out, exit_out))
		return false;
	for (int i = *operands_out; !err && i < argc; i++)
		err = artifact_check_name(argv[i]);
	if (!err)
		err = artifact_caches_open(caches, client);
	if (err)
		*exit_out = client_fail_start(program->name + strlen("lazyroot "), err,
					      CLIENT_FAILED);
	return !err;
}

/* Push */

struct push {
	struct client *client;
	const struct artifact_name *name;
	struct digest *blobs;
	size_t n;
};

/* What the cache lacks comes to the store first where that lacks it as well: what a run
 * made remotely need not be here. */
static struct error *push_blobs(const struct push *push, struct cache *cache)
{
	_cleanup_free_ bool *is_missing = alloc_array(push->n, sizeof(bool));
	_cleanup_free_ struct digest *missing =
		alloc_array(push->n, sizeof(struct digest));
	_cleanup_free_ struct blob_source *items =
		alloc_array(push->n, sizeof(struct blob_source));
	const struct upload_config config = {.remote = cache->endpoint.remote,
					     .store = push->client->local.store,
					     .dir_fd = -1};
	size_t n = 0;
	struct error *err = remote_find_missing(cache->endpoint.remote, push->blobs,
						push->n, is_missing);

	for (size_t i = 0; !err && i < push->n; i++) {
		if (!is_missing[i])
			continue;
		items[n] = (struct blob_source){.digest = push->blobs[i],
						.from = BLOB_STORE};
		missing[n++] = push->blobs[i];
	}
	if (!err && n)
		err = artifact_bring(push->client->fetch, missing, n);
	return err || !n ? err : upload_run(&config, items, n, NULL);
}

static void push_all_blobs(const struct push *push, struct artifact_caches *caches,
			   size_t *n_stored)
{
	for (size_t i = 0; i < caches->n; i++) {
		struct cache *cache = &caches->list[i];
		struct error *err;

		cache->has_failed = false;
		if (!cache_has_blobs(cache) || !cache->endpoint.is_pushed_to)
			continue;
		err = push_blobs(push, cache);
		*n_stored += !err;
		cache->has_failed = err != NULL;
		if (err)
			cache_pass_over(cache, "the blobs were not pushed", err);
	}
}

/* A name goes where the blobs are, or to an index whose blobs are somewhere. */
static void push_name(const struct push *push, struct cache *cache, size_t n_stored)
{
	_cleanup_free_ char *uri = artifact_uri(push->name->name);
	struct error *err;

	if (cache->has_failed || !cache->endpoint.is_pushed_to || !cache_has_names(cache))
		return;
	if (!cache_has_blobs(cache) && !n_stored)
		err = error_new(ERROR_FAILED_PRECONDITION,
				"no storage took the blobs that the name would speak of");
	else
		err = remote_push_directory(cache->endpoint.remote, uri,
					    &push->name->root, push->name->expires_s);
	cache->has_failed = err != NULL;
	if (err)
		cache_pass_over(cache, "the name was not pushed", err);
}

struct error *artifact_caches_push(struct artifact_caches *caches, struct client *client,
				   const struct artifact_name *name, size_t *n_failed_out)
{
	struct push push = {.client = client, .name = name};
	_cleanup_free_ struct digest *blobs = NULL;
	size_t n_stored = 0;
	struct error *err = client_open_fetch(client);

	if (!err)
		err = artifact_blobs(client->dirs, &name->root, artifact_limits(client),
				     &blobs, &push.n, NULL);
	if (err)
		return error_wrap(err, "artifact %s", name->name);
	push.blobs = blobs;
	push_all_blobs(&push, caches, &n_stored);
	*n_failed_out = 0;
	for (size_t i = 0; i < caches->n; i++) {
		push_name(&push, &caches->list[i], n_stored);
		*n_failed_out += caches->list[i].has_failed;
	}
	return NULL;
}

/* Names only */

void artifact_caches_forget(struct artifact_caches *caches, const char *name,
			    size_t *n_failed_out)
{
	_cleanup_free_ char *uri = artifact_uri(name);

	*n_failed_out = 0;
	for (size_t i = 0; i < caches->n; i++) {
		struct cache *cache = &caches->list[i];
		struct error *err;

		if (!cache_has_names(cache) || !cache->endpoint.is_pushed_to)
			continue;
		/* the API has no other way: a name that was over long ago */
		err = remote_push_directory(cache->endpoint.remote, uri, &digest_of_empty,
					    1);
		*n_failed_out += err != NULL;
		if (err)
			cache_pass_over(cache, "the name was not taken back", err);
	}
}

void artifact_caches_ask(struct artifact_caches *caches, const char *name,
			 void (*fn)(void *ctx, const char *url,
				    const struct artifact_name *found),
			 void *ctx, size_t *n_failed_out)
{
	_cleanup_free_ char *uri = artifact_uri(name);

	for (size_t i = 0; i < caches->n; i++) {
		struct cache *cache = &caches->list[i];
		struct artifact_name found = {.name = name};
		struct error *err;

		if (!cache_has_names(cache) || cache->is_down)
			continue;
		err = cache_find(cache, uri, &found);
		if (err && error_code(err) != ERROR_NOT_FOUND) {
			*n_failed_out += 1;
			cache_pass_over(cache, "not asked", take(err));
			continue;
		}
		fn(ctx, cache->endpoint.url, err ? NULL : &found);
		error_free(err);
	}
}
