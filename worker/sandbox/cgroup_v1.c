/*
 * Owns the directories lazyroot-PID-slotN of each v1 controller that is used. Between two
 * actions nothing of the first runs, but its page cache stays charged here: it is the
 * warm cache of the next, so it is left, and the peak is told above what was there at the
 * beginning. The kernel gives it up where an action needs the room.
 *
 * Threads: a slot's.
 */
#include "worker/sandbox/cgroup_v1.h"

#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "worker/sandbox/cgroup_file.h"

#define LOG_MODULE "cgroup"
#include "lib/base/log.h"

#define CGROUP_V1_EXTRA (CGROUP_PIDS_EXTRA + 1) /* the launcher */
#define CGROUP_V1_DRAIN_MS                                                               \
	10000 /* a busy machine takes its time to end what was killed */
#define CGROUP_V1_FILE_MAX 4096

/* Files that are read or written for each action, kept open. */
enum cgroup_v1_file {
	CGROUP_V1_USAGE,
	CGROUP_V1_PEAK,
	CGROUP_V1_OOM,
	CGROUP_V1_EVENTS,
};
#define CGROUP_V1_FILE_N 4

struct cgroup_v1 {
	char *paths[CGROUP_CONTROLLER_N]; /* NULL where v1 does not have it */
	char *joins[CGROUP_CONTROLLER_N + 1];
	int dir_fds[CGROUP_CONTROLLER_N];
	int fds[CGROUP_V1_FILE_N];
	int64_t limits[CGROUP_CONTROLLER_N]; /* as they are set now */
	int64_t usage_before;
	int64_t oom_before;
	int64_t refused_before;
};

static const struct {
	const char *name;
	enum cgroup_controller of;
	int flags;
} cgroup_v1_files[CGROUP_V1_FILE_N] = {
	[CGROUP_V1_USAGE] = {"memory.usage_in_bytes", CGROUP_MEMORY, O_RDONLY},
	[CGROUP_V1_PEAK] = {"memory.max_usage_in_bytes", CGROUP_MEMORY, O_RDWR},
	[CGROUP_V1_OOM] = {"memory.oom_control", CGROUP_MEMORY, O_RDONLY},
	[CGROUP_V1_EVENTS] = {"pids.events", CGROUP_PIDS, O_RDONLY},
};

char *cgroup_v1_find_base(const char *controller, const char *probe_file,
			  const char **reason_out)
{
	_cleanup_free_ char *own = cgroup_own_path(controller);

	if (!own) {
		*reason_out = "no such controller";
		return NULL;
	}
	for (int i = 0; i < 2; i++) {
		/* in a container the mount may show less than the path names */
		_cleanup_free_ char *base =
			alloc_printf("/sys/fs/cgroup/%s%s", controller, i ? "" : own);
		_cleanup_free_ char *probe =
			alloc_printf("%s/lazyroot-%d-probe", base, getpid());
		_cleanup_free_ char *file = alloc_printf("%s/%s", probe, probe_file);
		bool can_limit;

		if (mkdir(probe, 0755) < 0 && errno != EEXIST) {
			*reason_out = strerror(errno);
			continue;
		}
		can_limit = access(file, W_OK) == 0;
		(void)rmdir(probe);
		if (can_limit)
			return take(base);
		*reason_out = "it cannot be written";
	}
	return NULL;
}

/* What lived there is dead or dying: killed with its worker. */
static bool cgroup_v1_remove(int base_fd, const char *path)
{
	int64_t until = clock_mono_ns() + CGROUP_V1_DRAIN_MS * NS_PER_MS;

	while (unlinkat(base_fd, path, AT_REMOVEDIR) < 0) {
		if (errno != EBUSY || clock_mono_ns() > until) {
			log_warn("remove cgroup %s: %s", path, strerror(errno));
			return false;
		}
		clock_sleep_ms(1);
	}
	return true;
}

void cgroup_v1_remove_leftovers(const char *base)
{
	DIR *dir = opendir(base);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (cgroup_dead_owner(entry->d_name) &&
		    cgroup_v1_remove(dirfd(dir), entry->d_name))
			log_info("removed cgroup %s/%s, left by a worker that is gone",
				 base, entry->d_name);
	}
	(void)closedir(dir);
}

static int64_t cgroup_v1_read(const struct cgroup_v1 *cgroup, enum cgroup_v1_file which,
			      const char *key)
{
	char text[CGROUP_V1_FILE_MAX];
	ssize_t n = cgroup->fds[which] < 0
			    ? -1
			    : pread(cgroup->fds[which], text, sizeof(text) - 1, 0);

	if (n < 0)
		return -1;
	text[n] = '\0';
	return cgroup_number(text, key);
}

struct error *cgroup_v1_new(const struct cgroups *cgroups, unsigned int slot,
			    struct cgroup_v1 **out)
{
	_cleanup_(cgroup_v1_freep) struct cgroup_v1 *cgroup = alloc_new(struct cgroup_v1);
	size_t n_joins = 0;

