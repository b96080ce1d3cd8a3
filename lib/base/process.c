/* Owns nothing: the kernel keeps all of it. */
#include "lib/base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/file.h"

#define LOG_MODULE "process"
#include "lib/base/log.h"

/* Of 1000: sshd and the like stand lower; ordinary programs are at 0, actions above. */
#define PROCESS_OOM_SCORE "-500"
#define PROCESS_ROOM      512 /* descriptors */

void process_keep_standard(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		/* the lowest number that is free, which is this one */
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			return;
	}
}

/* The kernel's table of descriptors grows by an RCU grace period (10 ms and more) where
 * threads share it: it has room for a while before there are any. */
static void process_make_room(void)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, PROCESS_ROOM - 1);

	if (fd >= 0)
		(void)close(fd);
}

void process_raise_descriptors(void)
{
	struct rlimit limit;

	process_make_room();

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warn("raise the limit of open files: %s", strerror(errno));
}

size_t process_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > SIZE_MAX)
		return SIZE_MAX;
	return (size_t)limit.rlim_cur;
}

void process_outlive_others(void)
{
	_cleanup_fd_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, PROCESS_OOM_SCORE, strlen(PROCESS_OOM_SCORE)) < 0)
		log_debug("lower the OOM score: %s", strerror(errno));
}
