/* Owns an endpoint's words, and its connection. Main thread. */
#include "client/endpoint.h"

#include <string.h>

#include "client/retries.h"
#include "lib/base/alloc.h"
#include "lib/base/clock.h"

#define LOG_MODULE "client"
#include "lib/base/log.h"

#define ENDPOINT_TIMEOUT_NS (60 * NS_PER_S)
#define ENDPOINT_KEYS                                                                    \
	"url", "instance", "tls-ca", "tls-cert", "tls-key", "token-file",                \
		"credential-helper", "insecure", "rpc-timeout"

const char *const endpoint_keys[] = {ENDPOINT_KEYS, NULL};
const char *const endpoint_keys_push[] = {ENDPOINT_KEYS, "push", NULL};
const char *const endpoint_keys_cache[] = {ENDPOINT_KEYS, "push", "type", NULL};

static void endpoint_log_count(void *ctx, const char *path, uint64_t n)
{
	(void)ctx;
	log_debug("calls %s=%llu", path, (unsigned long long)n);
}

void endpoint_deinit(struct endpoint *endpoint)
{
	if (endpoint->chan && log_is_on(LOG_DEBUG, LOG_MODULE))
		rpc_chan_each_count(endpoint->chan, endpoint_log_count, NULL);
	remote_free(endpoint->remote);
	rpc_chan_free(endpoint->chan);
	free(endpoint->url);
	free(endpoint->instance);
	rpc_creds_options_deinit(&endpoint->creds);
}

static struct error *endpoint_set_type(struct endpoint *endpoint, const char *word)
{
	static const char *const words[] = {[ENDPOINT_ALL] = "all",
					    [ENDPOINT_INDEX] = "index",
					    [ENDPOINT_STORAGE] = "storage"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(words[i], word) == 0) {
			endpoint->type = (enum endpoint_type)i;
			return NULL;
		}
	}
	return error_new(ERROR_INVALID_ARGUMENT, "\"%s\" is none of all, index, storage",
			 word);
}

static struct error *endpoint_set(struct endpoint *endpoint, const char *key,
				  const char *value)
{
	const struct option_def defs[] = {
		{"url", 0, OPTION_STRING, NULL, NULL, NULL, &endpoint->url, 0, 0},
		{"instance", 0, OPTION_STRING, NULL, NULL, NULL, &endpoint->instance, 0,
		 0},
		RPC_CREDS_OPTIONS(&endpoint->creds),
		{"rpc-timeout", 0, OPTION_DURATION, NULL, NULL, NULL,
		 &endpoint->timeout_ns, 0, 0},
		{"push", 0, OPTION_FLAG, NULL, NULL, NULL, &endpoint->is_pushed_to, 0, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(defs); i++) {
		if (strcmp(defs[i].name, key) == 0)
			return option_put(&defs[i], value);
	}
	return endpoint_set_type(endpoint, value);
}

struct error *endpoint_read(const char *record, const char *option,
			    struct endpoint *endpoint)
{
	struct error *err = NULL;

	for (;;) {
		_cleanup_free_ char *key = NULL;
		_cleanup_free_ char *value = NULL;

		if (!option_record_next(&record, &key, &value))
			return NULL;
		err = endpoint_set(endpoint, key, value);
		if (!err && endpoint->timeout_ns && endpoint->timeout_ns < NS_PER_MS)
			err = error_new(ERROR_INVALID_ARGUMENT,
					"it must be at least 1ms");
		if (err)
			return error_wrap(err, "%s: %s", option, key);
	}
}

static void endpoint_default(char **to, const char *from)
{
	if (!*to && from)
		*to = alloc_string(from);
}

void endpoint_inherit(struct endpoint *endpoint, const struct endpoint *other)
{
	struct rpc_creds_options *creds = &endpoint->creds;

	endpoint_default(&endpoint->url, other->url);
	endpoint_default(&endpoint->instance, other->instance);
	endpoint_default(&creds->ca_file, other->creds.ca_file);
	if (!creds->cert_file && !creds->key_file) {
		endpoint_default(&creds->cert_file, other->creds.cert_file);
		endpoint_default(&creds->key_file, other->creds.key_file);
	}
	if (!creds->token_file && !creds->helper) {
		endpoint_default(&creds->token_file, other->creds.token_file);
		endpoint_default(&creds->helper, other->creds.helper);
	}
	creds->is_insecure = creds->is_insecure || other->creds.is_insecure;
	if (!endpoint->timeout_ns)
		endpoint->timeout_ns = other->timeout_ns;
}

struct error *endpoint_open(struct endpoint *endpoint, const char *option)
{
	struct rpc_chan_config chan = {.address = endpoint->url,
				       .tool_name = "lazyroot",
				       .retried = retries_say,
				       .retried_ctx = endpoint->url};
	struct remote_config remote = {.instance = endpoint->instance ? endpoint->instance
								      : ""};
	struct rpc_address address = {0};
	struct error *err;

	if (endpoint->remote)
		return NULL;
	if (!endpoint->url || !*endpoint->url)
		return error_new(ERROR_INVALID_ARGUMENT, "%s: it has no url", option);
	err = rpc_address_parse(endpoint->url, &address);
	rpc_address_deinit(&address);
	if (err)
		return error_wrap(err, "%s", option);
	rpc_creds_options_apply(&endpoint->creds, &chan);
	err = rpc_chan_new(&chan, &endpoint->chan);
	if (err)
		return err;
	remote.chan = endpoint->chan;
	remote.timeout_ms =
		(endpoint->timeout_ns ? endpoint->timeout_ns : ENDPOINT_TIMEOUT_NS) /
		NS_PER_MS;
	return remote_new(&remote, &endpoint->remote);
}
