/*
 * Owns the operations that take more than one call to mean something (a directory that
 * changes while it is read, a lock that another process wants, a program that was just
 * written), and the listing at the end. What each prints is a fact of POSIX or of Linux,
 * not of a file system's inner order.
 *
 * One thread; children do one thing and _exit().
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/oracle/ops.h"

#define OPS_NAMES_MAX 20000

struct ops_names {
	char **names; /* a type letter before each */
	size_t n;
};

static void ops_names_add(struct ops_names *list, const char *name, unsigned char type)
{
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || list->n == OPS_NAMES_MAX)
		return;
	if (!list->names)
		list->names = calloc(OPS_NAMES_MAX, sizeof(char *));
	list->names[list->n] = malloc(strlen(name) + 2);
	list->names[list->n][0] = ops_type(DTTOIF(type));
	memcpy(list->names[list->n++] + 1, name, strlen(name) + 1);
}

static int ops_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a + 1, *(char *const *)b + 1);
}

static void ops_names_sort(struct ops_names *list)
{
	if (list->n)
		qsort(list->names, list->n, sizeof(char *), ops_compare);
}

static void ops_names_free(struct ops_names *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->names[i]);
	free(list->names);
}

static void ops_names_say(struct ops_names *list)
{
	ops_names_sort(list);
	for (size_t i = 0; i < list->n; i++) {
		ops_say("%c:", list->names[i][0]);
		ops_say_name(list->names[i] + 1);
		ops_say(" ");
	}
}

long ops_readdir(char **a)
{
	struct ops_names list = {0};
	DIR *dir = opendir(a[0]);
	struct dirent *d;
	long n;

	if (!dir)
		return -1;
	while ((errno = 0, d = readdir(dir)))
		ops_names_add(&list, d->d_name, d->d_type);
	n = errno ? -1 : (long)list.n;
	(void)closedir(dir);
	ops_names_say(&list);
	ops_names_free(&list);
	return n;
}

/* Reads some entries with a buffer of size bytes; the number of bytes. */
static long ops_getdents(int fd, size_t size, struct ops_names *list)
{
	_Alignas(8) char buffer[4096];
	long n = syscall(SYS_getdents64, fd, buffer, size);

	for (long at = 0; at < n;) {
		struct dirent64 *d = (struct dirent64 *)(void *)(buffer + at);

		ops_names_add(list, d->d_name, d->d_type);
		at += d->d_reclen;
	}
	return n;
}

static void ops_names_read(const char *path, struct ops_names *list)
{
	DIR *dir = opendir(path);
	struct dirent *d;

	while (dir && (d = readdir(dir)))
		ops_names_add(list, d->d_name, d->d_type);
	if (dir)
		(void)closedir(dir);
	ops_names_sort(list);
}

/* Makes name in directory fd, removes the first of names there and renames the last. */
static void ops_change(int fd, const struct ops_names *names, const char *name)
{
	char renamed[300];
	char path[400];

	(void)snprintf(renamed, sizeof(renamed), "%.200s~", name);
	ops_say("make %d", mkdirat(fd, name, 0755));
	if (names->n < 3)
		return;
	ops_say(" remove %d", unlinkat(fd, names->names[0] + 1, 0));
	ops_say(" rename %d ", renameat(fd, names->names[names->n - 1] + 1, fd, renamed));
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", fd, renamed);
	(void)ops_mark(0, path);
}

/*
 * rdchange PATH NAME: reads a part, changes the directory, then reads the rest. What was
 * not touched must be there exactly once; of the others nothing is promised.
 */
