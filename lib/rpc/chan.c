/*
 * Owns a client's channel: one connection (core's sharing of connections between channels
 * is off, so that a channel's fate is its own) and the methods called over it.
 */
#include "lib/rpc/unary.h"

#include <fcntl.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "lib/rpc/pem.h"

#define CHAN_RECONNECT_FIRST_MS 100
#define CHAN_RECONNECT_MAX_MS   5000
#define CHAN_WATCH_S            1 /* between looks at the files of certificates */

/* ---- making one ----------------------------------------------------------------- */

/* What is wrong with the files is said now; core reads them itself, and only logs. */
static struct error *rpc_chan_check_files(const struct rpc_chan_config *config)
{
	_cleanup_buf_ struct buf ca = BUF_INIT;
	_cleanup_buf_ struct buf cert = BUF_INIT;
	_cleanup_buf_ struct buf key = BUF_INIT;
	struct error *err;

	if (!config->cert_file != !config->key_file)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "a certificate and its key go together: %s is missing",
				 config->cert_file ? "--tls-key" : "--tls-cert");
	err = rpc_pem_read("--tls-ca", config->ca_file, &ca);
	if (!err)
		err = rpc_pem_read("--tls-cert", config->cert_file, &cert);
	if (!err)
		err = rpc_pem_read("--tls-key", config->key_file, &key);
	if (!err)
		err = rpc_pem_check_ca("--tls-ca", config->ca_file, buf_string(&ca));
	if (!err && config->cert_file)
		err = error_wrap(rpc_pem_check(buf_string(&cert), buf_string(&key)),
				 "--tls-cert %s, --tls-key %s", config->cert_file,
				 config->key_file);
	return err;
}

/* Core watches the files, and connects with what they hold then. */
static grpc_channel_credentials *rpc_chan_watch(const struct rpc_chan_config *config,
						struct rpc_chan *chan)
{
	grpc_tls_credentials_options *options = grpc_tls_credentials_options_create();

	chan->certificates = grpc_tls_certificate_provider_file_watcher_create(
		config->key_file, config->cert_file, config->ca_file, CHAN_WATCH_S);
	require(chan->certificates);
	grpc_tls_credentials_options_set_certificate_provider(options,
							      chan->certificates);
	if (config->ca_file)
		grpc_tls_credentials_options_watch_root_certs(options);
	if (config->cert_file)
		grpc_tls_credentials_options_watch_identity_key_cert_pairs(options);
	return grpc_tls_credentials_create(options);
}

static struct error *rpc_chan_credentials(const struct rpc_chan_config *config,
					  const struct rpc_address *address,
					  struct rpc_chan *chan,
					  grpc_channel_credentials **out)
{
	bool has_files = config->ca_file || config->cert_file || config->key_file;
	struct error *err;

	if (!address->is_tls && !address->is_unix && has_files)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%s is not encrypted, so TLS options (%s) have no "
				 "meaning there: write grpcs://",
				 config->address,
				 config->ca_file     ? "--tls-ca"
				 : config->cert_file ? "--tls-cert"
						     : "--tls-key");
	if (!address->is_tls) {
		*out = grpc_insecure_credentials_create();
		return NULL;
	}
	err = rpc_chan_check_files(config);
	if (err)
		return err;
	*out = has_files ? rpc_chan_watch(config, chan)
			 : grpc_ssl_credentials_create_ex(NULL, NULL, NULL, NULL);
	return *out ? NULL
		    : error_new(ERROR_INVALID_ARGUMENT,
				"%s: the certificates are unusable", config->address);
}

