/* Owns the count of writes. */
#include "worker/sandbox/cgroup_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/buf.h"
#include "lib/base/file.h"

#define LOG_MODULE "cgroup"
#include "lib/base/log.h"

#define CGROUP_FILE_MAX 65536

static atomic_uint cgroup_write_count;

bool cgroup_write_file(int dir_fd, const char *name, const char *text)
{
	_cleanup_fd_ int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);

	atomic_fetch_add(&cgroup_write_count, 1);
	if (fd >= 0 && write(fd, text, strlen(text)) >= 0)
		return true;
	log_debug("write %s to %s: %s", text, name, strerror(errno));
	return false;
}

unsigned int cgroup_n_writes(void)
{
	return atomic_load(&cgroup_write_count);
}

int64_t cgroup_number(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line && *line;) {
		const char *end = strchr(line, '\n');
		int64_t value;

		if (strncmp(line, key, len) == 0 && (!len || line[len] == ' ') &&
		    sscanf(line + len, "%" SCNd64, &value) == 1)
			return value;
		line = end ? end + 1 : NULL;
	}
	return -1;
}

int cgroup_dead_owner(const char *name)
{
	int pid;

	if (sscanf(name, "lazyroot-%d-", &pid) != 1 || pid <= 0)
		return 0;
	return pid != getpid() && kill(pid, 0) < 0 && errno == ESRCH ? pid : 0;
}

char *cgroup_own_path(const char *controller)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_error_ struct error *err =
		file_read_all(AT_FDCWD, "/proc/self/cgroup", CGROUP_FILE_MAX, &text);
	char *rest = err ? NULL : (char *)text.data;

	/* NUMBER:CONTROLLER,CONTROLLER:PATH */
	for (char *line; (line = strsep(&rest, "\n"));) {
		char *path = line;
		char *names;

		(void)strsep(&path, ":");
		names = strsep(&path, ":");
		if (!path)
			continue;
		if (!*controller && !*names)
			return alloc_string(path);
		for (char *name; *controller && (name = strsep(&names, ","));)
			if (strcmp(name, controller) == 0)
				return alloc_string(path);
	}
	return NULL;
}
