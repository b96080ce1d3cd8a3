/*
 * Owns everything that lives as long as the worker, in the order in which it is made, and
 * takes it down in the reverse order.
 *
 * The process has a mount namespace of its own: whatever way it ends, the kernel takes
 * its mounts down with it. What a killed predecessor left in the cache directory is
 * removed at start; the store's lock makes sure that it is gone.
 */
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "fuse/overlay.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/process.h"
#include "worker/metrics.h"
#include "worker/metrics_http.h"
#include "worker/sandbox/accounts.h"
#include "worker/sandbox/filter.h"
#include "worker/sites.h"
#include "worker/sandbox/warden.h"
#include "worker/slots.h"

#define LOG_MODULE "worker"
#include "lib/base/log.h"

#define WORKER_POOL_THREADS 4
/* Descriptors: of the worker itself (connections, the mount, blobs kept open, the cache),
 * and of a slot (launcher, cgroups, overlay, logs, fanotify and its events, what the last
 * action left), with room to spare; measured by tests/attack/test_attack_descriptors.py.
 */
#define WORKER_DESCRIPTORS      320
#define WORKER_SLOT_DESCRIPTORS 40
/* Of an instance beyond the first: its mount, and the blobs that it keeps open. */
#define WORKER_SITE_DESCRIPTORS 288
/* Where input roots are mounted: in our mount namespace only, on a small file system of
 * our own. The cache may lie where nobody but root can look; the actions' user must reach
 * its input root. */
#define WORKER_MERGED_DIR "/run/lazyroot/merged"
#define WORKER_ETC_DIR    WORKER_MERGED_DIR "/etc" /* accounts.h */

struct worker {
	struct rpc_chan *server_chan;
	struct rpc_chan *cas_chan; /* the same where no other was named */
	struct store *store;
	struct pool *pool;
	struct pool *background;
	struct sandbox_tools tools;
	struct warden *warden;
	char *mount_dir;
	char *actions_dir;
	char *root_path;
	char *name;
	unsigned int n_slots;
	struct buf filter; /* of system calls */
	struct sites *sites;
	struct slots *slots;
	struct live_logs *logs;
	struct metrics *metrics;
	struct metrics_page page;
	struct metrics_http *metrics_http; /* NULL where nobody asked for it */
	struct source *source;
	const struct source_kind *source_kind;
	struct source_events events;
	struct source_config source_config; /* its strings are the caller's until start */
	void (*ready)(const char *name);
	int end_fd;
	_Atomic(struct error *) end_error; /* set before end_fd is written */
};

/* The machine */

static struct error *worker_check_machine(const char *cache)
{
	struct statfs fs;
	struct error *err;

