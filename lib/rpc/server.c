/*
 * Owns the server as a whole: its methods, its threads, its start and its end.
 *
 * The order of the end is core's: no new calls, then grace for the running ones, then
 * they are cancelled; when core says that it has no call and we count none, workers,
 * timer and queue can go. Nothing here calls grpc_shutdown().
 *
 * Threads: made, started, stopped and freed by one; counts are read by any.
 */
#include "lib/rpc/incoming.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"

static void rpc_server_shut(struct rpc_tag *tag, bool ok)
{
	struct rpc_server *server = container_of(tag, struct rpc_server, shutdown_tag);

	(void)ok;
	sync_lock(&server->mutex);
	server->has_shut = true;
	sync_broadcast(&server->changed);
	sync_unlock(&server->mutex);
}

static void rpc_server_create_core(struct rpc_server *server)
{
	grpc_arg list[] = {
		rpc_arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RPC_MESSAGE_MAX),
		rpc_arg_int(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, RPC_MESSAGE_MAX),
		rpc_arg_int(GRPC_ARG_MAX_METADATA_SIZE, RPC_METADATA_MAX),
		/* Compressed messages are refused: core's limit is on what they were. */
		rpc_arg_int(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1),
		rpc_arg_int(GRPC_ARG_ALLOW_REUSEPORT, 0),
		rpc_arg_int(GRPC_ARG_MAX_CONCURRENT_STREAMS, RPC_STREAMS_MAX),
		rpc_arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, RPC_KEEPALIVE_SERVER_MS),
		rpc_arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, RPC_KEEPALIVE_TIMEOUT_MS),
		rpc_arg_int(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
		rpc_arg_int(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
		rpc_arg_int(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0),
		rpc_arg_int(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
			    RPC_PING_INTERVAL_MS),
	};
	const grpc_channel_args args = {ARRAY_SIZE(list), list};

	server->server = grpc_server_create(&args, NULL);
	server->queue = grpc_completion_queue_create_for_next(NULL);
	grpc_server_register_completion_queue(server->server, server->queue, NULL);
}

static struct rpc_entry *rpc_server_add_entry(struct rpc_server *server)
{
	struct rpc_entry *entry = alloc_new(struct rpc_entry);

	server->entries = alloc_grow(server->entries, &server->entries_cap,
				     server->n_entries + 1, sizeof(struct rpc_entry *));
	server->entries[server->n_entries++] = entry;
	entry->server = server;
	return entry;
}

struct error *rpc_server_new(const struct rpc_server_config *config,
			     struct rpc_server **server_out)
{
	struct rpc_server *server;
	struct error *err;

	require(config->n_pollers >= 1 &&
		config->n_pollers <= ARRAY_SIZE(server->pollers));
	server = alloc_new(struct rpc_server);
	server->n_pollers = config->n_pollers;
	server->admit = config->admit;
	server->admit_ctx = config->admit_ctx;
	server->shutdown_tag.fn = rpc_server_shut;
	sync_mutex_init(&server->mutex);
	sync_alone(&server->mutex);
	list_init(&server->timers);
	sync_cond_init(&server->changed);
	sync_cond_init(&server->timer_changed);
	rpc_server_create_core(server);
	/* one more than work is for: no peer has all of them */
	err = peers_new(config->n_workers + 1, &server->peers);
	if (!err)
		err = rpc_listen(server, config);
	if (err) {
		rpc_server_free(server);
		return err;
	}
	*server_out = server;
	return NULL;
}

void rpc_server_add(struct rpc_server *server, const struct rpc_handler *handlers,
		    size_t n, void *service)
{
	require(!server->has_started);
	for (size_t i = 0; i < n; i++) {
		struct rpc_entry *entry = rpc_server_add_entry(server);

		entry->handler = &handlers[i];
		entry->service = service;
		entry->path = rpc_path(&handlers[i].method);
		entry->types = rpc_method_find(&handlers[i].method);
		/* the message is asked for when its peer may have it */
		entry->handle = grpc_server_register_method(
			server->server, entry->path, NULL, GRPC_SRM_PAYLOAD_NONE, 0);
		require(entry->handle);
	}
}