long ops_readdir_changing(char **a)
{
	int fd = open(a[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct ops_names before = {0};
	struct ops_names list = {0};
	long n_missed = 0;
	long n;

	if (fd < 0)
		return -1;
	ops_names_read(a[0], &before);
	n = ops_getdents(fd, 700, &list);
	ops_change(fd, &before, a[1]);
	while (n > 0)
		n = ops_getdents(fd, 4096, &list);
	(void)close(fd);
	for (size_t i = 1; i + 1 < before.n; i++) {
		int times = 0;

		for (size_t j = 0; j < list.n; j++)
			times += strcmp(before.names[i] + 1, list.names[j] + 1) == 0;
		n_missed += times != 1;
	}
	ops_names_free(&before);
	ops_names_free(&list);
	return n < 0 ? -1 : n_missed;
}

/* Extended attributes. An input that was never written has none and takes none: what a
 * plain file calls "no such attribute" is told there as "not supported". */
static long ops_no_xattr(long result)
{
	if (result < 0 && errno == EOPNOTSUPP)
		errno = ENODATA;
	return result;
}

long ops_set_xattr(char **a)
{
	return ops_mark(lsetxattr(a[0], a[1], a[2], strlen(a[2]), 0), a[0]);
}

long ops_get_xattr(char **a)
{
	char value[4096];
	long n = ops_no_xattr(lgetxattr(a[0], a[1], value, sizeof(value)));

	if (n > 0)
		ops_say("%016llx",
			(unsigned long long)ops_sum(OPS_SUM, value, (size_t)n));
	return n;
}

long ops_list_xattr(char **a)
{
	char names[8192];
	long n = llistxattr(a[0], names, sizeof(names));
	struct ops_names list = {0};

	if (n < 0 && errno == EOPNOTSUPP)
		return 0;
	for (long at = 0; at < n; at += (long)strlen(names + at) + 1)
		ops_names_add(&list, names + at, 0);
	ops_names_say(&list);
	ops_names_free(&list);
	return n;
}

long ops_remove_xattr(char **a)
{
	return ops_no_xattr(lremovexattr(a[0], a[1]));
}

/* Takes a lock: 0 or errno. */
static int ops_lock_take(int fd, char how, short type)
{
	struct flock lock = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
	int status;

	if (how == 'f')
		status = flock(fd, (type == F_WRLCK   ? LOCK_EX
				    : type == F_RDLCK ? LOCK_SH
						      : LOCK_UN) |
					   LOCK_NB);
	else
		status = fcntl(fd, how == 'o' ? F_OFD_SETLK : F_SETLK, &lock);
	return status == 0 ? 0 : errno;
}

/* What another process gets that opens path and wants the same lock. */
static int ops_lock_other(const char *path, char how, short type)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		int fd = open(path, O_NONBLOCK | (type == F_RDLCK ? O_RDONLY : O_RDWR));

		_exit(fd < 0 ? 100 + (errno & 63) : ops_lock_take(fd, how, type));
	}
	(void)waitpid(child, &status, 0);
	return WEXITSTATUS(status);
}

/* lock SLOT PATH flock|posix|ofd: ours, then what others get while it is held and after
 */
long ops_lock(char **a)
{
	int fd = *ops_slot(a[0]);
	char how = a[2][0];
	int mine = ops_lock_take(fd, how, F_WRLCK);

	ops_say("mine %d shared %d", mine, ops_lock_other(a[1], how, F_RDLCK));
	ops_say(" alone %d", ops_lock_other(a[1], how, F_WRLCK));
	(void)ops_lock_take(fd, how, F_UNLCK);
	ops_say(" after %d", ops_lock_other(a[1], how, F_WRLCK));
	ops_written(fd);
	return 0;
}

/* notify PATH: what a watch tells of a read, a write and a change of mode */
long ops_notify(char **a)
{
	_Alignas(8) char buffer[4096];
	int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	long status =
		inotify_add_watch(watch, a[0], IN_ALL_EVENTS & ~(unsigned int)IN_ACCESS);
	int errnum = errno;
	uint32_t masks = 0;
	struct stat st;
	ssize_t n;
	int fd;

	if (status >= 0 && stat(a[0], &st) == 0 && S_ISREG(st.st_mode)) {
		fd = open(a[0], O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC);
		(void)!write(fd, "x", 1);
		(void)close(fd);
		(void)chmod(a[0], st.st_mode & 07777);
		while ((n = read(watch, buffer, sizeof(buffer))) > 0)
			for (char *at = buffer; at < buffer + n;) {
				struct inotify_event *e =
					(struct inotify_event *)(void *)at;

				masks |= e->mask;
				at += sizeof(*e) + e->len;
			}
		ops_say("%x", masks);
	}
	(void)close(watch);
	errno = errnum;
	return status < 0 ? -1 : 0;
}