	memset(cgroup->dir_fds, 0xff, sizeof(cgroup->dir_fds));
	memset(cgroup->fds, 0xff, sizeof(cgroup->fds));
	for (size_t i = 0; i < CGROUP_CONTROLLER_N; i++) {
		char *path;

		cgroup->limits[i] = INT64_MAX;
		if (cgroups->how[i] != CGROUP_V1)
			continue;
		path = alloc_printf("%s/lazyroot-%d-slot%u", cgroups->v1_bases[i],
				    getpid(), slot);
		cgroup->paths[i] = path;
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return error_errno(errno, "make cgroup %s", path);
		cgroup->dir_fds[i] = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (cgroup->dir_fds[i] < 0)
			return error_errno(errno, "open cgroup %s", path);
		cgroup->joins[n_joins++] = alloc_printf("%s/cgroup.procs", path);
	}
	for (size_t i = 0; i < CGROUP_V1_FILE_N; i++) {
		int dir_fd = cgroup->dir_fds[cgroup_v1_files[i].of];

		if (dir_fd >= 0)
			cgroup->fds[i] = openat(dir_fd, cgroup_v1_files[i].name,
						cgroup_v1_files[i].flags | O_CLOEXEC);
	}
	*out = take(cgroup);
	return NULL;
}

void *cgroup_v1_free(struct cgroup_v1 *cgroup)
{
	if (!cgroup)
		return NULL;
	for (size_t i = 0; i < CGROUP_V1_FILE_N; i++)
		cleanup_fd(&cgroup->fds[i]);
	for (size_t i = 0; i < CGROUP_CONTROLLER_N; i++) {
		if (cgroup->dir_fds[i] >= 0) {
			(void)close(cgroup->dir_fds[i]);
			(void)cgroup_v1_remove(AT_FDCWD, cgroup->paths[i]);
		}
		free(cgroup->paths[i]);
		free(cgroup->joins[i]);
	}
	free(cgroup);
	return NULL;
}

const char *const *cgroup_v1_joins(const struct cgroup_v1 *cgroup)
{
	return (const char *const *)cgroup->joins;
}

static bool cgroup_v1_write(const struct cgroup_v1 *cgroup, enum cgroup_controller which,
			    const char *name, int64_t value, const char *none)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRId64, value);
	return cgroup_write_file(cgroup->dir_fds[which], name,
				 value == INT64_MAX ? none : text);
}

static struct error *cgroup_v1_limit_memory(struct cgroup_v1 *cgroup, int64_t value)
{
	/* with swap is never less than without, whichever way both go */
	(void)cgroup_v1_write(cgroup, CGROUP_MEMORY, "memory.memsw.limit_in_bytes",
			      INT64_MAX, "-1");
	if (!cgroup_v1_write(cgroup, CGROUP_MEMORY, "memory.limit_in_bytes", value, "-1"))
		return error_errno(errno, "limit memory in %s",
				   cgroup->paths[CGROUP_MEMORY]);
	(void)cgroup_v1_write(cgroup, CGROUP_MEMORY, "memory.memsw.limit_in_bytes", value,
			      "-1");
	cgroup->limits[CGROUP_MEMORY] = value;
	return NULL;
}

static struct error *cgroup_v1_limit_pids(struct cgroup_v1 *cgroup, int64_t value)
{
	if (!cgroup_v1_write(cgroup, CGROUP_PIDS, "pids.max",
			     value == INT64_MAX ? value : value + CGROUP_V1_EXTRA, "max"))
		return error_errno(errno, "limit processes in %s",
				   cgroup->paths[CGROUP_PIDS]);
	cgroup->limits[CGROUP_PIDS] = value;
	return NULL;
}

struct error *cgroup_v1_begin(struct cgroup_v1 *cgroup, int64_t memory, int64_t pids)
{
	struct error *err = NULL;

	if (cgroup->paths[CGROUP_MEMORY] && memory != cgroup->limits[CGROUP_MEMORY])
		err = cgroup_v1_limit_memory(cgroup, memory);
	if (!err && cgroup->paths[CGROUP_PIDS] && pids != cgroup->limits[CGROUP_PIDS])
		err = cgroup_v1_limit_pids(cgroup, pids);
	cgroup->usage_before = cgroup_v1_read(cgroup, CGROUP_V1_USAGE, "");
	cgroup->oom_before = cgroup_v1_read(cgroup, CGROUP_V1_OOM, "oom_kill");
	cgroup->refused_before = cgroup_v1_read(cgroup, CGROUP_V1_EVENTS, "max");
	if (cgroup->fds[CGROUP_V1_PEAK] >= 0 &&
	    pwrite(cgroup->fds[CGROUP_V1_PEAK], "0", 1, 0) < 0)
		log_debug("reset the peak of memory: %s", strerror(errno));
	return err;
}

static int64_t cgroup_v1_count(const struct cgroup_v1 *cgroup, enum cgroup_v1_file which,
			       const char *key, int64_t before)
{
	int64_t now = cgroup_v1_read(cgroup, which, key);

	return now < 0 || before < 0 ? -1 : now - before;
}

void cgroup_v1_read_usage(const struct cgroup_v1 *cgroup, struct cgroup_usage *usage)
{
	if (cgroup->paths[CGROUP_MEMORY]) {
		usage->peak_memory =
			cgroup_v1_count(cgroup, CGROUP_V1_PEAK, "", cgroup->usage_before);
		usage->n_oom_kills = cgroup_v1_count(cgroup, CGROUP_V1_OOM, "oom_kill",
						     cgroup->oom_before);
	}
	if (cgroup->paths[CGROUP_PIDS])
		usage->n_refused_forks = cgroup_v1_count(cgroup, CGROUP_V1_EVENTS, "max",
							 cgroup->refused_before);
}
