/*
 * lazyroot-server: the engine for one machine. Opens what it keeps on disk, offers the
 * services, and from then on the main thread waits for a signal and, once a second, lets
 * the queue and the uploads forget what is over.
 *
 * The end: the queue stops first, which answers every poll and stream that only waits;
 * then the server gives running calls a moment; the store is closed last, with its fsync.
 */
#define LOG_MODULE "server"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/process.h"
#include "lib/base/say.h"
#include "lib/store/chunks.h"
#include "lib/cas/action_cache.h"
#include "server/action.h"
#include "server/asset_cache.h"
#include "server/debts.h"
#include "server/health.h"
#include "server/journal.h"
#include "server/logstreams.h"
#include "server/service.h"
#include "server/split.h"
#include "server/uploads.h"

#define MAIN_USAGE         2 /* exit code: asked for what cannot be */
#define MAIN_LISTEN        "grpc://127.0.0.1:8980"
#define MAIN_POLLERS       2
#define MAIN_WORKERS_MIN   4
#define MAIN_HEARTBEAT_NS  (20 * NS_PER_S)
#define MAIN_PROMISE_NS    (3 * 3600 * NS_PER_S) /* clients assume no less */
#define MAIN_ABANDON_NS    (60 * NS_PER_S)
#define MAIN_GRACE_MS      2000
#define MAIN_RESULTS_SHARE 16 /* of --data-size, beside it: one in so many bytes */
#define MAIN_ASSETS_SHARE  64 /* the same for the names of assets */
#define MAIN_CHUNKS_SHARE  64 /* the same for what chunks blobs are made of */
#define MAIN_LIMIT_NS      (24 * 3600 * NS_PER_S)
#define MAIN_LIMIT_MAX     (90 * 24 * 3600 * NS_PER_S)

struct main_options {
	struct option_list listen, instances, grants;
	bool is_insecure, has_no_assets;
	char *sync, *compression, *chunks;
	char *data, *cert, *key, *client_ca;
	int64_t data_size, promise_ns, limit_ns, heartbeat_ns;
	struct queue_config queue;
};

static struct error *main_check(struct main_options *options)
{
	if (!options->data || !*options->data)
		return error_new(ERROR_INVALID_ARGUMENT, "--data is needed, see --help");
	if (options->listen.n == 0) {
		options->listen.items = alloc_array(1, sizeof(char *));
		options->listen.items[options->listen.n++] = alloc_string(MAIN_LISTEN);
	}
	if (options->limit_ns <= 0 || options->limit_ns > MAIN_LIMIT_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--timeout-max must be more than 0 and at most 2160h");
	if (options->heartbeat_ns < NS_PER_S / 10 || options->queue.abandon_ns < 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--heartbeat must be at least 100ms, and --abandon not "
				 "negative");
	return NULL;
}

static struct error *main_read(struct main_options *options,
			       const struct option_def *defs, size_t n_defs, int argc,
			       char **argv, bool *is_done_out)
{
	const struct option_program program = {
		.name = "lazyroot-server",
		.usage = "--data DIR [options]",
		.summary =
			"Remote execution for one machine: storage, action cache, queue.",
		.defs = defs,
		.n_defs = n_defs,
	};
	int operands = argc;
	struct error *err = option_parse(&program, argc, argv, &operands, is_done_out);

	if (err || *is_done_out)
		return err;
	if (operands < argc)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "\"%s\" is one argument too many", argv[operands]);
	return main_check(options);
}

