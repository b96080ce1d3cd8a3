/*
 * lazyroot-sandbox: the two small steps of a sandbox that neither the worker (full of
 * threads) nor bubblewrap can do. Single-threaded, linked statically because in the
 *second step it runs where only the action's files are; may die.
 *
 *	lazyroot-sandbox enter FD|- PROGRAM [ARG]...
 *		outside: starts bubblewrap inside the cgroup v2 directory that is open at
 *FD and waits for it. Being born there costs nothing; moving there (writing to
 *		cgroup.procs) waits for an RCU grace period, 10 ms and more.
 *	lazyroot-sandbox exec COMMAND [ARG]...
 *		inside: closes what the command must not have, and becomes the command.
 *Where that cannot be, its exit code is a shell's: 127 not found, 126 not executable.
 */
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHIM_NOT_FOUND 127
#define SHIM_NOT_RUN   126
#define SHIM_BROKEN    125

/* As fork(), with the child born in the cgroup. */
static pid_t shim_fork_into(int cgroup_fd)
{
	struct clone_args args = {
		.flags = CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = (unsigned int)cgroup_fd,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

static int shim_become(char **argv)
{
	char *const no_environment[] = {NULL};

	(void)execve(argv[0], argv, no_environment);
	perror(argv[0]);
	return SHIM_BROKEN;
}

static int shim_enter(char **argv)
{
	int status;
	pid_t child;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (strcmp(argv[0], "-") == 0)
		return shim_become(argv + 1);
	child = shim_fork_into(atoi(argv[0]));
	if (child < 0) {
		perror("lazyroot-sandbox: start in the cgroup");
		return SHIM_BROKEN;
	}
	if (child == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)close(atoi(argv[0]));
		return shim_become(argv + 1);
	}
	(void)close_range(3, ~0u, 0); /* the status pipe ends with bubblewrap */
	while (waitpid(child, &status, 0) < 0) {
		if (errno != EINTR)
			return SHIM_BROKEN;
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* All of fd, with a NUL behind it; NULL where it cannot be read. */
static char *shim_read_all(int fd, size_t *len_out)
{
	struct stat st;
	size_t len = 0;
	char *text;

	if (fstat(fd, &st) < 0)
		return NULL;
	text = calloc((size_t)st.st_size + 1, 1);
	while (text && len < (size_t)st.st_size) {
		ssize_t n = read(fd, text + len, (size_t)st.st_size - len);

		if (n <= 0)
			return NULL;
		len += (size_t)n;
	}
	*len_out = len;
	return text;
}

/* Makes what fd holds this process's environment. */
static int shim_set_environment(int fd)
{
	size_t len = 0;
	char *text = shim_read_all(fd, &len);
	size_t n = 0;
	char **list;

	if (!text)
		return -1;
	for (size_t i = 0; i < len; i++)
		n += text[i] == '\0';
	list = calloc(n + 1, sizeof(char *));
	if (!list)
		return -1;
	for (size_t i = 0; i < n; i++) {
		list[i] = text;
		text += strlen(text) + 1;
	}
	environ = list;
	return 0;
}

static int shim_exec(char **argv)
{
	int errnum;

	if (shim_set_environment(atoi(argv[0])) < 0) {
		perror("lazyroot-sandbox: read the environment");
		return SHIM_BROKEN;
	}
	argv++;
	(void)close_range(3, ~0u, 0);
	(void)execvp(argv[0], argv);
	errnum = errno;
	if (errnum == ENOENT && !strchr(argv[0], '/')) {
		/* recc names a compiler that lies in the working directory without "./"
		 */
		(void)execv(argv[0], argv);
		errnum = errno;
	}
	(void)fprintf(stderr, "lazyroot: %s: %s\n", argv[0], strerror(errnum));
	return errnum == ENOENT || errnum == ENOTDIR ? SHIM_NOT_FOUND : SHIM_NOT_RUN;
}

int main(int argc, char **argv)
{
	if (argc >= 4 && strcmp(argv[1], "enter") == 0)
		return shim_enter(argv + 2);
	if (argc >= 4 && strcmp(argv[1], "exec") == 0)
		return shim_exec(argv + 2);
	(void)fputs("usage: lazyroot-sandbox enter FD|- PROGRAM [ARG]...\n"
		    "       lazyroot-sandbox exec FD COMMAND [ARG]...\n",
		    stderr);
	return 2;
}