static void rpc_chan_connect(struct rpc_chan *chan, const struct rpc_address *address,
			     grpc_channel_credentials *credentials)
{
	grpc_arg list[] = {
		rpc_arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RPC_MESSAGE_MAX),
		rpc_arg_int(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, RPC_MESSAGE_MAX),
		rpc_arg_int(GRPC_ARG_MAX_METADATA_SIZE, RPC_METADATA_MAX),
		rpc_arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, RPC_KEEPALIVE_CLIENT_MS),
		rpc_arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, RPC_KEEPALIVE_TIMEOUT_MS),
		rpc_arg_int(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
		rpc_arg_int(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
			    CHAN_RECONNECT_FIRST_MS),
		rpc_arg_int(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, CHAN_RECONNECT_MAX_MS),
		rpc_arg_int(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
		rpc_arg_int(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
		rpc_arg_int(GRPC_ARG_ENABLE_RETRIES, 0),
		/* A proxy from the environment is for the world outside. */
		rpc_arg_int(GRPC_ARG_ENABLE_HTTP_PROXY, !rpc_address_is_local(address)),
		rpc_arg_string(GRPC_ARG_PRIMARY_USER_AGENT_STRING,
			       "lazyroot/" LAZYROOT_VERSION),
	};
	const grpc_channel_args args = {ARRAY_SIZE(list), list};
	_cleanup_free_ char *target =
		alloc_printf("%s%s", address->is_unix ? "" : "dns:///", address->target);

	chan->channel = grpc_channel_create(target, credentials, &args);
	require(chan->channel);
	chan->queue = grpc_completion_queue_create_for_next(NULL);
}

static void rpc_chan_set_headers(struct rpc_chan *chan,
				 const struct rpc_chan_config *config)
{
	Reapi__RequestMetadata metadata = REAPI__REQUEST_METADATA__INIT;
	Reapi__ToolDetails tool = REAPI__TOOL_DETAILS__INIT;

	if (!config->tool_name)
		return;
	tool.tool_name = config->tool_name;
	tool.tool_version = LAZYROOT_VERSION;
	metadata.tool_details = &tool;
	rpc_encode(&metadata.base, &chan->request_metadata);
}

static void rpc_chan_discard(struct rpc_chan *chan)
{
	rpc_creds_free(chan->creds);
	if (chan->certificates)
		grpc_tls_certificate_provider_release(chan->certificates);
	buf_deinit(&chan->request_metadata);
	sync_mutex_deinit(&chan->mutex);
	sync_cond_deinit(&chan->idle);
	free(chan->address);
	free(chan);
}

struct error *rpc_chan_new(const struct rpc_chan_config *config,
			   struct rpc_chan **chan_out)
{
	_cleanup_(rpc_address_deinit) struct rpc_address address = {0};
	grpc_channel_credentials *credentials = NULL;
	struct rpc_chan *chan;
	struct error *err;

	err = rpc_address_parse(config->address, &address);
	if (err)
		return err;
	chan = alloc_new(struct rpc_chan);
	chan->address = alloc_string(config->address);
	sync_mutex_init(&chan->mutex);
	sync_cond_init(&chan->idle);
	err = rpc_chan_credentials(config, &address, chan, &credentials);
	if (!err)
		err = rpc_creds_new(config, &address, &chan->creds);
	if (err) {
		if (credentials)
			grpc_channel_credentials_release(credentials);
		rpc_chan_discard(chan);
		return err;
	}
	rpc_chan_set_headers(chan, config);
	chan->retried = config->retried;
	chan->retried_ctx = config->retried_ctx;
	rpc_chan_connect(chan, &address, credentials);
	grpc_channel_credentials_release(credentials);
	*chan_out = chan;
	return NULL;
}

const char *rpc_chan_address(const struct rpc_chan *chan)
{
	return chan->address;
}

static void rpc_route_free(struct hnode *node)
{
	struct rpc_route *route = container_of(node, struct rpc_route, node);

	free(route->path);
	free(route);
}

void *rpc_chan_free(struct rpc_chan *chan)
{
	struct hnode *node;

	if (!chan)
		return NULL;
	sync_lock(&chan->mutex);
	require(!chan->has_poller || !pthread_equal(pthread_self(), chan->poller));
	while (chan->n_running > 0)
		sync_wait(&chan->idle, &chan->mutex);
	sync_unlock(&chan->mutex);
	grpc_completion_queue_shutdown(chan->queue);
	sync_alone(&chan->mutex);
	if (chan->has_poller)
		(void)pthread_join(chan->poller, NULL);
	else
		rpc_poll(chan->queue); /* it must be drained by someone */
	grpc_channel_destroy(chan->channel);
	grpc_completion_queue_destroy(chan->queue);
	while ((node = htab_pop(&chan->routes)))
		rpc_route_free(node);
	htab_deinit(&chan->routes);
	htab_deinit(&chan->calls);
	rpc_chan_discard(chan);
	return NULL;
}

/* ---- methods and their counts --------------------------------------------------- */

static struct rpc_route *rpc_chan_route(const struct rpc_chan *chan, const char *path)
	SYNC_REQUIRES(&chan->mutex)
{
	uint64_t hash = slice_hash(slice_of(path));

	for (struct hnode *n = htab_first(&chan->routes, hash); n;
	     n = htab_next(n, hash)) {
		struct rpc_route *route = container_of(n, struct rpc_route, node);

		if (strcmp(route->path, path) == 0)
			return route;
	}
	return NULL;
}

static struct rpc_route *rpc_chan_add_route(struct rpc_chan *chan, const char *path)
	SYNC_REQUIRES(&chan->mutex)
{
	struct rpc_route *route = alloc_new(struct rpc_route);

	route->path = alloc_string(path);
	route->handle =
		grpc_channel_register_call(chan->channel, route->path, NULL, NULL);
	require(route->handle);
	htab_insert(&chan->routes, &route->node, slice_hash(slice_of(path)));
	return route;
}

struct rpc_route *rpc_chan_enter(struct rpc_chan *chan, const struct rpc_method *method)
{
	_cleanup_free_ char *path = rpc_path(method);
	struct rpc_route *route;

	sync_lock(&chan->mutex);
	route = rpc_chan_route(chan, path);
	if (!route)
		route = rpc_chan_add_route(chan, path);
	chan->n_running++;
	sync_unlock(&chan->mutex);
	atomic_fetch_add_explicit(&route->n_calls, 1, memory_order_relaxed);
	return route;
}

/* Core wraps what the system said of a connection into words of its own, last in them. */
static struct error *rpc_chan_unreachable(const struct rpc_chan *chan, struct error *err)
{
	static const char connecting[] = "failed to connect to all addresses";
	_cleanup_error_ struct error *old = err;
	const char *text = error_text(err);
	const char *last = text;
	struct error *plain;

	if (strncmp(text, connecting, strlen(connecting)) != 0)
		return error_wrap(take(old), "%s does not answer", chan->address);
	for (const char *colon = text; (colon = strstr(colon, ": ")); colon += 2)
		last = colon + 2;
	plain = error_new(ERROR_UNAVAILABLE, "cannot reach %s: %s", chan->address, last);
	error_set_call(plain, "%s", error_text(old));
	error_set_unreachable(plain);
	return plain;
}

struct error *rpc_chan_status(struct rpc_chan *chan, const struct rpc_route *route,
			      uint64_t creds, struct error *err)
{
	if (error_code(err) == ERROR_UNAUTHENTICATED)
		rpc_creds_refused(chan->creds, creds);
	error_set_call(err, "%s at %s", route->path + 1, chan->address);
	if (error_code(err) != ERROR_UNAVAILABLE &&
	    error_code(err) != ERROR_DEADLINE_EXCEEDED)
		atomic_store(&chan->has_answered, true);
	switch (error_code(err)) {
	case ERROR_UNAVAILABLE:
		return rpc_chan_unreachable(chan, err);
	case ERROR_DEADLINE_EXCEEDED:
		return error_wrap(err, "%s does not answer", chan->address);
	default:
		return err;
	}
}

bool rpc_chan_retried(const struct rpc_chan *chan, const struct error *err,
		      int64_t delay_ms)
{
	if (chan->retried)
		chan->retried(chan->retried_ctx, err, delay_ms);
	return chan->retried != NULL;
}

bool rpc_chan_renew(struct rpc_chan *chan, const struct error *err)
{
	return error_code(err) == ERROR_UNAUTHENTICATED && rpc_creds_renew(chan->creds);
}

bool rpc_chan_has_answered(const struct rpc_chan *chan)
{
	return atomic_load(&chan->has_answered);
}

void rpc_chan_leave(struct rpc_chan *chan)
{
	sync_lock(&chan->mutex);
	if (--chan->n_running == 0)
		sync_broadcast(&chan->idle);
	sync_unlock(&chan->mutex);
}

struct rpc_count_visit {
	void (*fn)(void *ctx, const char *path, uint64_t n);
	void *ctx;
};

static void rpc_count_each(struct hnode *node, void *ctx)
{
	struct rpc_route *route = container_of(node, struct rpc_route, node);
	struct rpc_count_visit *visit = ctx;

	visit->fn(visit->ctx, route->path,
		  atomic_load_explicit(&route->n_calls, memory_order_relaxed));
}

void rpc_chan_each_count(const struct rpc_chan *chan,
			 void (*fn)(void *ctx, const char *path, uint64_t n), void *ctx)
{
	struct rpc_chan *mut = (struct rpc_chan *)(uintptr_t)chan;
	struct rpc_count_visit visit = {fn, ctx};

	sync_lock(&mut->mutex);
	htab_each(&chan->routes, rpc_count_each, &visit);
	sync_unlock(&mut->mutex);
}