static struct error *main_parse(struct main_options *options, int argc, char **argv,
				bool *is_done_out)
{
	const struct option_def defs[] = {
		{"listen", 0, OPTION_LIST, "ADDR",
		 "where to serve: grpc://HOST:PORT, grpcs://HOST:PORT or unix:PATH;\n"
		 "port 0 takes a free one (default: " MAIN_LISTEN ")",
		 NULL, &options->listen, 0, 0},
		{"data", 0, OPTION_STRING, "DIR", "where blobs and results are kept",
		 NULL, &options->data, 0, 0},
		{"data-size", 0, OPTION_SIZE, "SIZE",
		 "how large that may grow (default: half of what is free)", NULL,
		 &options->data_size, (int64_t)1 << 20, 0},
		{"promise", 0, OPTION_DURATION, "DURATION",
		 "how long a blob stays at least after it was stored, read or found\n"
		 "to be there: before that, uploads are refused rather than it is\n"
		 "evicted; 0: as long as there is room (default: 3h)",
		 NULL, &options->promise_ns, 0, 0},
		{"instance", 0, OPTION_LIST, "NAME",
		 "an instance to offer (default: the nameless one)", "LAZYROOT_INSTANCE",
		 &options->instances, 0, 0},
		{"sync", 0, OPTION_STRING, "WHEN",
		 "when an upload is answered: once it is on the disk, many uploads\n"
		 "sharing a wait (batch, the default) or each synced by itself (blob);\n"
		 "none: at once, and a power failure may lose the last seconds",
		 NULL, &options->sync, 0, 0},
		{"no-assets", 0, OPTION_FLAG, NULL,
		 "do not offer Remote Asset, names that clients push for blobs and trees",
		 NULL, &options->has_no_assets, 0, 0},
		{"compression", 0, OPTION_STRING, "WHEN",
		 "offer zstd to other machines (auto, the default), always or never",
		 NULL, &options->compression, 0, 0},
		{"chunks", 0, OPTION_STRING, "WHEN", "chunks of blobs: as --compression",
		 NULL, &options->chunks, 0, 0},
		{"timeout-max", 0, OPTION_DURATION, "DURATION",
		 "the longest run of an action (default: 24h)", NULL, &options->limit_ns,
		 0, 0},
		{"abandon", 0, OPTION_DURATION, "DURATION",
		 "an execution that no client waits for any more is cancelled after\n"
		 "this; 0: at once. One of lazyroot run --detach never is (default: 60s)",
		 NULL, &options->queue.abandon_ns, 0, 0},
		{"heartbeat", 0, OPTION_DURATION, "DURATION",
		 "who waits for an execution hears of it at least so often, whether it\n"
		 "changed or not (default: 20s)",
		 NULL, &options->heartbeat_ns, 0, 0},
		{"wait-for-worker", 0, OPTION_FLAG, NULL,
		 "an action that none of the connected workers could run waits for one\n"
		 "that can, instead of failing; without any worker it waits always",
		 NULL, &options->queue.waits_for_bots, 0, 0},
		{"grant", 0, OPTION_LIST, "WHO=RIGHTS[@INSTANCE]",
		 "who may do what; repeated. WHO is anyone, local (this machine),\n"
		 "cn:NAME, san:NAME or subject:NAME of a certificate, or token:FILE\n"
		 "(a bearer token a line, read again when it changes);\n"
		 "RIGHTS are cas-read, cas-write, ac-read, ac-write, execute, worker,\n"
		 "operate or all, with commas (default: local may all but ac-write)",
		 NULL, &options->grants, 0, 0},
		{"insecure", 0, OPTION_FLAG, NULL,
		 "listen to other machines without encryption, or without a grant:\n"
		 "then everybody may all but ac-write",
		 NULL, &options->is_insecure, 0, 0},
		{"tls-cert", 0, OPTION_STRING, "FILE",
		 "certificate for grpcs:// (PEM); read again when it changes", NULL,
		 &options->cert, 0, 0},
		{"tls-key", 0, OPTION_STRING, "FILE", "its private key (PEM)", NULL,
		 &options->key, 0, 0},
		{"tls-client-ca", 0, OPTION_STRING, "FILE",
		 "ask clients for a certificate by this CA (PEM)", NULL,
		 &options->client_ca, 0, 0},
	};
	return main_read(options, defs, ARRAY_SIZE(defs), argc, argv, is_done_out);
}

static void main_options_deinit(struct main_options *options)
{
	option_list_deinit(&options->listen);
	option_list_deinit(&options->instances);
	free(options->sync);
	free(options->compression);
	free(options->chunks);
	option_list_deinit(&options->grants);
	free(options->data);
	free(options->cert);
	free(options->key);
	free(options->client_ca);
}

/* ---- the parts ------------------------------------------------------------------ */

static void main_close(struct server *server)
{
	journal_close(server->journal);
	queue_free(server->queue);
	uploads_free(server->uploads);
	debts_free(server->debts);
	logstreams_free(server->logstreams);
	health_free(server->health);
	action_cache_close(server->cache);
	asset_cache_close(server->assets);
	chunks_close(server->chunks);
	store_close(server->store);
	access_free(server->access);
	option_list_deinit(&server->instances);
}

static struct error *main_check_instances(const struct option_list *instances)
{
	for (size_t i = 0; i < instances->n; i++) {
		if (strlen(instances->items[i]) > QUEUE_INSTANCE_MAX)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "--instance %.40s... is longer than %d bytes",
					 instances->items[i], QUEUE_INSTANCE_MAX);
	}
	return NULL;
}

/* Which of n words it is; NULL leaves *out as it is. said: the words, for people. */
static struct error *main_choose(const char *option, const char *word,
				 const char *const *words, size_t n, const char *said,
				 unsigned int *out)
{
	for (unsigned int i = 0; word && i < n; i++) {
		if (strcmp(word, words[i]) == 0) {
			*out = i;
			return NULL;
		}
	}
	return word ? error_new(ERROR_INVALID_ARGUMENT, "--%s %s is not %s", option, word,
				said)
		    : NULL;
}

