/*
 * lazyroot-sandbox: the steps of a sandbox that neither the worker (full of threads) nor
 * bubblewrap can do. Single-threaded, linked statically because in the second step it
 * runs where only the action's files are; may die.
 *
 *	lazyroot-sandbox serve BWRAP [CGROUP.PROCS]...
 *		outside: a slot's launcher, see shim_serve.c.
 *	lazyroot-sandbox exec FD
 *		inside: closes and hides what the command must not have, and becomes the
 *		command that the open file FD holds. Where that cannot be, it ends with a
 *		shell's code: 127 not found, 126 not executable.
 */
#include "worker/shim.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHIM_NOT_FOUND 127
#define SHIM_NOT_RUN   126

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

/* The strings that fd holds but for the first, a NULL after the last. The first tells how
 * many of them are arguments, and how many processes may be. */
static char **shim_read_command(int fd, size_t *n_arguments_out, rlim_t *n_processes_out)
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
	*n_arguments_out = strtoul(list[0], &text, 10);
	*n_processes_out = strtoull(text, NULL, 10);
	return *n_arguments_out && *n_arguments_out < n ? list + 1 : NULL;
}

/*
 * Keyrings know no namespace but the user's: actions of one user could pass keys to each
 * other by number. add_key, request_key and keyctl, which follow each other wherever they
 * are, do not exist here (ENOSYS), as on a kernel without CONFIG_KEYS.
 */
#define SHIM_HIDE(arch, first)                                                           \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (arch), 0, 6),                               \
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),   \
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~0x40000000u), /* x32's mark */      \
		BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, (first)),                            \
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 3, 0, 1),                            \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),                            \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS)

static int shim_hide_keyrings(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		SHIM_HIDE(AUDIT_ARCH_X86_64, 248),
		SHIM_HIDE(AUDIT_ARCH_I386, 286),
		SHIM_HIDE(AUDIT_ARCH_AARCH64, 217),
		SHIM_HIDE(AUDIT_ARCH_ARM, 309),
		SHIM_HIDE(AUDIT_ARCH_RISCV64, 217),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int shim_exec(int fd)
{
	size_t n = 0;
	struct rlimit processes;
	char **list = shim_read_command(fd, &n, &processes.rlim_max);
	char **argv;
	int errnum;

	argv = list ? calloc(n + 1, sizeof(char *)) : NULL;
	if (!argv) {
		perror("lazyroot-sandbox: read the command");
		return SHIM_BROKEN;
	}
	/* here and not outside, where others' would count, too */
	processes.rlim_cur = processes.rlim_max;
	if (processes.rlim_max != RLIM_INFINITY)
		(void)setrlimit(RLIMIT_NPROC, &processes);
	/* a kernel without filters may well be one without keys */
	if (shim_hide_keyrings() < 0 && errno != EINVAL) {
		perror("lazyroot-sandbox: hide keyrings");
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
