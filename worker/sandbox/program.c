/*
 * lazyroot-sandbox: the steps of a sandbox that neither the worker (full of threads) nor
 * bubblewrap can do. Single-threaded, linked statically because in the second step it
 * runs where only the action's files are; may die.
 *
 *	lazyroot-sandbox serve BWRAP [CGROUP.PROCS]...
 *		outside: a slot's launcher, see program_serve.c.
 *	lazyroot-sandbox terminal BWRAP
 *		the same for one command that keeps its caller's terminal.
 *	lazyroot-sandbox warden DIR
 *		outside: aborts the worker's mounts when it dies, see program_warden.c.
 *	lazyroot-sandbox exec FD
 *		inside: closes and hides what the command must not have, and becomes the
 *		command that the open file FD holds. Where that cannot be, it ends with a
 *		shell's code: 127 not found, 126 not executable.
 */
#include "worker/sandbox/program.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROGRAM_NOT_FOUND 127
#define PROGRAM_NOT_RUN   126

/* All of fd, with a NUL behind it; NULL where it cannot be read. */
static char *program_read_all(int fd, size_t *len_out)
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

/* What sandbox_build_command() wrote. */
struct program_command {
	size_t n_arguments;
	rlim_t n_processes;
	struct sock_fprog filter; /* of none: nothing is filtered */
	char **words;             /* arguments, then environment, then NULL */
};

/* Text's strings as a list that ends with NULL. */
static char **program_split(char *text, size_t len, size_t *n_out)
{
	size_t n = 0;
	char **list;

	for (size_t i = 0; i < len; i++)
		n += text[i] == '\0';
	list = calloc(n + 1, sizeof(char *));
	for (size_t i = 0; list && i < n; i++) {
		list[i] = text;
		text += strlen(text) + 1;
	}
	*n_out = n;
	return list;
}

static bool program_read_command(int fd, struct program_command *out)
{
	size_t len = 0;
	char *text = program_read_all(fd, &len);
	char *end = text;
	size_t n_filter;
	size_t n = 0;

	if (!text || !len)
		return false;
	out->n_arguments = strtoul(text, &end, 10);
	out->n_processes = strtoull(end, &end, 10);
	n_filter = strtoul(end, &end, 10);
	len -= (size_t)(end + 1 - text);
	text = end + 1;
	if (n_filter > len)
		return false;
	out->filter.len = (unsigned short)(n_filter / sizeof(struct sock_filter));
	out->filter.filter = calloc(out->filter.len + 1u, sizeof(struct sock_filter));
	if (!out->filter.filter)
		return false;
	memcpy(out->filter.filter, text, out->filter.len * sizeof(struct sock_filter));
	out->words = program_split(text + n_filter, len - n_filter, &n);
	return out->words && out->n_arguments && out->n_arguments <= n;
}

/* A kernel without filters at all runs commands without; the worker has told its
 * operator. */
static bool program_put_on(const struct sock_fprog *filter)
{
	return !filter->len || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter) == 0 ||
	       prctl(PR_GET_SECCOMP) < 0;
}

static int program_exec(int fd)
{
	struct program_command command = {0};
	struct rlimit processes;
	char **argv = NULL;
	int errnum;

	if (program_read_command(fd, &command))
		argv = calloc(command.n_arguments + 1, sizeof(char *));
	if (!argv) {
		perror("lazyroot-sandbox: read the command");
		return PROGRAM_BROKEN;
	}
	/* here and not outside, where others' would count, too */
	processes.rlim_cur = processes.rlim_max = command.n_processes;
	if (processes.rlim_max != RLIM_INFINITY)
		(void)setrlimit(RLIMIT_NPROC, &processes);
	if (!program_put_on(&command.filter)) {
		perror("lazyroot-sandbox: filter system calls");
		return PROGRAM_BROKEN;
	}
	memcpy(argv, command.words, command.n_arguments * sizeof(char *));
	environ = command.words + command.n_arguments;
	(void)signal(SIGINT, SIG_DFL);
	(void)signal(SIGQUIT, SIG_DFL);
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
	return errnum == ENOENT || errnum == ENOTDIR ? PROGRAM_NOT_FOUND
						     : PROGRAM_NOT_RUN;
}

int main(int argc, char **argv)
{
	if (argc >= 3 && strcmp(argv[1], "serve") == 0)
		return program_serve(argv + 2, false);
	if (argc >= 3 && strcmp(argv[1], "terminal") == 0)
		return program_serve(argv + 2, true);
	if (argc == 3 && strcmp(argv[1], "warden") == 0)
		return program_warden(argv[2]);
	if (argc == 3 && strcmp(argv[1], "exec") == 0)
		return program_exec(atoi(argv[2]));
	(void)fputs("usage: lazyroot-sandbox serve BWRAP [CGROUP.PROCS]...\n"
		    "       lazyroot-sandbox terminal BWRAP\n"
		    "       lazyroot-sandbox warden DIR\n"
		    "       lazyroot-sandbox exec FD\n",
		    stderr);
	return 2;
}