static struct error *main_choose_all(const struct main_options *options,
				     enum store_sync *sync_out,
				     enum server_compression *compression_out)
{
	static const char *const syncs[] = {[STORE_SYNC_NONE] = "none",
					    [STORE_SYNC_BATCH] = "batch",
					    [STORE_SYNC_BLOB] = "blob"};
	static const char *const compressions[] = {[SERVER_COMPRESS_AUTO] = "auto",
						   [SERVER_COMPRESS_ALWAYS] = "always",
						   [SERVER_COMPRESS_NEVER] = "never"};
	unsigned int sync = STORE_SYNC_BATCH, compression = SERVER_COMPRESS_AUTO;
	struct error *err = main_choose("sync", options->sync, syncs, ARRAY_SIZE(syncs),
					"blob, batch or none", &sync);

	if (!err)
		err = main_choose("compression", options->compression, compressions,
				  ARRAY_SIZE(compressions), "auto, always or never",
				  &compression);
	*sync_out = (enum store_sync)sync;
	*compression_out = (enum server_compression)compression;
	return err;
}

static struct error *main_open_access(const struct main_options *options,
				      struct server *server)
{
	const struct access_config config = {
		.listen = &options->listen,
		.grants = &options->grants,
		.instances = &server->instances,
		.has_tls_files = options->cert || options->key || options->client_ca,
		.has_client_ca = options->client_ca,
		.is_insecure = options->is_insecure,
	};

	return access_new(&config, &server->access);
}

static void main_log_ended(void *ctx, const char *name)
{
	logstreams_end(ctx, name, clock_mono_ns());
}

static struct error *main_open_chunks(const struct main_options *options,
				      struct server *server, int64_t size_limit)
{
	static const char *const words[] = {[SERVER_CHUNKS_AUTO] = "auto",
					    [SERVER_CHUNKS_ALWAYS] = "always",
					    [SERVER_CHUNKS_NEVER] = "never"};
	struct chunks_config config = {.store = server->store,
				       .max_bytes = size_limit / MAIN_CHUNKS_SHARE};
	unsigned int offer = SERVER_CHUNKS_AUTO;
	struct error *err =
		main_choose("chunks", options->chunks, words, ARRAY_SIZE(words),
			    "auto, always or never", &offer);

	if (err)
		return err;
	server->chunks_offer = (enum server_chunks)offer;
	config.dir = offer == SERVER_CHUNKS_NEVER ? NULL : options->data;
	require(chunker_init(&config.chunker, SPLIT_AVERAGE, 0));
	config.min_size = (int64_t)config.chunker.min;
	return chunks_open(&config, &server->chunks);
}

static struct error *main_open(struct main_options *options, struct server *server)
{
	struct store_config config = {.dir = options->data,
				      .size_limit = options->data_size,
				      .promise_ns = options->promise_ns,
				      .staging_share = UPLOADS_SHARE};
	struct asset_cache_limits assets = {.names = ASSET_CACHE_MAX};
	const struct queue_ended ended = {action_of_job, server};
	struct store_stats stats;
	struct error *err = main_choose_all(options, &config.sync, &server->compression);

	if (err)
		return err;

	server->limit_ns = options->limit_ns;
	server->heartbeat_ns = options->heartbeat_ns;
	server->start_ns = clock_mono_ns();
	server->instances = options->instances;
	options->instances = (struct option_list){0};
	if (server->instances.n == 0) {
		server->instances.items = alloc_array(1, sizeof(char *));
		server->instances.items[server->instances.n++] = alloc_string("");
	}
	err = main_check_instances(&server->instances);
	if (!err)
		err = main_open_access(options, server);
	if (!err)
		err = store_open(&config, &server->store);
	if (err)
		return err;
	store_stats(server->store, &stats);
	err = action_cache_open(options->data, stats.size_limit / MAIN_RESULTS_SHARE,
				&server->cache);
	assets.bytes = stats.size_limit / MAIN_ASSETS_SHARE;
	if (!err && !options->has_no_assets)
		err = asset_cache_open(options->data, &assets, &server->assets);
	if (!err)
		err = main_open_chunks(options, server, stats.size_limit);
	if (err)
		return err;
	server->logstreams = logstreams_new(store_dir_fd(server->store),
					    stats.size_limit / LOGSTREAMS_SHARE);
	options->queue.log_ended = main_log_ended;
	options->queue.log_ctx = server->logstreams;
	server->queue = queue_new(&options->queue);
	err = journal_open(options->data, server->queue, &server->instances, &ended,
			   &server->journal);
	if (err)
		return err;
	server->health = health_new();
	server->debts = debts_new();
	server->uploads =
		uploads_new(server->store, server->debts,
			    stats.size_limit + stats.size_limit / (UPLOADS_SHARE - 1));
	return NULL;
}

