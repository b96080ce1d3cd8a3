/*
 * The launcher of one slot: starts bubblewrap, waits for it, tells how it ended. A
 * process of its own because of what a child inherits for nothing and would cost 10 ms
 * and more (an RCU grace period) to be given: the slot's cgroup v1 directories, which it
 * joins once at its start, and the cgroup v2 directory of the action, where the child is
 * born. It is small, so forking it is cheap, and single-threaded, so forking it is
 * allowed.
 *
 * It adopts what bubblewrap leaves (the namespace's pid 1, mostly, which ends a moment
 * later), and reports the end only when all is reaped: nothing of the command then runs,
 * and no zombie is left to an init that may not care, counting against the limit.
 *
 * It ends when its socket does, which is when the worker dies, however it dies; what it
 * started ends with it: by cgroup.kill where there is a directory, and by parent death.
 *
 * A plain command has no namespace whose end is the end of all: what it leaves comes to
 * us, as to its subreaper, and is killed child by child until none is left.
 */
#include "worker/sandbox/program.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVE_DESCRIPTORS 1024 /* the soft limit that commands expect */
/* Of 1000: actions are ended before all else where the machine's memory is short. */
#define SERVE_OOM_SCORE     "500"
#define SERVE_LOOK_AGAIN_MS 10
#define SERVE_FD_RESERVED   16 /* numbers below it mean something in the child */

struct serve {
	char *bwrap;
	int socket;
	int null;
	int self; /* this program's file, so that it can be executed inside, too */
	int cgroup;
	int signals;  /* SIGCHLD */
	pid_t child;  /* bubblewrap; 0: none, or reaped already */
	bool is_busy; /* an end is owed */
	bool is_plain;
	struct program_end end;
};

static void die(const char *what)
{
	(void)fprintf(stderr, "lazyroot-sandbox: %s: %s\n", what, strerror(errno));
	_exit(PROGRAM_BROKEN);
}

static int serve_raise(int fd)
{
	int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, SERVE_FD_RESERVED);

	if (high < 0)
		die("set up descriptors");
	(void)close(fd);
	return high;
}

/* So that no descriptor that arrives has a number that means something in the child. */
static void serve_reserve(struct serve *serve)
{
	serve->socket = serve_raise(PROGRAM_SOCKET_FD);
	serve->null = serve_raise(open("/dev/null", O_RDONLY | O_CLOEXEC));
	serve->self = serve_raise(open("/proc/self/exe", O_PATH | O_CLOEXEC));
	for (int fd = 3; fd < SERVE_FD_RESERVED; fd++)
		if (dup3(serve->null, fd, O_CLOEXEC) < 0)
			die("reserve descriptors");
}

static void serve_join(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "0", 1) != 1)
		die(path);
	(void)close(fd);
}

/* grace: between the signal that tells and the limit that ends. */
static void serve_limit(unsigned int resource, rlim_t value, rlim_t grace)
{
	struct rlimit limit = {value, value + grace};

	/* lowering always works; raising a limit that came from outside need not */
	if (value != RLIM_INFINITY)
		(void)setrlimit(resource, &limit);
}

/* What the worker has for itself is not for commands: of open files they get what a shell
 * would give them; where memory is short, they go first. */
static void serve_ordinary(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	struct rlimit files;

	/* a container may hide the file; then all are as they were */
	if (fd >= 0) {
		(void)!write(fd, SERVE_OOM_SCORE, strlen(SERVE_OOM_SCORE));
		(void)close(fd);
	}
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return;
	files.rlim_cur =
		files.rlim_max < SERVE_DESCRIPTORS ? files.rlim_max : SERVE_DESCRIPTORS;
	(void)setrlimit(RLIMIT_NOFILE, &files);
}

/* The program inside, by its descriptor, since there need be no /proc. */
static void serve_become_plain(const struct program_order *order, const int *fds,
			       char **argv)
{
	static char *const no_environment[] = {NULL};

	if (order->how == PROGRAM_CHROOT &&
	    (fchdir(fds[PROGRAM_FD_STATUS]) < 0 || chroot(".") < 0))
		die("change the root directory");
	if (fchdir(fds[PROGRAM_FD_ARGS]) < 0)
		die("change to the working directory");
	(void)syscall(SYS_execveat, 6, "", argv, no_environment, AT_EMPTY_PATH);
	die("start the command");
}

