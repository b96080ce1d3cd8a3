/*
 * Owns the directories lazyroot-PID-N below our own cgroup. The PID in the name tells the
 * next worker what is left over.
 *
 * A controller of cgroup v2 is there for children only where the parent's subtree_control
 * names it, and then no process may live in the parent itself (but in the root cgroup): a
 * worker that is alone there moves into lazyroot-PID-worker first, and back at its end.
 * The kernel does not refuse all that is wrong here: with pids alone it would make the
 * children threaded, in which nothing can be born.
 *
 * Threads: struct cgroups is main's and does not change while others read it; a cgroup is
 * one job's.
 */
#include "worker/sandbox/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "worker/sandbox/cgroup_file.h"
#include "worker/sandbox/cgroup_v1.h"

#define LOG_MODULE "cgroup"
#include "lib/base/log.h"

#define CGROUP_DRAIN_MS                                                                  \
	2000 /* a killed process ends in microseconds, but for D state                   \
	      */
#define CGROUP_FILE_MAX 65536

struct cgroup {
	char *path;
	int dir_fd;
};

static const struct {
	const char *name;
	const char *what;    /* for people */
	const char *v2_file; /* in a child's directory, where the controller is enabled */
	const char *v1_file;
} cgroup_controllers[CGROUP_CONTROLLER_N] = {
	[CGROUP_MEMORY] = {"memory", "memory", "memory.max", "memory.limit_in_bytes"},
	[CGROUP_PIDS] = {"pids", "processes", "pids.max", "pids.max"},
};

/* Files */

static int64_t cgroup_read_number(int dir_fd, const char *name, const char *key)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_error_ struct error *err =
		file_read_all(dir_fd, name, CGROUP_FILE_MAX, &text);

	return err ? -1 : cgroup_number(buf_string(&text), key);
}

/* Until nothing lives in the directory; the kernel tells when that changes. */
static void cgroup_drain(int dir_fd)
{
	int64_t until = clock_mono_ns() + CGROUP_DRAIN_MS * NS_PER_MS;
	_cleanup_fd_ int fd = openat(dir_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	bool is_killed = false;

	for (;;) {
		struct pollfd events = {.fd = fd, .events = POLLPRI};
		char text[256];
		ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
		int64_t left_ns = until - clock_mono_ns();

		text[n > 0 ? n : 0] = '\0';
		if (cgroup_number(text, "populated") != 1 || left_ns <= 0)
			return;
		if (!is_killed)
			(void)cgroup_write_file(dir_fd, "cgroup.kill", "1");
		else
			(void)poll(&events, 1, (int)(left_ns / NS_PER_MS) + 1);
		is_killed = true;
	}
}

/* Leftovers */

static void cgroup_remove_leftovers(const char *base)
{
	DIR *dir = opendir(base);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		_cleanup_fd_ int fd = -1;

		if (!cgroup_dead_owner(entry->d_name))
			continue;
		fd = openat(dirfd(dir), entry->d_name,
			    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			continue;
		cgroup_drain(fd);
		if (unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR) < 0)
			log_warn("remove cgroup %s: %s", entry->d_name, strerror(errno));
		else
			log_info("removed cgroup %s, left by a worker that is gone",
				 entry->d_name);
	}
	(void)closedir(dir);
}

/* What this machine has */

static char *cgroup_find_base(const char **reason_out)
{
	static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	_cleanup_free_ char *own = cgroup_own_path("");

	*reason_out = "no cgroup v2 tree is mounted";
	for (size_t i = 0; own && i < ARRAY_SIZE(mounts); i++) {
		_cleanup_free_ char *base =
			alloc_printf("%s%s", mounts[i], strcmp(own, "/") == 0 ? "" : own);
		_cleanup_free_ char *probe =
			alloc_printf("%s/lazyroot-%d-probe", base, getpid());
		_cleanup_free_ char *file = alloc_printf("%s/cgroup.kill", probe);

		if (mkdir(probe, 0755) < 0 && errno != EEXIST) {
			if (errno != ENOENT)
				*reason_out = strerror(errno);
			continue;
		}
		bool can_kill = access(file, W_OK) == 0;

		(void)rmdir(probe);
		if (!can_kill)
			continue; /* a cgroup v1 tree, or a kernel before 5.14 */
		cgroup_remove_leftovers(base);
		return take(base);
	}
	return NULL;
}

