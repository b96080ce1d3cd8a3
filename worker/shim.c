/*
 * lazyroot-sandbox: the two small steps of a sandbox that neither the worker (full of
 * threads) nor bubblewrap can do. Single-threaded, linked statically because in the
 *second step it runs where only the action's files are; may die.
 *
 *	lazyroot-sandbox enter FD|- PROGRAM [ARG]...
 *		outside: joins the cgroup whose cgroup.procs is open at FD, and becomes
 *		bubblewrap.
 *	lazyroot-sandbox exec COMMAND [ARG]...
 *		inside: closes what the command must not have, and becomes the command.
 *Where that cannot be, its exit code is a shell's: 127 not found, 126 not executable.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHIM_NOT_FOUND 127
#define SHIM_NOT_RUN   126
#define SHIM_BROKEN    125

static int shim_enter(char **argv)
{
	char *const no_environment[] = {NULL};

	if (strcmp(argv[0], "-") != 0) {
		int fd = atoi(argv[0]);

		if (write(fd, "0", 1) != 1) {
			perror("lazyroot-sandbox: join the cgroup");
			return SHIM_BROKEN;
		}
		(void)close(fd);
	}
	(void)execve(argv[1], argv + 1, no_environment);
	perror(argv[1]);
	return SHIM_BROKEN;
}

static int shim_exec(char **argv)
{
	int errnum;

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
	if (argc >= 3 && strcmp(argv[1], "exec") == 0)
		return shim_exec(argv + 2);
	(void)fputs("usage: lazyroot-sandbox enter FD|- PROGRAM [ARG]...\n"
		    "       lazyroot-sandbox exec COMMAND [ARG]...\n",
		    stderr);
	return 2;
}
