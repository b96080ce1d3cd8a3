/*
 * lazyroot-worker: options, signals, and the words that scripts wait for. The first
 * SIGTERM or SIGINT finishes what runs, the second ends it now.
 */
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>

#include "lib/base/alloc.h"
#include "lib/base/option.h"
#include "lib/base/process.h"
#include "worker/worker.h"

#define LOG_MODULE "worker"
#include "lib/base/log.h"
#include "lib/base/say.h"
#include "worker/sandbox/layout.h"

#define MAIN_USAGE       2 /* exit code: asked for what cannot be */
#define MAIN_SLOTS_MAX   1024
#define MAIN_WAIT_LIMIT  (3600LL * 1000000000)
#define MAIN_ENTRIES_MAX 10000000
/* Of our own, at the least: the pool, the fetcher, the source, a slot, FUSE. */
#define MAIN_THREADS 24

struct main_options {
	char *source;
	char *server;
	char *cas;
	char *instance;
	char *cache;
	char *root;
	char *name;
	char *data_path;
	char *foresight;
	char *metrics;
	char *user;
	char *upper;
	int64_t cache_size;
	int64_t slots;
	int64_t size_class;
	int64_t wait_limit_ns;
	int64_t entries_max;
	struct rpc_creds_options creds;
	struct option_list platform;
	struct option_list limits;
	struct option_list limit_maxima;
	struct option_list allows;
	struct limits_policy policy;
	struct allow allow;
	struct sandbox_user actions_user;
	enum upper_kind upper_kind;
	const struct source_kind *source_kind;
};

static void main_options_deinit(struct main_options *options)
{
	free(options->source);
	free(options->server);
	free(options->cas);
	free(options->instance);
	free(options->cache);
	free(options->root);
	free(options->name);
	free(options->data_path);
	free(options->foresight);
	free(options->metrics);
	free(options->user);
	free(options->upper);
	rpc_creds_options_deinit(&options->creds);
	option_list_deinit(&options->platform);
	option_list_deinit(&options->limits);
	option_list_deinit(&options->limit_maxima);
	option_list_deinit(&options->allows);
}

/* What options say of limits; the machine is not asked yet. */
static struct error *main_check_limits(struct main_options *o)
{
	struct error *err = NULL;

	limits_init(&o->policy.normal);
	limits_init(&o->policy.most);
	for (size_t i = 0; !err && i < o->limits.n; i++)
		err = error_wrap(limits_set(&o->policy.normal, o->limits.items[i]),
				 "--limit");
	for (size_t i = 0; !err && i < o->limit_maxima.n; i++)
		err = error_wrap(limits_set(&o->policy.most, o->limit_maxima.items[i]),
				 "--limit-max");
	return err ? err : limits_settle(&o->policy);
}

static struct error *main_check_upper(struct main_options *o)
{
	if (o->upper && !upper_parse(o->upper, &o->upper_kind))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--upper %s is not dir, tmpfs or loop", o->upper);
	if (o->upper_kind != UPPER_DIR && o->policy.normal.of[LIMITS_DISK] == LIMITS_NONE)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--upper %s needs --limit disk=SIZE, which is how large "
				 "it is to be",
				 o->upper);
	return NULL;
}

/* A name, whose group comes along, or the number of both. */
static struct error *main_check_user(struct main_options *o)
{
	const struct passwd *entry = o->user ? getpwnam(o->user) : NULL;
	char *end = NULL;
	unsigned long id = o->user ? strtoul(o->user, &end, 10) : SANDBOX_USER;

	o->actions_user = entry ? (struct sandbox_user){entry->pw_uid, entry->pw_gid}
				: (struct sandbox_user){(uid_t)id, (gid_t)id};
	if (!entry && end && (end == o->user || *end || id >= UINT32_MAX))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--user %s is neither a user of this machine nor a "
				 "number",
				 o->user);
	if (o->actions_user.uid == 0 || o->actions_user.gid == 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--user %s: actions must not be root outside their "
				 "sandboxes",
				 o->user);
	if (o->actions_user.uid == SESSION_NOBODY)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--user %s: nobody (%d) owns what no action may write",
				 o->user, SESSION_NOBODY);
	return NULL;
}