static bool cgroup_lists(int dir_fd, const char *file, const char *name)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_error_ struct error *err =
		file_read_all(dir_fd, file, CGROUP_FILE_MAX, &text);
	char *rest = err ? NULL : (char *)text.data;

	for (char *word; (word = strsep(&rest, " \n"));)
		if (strcmp(word, name) == 0)
			return true;
	return false;
}

static void cgroups_move_back(struct cgroups *cgroups)
{
	_cleanup_free_ char *procs = NULL;
	_cleanup_free_ char *own = take(cgroups->own);

	if (!own)
		return;
	procs = alloc_printf("%s/cgroup.procs", cgroups->base);
	if (!cgroup_write_file(AT_FDCWD, procs, "0") || rmdir(own) < 0)
		log_warn("leave cgroup %s: %s", own, strerror(errno));
}

static bool cgroup_is_root(int dir_fd)
{
	return faccessat(dir_fd, "cgroup.type", F_OK, 0) < 0;
}

static bool cgroup_has_processes(int dir_fd)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_error_ struct error *err =
		file_read_all(dir_fd, "cgroup.procs", CGROUP_FILE_MAX, &text);

	return err || text.len;
}

/* Moves this process into a directory of its own, so that the base has only children;
 * errno on failure. */
static bool cgroups_move_aside(struct cgroups *cgroups, int base_fd)
{
	_cleanup_free_ char *own =
		alloc_printf("%s/lazyroot-%d-worker", cgroups->base, getpid());
	_cleanup_free_ char *procs = alloc_printf("%s/cgroup.procs", own);

	if (cgroups->own || cgroup_is_root(base_fd))
		return true;
	if (mkdir(own, 0755) < 0 && errno != EEXIST)
		return false;
	if (!cgroup_write_file(AT_FDCWD, procs, "0")) {
		int errnum = errno;

		(void)rmdir(own);
		errno = errnum;
		return false;
	}
	cgroups->own = take(own);
	if (!cgroup_has_processes(base_fd))
		return true;
	cgroups_move_back(cgroups);
	errno = EBUSY;
	return false;
}

/* Makes the controller available to directories below the base; errno on failure. */
static bool cgroups_enable(struct cgroups *cgroups, int base_fd, const char *name)
{
	_cleanup_free_ char *word = alloc_printf("+%s", name);

	return cgroups_move_aside(cgroups, base_fd) &&
	       cgroup_write_file(base_fd, "cgroup.subtree_control", word);
}

/* NULL where the controller can be used below the base, or why it cannot. */
static char *cgroups_try_v2(struct cgroups *cgroups, enum cgroup_controller which)
{
	const char *name = cgroup_controllers[which].name;
	_cleanup_fd_ int base_fd = -1;

	if (!cgroups->base)
		return alloc_string(cgroups->reason);
	base_fd = open(cgroups->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup_lists(base_fd, "cgroup.subtree_control", name))
		return NULL;
	if (!cgroup_lists(base_fd, "cgroup.controllers", name))
		return alloc_printf("%s has no such controller", cgroups->base);
	if (cgroups_enable(cgroups, base_fd, name)) {
		cgroups->has_enabled[which] = true;
		return NULL;
	}
	if (errno == EBUSY)
		return alloc_printf("other processes live in %s too", cgroups->base);
	return alloc_printf("%s: %s", cgroups->base, strerror(errno));
}