static void serve_become(const struct serve *serve, const struct program_order *order,
			 const int *fds, pid_t parent)
{
	static const struct {
		enum program_fd from;
		int to;
	} places[] = {{PROGRAM_FD_STDIN, 0},  {PROGRAM_FD_STDOUT, 1},
		      {PROGRAM_FD_STDERR, 2}, {PROGRAM_FD_ARGS, 3},
		      {PROGRAM_FD_STATUS, 4}, {PROGRAM_FD_COMMAND, 7}};
	static char *const no_environment[] = {NULL};
	static char program[] = "/proc/self/fd/6";
	sigset_t none;
	char *argv[] = {serve->bwrap, (char[]){"--args"}, (char[]){"3"}, (char[]){"--"},
			program,      (char[]){"exec"},   (char[]){"7"}, NULL};

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	serve_ordinary();
	/* before the signal of the parent's death, which this would clear. Who is it
	 * already need not have the right to become it */
	if ((order->uid != getuid() || order->gid != getgid()) &&
	    (setgroups(0, NULL) < 0 ||
	     setresgid(order->gid, order->gid, order->gid) < 0 ||
	     setresuid(order->uid, order->uid, order->uid) < 0))
		die("become the actions' user");
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(PROGRAM_BROKEN);
	if (dup2(serve->self, 6) < 0)
		die("hand descriptors on");
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (dup2(fds[places[i].from], places[i].to) < 0)
			die("hand descriptors on");
	serve_limit(RLIMIT_FSIZE, order->file_bytes, 0);
	serve_limit(RLIMIT_CPU, order->cpu_seconds, 1);
	serve_limit(RLIMIT_DATA, order->data_bytes, 0);
	if (order->how != PROGRAM_BWRAP)
		serve_become_plain(order, fds, argv + 4);
	(void)execve(serve->bwrap, argv, no_environment);
	die(serve->bwrap);
}

/* Everything of the command is gone: tells how it ended. */
static void serve_end(struct serve *serve)
{
	serve->is_busy = false;
	if (serve->cgroup >= 0)
		(void)close(serve->cgroup);
	serve->cgroup = -1;
	if (send(serve->socket, &serve->end, sizeof(serve->end), MSG_NOSIGNAL) < 0 &&
	    errno != EPIPE)
		die("answer");
}

static void serve_start(struct serve *serve, const struct program_order *order, int *fds)
{
	struct clone_args args = {
		.flags = fds[PROGRAM_FD_CGROUP] >= 0 ? CLONE_INTO_CGROUP : 0,
		.exit_signal = SIGCHLD,
		.cgroup = (unsigned int)fds[PROGRAM_FD_CGROUP],
	};
	pid_t self = getpid();
	pid_t child = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

	if (child == 0)
		serve_become(serve, order, fds, self);
	serve->is_busy = true;
	serve->is_plain = order->how != PROGRAM_BWRAP;
	serve->end = (struct program_end){.errnum = child < 0 ? errno : 0};
	serve->child = child < 0 ? 0 : child;
	serve->cgroup = fds[PROGRAM_FD_CGROUP];
	for (size_t i = 0; i < PROGRAM_FD_CGROUP; i++)
		(void)close(fds[i]);
	if (child < 0)
		serve_end(serve);
}

/* The parent of a process, 0 where it is gone. */
static pid_t serve_parent_of(const char *pid)
{
	char path[64];
	char stat[512];
	const char *name_end;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, stat, sizeof(stat) - 1);
	if (fd >= 0)
		(void)close(fd);
	if (n <= 0)
		return 0;
	stat[n] = '\0';
	name_end =
		strrchr(stat, ')'); /* a name may have anything in it: "PID (NAME) S" */
	return name_end && strlen(name_end) > 4 ? atoi(name_end + 4) : 0;
}

/* Those of a plain command that came to us; theirs come next. */
static void serve_kill_children(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	pid_t self = getpid();

	while (proc && (entry = readdir(proc)))
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    serve_parent_of(entry->d_name) == self)
			(void)kill(atoi(entry->d_name), SIGKILL);
	if (proc)
		(void)closedir(proc);
}

static void serve_kill(const struct serve *serve)
{
	int fd;

	if (serve->is_plain && serve->is_busy)
		serve_kill_children();

	if (serve->child)
		(void)kill(serve->child, SIGKILL);
	fd = serve->cgroup < 0
		     ? -1
		     : openat(serve->cgroup, "cgroup.kill", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "1", 1) < 0)
		(void)fprintf(stderr, "lazyroot-sandbox: cgroup.kill: %s\n",
			      strerror(errno));
	(void)close(fd);
}