	if (geteuid() != 0)
		return error_new(
			ERROR_PERMISSION_DENIED,
			"lazyroot-worker mounts file systems, so it must run as root");
	err = file_mkdirs(AT_FDCWD, cache, 0755);
	if (err)
		return err;
	if (statfs(cache, &fs) < 0)
		return error_errno(errno, "look at the cache directory %s", cache);
	if (fs.f_type == OVERLAYFS_SUPER_MAGIC)
		return error_new(
			ERROR_FAILED_PRECONDITION,
			"the cache directory %s lies on overlayfs, which can carry no "
			"overlay: put it on a volume of its own (ext4, xfs, btrfs)",
			cache);
	if (unshare(CLONE_NEWNS) < 0)
		return error_errno(errno, "make a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_errno(errno, "make the mounts private");
	err = file_mkdirs(AT_FDCWD, WORKER_MERGED_DIR, 0755);
	if (err)
		return err;
	if (mount("lazyroot", WORKER_MERGED_DIR, "tmpfs",
		  MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0711") < 0)
		return error_errno(errno, "mount a file system on " WORKER_MERGED_DIR);
	return NULL;
}

static struct error *worker_fresh_dir(const char *path)
{
	struct error *err = file_remove_tree(AT_FDCWD, path);

	if (err)
		return error_wrap(err, "remove what the last run left");
	return file_mkdirs(AT_FDCWD, path, 0755);
}

/* How many slots there are to be; FAILED_PRECONDITION where no descriptors are for them.
 */
static struct error *worker_count_slots(unsigned int wanted, unsigned int *n_out)
{
	size_t limit = process_descriptors();
	size_t most = limit > WORKER_DESCRIPTORS
			      ? (limit - WORKER_DESCRIPTORS) / WORKER_SLOT_DESCRIPTORS
			      : 0;
	long n_processors = sysconf(_SC_NPROCESSORS_ONLN);

	if (!wanted && most) {
		*n_out = n_processors > 0 && (size_t)n_processors < most
				 ? (unsigned int)n_processors
				 : (unsigned int)most;
		return NULL;
	}
	*n_out = wanted;
	if (wanted && wanted <= most)
		return NULL;
	return error_new(
		ERROR_FAILED_PRECONDITION,
		"%u slots need %u open files, and the hard limit is %zu: raise it "
		"(ulimit -Hn, systemd's LimitNOFILE=)%s",
		wanted ? wanted : 1,
		WORKER_DESCRIPTORS + (wanted ? wanted : 1) * WORKER_SLOT_DESCRIPTORS,
		limit, most ? ", or give fewer --slots" : "");
}

/* How many instances there may be beside what the slots need. */
static size_t worker_count_sites(const struct worker *worker)
{
	size_t used = WORKER_DESCRIPTORS + worker->n_slots * WORKER_SLOT_DESCRIPTORS;
	size_t limit = process_descriptors();
	size_t more = limit > used ? (limit - used) / WORKER_SITE_DESCRIPTORS : 0;

	return more < SITES_MAX - 1 ? more + 1 : SITES_MAX;
}

/* Putting it together */

static struct error *worker_connect(struct worker *worker,
				    const struct worker_config *config)
{
	struct rpc_chan_config chan = {.address = config->server,
				       .tool_name = "lazyroot-worker"};
	struct error *err;

	rpc_creds_options_apply(config->creds, &chan);
	err = rpc_chan_new(&chan, &worker->server_chan);
	if (err)
		return error_wrap(err, "--server");
	if (config->cas) {
		chan.address = config->cas;
		err = rpc_chan_new(&chan, &worker->cas_chan);
	}
	return error_wrap(err, "--cas");
}

static struct error *worker_open_cache(struct worker *worker,
				       const struct worker_config *config)
{
	struct store_config store = {.dir = config->cache,
				     .size_limit = config->cache_size};
	struct error *err;

	err = store_open(&store, &worker->store);
	if (err)
		return err;
	worker->mount_dir = alloc_printf("%s/mount", config->cache);
	worker->actions_dir = alloc_printf("%s/actions", config->cache);
	err = worker_fresh_dir(worker->actions_dir);
	if (!err)
		err = pool_new("disk", WORKER_POOL_THREADS, &worker->pool);
	if (!err)
		err = pool_new("background", worker->n_slots + 1, &worker->background);
	return err;
}

/* Which transport the requests take, and why. */
static const char *worker_transport(const struct session *session)
{
	_cleanup_buf_ struct buf enabled = BUF_INIT;
	struct error *err;

	if (session_has_uring(session))
		return "FUSE over io_uring";
	err = file_read_all(AT_FDCWD, "/sys/module/fuse/parameters/enable_uring", 16,
			    &enabled);
	if (err) {
		error_free(err);
		return "classic FUSE (this kernel has no FUSE over io_uring)";
	}
	return *buf_string(&enabled) == 'Y'
		       ? "classic FUSE (io_uring is enabled, but cannot be used here)"
		       : "classic FUSE (the kernel's parameter fuse.enable_uring is N)";
}

/* A command in the place where all will be: its root may be one that cannot. */
static struct error *worker_probe(struct worker *worker,
				  const struct worker_config *config)
{
	_cleanup_fd_ int fd = -1;
	struct layout_config layout = {
		.merged = WORKER_MERGED_DIR "/probe",
		.root_path = worker->root_path,
		.dir = worker->actions_dir,
		.prefix = WORKER_MERGED_DIR "/probe",
		.etc = WORKER_ETC_DIR,
		.uid = ACCOUNTS_UID,
		.gid = ACCOUNTS_UID,
	};
	struct error *err = file_mkdirs(AT_FDCWD, layout.merged, 0755);

	if (!err)
		err = file_open_dir(AT_FDCWD, layout.merged, &fd);
	layout.merged_fd = fd;
	if (!err)
		err = sandbox_probe(&worker->tools, &config->user,
				    buf_slice(&worker->filter), &layout);
	(void)rmdir(layout.merged);
	return err;
}

static struct error *worker_make_sites(struct worker *worker,
				       const struct worker_config *config)
{
	_cleanup_free_ char *profiles = alloc_printf("%s/profiles.sqlite", config->cache);
	struct sites_config sites = {
		.common =
			{
				.store = worker->store,
				.pool = worker->pool,
				.background = worker->background,
				.tools = &worker->tools,
				.cgroups = config->cgroups,
				.limits = config->limits,
				.upper = config->upper,
				.allow = config->allow,
				.filter = buf_slice(&worker->filter),
				.actions_dir = worker->actions_dir,
				.merged_dir = WORKER_MERGED_DIR,
				.etc_dir = WORKER_ETC_DIR,
				.user = config->user,
				.root_path = worker->root_path,
				.worker_name = worker->name,
				.entries_max = config->entries_max,
				.wait_limit_ns = config->wait_limit_ns,
			},
		.chan = worker->cas_chan ? worker->cas_chan : worker->server_chan,
		.instance = config->instance,
		.mount_dir = worker->mount_dir,
		.want_passthrough = config->want_passthrough,
		.profiles = config->want_foresight ? profiles : NULL,
		.share_profiles = config->share_profiles,
		.n_max = worker_count_sites(worker),
	};

	return sites_new(&sites, &worker->sites);
}

/* Before any thread but this one touches what we mounted. */
static struct error *worker_call_warden(struct worker *worker, const char *cache)
{
	_cleanup_free_ char *dir = realpath(cache, NULL);

	if (!dir)
		return error_errno(errno, "find %s", cache);
	return warden_new(worker->tools.program, dir, &worker->warden);
}

static struct error *worker_mount(struct worker *worker,
				  const struct worker_config *config)
{
	_cleanup_buf_ struct buf limits = BUF_INIT;
	const struct session *session;
	struct error *err;

	err = overlay_probe(worker->actions_dir);
	if (!err)
		err = upper_probe(config->upper, worker->actions_dir,
				  WORKER_MERGED_DIR "/probe");
	if (!err)
		err = sandbox_find_tools(&worker->tools);
	if (!err)
		err = filter_make(config->allow, &worker->filter);
	if (!err)
		err = accounts_write(WORKER_ETC_DIR, ACCOUNTS_UID, ACCOUNTS_UID, false);
	if (!err)
		err = worker_make_sites(worker, config);
	if (!err)
		err = worker_call_warden(worker, config->cache);
	if (!err)
		err = worker_probe(worker, config);
	if (err)
		return err;
	session = sites_at(worker->sites, 0)->session;
	if (!filter_is_possible())
		log_warn("this kernel has no seccomp: commands may use all its system "
			 "calls, whatever --allow says");
	cgroups_describe(config->cgroups, &limits);
	log_info("data path: %s, %s; process trees end by %s%s%s",
		 session_mode_used(session) == SESSION_PASSTHROUGH
			 ? "passthrough (asked for)"
			 : "page cache (the default)",
		 worker_transport(session),
		 config->cgroups->base ? "cgroup.kill" : "their pid namespace",
		 config->cgroups->base ? "" : ": ", config->cgroups->reason);
	log_info("limits: %s; disk by %s; outputs and logs by counting",
		 buf_string(&limits),
		 config->upper == UPPER_DIR
			 ? "the size of /tmp, RLIMIT_FSIZE and counting"
			 : "a file system of that size for each action");
	return NULL;
}

static void worker_write_page(const void *page, struct buf *out)
{
	metrics_write(page, out);
}

static struct error *worker_serve_metrics(struct worker *worker,
					  const struct worker_config *config)
{
	struct metrics_http_config http = {.address = config->metrics,
					   .write = worker_write_page,
					   .page = &worker->page};

	worker->page = (struct metrics_page){.metrics = worker->metrics,
					     .sites = worker->sites,
					     .server_chan = worker->server_chan,
					     .n_slots = worker->n_slots};
	if (!config->metrics)
		return NULL;
	return error_wrap(metrics_http_start(&http, &worker->metrics_http), "--metrics");
}

struct error *worker_new(const struct worker_config *config, struct worker **out)
{
	_cleanup_(worker_freep) struct worker *worker = alloc_new(struct worker);
	struct error *err;

	worker->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	worker->name = alloc_string(config->name);
	worker->root_path = alloc_string(config->root_path);
	worker->metrics = metrics_new();
	err = worker_check_machine(config->cache);
	if (!err)
		err = worker_count_slots(config->n_slots, &worker->n_slots);
	if (!err)
		err = worker_connect(worker, config);
	if (!err)
		err = worker_open_cache(worker, config);
	if (!err)
		err = worker_mount(worker, config);
	if (err)
		return err;
	worker->source_kind = config->source;
	worker->source_config = (struct source_config){
		.chan = worker->server_chan,
		.cas_chan = worker->cas_chan ? worker->cas_chan : worker->server_chan,
		.instance = config->instance,
		.worker_id = worker->name,
		.n_slots = worker->n_slots,
		.size_class = config->size_class,
		.properties = config->properties,
		.n_properties = config->n_properties,
		.events = &worker->events,
	};
	err = live_logs_new(worker->server_chan, worker->n_slots, &worker->logs);
	if (!err)
		err = slots_new(worker->sites, worker->metrics, worker->logs,
				worker->n_slots, &worker->slots);
	if (!err)
		err = worker_serve_metrics(worker, config);
	if (err)
		return err;
	*out = take(worker);
	return NULL;
}

void *worker_free(struct worker *worker)
{
	if (!worker)
		return NULL;
	if (worker->sites)
		sites_give_up(worker->sites);
	metrics_http_free(worker->metrics_http); /* it asks all the others */
	slots_free(worker->slots); /* its last reports still need the source */
	live_logs_free(worker->logs);
	source_free(worker->source);
	pool_free(worker->background);
	sites_free(worker->sites);
	warden_free(worker->warden);
	pool_free(worker->pool);
	rpc_chan_free(worker->cas_chan);
	rpc_chan_free(worker->server_chan);
	store_close(worker->store);
	sandbox_tools_deinit(&worker->tools);
	buf_deinit(&worker->filter);
	metrics_free(worker->metrics);
	error_free(atomic_load(&worker->end_error));
	cleanup_fd(&worker->end_fd);
	free(worker->mount_dir);
	free(worker->actions_dir);
	free(worker->root_path);
	free(worker->name);
	free(worker);
	return NULL;
}

/* Events of the source, on its thread */

static void worker_on_assign(void *ctx, struct source_lease *lease)
{
	struct worker *worker = ctx;

	slots_assign(worker->slots, lease);
}

static void worker_on_cancel(void *ctx, const char *id)
{
	struct worker *worker = ctx;

	slots_cancel(worker->slots, id);
}

static void worker_on_ended(void *ctx, struct error *err)
{
	struct worker *worker = ctx;

	atomic_store(&worker->end_error, err);
	(void)eventfd_write(worker->end_fd, 1);
}

static void worker_on_ready(void *ctx, const char *name)
{
	struct worker *worker = ctx;

	worker->ready(name);
}

struct error *worker_start(struct worker *worker, void (*ready)(const char *name))
{
	struct error *err;

	worker->ready = ready;
	worker->events = (struct source_events){
		.assign = worker_on_assign,
		.cancel = worker_on_cancel,
		.ended = worker_on_ended,
		.ready = worker_on_ready,
		.ctx = worker,
	};
	err = worker->source_kind->start(&worker->source_config, &worker->source);
	if (!err)
		slots_set_source(worker->slots, worker->source);
	return err;
}

int worker_end_fd(const struct worker *worker)
{
	return worker->end_fd;
}

struct error *worker_end_error(struct worker *worker)
{
	return atomic_exchange(&worker->end_error, NULL);
}

int worker_mount_fd(const struct worker *worker)
{
	return sites_end_fd(worker->sites);
}

void worker_drain(struct worker *worker)
{
	source_drain(worker->source);
}

void worker_abort(struct worker *worker)
{
	slots_cancel(worker->slots, NULL);
	sites_give_up(worker->sites);
	source_drain(worker->source);
}
