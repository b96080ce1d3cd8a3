/*
 * lazyroot-sandbox: the steps of a sandbox that neither the worker (full of threads) nor
 * bubblewrap can do. Single-threaded, linked statically because in the second step it
 * runs where only the action's files are; may die.
 *
 *	lazyroot-sandbox serve BWRAP [CGROUP.PROCS]...
 *		outside: a slot's launcher, see shim_serve.c.
 *	lazyroot-sandbox exec FD
 *		inside: closes what the command must not have, and becomes the command
 *		that the open file FD holds. Where that cannot be, its exit code is a
 *		shell's: 127 not found, 126 not executable.
 */
#include "worker/shim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHIM_NOT_FOUND 127
#define SHIM_NOT_RUN   126
#define SHIM_BROKEN    125

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

/* The strings that fd holds, a NULL after the last; how many arguments the first tells.
 */
static char **shim_read_command(int fd, size_t *n_arguments_out)
{
	size_t len = 0;
	char *text = shim_read_all(fd, &len);
	size_t n = 0;
	char **list;

	if (!text)
		return NULL;
	for (size_t i = 0; i < len; i++)
		n += text[i] == '\0';
	list = calloc(n + 1, sizeof(char *));
	for (size_t i = 0; list && i < n; i++) {
		list[i] = text;
		text += strlen(text) + 1;
	}
	if (!list || !n)
		return NULL;
	*n_arguments_out = strtoul(list[0], NULL, 10);
	return *n_arguments_out && *n_arguments_out < n ? list + 1 : NULL;
}

static int shim_exec(int fd)
{
	size_t n = 0;
	char **list = shim_read_command(fd, &n);
	char **argv;
	int errnum;

	argv = list ? calloc(n + 1, sizeof(char *)) : NULL;
	if (!argv) {
		perror("lazyroot-sandbox: read the command");
		return SHIM_BROKEN;
	}
	memcpy(argv, list, n * sizeof(char *));
	environ = list + n;
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
	if (argc >= 3 && strcmp(argv[1], "serve") == 0)
		return shim_serve(argv + 2);
	if (argc == 3 && strcmp(argv[1], "exec") == 0)
		return shim_exec(atoi(argv[2]));
	(void)fputs("usage: lazyroot-sandbox serve BWRAP [CGROUP.PROCS]...\n"
		    "       lazyroot-sandbox exec FD\n",
		    stderr);
	return 2;
}
