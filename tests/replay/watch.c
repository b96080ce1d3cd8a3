/*
 * Runs a command and prints what it opens of the file system that a directory stands in:
 *
 *	watch TOP ROOT WORKDIR COMMAND...
 *
 * The command's output goes to the standard error. A line an open: microseconds since the
 *command's start, its program, the path from TOP
 * ("." for TOP itself), between tabs; last a line "end", with how long the command ran.
 * ROOT is where the command's root is ("/": where ours is). Exits as the command does.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t watch_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void watch_fail(const char *what)
{
	fprintf(stderr, "watch: %s: %s\n", what, strerror(errno));
	exit(125);
}

static void watch_program(pid_t pid, char name[32])
{
	char path[64];
	ssize_t n = -1;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, name, 31);
		close(fd);
	}
	name[n > 0 ? n - 1 : 0] = '\0';
}

static void watch_print(const struct fanotify_event_metadata *event, const char *top,
			int64_t us)
{
	char link[64];
	char path[4096];
	char program[32];
	size_t len = strlen(top);
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", event->fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	if (strncmp(path, top, len) != 0 || (path[len] && path[len] != '/'))
		return;
	watch_program(event->pid, program);
	printf("%" PRId64 "\t%s\t%s\n", us, program, path[len] ? path + len + 1 : ".");
}

static void watch_drain(int fd, const char *top, int64_t start_us)
{
	_Alignas(struct fanotify_event_metadata) char buffer[16384];
	ssize_t n;

	while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
		int64_t us = watch_now_us() - start_us;
		struct fanotify_event_metadata *event = (void *)buffer;

		for (; FAN_EVENT_OK(event, n); event = FAN_EVENT_NEXT(event, n)) {
			if (event->fd < 0)
				continue;
			watch_print(event, top, us);
			close(event->fd);
		}
	}
}

static void watch_exec(const char *root, const char *workdir, char **command)
{
	/* not to a null device, for which some programs do less */
	if (dup2(STDERR_FILENO, STDOUT_FILENO) < 0 || chroot(root) != 0 ||
	    chdir("/") != 0 || chdir(workdir) != 0)
		watch_fail(workdir);
	execvp(command[0], command);
	watch_fail(command[0]);
}

int main(int argc, char **argv)
{
	int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC |
				       FAN_UNLIMITED_QUEUE,
			       O_RDONLY | O_LARGEFILE | O_CLOEXEC | O_NOATIME);
	struct pollfd fds[2];
	int64_t start_us;
	int status = 0;
	pid_t pid;

	if (argc < 5)
		return 125;
	if (fd < 0 || fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM,
				    FAN_OPEN | FAN_ONDIR, AT_FDCWD, argv[1]) != 0)
		watch_fail(argv[1]);
	start_us = watch_now_us();
	pid = fork();
	if (pid == 0)
		watch_exec(argv[2], argv[3], argv + 4);
	fds[0] = (struct pollfd){.fd = fd, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = (int)syscall(SYS_pidfd_open, pid, 0),
				 .events = POLLIN};
	while (pid > 0 && !fds[1].revents) {
		(void)poll(fds, 2, -1);
		watch_drain(fd, argv[1], start_us);
	}
	printf("%" PRId64 "\tend\n", watch_now_us() - start_us);
	(void)waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}