static void cgroups_find_controller(struct cgroups *cgroups, enum cgroup_controller which)
{
	const char *reason = "";
	char *v2_reason = cgroups_try_v2(cgroups, which);

	if (!v2_reason) {
		cgroups->how[which] = CGROUP_V2;
		return;
	}
	cgroups->v1_bases[which] =
		cgroup_v1_find_base(cgroup_controllers[which].name,
				    cgroup_controllers[which].v1_file, &reason);
	if (cgroups->v1_bases[which]) {
		cgroups->how[which] = CGROUP_V1;
		cgroups->reasons[which] = v2_reason;
		cgroup_v1_remove_leftovers(cgroups->v1_bases[which]);
		return;
	}
	cgroups->reasons[which] = alloc_printf("v2: %s; v1: %s", v2_reason, reason);
	free(v2_reason);
}

struct cgroups *cgroups_new(void)
{
	struct cgroups *cgroups = alloc_new(struct cgroups);
	const char *reason;

	cgroups->base = cgroup_find_base(&reason);
	cgroups->reason = alloc_string(cgroups->base ? "" : reason);
	for (enum cgroup_controller i = 0; i < CGROUP_CONTROLLER_N; i++)
		cgroups_find_controller(cgroups, i);
	return cgroups;
}

void *cgroups_free(struct cgroups *cgroups)
{
	_cleanup_fd_ int base_fd = -1;

	if (!cgroups)
		return NULL;
	if (cgroups->base)
		base_fd = open(cgroups->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < CGROUP_CONTROLLER_N; i++) {
		_cleanup_free_ char *word =
			alloc_printf("-%s", cgroup_controllers[i].name);

		if (cgroups->has_enabled[i])
			(void)cgroup_write_file(base_fd, "cgroup.subtree_control", word);
		free(cgroups->v1_bases[i]);
		free(cgroups->reasons[i]);
	}
	cgroups_move_back(cgroups);
	free(cgroups->base);
	free(cgroups->reason);
	free(cgroups);
	return NULL;
}

void cgroups_describe(const struct cgroups *cgroups, struct buf *out)
{
	static const char *const without[CGROUP_CONTROLLER_N] = {
		[CGROUP_MEMORY] = "RLIMIT_DATA of each process",
		[CGROUP_PIDS] = "RLIMIT_NPROC in their user namespace",
	};

	for (size_t i = 0; i < CGROUP_CONTROLLER_N; i++) {
		const char *by = "cgroup v2";

		if (cgroups->how[i] == CGROUP_V1)
			by = "cgroup v1";
		else if (cgroups->how[i] == CGROUP_NOT)
			by = without[i];
		buf_printf(out, "%s%s by %s", i ? ", " : "", cgroup_controllers[i].what,
			   by);
		if (cgroups->reasons[i])
			buf_printf(out, " (%s)", cgroups->reasons[i]);
	}
	buf_printf(out, ", CPU time by %s",
		   cgroups->base ? "cgroup v2" : "RLIMIT_CPU of each process");
}

/* One action's directory */

struct error *cgroup_new(const struct cgroups *cgroups, unsigned int number,
			 struct cgroup **out)
{
	_cleanup_(cgroup_freep) struct cgroup *cgroup = alloc_new(struct cgroup);

	cgroup->dir_fd = -1;
	if (!cgroups->base)
		return error_new(ERROR_FAILED_PRECONDITION, "there is no cgroup v2");
	cgroup->path = alloc_printf("%s/lazyroot-%d-%u", cgroups->base, getpid(), number);
	if (mkdir(cgroup->path, 0755) < 0 && errno != EEXIST)
		return error_errno(errno, "make cgroup %s", cgroup->path);
	cgroup->dir_fd = open(cgroup->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup->dir_fd < 0)
		return error_errno(errno, "open cgroup %s", cgroup->path);
	*out = take(cgroup);
	return NULL;
}

