/*
 * lazyroot capabilities: what the service says it can do.
 */
#include <inttypes.h>
#include <stdio.h>

#include "client/client.h"
#include "lib/base/units.h"

static const char *capabilities_function(int function)
{
	const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
		&reapi__digest_function__value__descriptor, function);

	return value ? value->name : "unknown";
}

static json_t *capabilities_version(const Semver__SemVer *version)
{
	char text[64];

	if (!version)
		return json_null();
	(void)snprintf(text, sizeof(text), "%d.%d.%d", version->major, version->minor,
		       version->patch);
	return json_string(text);
}

/* What blobs may be sent as beside their own bytes. */
static json_t *capabilities_compressors(const Reapi__CacheCapabilities *cache)
{
	static const char *const names[] = {"identity", "zstd", "deflate", "brotli"};
	json_t *list = json_array();

	for (size_t i = 0; cache && i < cache->n_supported_compressors; i++) {
		size_t compressor = (size_t)cache->supported_compressors[i];

		(void)json_array_append_new(list,
					    json_string(compressor < ARRAY_SIZE(names)
								? names[compressor]
								: "another"));
	}
	return list;
}

static void capabilities_print_list(const char *name, const json_t *list)
{
	say_out("%-17s", name);
	for (size_t i = 0; i < json_array_size(list); i++)
		say_out(" %s", json_string_value(json_array_get(list, i)));
	say_out("%s\n", json_array_size(list) ? "" : " none");
}

static json_t *capabilities_json(const struct client *client,
				 const Reapi__ServerCapabilities *caps)
{
	const Reapi__CacheCapabilities *cache = caps->cache_capabilities;
	const Reapi__ExecutionCapabilities *execution = caps->execution_capabilities;
	json_t *functions = json_array();

	for (size_t i = 0; cache && i < cache->n_digest_functions; i++)
		(void)json_array_append_new(functions,
					    json_string(capabilities_function(
						    (int)cache->digest_functions[i])));
	return json_pack("{s:s,s:s,s:o,s:o,s:o,s:o,s:I,s:b,s:b}", "server",
			 rpc_chan_address(remote_chan(client->remote)), "instance",
			 remote_instance(client->remote), "lowest_version",
			 capabilities_version(caps->low_api_version), "highest_version",
			 capabilities_version(caps->high_api_version), "digest_functions",
			 functions, "compressors", capabilities_compressors(cache),
			 "batch_bytes",
			 (json_int_t)(cache ? cache->max_batch_total_size_bytes : 0),
			 "cache_updates",
			 cache && cache->action_cache_update_capabilities &&
				 cache->action_cache_update_capabilities->update_enabled,
			 "execution", execution && execution->exec_enabled);
}

static void capabilities_print(json_t *json)
{
	static const char *const keys[] = {"server", "instance", "lowest_version",
					   "highest_version"};
	char text[UNITS_TEXT_MAX];
	json_int_t batch = json_integer_value(json_object_get(json, "batch_bytes"));

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *value = json_string_value(json_object_get(json, keys[i]));

		say_out("%-17s %s\n", keys[i], value ? value : "not said");
	}
	capabilities_print_list("digest_functions",
				json_object_get(json, "digest_functions"));
	capabilities_print_list("compressors", json_object_get(json, "compressors"));
	say_out("%-17s %s\n", "batch_bytes",
		batch ? units_format_size(batch, text) : "no limit said");
	say_out("%-17s %s\n", "cache_updates",
		json_is_true(json_object_get(json, "cache_updates")) ? "yes" : "no");
	say_out("%-17s %s\n", "execution",
		json_is_true(json_object_get(json, "execution")) ? "yes" : "no");
}

int cmd_capabilities(int argc, char **argv)
{
	_cleanup_(client_deinit) struct client client = CLIENT_INIT;
	const struct option_def defs[] = {CLIENT_OPTIONS(&client)};
	const struct option_program program = {
		.name = "lazyroot capabilities",
		.usage = "",
		.summary = "Says what the service can do.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	const Reapi__ServerCapabilities *caps;
	int operands;
	int code;
	json_t *json;
	struct error *err;

	if (!client_parse_operands(&program, argc, argv, 0, 0, "it takes no operands",
				   &operands, &code))
		return code;
	err = client_connect(&client);
	if (err)
		return client_fail_start("capabilities", err, CLIENT_FAILED);
	err = remote_capabilities(client.remote, &caps);
	if (err)
		return client_fail("capabilities", err, CLIENT_FAILED);
	json = capabilities_json(&client, caps);
	if (!client.is_json)
		capabilities_print(json);
	else
		client_print_json(json_incref(json));
	json_decref(json);
	return 0;
}