/* Where jobs come from. */
static struct error *main_check_source(struct main_options *o)
{
	struct error *err = source_kind_find(o->source, &o->source_kind);

	if (err)
		return err;
	if (!o->server || !*o->server)
		return error_new(ERROR_INVALID_ARGUMENT, "--server is missing");
	if (o->size_class && !o->source_kind->has_sizes)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--size-class has no meaning with --source %s",
				 o->source_kind->name);
	return NULL;
}

static struct error *main_check(struct main_options *o)
{
	struct error *err = main_check_source(o);

	if (err)
		return err;
	if (!o->cache || !*o->cache)
		return error_new(ERROR_INVALID_ARGUMENT, "--cache is missing");
	if (o->root && *o->root != '/')
		return error_new(ERROR_INVALID_ARGUMENT, "--root %s is not absolute",
				 o->root);
	if (o->data_path && strcmp(o->data_path, "page-cache") != 0 &&
	    strcmp(o->data_path, "passthrough") != 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--data-path %s is not page-cache or passthrough",
				 o->data_path);
	if (o->foresight && strcmp(o->foresight, "on") != 0 &&
	    strcmp(o->foresight, "local") != 0 && strcmp(o->foresight, "off") != 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--foresight %s is not on, local or off", o->foresight);
	if (o->name && !*o->name)
		return error_new(ERROR_INVALID_ARGUMENT, "--name is empty");
	for (size_t i = 0; i < o->platform.n; i++) {
		const char *equals = strchr(o->platform.items[i], '=');

		if (!equals || equals == o->platform.items[i])
			return error_new(ERROR_INVALID_ARGUMENT,
					 "--platform %s is not NAME=VALUE",
					 o->platform.items[i]);
	}
	err = main_check_user(o);
	for (size_t i = 0; !err && i < o->allows.n; i++)
		err = error_wrap(allow_set(&o->allow, o->allows.items[i]), "--allow");
	if (!err)
		err = main_check_limits(o);
	return err ? err : main_check_upper(o);
}

static struct error *main_parse_table(const struct option_def *defs, size_t n_defs,
				      int argc, char **argv, bool *is_done)
{
	const struct option_program program = {
		.name = "lazyroot-worker",
		.usage = "--server ADDR --cache DIR [options]",
		.summary = "Runs actions of a Remote Execution API server; inputs are "
			   "mounted, "
			   "and fetched when a\ncommand first touches them. Needs root.",
		.defs = defs,
		.n_defs = n_defs,
	};
	int operands = argc;
	struct error *err = option_parse(&program, argc, argv, &operands, is_done);

	if (err || *is_done)
		return err;
	if (operands < argc)
		return error_new(ERROR_INVALID_ARGUMENT, "%s is not an option",
				 argv[operands]);
	return NULL;
}

/* What actions may use and do. */
#define MAIN_LIMIT_OPTIONS(o)                                                            \
	{"limit",                                                                        \
	 0,                                                                              \
	 OPTION_LIST,                                                                    \
	 "NAME=VALUE",                                                                   \
	 "a limit of every action; repeated. NAME is memory, processes,\n"               \
	 "cpu-time, disk, inodes, output-bytes, output-files or\n"                       \
	 "log-bytes",                                                                    \
	 NULL,                                                                           \
	 &(o)->limits,                                                                   \
	 0,                                                                              \
	 0},                                                                             \
		{"limit-max",                                                            \
		 0,                                                                      \
		 OPTION_LIST,                                                            \
		 "NAME=VALUE",                                                           \
		 "what an action may ask for at most with the platform property\n"       \
		 "limit-NAME (default: the limit itself); repeated",                     \
		 NULL,                                                                   \
		 &(o)->limit_maxima,                                                     \
		 0,                                                                      \
		 0},                                                                     \
		{"upper",                                                                \
		 0,                                                                      \
		 OPTION_STRING,                                                          \
		 "HOW",                                                                  \
		 "where what an action writes lies under --limit disk: dir (default:\n"  \
		 "in the cache's file system, counted), tmpfs or loop (on a file\n"      \
		 "system of that size, in memory or in a file)",                         \
		 NULL,                                                                   \
		 &(o)->upper,                                                            \
		 0,                                                                      \
		 0},                                                                     \
	{                                                                                \
		"allow", 0, OPTION_LIST, "NAME[=VALUE]",                                 \
			"what actions may ask for (network, uid[=RANGE], gid[=RANGE]) "  \
			"or do\n"                                                        \
			"(userns, ptrace, io_uring, userfaultfd) beyond the usual; "     \
			"repeated",                                                      \
			NULL, &(o)->allows, 0, 0                                         \
	}

static struct error *main_parse(struct main_options *o, int argc, char **argv,
				bool *is_done)
{
	const struct option_def defs[] = {
		{"source", 0, OPTION_STRING, "HOW",
		 "how jobs come: bots (default: the Remote Workers API) or buildbarn\n"
		 "(its OperationQueue; the worker writes the action cache)",
		 NULL, &o->source, 0, 0},
		{"size-class", 0, OPTION_INT, "N",
		 "this worker's size among those of its platform, with --source\n"
		 "buildbarn (default: 0)",
		 NULL, &o->size_class, 0, UINT32_MAX},
		{"server", 's', OPTION_STRING, "ADDR", "where jobs come from (and blobs)",
		 "LAZYROOT_SERVER", &o->server, 0, 0},
		{"cas", 0, OPTION_STRING, "ADDR", "where blobs come from, if elsewhere",
		 NULL, &o->cas, 0, 0},
		RPC_CREDS_OPTIONS(&o->creds),
		{"instance", 0, OPTION_STRING, "NAME",
		 "the server's instance (default: none)", "LAZYROOT_INSTANCE",
		 &o->instance, 0, 0},
		{"cache", 0, OPTION_STRING, "DIR", "the cache of blobs; not on overlayfs",
		 NULL, &o->cache, 0, 0},
		{"cache-size", 0, OPTION_SIZE, "SIZE",
		 "its limit (default: half of the space that is free at first)", NULL,
		 &o->cache_size, (int64_t)1 << 20, 0},
		{"slots", 0, OPTION_INT, "N",
		 "actions at once (default: one a processor, as far as the limit of\n"
		 "open files allows)",
		 NULL, &o->slots, 1, MAIN_SLOTS_MAX},
		{"platform", 0, OPTION_LIST, "NAME=VALUE",
		 "a property that actions may ask for; repeated", NULL, &o->platform, 0,
		 0},
		{"root", 0, OPTION_STRING, "PATH",
		 "where commands find their input root (default: /build);\n"
		 "/ makes it their whole file system",
		 NULL, &o->root, 0, 0},
		{"user", 0, OPTION_STRING, "NAME|UID",
		 "whom actions are outside their sandboxes (default: 61183,\n"
		 "which is nobody's)",
		 NULL, &o->user, 0, 0},
		{"name", 0, OPTION_STRING, "ID",
		 "the worker's name (default: host and pid)", NULL, &o->name, 0, 0},
		{"wait-limit", 0, OPTION_DURATION, "DURATION",
		 "how long a command may wait for its inputs in all (default: 1h);\n"
		 "its own timeout stands still meanwhile",
		 NULL, &o->wait_limit_ns, 0, 0},
		{"entries-max", 0, OPTION_INT, "N",
		 "how many entries an action's outputs may have, each path counted\n"
		 "(default: 10000000)",
		 NULL, &o->entries_max, 1, INT64_MAX},
		MAIN_LIMIT_OPTIONS(o),
		{"data-path", 0, OPTION_STRING, "HOW",
		 "page-cache (default) or passthrough: how files are read", NULL,
		 &o->data_path, 0, 0},
		{"foresight", 0, OPTION_STRING, "HOW",
		 "whether what actions will read is fetched before they ask for it:\n"
		 "on (default), local (what is learned is not shared through the\n"
		 "action cache) or off",
		 NULL, &o->foresight, 0, 0},
		{"metrics", 0, OPTION_STRING, "HOST:PORT",
		 "serve counts for Prometheus at http://HOST:PORT/metrics", NULL,
		 &o->metrics, 0, 0},
	};
	struct error *err = main_parse_table(defs, ARRAY_SIZE(defs), argc, argv, is_done);

	return err || *is_done ? err : main_check(o);
}

/* Properties */

static int main_property_order(const void *a, const void *b)
{
	const struct source_property *x = a;
	const struct source_property *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : strcmp(x->value, y->value);
}

static void main_add_default(struct source_property *properties, size_t *n,
			     const char *name, const char *value)
{
	for (size_t i = 0; i < *n; i++) {
		if (strcmp(properties[i].name, name) == 0)
			return;
	}
	properties[(*n)++] = (struct source_property){name, value};
}

/* What every worker advertises. */
static void main_add_defaults(const struct main_options *o, const struct utsname *machine,
			      struct source_property *properties, size_t *n)
{
	main_add_default(properties, n, "OSFamily", "linux");
	main_add_default(properties, n, "ISA",
			 strcmp(machine->machine, "x86_64") == 0 ? "x86-64"
								 : machine->machine);
	/* what the sandbox does for any action: asked for, it must not keep a job waiting
	 */
	main_add_default(properties, n, "unixUID", "*");
	main_add_default(properties, n, "unixGID", "*");
	main_add_default(properties, n, "network", "*");
	for (enum limits_kind kind = 0; kind < LIMITS_N; kind++)
		main_add_default(properties, n, limits_property(kind), "*");
	/* what is refused is refused at once and by name, but whoever wants to be sure
	 * can ask for a worker that grants it */
	for (enum allow_kind kind = 0; kind < ALLOW_N; kind++)
		if (allow_has(&o->allow, kind))
			properties[(*n)++] =
				(struct source_property){"allow", allow_name(kind)};
}

/* Splits NAME=VALUE in place; adds what every worker advertises, unless the scheduler
 * gives jobs only to workers that have what these ask for and nothing else. */
static void main_properties(struct main_options *o, struct utsname *machine,
			    struct source_property *properties, size_t *n)
{
	for (size_t i = 0; i < o->platform.n; i++) {
		char *equals = strchr(o->platform.items[i], '=');

		*equals = '\0';
		properties[(*n)++] =
			(struct source_property){o->platform.items[i], equals + 1};
	}
	(void)uname(machine);
	if (!o->source_kind->is_exact)
		main_add_defaults(o, machine, properties, n);
	qsort(properties, *n, sizeof(*properties), main_property_order);
}

/* Words */

/* sd_notify(3): READY=1 to the socket that the service manager named. */
static void main_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_fd_ int fd = -1;
	size_t len = path ? strlen(path) : 0;