int cgroup_dir_fd(const struct cgroup *cgroup)
{
	return cgroup->dir_fd;
}

struct error *cgroup_limit(const struct cgroup *cgroup, enum cgroup_controller which,
			   int64_t value)
{
	char text[24] = "max";

	if (value != INT64_MAX)
		(void)snprintf(text, sizeof(text), "%" PRId64,
			       which == CGROUP_PIDS ? value + CGROUP_PIDS_EXTRA : value);
	if (!cgroup_write_file(cgroup->dir_fd, cgroup_controllers[which].v2_file, text))
		return error_errno(errno, "write %s to %s in %s", text,
				   cgroup_controllers[which].v2_file, cgroup->path);
	if (which != CGROUP_MEMORY || value == INT64_MAX)
		return NULL;
	/* memory means memory; and what has lost one process is ended as a whole */
	(void)cgroup_write_file(cgroup->dir_fd, "memory.swap.max", "0");
	(void)cgroup_write_file(cgroup->dir_fd, "memory.oom.group", "1");
	return NULL;
}

int64_t cgroup_cpu_us(const struct cgroup *cgroup)
{
	return cgroup_read_number(cgroup->dir_fd, "cpu.stat", "usage_usec");
}

/* "8:0 rbytes=1 wbytes=2 …", a line a device. */
static void cgroup_read_io(int dir_fd, struct cgroup_usage *usage)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_error_ struct error *err =
		file_read_all(dir_fd, "io.stat", CGROUP_FILE_MAX, &text);
	char *rest = err ? NULL : (char *)text.data;

	if (err)
		return;
	usage->read_bytes = usage->written_bytes = 0;
	for (char *word; (word = strsep(&rest, " \n"));) {
		int64_t n;

		if (sscanf(word, "rbytes=%" SCNd64, &n) == 1)
			usage->read_bytes += n;
		else if (sscanf(word, "wbytes=%" SCNd64, &n) == 1)
			usage->written_bytes += n;
	}
}

void cgroup_read_usage(const struct cgroup *cgroup, struct cgroup_usage *usage)
{
	_cleanup_buf_ struct buf cpu = BUF_INIT;
	_cleanup_error_ struct error *err =
		file_read_all(cgroup->dir_fd, "cpu.stat", CGROUP_FILE_MAX, &cpu);

	if (!err) {
		usage->cpu_us = cgroup_number(buf_string(&cpu), "usage_usec");
		usage->cpu_user_us = cgroup_number(buf_string(&cpu), "user_usec");
		usage->cpu_system_us = cgroup_number(buf_string(&cpu), "system_usec");
	}
	if (faccessat(cgroup->dir_fd, "memory.peak", F_OK, 0) == 0) {
		usage->peak_memory =
			cgroup_read_number(cgroup->dir_fd, "memory.peak", "");
		usage->n_oom_kills =
			cgroup_read_number(cgroup->dir_fd, "memory.events", "oom_kill");
	}
	if (faccessat(cgroup->dir_fd, "pids.events", F_OK, 0) == 0)
		usage->n_refused_forks =
			cgroup_read_number(cgroup->dir_fd, "pids.events", "max");
	if (faccessat(cgroup->dir_fd, "io.stat", F_OK, 0) == 0)
		cgroup_read_io(cgroup->dir_fd, usage);
}

void cgroup_kill(const struct cgroup *cgroup)
{
	(void)cgroup_write_file(cgroup->dir_fd, "cgroup.kill", "1");
}

void *cgroup_free(struct cgroup *cgroup)
{
	if (!cgroup)
		return NULL;
	if (cgroup->dir_fd >= 0) {
		cgroup_drain(cgroup->dir_fd);
		(void)close(cgroup->dir_fd);
		if (rmdir(cgroup->path) < 0)
			log_warn("remove cgroup %s: %s", cgroup->path, strerror(errno));
	}
	free(cgroup->path);
	free(cgroup);
	return NULL;
}
