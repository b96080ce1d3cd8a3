/* Owns GetCapabilities: what this server offers to the one who asks, by its rights. */
#include "server/service.h"
#include "server/split.h"

#define API_MAJOR     2
#define API_MINOR_LOW 0
#define API_MINOR_MAX 13

/* Some clients take the first of a list, some what they know best: there is one. Sending
 * bytes as they are is not listed, since that is always allowed. */
static void capabilities_compressors(Reapi__CacheCapabilities *cache)
{
	static Reapi__Compressor__Value compressors[] = {REAPI__COMPRESSOR__VALUE__ZSTD};

	cache->n_supported_compressors = ARRAY_SIZE(compressors);
	cache->supported_compressors = compressors;
	cache->n_supported_batch_update_compressors = ARRAY_SIZE(compressors);
	cache->supported_batch_update_compressors = compressors;
}

/* The call that puts a blob together needs the right to upload one, but to know that it
 * is there does not. */
static bool capabilities_chunks(Reapi__CacheCapabilities *cache, struct arena *arena)
{
	Reapi__FastCdc2020Params *params = arena_zero(arena, sizeof(*params));

	if (!params)
		return false;
	reapi__fast_cdc2020_params__init(params);
	params->avg_chunk_size_bytes = SPLIT_AVERAGE;
	cache->split_blob_support = true;
	cache->splice_blob_support = true;
	cache->fast_cdc_2020_params = params;
	return true;
}

static bool capabilities_has_chunks(const struct server *server, struct rpc_in *in)
{
	return server->chunks_offer == SERVER_CHUNKS_ALWAYS ||
	       (server->chunks_offer == SERVER_CHUNKS_AUTO && !rpc_caller(in)->is_local);
}

static bool capabilities_cache(Reapi__CacheCapabilities *cache, bool is_updatable,
			       struct arena *arena)
{
	static Reapi__DigestFunction__Value functions[] = {
		REAPI__DIGEST_FUNCTION__VALUE__SHA256};
	Reapi__ActionCacheUpdateCapabilities *update = arena_zero(arena, sizeof(*update));
	Reapi__PriorityCapabilities *priority = arena_zero(arena, sizeof(*priority));
	Reapi__PriorityCapabilities__PriorityRange *range =
		arena_zero(arena, sizeof(*range));

	if (arena->is_full)
		return false;
	reapi__cache_capabilities__init(cache);
	reapi__action_cache_update_capabilities__init(update);
	reapi__priority_capabilities__init(priority);
	reapi__priority_capabilities__priority_range__init(range);
	update->update_enabled = is_updatable;
	range->min_priority = INT32_MIN;
	range->max_priority = INT32_MAX;
	priority->n_priorities = 1;
	priority->priorities = arena_memdup(arena, &range, sizeof(range));
	cache->n_digest_functions = 1;
	cache->digest_functions = functions;
	cache->action_cache_update_capabilities = update;
	cache->cache_priority_capabilities = priority;
	cache->max_batch_total_size_bytes = RPC_BATCH_MAX;
	cache->max_cas_blob_size_bytes = SERVER_BLOB_MAX;
	cache->symlink_absolute_path_strategy =
		REAPI__SYMLINK_ABSOLUTE_PATH_STRATEGY__VALUE__ALLOWED;
	return cache->cache_priority_capabilities->priorities != NULL;
}

static enum rpc_verdict capabilities_get(struct rpc_in *in, void *service)
{
	Reapi__GetCapabilitiesRequest *request = (void *)rpc_request(in);
	Reapi__ServerCapabilities capabilities = REAPI__SERVER_CAPABILITIES__INIT;
	Reapi__ExecutionCapabilities execution = REAPI__EXECUTION_CAPABILITIES__INIT;
	Reapi__CacheCapabilities cache;
	Semver__SemVer low = SEMVER__SEM_VER__INIT, high = SEMVER__SEM_VER__INIT;
	const char *properties[] = {"SubtreeReadOnly"};
	const struct server *server = service;
	unsigned int rights;
	struct error *err;

	if (!request)
		return RPC_DONE;
	err = server_check_instance(server, in, request->instance_name);
	if (err)
		return rpc_fail(in, err);
	rights = access_rights(server->access, in, request->instance_name);
	if (!capabilities_cache(&cache, rights & ACCESS_AC_WRITE, rpc_arena(in)) ||
	    (capabilities_has_chunks(server, in) &&
	     !capabilities_chunks(&cache, rpc_arena(in))))
		return rpc_fail(in, arena_error("the answer"));
	if (server->compression == SERVER_COMPRESS_ALWAYS ||
	    (server->compression == SERVER_COMPRESS_AUTO && !rpc_caller(in)->is_local))
		capabilities_compressors(&cache);
	execution.digest_function = REAPI__DIGEST_FUNCTION__VALUE__SHA256;
	execution.n_digest_functions = cache.n_digest_functions;
	execution.digest_functions = cache.digest_functions;
	execution.exec_enabled = rights & ACCESS_EXECUTE;
	execution.execution_priority_capabilities = cache.cache_priority_capabilities;
	execution.n_supported_node_properties = ARRAY_SIZE(properties);
	execution.supported_node_properties = properties;
	low.major = high.major = API_MAJOR;
	low.minor = API_MINOR_LOW;
	high.minor = API_MINOR_MAX;
	capabilities.cache_capabilities = &cache;
	capabilities.execution_capabilities = &execution;
	capabilities.low_api_version = &low;
	capabilities.high_api_version = &high;
	rpc_send(in, &capabilities.base);
	return RPC_DONE;
}

static const struct rpc_handler capabilities_list[] = {
	{{&reapi__capabilities__descriptor, "GetCapabilities"},
	 RPC_UNARY,
	 RPC_INLINE | RPC_RIGHTS(ACCESS_ALL),
	 capabilities_get},
};
const struct rpc_handlers capabilities_handlers = {capabilities_list,
						   ARRAY_SIZE(capabilities_list)};