static void *rpc_server_poller(void *server)
{
	rpc_poll(((struct rpc_server *)server)->queue);
	return NULL;
}

/* All of them, before there is a call; what was started ends in rpc_server_free(). */
static struct error *rpc_server_start_threads(struct rpc_server *server)
{
	struct error *err =
		thread_start("rpc-timer", rpc_timer_run, server, &server->timer);

	server->has_timer = !err;
	while (!err && server->n_polling < server->n_pollers) {
		err = thread_start("rpc-poller", rpc_server_poller, server,
				   &server->pollers[server->n_polling]);
		server->n_polling += !err;
	}
	return err;
}

static void rpc_server_end_timer(struct rpc_server *server)
{
	sync_lock(&server->mutex);
	server->is_timer_done = true;
	sync_signal(&server->timer_changed);
	sync_unlock(&server->mutex);
	if (server->has_timer)
		(void)pthread_join(server->timer, NULL);
	server->has_timer = false;
}

/* They end with the queue, which is drained then. */
static void rpc_server_end_queue(struct rpc_server *server)
{
	grpc_completion_queue_shutdown(server->queue);
	if (!server->n_polling)
		rpc_poll(server->queue); /* somebody has to */
	while (server->n_polling > 0)
		(void)pthread_join(server->pollers[--server->n_polling], NULL);
	grpc_server_destroy(server->server);
	grpc_completion_queue_destroy(server->queue);
	server->server = NULL;
	rpc_listen_end(server);
}

struct error *rpc_server_start(struct rpc_server *server)
{
	struct error *err;

	require(!server->has_started);
	err = rpc_server_start_threads(server);
	if (err)
		return err;
	server->has_started = true;
	rpc_server_add_entry(server)->path = alloc_string("(unknown)");
	grpc_server_start(server->server);
	for (size_t i = 0; i < server->n_entries; i++) {
		for (unsigned int slot = 0; slot < RPC_SLOTS; slot++)
			rpc_in_request(server->entries[i]);
	}
	return NULL;
}

const char *rpc_server_address(const struct rpc_server *server, size_t i)
{
	return rpc_listen_address(server, i);
}

/* Until core and we count no call, or until the monotonic time; true: none is left. */
static bool rpc_server_await(struct rpc_server *server, int64_t until_ns)
{
	bool is_empty;

	sync_lock(&server->mutex);
	while ((!server->has_shut || server->n_in > 0) &&
	       sync_wait_until(&server->changed, &server->mutex, until_ns))
		;
	is_empty = server->has_shut && server->n_in == 0;
	sync_unlock(&server->mutex);
	return is_empty;
}

void rpc_server_stop(struct rpc_server *server, int64_t grace_ms)
{
	if (!server->has_started)
		return;
	server->has_started = false;
	rpc_tag_release(&server->shutdown_tag);
	grpc_server_shutdown_and_notify(server->server, server->queue,
					&server->shutdown_tag);
	if (!rpc_server_await(server, clock_mono_ns() + grace_ms * NS_PER_MS)) {
		grpc_server_cancel_all_calls(server->server);
		(void)rpc_server_await(server, CLOCK_NEVER);
	}
	peers_stop(server->peers);
	rpc_server_end_timer(server);
	rpc_server_end_queue(server);
}

/* A server that never ran still has to be shut down before core lets go of it. */
static void rpc_server_discard_core(struct rpc_server *server)
{
	rpc_tag_release(&server->shutdown_tag);
	grpc_server_shutdown_and_notify(server->server, server->queue,
					&server->shutdown_tag);
	rpc_server_end_timer(server);
	rpc_server_end_queue(server);
}

void *rpc_server_free(struct rpc_server *server)
{
	if (!server)
		return NULL;
	rpc_server_stop(server, 0);
	if (server->server)
		rpc_server_discard_core(server);
	peers_free(server->peers);
	for (size_t i = 0; i < server->n_entries; i++) {
		free(server->entries[i]->path);
		free(server->entries[i]);
	}
	free(server->entries);
	sync_mutex_deinit(&server->mutex);
	sync_cond_deinit(&server->changed);
	sync_cond_deinit(&server->timer_changed);
	free(server);
	return NULL;
}