	if (!len || len >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, len);
	if (*path == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		log_warn("tell systemd through %s: %s", path, strerror(errno));
}

static void main_ready(const char *name)
{
	say_out("ready %s\n", name);
	(void)say_end("lazyroot-worker");
	main_notify("READY=1");
}

/* Life */

static struct error *main_loop(struct worker *worker, int signal_fd)
{
	struct pollfd fds[] = {{.fd = signal_fd, .events = POLLIN},
			       {.fd = worker_end_fd(worker), .events = POLLIN},
			       {.fd = worker_mount_fd(worker), .events = POLLIN}};
	unsigned int n_signals = 0;
	bool is_lost = false;

	for (;;) {
		struct signalfd_siginfo info;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return error_errno(errno, "poll");
		if (fds[1].revents && is_lost)
			return error_new(
				ERROR_UNAVAILABLE,
				"the kernel ended the mount of the inputs: start "
				"the worker again");
		if (fds[1].revents)
			return worker_end_error(worker);
		if (fds[2].revents) {
			is_lost = true;
			fds[2].fd = -1;
			worker_drain(worker);
			worker_abort(worker);
			continue;
		}
		if (!fds[0].revents || read(signal_fd, &info, sizeof(info)) < 0)
			continue;
		if (n_signals++ == 0) {
			log_info("%s: finishing what runs; once more ends it now",
				 strsignal((int)info.ssi_signo));
			main_notify("STOPPING=1");
			worker_drain(worker);
		} else {
			worker_abort(worker);
		}
	}
}

/* *is_usage_out: it failed for what the options ask, before any server was heard. */
static struct error *main_serve(struct main_options *o, int signal_fd, bool *is_usage_out)
{
	_cleanup_free_ struct source_property *properties =
		alloc_array(o->platform.n + 5 + LIMITS_N + ALLOW_N, sizeof(*properties));
	_cleanup_(cgroups_freep) struct cgroups *cgroups = cgroups_new();
	struct worker_config config = {
		.source = o->source_kind,
		.size_class = (uint32_t)o->size_class,
		.server = o->server,
		.cas = o->cas,
		.creds = &o->creds,
		.instance = o->instance ? o->instance : "",
		.cache = o->cache,
		.cache_size = o->cache_size,
		.n_slots = (unsigned int)o->slots,
		.properties = properties,
		.root_path = o->root ? o->root : LAYOUT_ROOT,
		.wait_limit_ns = o->wait_limit_ns,
		.entries_max = o->entries_max,
		.cgroups = cgroups,
		.limits = &o->policy,
		.upper = o->upper_kind,
		.allow = &o->allow,
		.want_foresight = !o->foresight || strcmp(o->foresight, "off") != 0,
		.share_profiles = !o->foresight || strcmp(o->foresight, "on") == 0,
		.want_passthrough =
			o->data_path && strcmp(o->data_path, "passthrough") == 0,
		.metrics = o->metrics,
		.user = o->actions_user,
	};
	_cleanup_(worker_freep) struct worker *worker = NULL;
	_cleanup_free_ char *name = NULL;
	struct utsname machine;
	struct error *err;