/* exec PATH ARGUMENT: the exit code, or why it could not be */
long ops_exec(char **a)
{
	int told[2];
	int errnum = 0;
	int status = 0;
	pid_t child;

	if (pipe2(told, O_CLOEXEC) < 0)
		return -1;
	(void)fflush(stdout);
	child = fork();
	if (child == 0) {
		char *argv[] = {a[0], (char *)(uintptr_t) "exit", a[1], NULL};
		char *env[] = {NULL};

		(void)execve(a[0], argv, env);
		errnum = errno;
		(void)!write(told[1], &errnum, sizeof(errnum));
		_exit(255);
	}
	(void)close(told[1]);
	(void)!read(told[0], &errnum, sizeof(errnum));
	(void)close(told[0]);
	(void)waitpid(child, &status, 0);
	errno = errnum;
	if (errnum)
		return -1;
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* mkops PATH: writes this very program there */
long ops_make_program(char **a)
{
	char buffer[65536];
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int to = open(a[0], O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC, 0755);
	int errnum = errno;
	long total = 0;
	ssize_t n;

	while (to >= 0 && (n = read(from, buffer, sizeof(buffer))) > 0)
		total += write(to, buffer, (size_t)n);
	(void)close(from);
	(void)close(to);
	errno = errnum;
	return to < 0 ? -1 : total;
}

/* busy PATH: opening a program for writing while it runs */
long ops_busy(char **a)
{
	int hold[2];
	int opened;
	int errnum;
	int fd;
	pid_t child;
	char *argv[] = {a[0], (char *)(uintptr_t) "pause", NULL};
	char *env[] = {NULL};
	int told[2];
	char c;

	if (pipe2(hold, O_CLOEXEC) < 0 || pipe2(told, O_CLOEXEC) < 0)
		return -1;
	child = fork();
	if (child == 0) {
		(void)dup2(hold[0], 0);
		(void)execve(a[0], argv, env);
		_exit(255);
	}
	(void)close(told[1]);
	(void)!read(told[0], &c, 1); /* ends with the exec */
	fd = open(a[0], O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	errnum = errno;
	if (fd >= 0)
		(void)close(fd);
	(void)close(told[0]);
	(void)close(hold[0]);
	(void)close(hold[1]);
	(void)waitpid(child, NULL, 0);
	opened = open(a[0], O_RDONLY | O_NONBLOCK |
				    O_CLOEXEC); /* that it was refused changes nothing */
	if (opened >= 0) {
		ops_written(opened);
		(void)close(opened);
	}
	errno = errnum;
	return fd < 0 ? -1 : 0;
}

static long ops_in_directory(int fd, char **words)
{
	int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int n = 0;
	int errnum;
	long result;

	if (fd < 0 || fchdir(fd) < 0) {
		errnum = errno;
		(void)close(home);
		errno = errnum;
		ops_say("no directory");
		return -1;
	}
	while (words[n])
		n++;
	result = ops_run(n, words);
	errnum = errno;
	(void)!fchdir(home);
	(void)close(home);
	errno = errnum;
	return result;
}

/* at PATH OPERATION…: with another working directory */
long ops_at(char **a)
{
	int fd = open(a[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
	long result = ops_in_directory(fd, a + 1);
	int errnum = errno;

	if (fd >= 0)
		(void)close(fd);
	errno = errnum;
	return result;
}

/* atslot SLOT OPERATION…: in a directory that was opened before */
long ops_at_slot(char **a)
{
	return ops_in_directory(*ops_slot(a[0]), a + 1);
}

/* The listing */

static void ops_list_file(const char *name)
{
	unsigned char buffer[65536];
	int fd = open(name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	uint64_t sum = OPS_SUM;
	ssize_t n = -1;

	while (fd >= 0 && (n = read(fd, buffer, sizeof(buffer))) > 0)
		sum = ops_sum(sum, buffer, (size_t)n);
	ops_say(" %016llx", (unsigned long long)sum);
	if (n < 0)
		ops_say(" %s", strerrorname_np(errno));
	if (fd >= 0)
		(void)close(fd);
}

/* Hard links are told by the number of their group, in order of the listing. */
static int ops_group(const struct stat *st)
{
	static struct {
		dev_t dev;
		ino_t ino;
	} seen[OPS_NAMES_MAX];
	static int n;

	for (int i = 0; i < n; i++)
		if (seen[i].dev == st->st_dev && seen[i].ino == st->st_ino)
			return i;
	if (n == OPS_NAMES_MAX)
		return -1;
	seen[n].dev = st->st_dev;
	seen[n].ino = st->st_ino;
	return n++;
}

static void ops_list_dir(const char *path);

static void ops_list_below(const char *path, const char *name)
{
	int home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (chdir(name) == 0) {
		ops_list_dir(path);
		(void)!fchdir(home);
	}
	(void)close(home);
}

/* name, which stands in the working directory */
static void ops_list_one(const char *parent, const char *name)
{
	size_t size = strlen(parent) + strlen(name) + 2;
	char *path = malloc(size);
	struct stat st = {0};

	(void)snprintf(path, size, "%s%s%s", parent, *parent ? "/" : "", name);
	ops_say_name(path);
	ops_say(" ");
	if (lstat(name, &st) < 0) {
		ops_say("%s", strerrorname_np(errno));
	} else {
		char *arguments[] = {(char *)(uintptr_t)name};

		ops_say_stat(&st);
		if (!S_ISDIR(st.st_mode) && st.st_nlink > 1)
			ops_say(" group%d", ops_group(&st));
		if (S_ISREG(st.st_mode))
			ops_list_file(name);
		if (S_ISLNK(st.st_mode)) {
			ops_say(" -> ");
			(void)ops_readlink(arguments);
		}
	}
	ops_flush();
	if (S_ISDIR(st.st_mode))
		ops_list_below(path, name);
	free(path);
}

static void ops_list_dir(const char *path)
{
	struct ops_names list = {0};
	DIR *dir = opendir(".");
	struct dirent *d;

	if (!dir) {
		ops_say("no listing: %s", strerrorname_np(errno));
		ops_flush();
		return;
	}
	while ((errno = 0, d = readdir(dir)))
		ops_names_add(&list, d->d_name, d->d_type);
	if (errno) {
		ops_say("listing broke off: %s", strerrorname_np(errno));
		ops_flush();
	}
	(void)closedir(dir);
	ops_names_sort(&list);
	for (size_t i = 0; i < list.n; i++)
		ops_list_one(path, list.names[i] + 1);
	ops_names_free(&list);
}

void ops_list(void)
{
	struct stat st;

	if (stat(".", &st) == 0)
		ops_say_stat(&st);
	ops_flush();
	ops_list_dir("");
}