static void serve_add_time(struct timeval *sum, const struct timeval *more)
{
	sum->tv_sec += more->tv_sec + (sum->tv_usec + more->tv_usec) / 1000000;
	sum->tv_usec = (sum->tv_usec + more->tv_usec) % 1000000;
}

static void serve_add_usage(struct rusage *sum, const struct rusage *more)
{
	serve_add_time(&sum->ru_utime, &more->ru_utime);
	serve_add_time(&sum->ru_stime, &more->ru_stime);
	sum->ru_inblock += more->ru_inblock;
	sum->ru_oublock += more->ru_oublock;
	if (more->ru_maxrss > sum->ru_maxrss)
		sum->ru_maxrss = more->ru_maxrss;
}

static void serve_reap(struct serve *serve)
{
	struct signalfd_siginfo info;
	struct rusage usage;
	int status;
	pid_t pid;

	while (read(serve->signals, &info, sizeof(info)) > 0)
		;
	while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
		serve_add_usage(&serve->end.usage, &usage);
		if (pid != serve->child)
			continue;
		serve->child = 0;
		serve->end.status = status;
		/* killed, it may have left a pid 1 that did not know its parent yet */
		if (WIFSIGNALED(status))
			serve_kill(serve);
	}
	if (pid < 0 && errno == ECHILD && serve->is_busy)
		serve_end(serve);
	else if (serve->is_plain && !serve->child)
		serve_kill_children();
}

/* One datagram; false at the end. */
static bool serve_receive(struct serve *serve)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(PROGRAM_FD_N * sizeof(int))];
	struct program_order order;
	struct iovec part = {&order, sizeof(order)};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};
	struct cmsghdr *head;
	int fds[PROGRAM_FD_N];
	ssize_t n;

	do
		n = recvmsg(serve->socket, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(order))
		return false;
	memset(fds, 0xff, sizeof(fds));
	head = CMSG_FIRSTHDR(&message);
	if (head && head->cmsg_len > CMSG_LEN(0))
		memcpy(fds, CMSG_DATA(head), head->cmsg_len - CMSG_LEN(0));
	if (order.kind == PROGRAM_KILL)
		serve_kill(serve);
	else if (serve->is_busy || fds[PROGRAM_FD_COMMAND] < 0)
		return false;
	else
		serve_start(serve, &order, fds);
	return true;
}

static void serve_watch_children(struct serve *serve)
{
	sigset_t children;

	(void)sigemptyset(&children);
	(void)sigaddset(&children, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &children, NULL);
	serve->signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	if (serve->signals < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		die("watch children");
}

/* What is typed at the terminal (^C, ^\) is the command's, which alone listens again
 * (program_exec()): whoever stands between ignores it, bubblewrap too. */
static void serve_leave_keys(void)
{
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGQUIT, SIG_IGN);
}

/* A plain command ended and left somebody who may be making more of his kind. */
static int serve_patience_ms(const struct serve *serve)
{
	return serve->is_plain && serve->is_busy && !serve->child ? SERVE_LOOK_AGAIN_MS
								  : -1;
}

int program_serve(char **argv, bool has_terminal)
{
	struct serve serve = {.bwrap = argv[0], .cgroup = -1};

	serve_reserve(&serve);
	serve_watch_children(&serve);
	/* a terminal's ^C is for the worker, which then finishes what runs */
	if (!has_terminal)
		(void)setsid();
	else
		serve_leave_keys();
	(void)umask(022); /* of whoever started us, it is not for commands */
	/* nor do keys of whoever started the worker belong here; not all kernels have
	 * them */
	(void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
	for (argv++; *argv; argv++)
		serve_join(*argv);
	for (;;) {
		struct pollfd fds[] = {{.fd = serve.socket, .events = POLLIN},
				       {.fd = serve.signals, .events = POLLIN}};

		int n = poll(fds, 2, serve_patience_ms(&serve));

		if (n < 0 && errno != EINTR)
			die("poll");
		if (n == 0 || fds[1].revents)
			serve_reap(&serve);
		else if (fds[0].revents && !serve_receive(&serve))
			break;
	}
	serve_kill(&serve);
	while (serve.is_plain && serve.is_busy) {
		(void)usleep(SERVE_LOOK_AGAIN_MS * 1000);
		serve_reap(&serve);
	}
	return 0;
}
