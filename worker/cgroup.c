/*
 * Owns the directories lazyroot-PID-N below our own cgroup. The PID in the name tells the
 * next worker what is left over. Threads: a cgroup is one job's.
 */
#include "worker/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"

#define LOG_MODULE "cgroup"
#include "lib/base/log.h"

#define CGROUP_DRAIN_MS                                                                  \
	2000 /* a killed process ends in microseconds, but for D state                   \
	      */

struct cgroup {
	char *path;
	int dir_fd;
};

static void cgroup_write(int dir_fd, const char *name, const char *text)
{
	_cleanup_fd_ int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		log_debug("write %s to %s: %s", text, name, strerror(errno));
}

static bool cgroup_is_populated(int dir_fd)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct error *err = file_read_all(dir_fd, "cgroup.events", 4096, &text);

	if (err) {
		error_free(err);
		return false;
	}
	return strstr(buf_string(&text), "populated 1") != NULL;
}

static void cgroup_drain(int dir_fd)
{
	int64_t until = clock_mono_ns() + CGROUP_DRAIN_MS * NS_PER_MS;

	cgroup_write(dir_fd, "cgroup.kill", "1");
	while (cgroup_is_populated(dir_fd) && clock_mono_ns() < until)
		clock_sleep_ms(1);
}

static void cgroup_remove_leftover(int base_fd, const char *name)
{
	_cleanup_fd_ int fd = -1;
	unsigned int number;
	int pid;

	if (sscanf(name, "lazyroot-%d-%u", &pid, &number) != 2)
		return;
	if (pid == getpid() || kill(pid, 0) == 0 || errno != ESRCH)
		return;
	fd = openat(base_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	cgroup_drain(fd);
	if (unlinkat(base_fd, name, AT_REMOVEDIR) < 0)
		log_warn("remove cgroup %s: %s", name, strerror(errno));
	else
		log_info("removed cgroup %s, left by a worker that is gone", name);
}

static void cgroup_remove_leftovers(const char *base)
{
	DIR *dir = opendir(base);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		cgroup_remove_leftover(dirfd(dir), entry->d_name);
	(void)closedir(dir);
}

/* The line "0::/path" of /proc/self/cgroup. */
static char *cgroup_own_path(void)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct error *err = file_read_all(AT_FDCWD, "/proc/self/cgroup", 65536, &text);
	char *line = err ? NULL : strstr((char *)text.data, "0::");

	error_free(err);
	if (!line || (line != (char *)text.data && line[-1] != '\n'))
		return NULL;
	line += 3;
	line[strcspn(line, "\n")] = '\0';
	return alloc_string(line);
}

char *cgroup_find_base(const char **reason_out)
{
	static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	_cleanup_free_ char *own = cgroup_own_path();

	*reason_out = "no cgroup v2 tree is mounted";
	for (size_t i = 0; own && i < ARRAY_SIZE(mounts); i++) {
		_cleanup_free_ char *base =
			alloc_printf("%s%s", mounts[i], strcmp(own, "/") == 0 ? "" : own);
		_cleanup_free_ char *probe =
			alloc_printf("%s/lazyroot-%d-0", base, getpid());
		_cleanup_free_ char *file = alloc_printf("%s/cgroup.kill", probe);

		if (mkdir(probe, 0755) < 0 && errno != EEXIST) {
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

struct error *cgroup_new(const char *base, unsigned int number, struct cgroup **out)
{
	_cleanup_(cgroup_freep) struct cgroup *cgroup = alloc_new(struct cgroup);

	cgroup->dir_fd = -1;
	cgroup->path = alloc_printf("%s/lazyroot-%d-%u", base, getpid(), number);
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

void cgroup_kill(const struct cgroup *cgroup)
{
	cgroup_write(cgroup->dir_fd, "cgroup.kill", "1");
}

void *cgroup_free(struct cgroup *cgroup)
{
	if (!cgroup)
		return NULL;
	if (cgroup->dir_fd >= 0 && cgroup_is_populated(cgroup->dir_fd))
		cgroup_drain(cgroup->dir_fd);
	if (cgroup->dir_fd >= 0) {
		(void)close(cgroup->dir_fd);
		if (rmdir(cgroup->path) < 0)
			log_warn("remove cgroup %s: %s", cgroup->path, strerror(errno));
	}
	free(cgroup->path);
	free(cgroup);
	return NULL;
}