	main_properties(o, &machine, properties, &config.n_properties);
	name = alloc_printf("%s.%d", machine.nodename, getpid());
	config.name = o->name ? o->name : name;
	err = worker_new(&config, &worker);
	*is_usage_out = error_code(err) == ERROR_INVALID_ARGUMENT;
	if (!err)
		err = worker_start(worker, main_ready);
	return err ? err : main_loop(worker, signal_fd);
}

int main(int argc, char **argv)
{
	_cleanup_(main_options_deinit) struct main_options options = {
		.wait_limit_ns = MAIN_WAIT_LIMIT, .entries_max = MAIN_ENTRIES_MAX};
	_cleanup_error_ struct error *err = NULL;
	_cleanup_fd_ int signal_fd = -1;
	bool is_done = false;
	bool is_usage = false;
	sigset_t signals;

	process_keep_standard();
	err = main_parse(&options, argc, argv, &is_done);
	if (err) {
		err = option_blame(err);
		say("lazyroot-worker: %s", error_text(err));
		return MAIN_USAGE;
	}
	if (is_done)
		return say_end("lazyroot-worker") ? 0 : 1;
	process_raise_descriptors();
	process_outlive_others();
	(void)umask(022); /* what commands find is made by us, and must be open to them */
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	err = rpc_init(MAIN_THREADS);
	if (!err)
		err = main_serve(&options, signal_fd, &is_usage);
	if (is_usage)
		err = option_blame(err);
	if (err)
		say("lazyroot-worker: %s", error_text(err));
	return is_usage ? MAIN_USAGE : err ? 1 : 0;
}
