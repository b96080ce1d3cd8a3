/* Owns nothing: one question, one line. Threads: a source's. */
#include "worker/source/source.h"

#define LOG_MODULE "source"
#include "lib/base/log.h"

#define SOURCE_FOUND_MS 5000

static const struct rpc_method source_capabilities = {&reapi__capabilities__descriptor,
						      "GetCapabilities"};

static void source_add_version(const Semver__SemVer *version, struct buf *out)
{
	if (version)
		buf_printf(out, " %d.%d", version->major, version->minor);
	else
		buf_add_string(out, " ?");
}

static void source_add_functions(const Reapi__CacheCapabilities *cache, struct buf *out)
{
	for (size_t i = 0; i < cache->n_digest_functions && i < 16; i++) {
		const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
			&reapi__digest_function__value__descriptor,
			(int)cache->digest_functions[i]);

		buf_printf(out, "%s %s", i ? "," : ";", value ? value->name : "?");
	}
}

static void source_describe(const Reapi__ServerCapabilities *caps, struct buf *out)
{
	const Reapi__CacheCapabilities *cache = caps->cache_capabilities;
	const Reapi__ActionCacheUpdateCapabilities *update =
		cache ? cache->action_cache_update_capabilities : NULL;

	buf_add_string(out, "API");
	source_add_version(caps->low_api_version, out);
	buf_add_string(out, " to");
	source_add_version(caps->high_api_version, out);
	if (cache)
		source_add_functions(cache, out);
	buf_printf(out, "; action cache %s",
		   update && update->update_enabled ? "writable" : "read-only");
	if (caps->execution_capabilities)
		buf_printf(out, "; execution %s",
			   caps->execution_capabilities->exec_enabled ? "on" : "off");
}

void source_found(const char *protocol, struct rpc_chan *chan, struct rpc_chan *cas_chan,
		  const char *instance)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)1 << 20);
	Reapi__GetCapabilitiesRequest request = REAPI__GET_CAPABILITIES_REQUEST__INIT;
	struct rpc_options options = {.timeout_ms = SOURCE_FOUND_MS};
	_cleanup_buf_ struct buf text = BUF_INIT;
	ProtobufCMessage *caps = NULL;
	struct error *err;

	request.instance_name = instance;
	err = rpc_call_message(cas_chan, &source_capabilities, &request.base, &options,
			       &arena, &caps);
	if (err)
		buf_printf(&text, "capabilities unknown (%s)", error_text(err));
	else
		source_describe((const Reapi__ServerCapabilities *)caps, &text);
	error_free(err);
	log_info("%s at %s, instance \"%s\"; storage at %s: %s", protocol,
		 rpc_chan_address(chan), instance, rpc_chan_address(cas_chan),
		 buf_string(&text));
}