static unsigned int main_workers(void)
{
	long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return n_cpus > MAIN_WORKERS_MIN ? (unsigned int)n_cpus : MAIN_WORKERS_MIN;
}

/* Of our own: pollers, both lanes of workers (rpc/peer.c), the timer, the store's two,
 * the one that looks for chunks, the journal's. */
static size_t main_threads(void)
{
	return MAIN_POLLERS + 2 * (main_workers() + 1) + 1 + 2 + 1 + 1;
}

static struct error *main_serve(const struct main_options *options, struct server *server,
				struct rpc_server **rpc_out)
{
	const struct rpc_server_config config = {
		.addresses = (const char *const *)options->listen.items,
		.n_addresses = options->listen.n,
		.n_pollers = MAIN_POLLERS,
		.n_workers = main_workers(),
		.cert_file = options->cert,
		.key_file = options->key,
		.client_ca_file = options->client_ca,
		.is_cert_optional = access_has_other_than_certificates(server->access),
		.admit = access_admit,
		.admit_ctx = server->access,
	};
	struct rpc_server *rpc;
	struct error *err = rpc_server_new(&config, &rpc);

	if (err)
		return err;
	for (size_t i = 0; i < SERVER_SERVICES; i++) {
		if (server_offers(server, server_services[i]))
			rpc_server_add(rpc, server_services[i]->list,
				       server_services[i]->n, server);
	}
	err = rpc_server_start(rpc);
	if (err) {
		rpc_server_free(rpc);
		return err;
	}
	*rpc_out = rpc;
	return NULL;
}

/* ---- from start to end ---------------------------------------------------------- */

static void main_wait(struct server *server, const sigset_t *signals)
{
	const struct timespec second = {.tv_sec = 1};
	int signum;

	do {
		queue_tick(server->queue, clock_mono_ns());
		uploads_tick(server->uploads, clock_mono_ns());
		logstreams_tick(server->logstreams, clock_mono_ns());
		access_tick(server->access);
		signum = sigtimedwait(signals, NULL, &second);
	} while (signum < 0);
	log_info("%s: stopping", strsignal(signum));
}

static struct error *main_announce(const struct rpc_server *rpc, size_t n)
{
	for (size_t i = 0; i < n; i++)
		say_out("listening on %s\n", rpc_server_address(rpc, i));
	return say_end("lazyroot-server")
		       ? NULL
		       : error_new(ERROR_INTERNAL, "nobody can be told the address");
}

static struct error *main_run(struct main_options *options)
{
	_cleanup_(main_close) struct server server = {0};
	struct rpc_server *rpc = NULL;
	struct error *err;
	sigset_t signals;

	/* Before any thread is made, so that all of them leave the signals to main. */
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
	err = rpc_init(main_threads());
	if (!err)
		err = main_open(options, &server);
	if (!err)
		err = main_serve(options, &server, &rpc);
	if (err)
		return err;
	err = main_announce(rpc, options->listen.n);
	if (!err)
		main_wait(&server, &signals);
	health_drain(server.health);
	queue_stop(server.queue);
	logstreams_stop(server.logstreams);
	rpc_server_stop(rpc, MAIN_GRACE_MS);
	rpc_server_free(rpc);
	return err;
}

int main(int argc, char **argv)
{
	_cleanup_(main_options_deinit) struct main_options options = {
		.limit_ns = MAIN_LIMIT_NS,
		.heartbeat_ns = MAIN_HEARTBEAT_NS,
		.promise_ns = MAIN_PROMISE_NS,
		.queue.abandon_ns = MAIN_ABANDON_NS};
	_cleanup_error_ struct error *err = NULL;
	bool is_done = false;

	process_keep_standard();
	err = main_parse(&options, argc, argv, &is_done);
	if (!err && is_done)
		return say_end("lazyroot-server") ? 0 : 1;
	if (err) {
		err = option_blame(err);
		say("lazyroot-server: %s", error_text(err));
		return MAIN_USAGE;
	}
	process_raise_descriptors();
	process_outlive_others();
	err = main_run(&options);
	if (!err)
		return 0;
	err = option_blame(err);
	say("lazyroot-server: %s", error_text(err));
	/* what ends it before it serves is what it was asked for, or the machine */
	return error_code(err) == ERROR_INVALID_ARGUMENT ? MAIN_USAGE : 1;
}
