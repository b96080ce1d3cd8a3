/*
 * What the differential oracle runs, once in an action and once in a plain copy of its
 * inputs: does what a script says, step by step, and prints what each step gave, so that
 * two outputs can be compared byte for byte. It never judges.
 *
 *	ops SCRIPT	runs it, then lists everything below the working directory
 *	ops exit N	for the scripts: a program that was just written
 *	ops pause	for the scripts: runs until its standard input ends
 *
 * A script is lines of "operation argument…"; bytes of arguments may be spelt %XX. An
 * open file is named by its slot, 0 to 15. Nothing is printed that may differ between two
 * good file systems: tests/oracle/README.md has the table of these.
 *
 * One thread. Static, so that it runs in any root.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/oracle/ops.h"

/* Times before this were set by the tree or by a script; later ones are the clock's. */
#define OPS_NOW_S 1500000000

static int ops_slots[OPS_SLOTS];
static char ops_said[OPS_SAID_MAX];
static size_t ops_said_len;

void ops_say(const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(ops_said + ops_said_len, OPS_SAID_MAX - ops_said_len, format, ap);
	va_end(ap);
	ops_said_len += (size_t)n;
	if (ops_said_len >= OPS_SAID_MAX)
		ops_said_len = OPS_SAID_MAX - 1;
}

void ops_flush(void)
{
	(void)printf("%s\n", ops_said);
	(void)fflush(stdout);
	ops_said_len = 0;
	ops_said[0] = '\0';
}

void ops_say_name(const char *name)
{
	for (; *name; name++) {
		unsigned char c = (unsigned char)*name;

		if (c > ' ' && c < 127 && c != '%')
			ops_say("%c", c);
		else
			ops_say("%%%02x", c);
	}
}

long long ops_num(const char *text)
{
	return strtoll(text, NULL, 0);
}

int *ops_slot(const char *text)
{
	return &ops_slots[ops_num(text) & (OPS_SLOTS - 1)];
}

void ops_fill(unsigned char *bytes, size_t len, long long offset, long long seed)
{
	for (size_t i = 0; i < len; i++) {
		unsigned long long at = (unsigned long long)offset + i;

		bytes[i] = (unsigned char)((unsigned long long)seed * 31 + at * 7 +
					   (at >> 8));
	}
}

/* FNV-1a */
uint64_t ops_sum(uint64_t sum, const void *bytes, size_t len)
{
	const unsigned char *b = bytes;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ b[i]) * 0x100000001b3u;
	return sum;
}

char ops_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return 'f';
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	case S_IFCHR:
		return 'c';
	default:
		return '?';
	}
}

static void ops_say_time(const char *what, const struct timespec *time)
{
	if (time->tv_sec < OPS_NOW_S)
		ops_say(" %s%lld.%09ld", what, (long long)time->tv_sec, time->tv_nsec);
	else
		ops_say(" %snow", what);
}

void ops_say_stat(const struct stat *st)
{
	ops_say("%c%04o u%u g%u", ops_type(st->st_mode), st->st_mode & 07777, st->st_uid,
		st->st_gid);
	if (!S_ISDIR(st->st_mode))
		ops_say(" s%lld n%lu", (long long)st->st_size,
			(unsigned long)st->st_nlink);
	ops_say_time("m", &st->st_mtim);
}

/*
 * Files of which only metadata were changed, or tried to be, so far. overlayfs copies
 * such a file's bytes when it is opened for writing, and that sets its time, whether
 * something is written or not (README's table); so both sides get the time of the clock
 * there.
 */
static struct {
	dev_t dev;
	ino_t ino;
} ops_marks[OPS_MARKS_MAX];
static int ops_n_marks;

static void ops_mark_file(const struct stat *st)
{
	if (!S_ISREG(st->st_mode) || ops_n_marks == OPS_MARKS_MAX)
		return;
	ops_marks[ops_n_marks].dev = st->st_dev;
	ops_marks[ops_n_marks++].ino = st->st_ino;
}

long ops_mark(long status, const char *path)
{
	int errnum = errno;
	struct stat st;

	if (lstat(path, &st) == 0)
		ops_mark_file(&st);
	if (stat(path, &st) == 0)
		ops_mark_file(&st);
	errno = errnum;
	return status;
}

void ops_written(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return;
	for (int i = 0; i < ops_n_marks; i++)
		if (ops_marks[i].dev == st.st_dev && ops_marks[i].ino == st.st_ino)
			(void)futimens(fd, NULL);
}

static long ops_stat(char **a)
{
	struct stat st;
	int status = stat(a[0], &st);

	if (status == 0)
		ops_say_stat(&st);
	return status;
}

static long ops_lstat(char **a)
{
	struct stat st;
	int status = lstat(a[0], &st);

	if (status == 0)
		ops_say_stat(&st);
	return status;
}

static long ops_fstat(char **a)
{
	struct stat st;
	int status = fstat(*ops_slot(a[0]), &st);

	st.st_nlink = 0; /* of an input that was removed while open: README's table */
	if (status == 0)
		ops_say_stat(&st);
	return status;
}

/* same PATH PATH, fsame SLOT PATH: whether both are one file. */
static long ops_same(char **a)
{
	struct stat x;
	struct stat y;

	if (lstat(a[0], &x) < 0 || lstat(a[1], &y) < 0)
		return -1;
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static long ops_fsame(char **a)
{
	struct stat x;
	struct stat y;

	if (fstat(*ops_slot(a[0]), &x) < 0 || lstat(a[1], &y) < 0)
		return -1;
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int ops_flags(const char *letters)
{
	static const struct {
		char letter;
		int flag;
	} flags[] = {{'w', O_WRONLY},    {'b', O_RDWR},     {'c', O_CREAT},
		     {'x', O_EXCL},      {'t', O_TRUNC},    {'a', O_APPEND},
		     {'d', O_DIRECTORY}, {'n', O_NOFOLLOW}, {'p', O_PATH},
		     {'T', O_TMPFILE},   {'D', O_DIRECT},   {'s', O_SYNC}};
	int value = O_CLOEXEC | O_NONBLOCK;

	for (; *letters; letters++)
		for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
			if (flags[i].letter == *letters)
				value |= flags[i].flag;
	return value;
}

/* open SLOT FLAGS MODE PATH */
static long ops_open(char **a)
{
	int *slot = ops_slot(a[0]);

	if (*slot >= 0)
		(void)close(*slot);
	*slot = open(a[3], ops_flags(a[1]), (mode_t)ops_num(a[2]));
	if (*slot < 0)
		return -1;
	if (strpbrk(a[1], "wb"))
		ops_written(*slot);
	return 0;
}

static long ops_close(char **a)
{
	int *slot = ops_slot(a[0]);
	int status = close(*slot);

	*slot = -1;
	return status;
}

/* read SLOT LEN OFFSET */
static long ops_read(char **a)
{
	size_t len = (size_t)ops_num(a[1]);
	void *bytes = aligned_alloc(4096, (len + 4096) & ~(size_t)4095);
	ssize_t n = pread(*ops_slot(a[0]), bytes, len, ops_num(a[2]));

	if (n > 0)
		ops_say("%016llx",
			(unsigned long long)ops_sum(OPS_SUM, bytes, (size_t)n));
	free(bytes);
	return n;
}

/* write SLOT LEN OFFSET SEED; an offset of -1: at the position */
static long ops_write(char **a)
{
	size_t len = (size_t)ops_num(a[1]);
	long long offset = ops_num(a[2]);
	unsigned char *bytes = malloc(len + 1);
	ssize_t n;

	ops_fill(bytes, len, offset, ops_num(a[3]));
	n = offset < 0 ? write(*ops_slot(a[0]), bytes, len)
		       : pwrite(*ops_slot(a[0]), bytes, len, offset);
	free(bytes);
	return n;
}

static long ops_ftruncate(char **a)
{
	return ftruncate(*ops_slot(a[0]), ops_num(a[1]));
}

static long ops_truncate(char **a)
{
	int status = truncate(a[0], ops_num(a[1]));
	int fd = status ? -1 : open(a[0], O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0) {
		ops_written(fd);
		(void)close(fd);
	}
	return status;
}

/* fallocate SLOT MODE OFFSET LEN */
static long ops_fallocate(char **a)
{
	return fallocate(*ops_slot(a[0]), (int)ops_num(a[1]), ops_num(a[2]),
			 ops_num(a[3]));
}

/* The part of a range that lies within the file; beyond it there is SIGBUS. */
static size_t ops_within(int fd, long long offset, size_t len)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || offset >= st.st_size)
		return 0;
	return (long long)len < st.st_size - offset ? len : (size_t)(st.st_size - offset);
}

/* mmapw SLOT LEN OFFSET SEED: offset in pages */
static long ops_mmap_write(char **a)
{
	int fd = *ops_slot(a[0]);
	long long offset = ops_num(a[2]) * 4096;
	size_t len = ops_within(fd, offset, (size_t)ops_num(a[1]));
	unsigned char *map;

	map = mmap(NULL, len ? len : 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
	if (map == MAP_FAILED)
		return -1;
	ops_fill(map, len, offset, ops_num(a[3]));
	(void)msync(map, len, len % 2 ? MS_SYNC : MS_ASYNC);
	(void)munmap(map, len ? len : 1);
	return (long)len;
}

/* mmapr SLOT LEN OFFSET SHARED */
static long ops_mmap_read(char **a)
{
	int fd = *ops_slot(a[0]);
	long long offset = ops_num(a[2]) * 4096;
	size_t len = ops_within(fd, offset, (size_t)ops_num(a[1]));
	void *map = mmap(NULL, len ? len : 1, PROT_READ,
			 ops_num(a[3]) ? MAP_SHARED : MAP_PRIVATE, fd, offset);

	if (map == MAP_FAILED)
		return -1;
	ops_say("%016llx", (unsigned long long)ops_sum(OPS_SUM, map, len));
	(void)munmap(map, len ? len : 1);
	return (long)len;
}

static long ops_fsync(char **a)
{
	return fsync(*ops_slot(a[0]));
}

/* copy FROM_SLOT TO_SLOT LEN OFFSET HOW: copy_file_range or sendfile */
static long ops_copy(char **a)
{
	int from = *ops_slot(a[0]);
	int to = *ops_slot(a[1]);
	size_t len = (size_t)ops_num(a[2]);
	off_t in = ops_num(a[3]);
	off_t out = in;

	if (strcmp(a[4], "range") == 0)
		return copy_file_range(from, &in, to, &out, len, 0);
	if (lseek(to, out, SEEK_SET) < 0)
		return -1;
	return sendfile(to, from, &in, len);
}

/* seek SLOT set|end|data|hole OFFSET */
static long ops_seek(char **a)
{
	int whence = a[1][0] == 's'   ? SEEK_SET
		     : a[1][0] == 'e' ? SEEK_END
		     : a[1][0] == 'd' ? SEEK_DATA
				      : SEEK_HOLE;

	return lseek(*ops_slot(a[0]), ops_num(a[2]), whence);
}

static long ops_access(char **a)
{
	return access(a[0], (int)ops_num(a[1]));
}

static long ops_mkdir(char **a)
{
	return mkdir(a[0], (mode_t)ops_num(a[1]));
}

static long ops_rmdir(char **a)
{
	return rmdir(a[0]);
}

static long ops_unlink(char **a)
{
	return unlink(a[0]);
}

/*
 * A rename over a directory that is not empty fails, and yet ext4 sets the time of the
 * directory that it was from, where overlayfs asks for a whiteout there (README's table);
 * so both sides get the time of the clock there.
 */
static long ops_renamed(long status, const char *old, const char *new)
{
	int errnum = errno;
	char copy[OPS_PATH_MAX];

	(void)snprintf(copy, sizeof(copy), "%s", old);
	if (status < 0 && errnum == ENOTEMPTY)
		(void)utimensat(AT_FDCWD, dirname(copy), NULL, 0);
	errno = errnum;
	return ops_mark(ops_mark(status, old), new);
}

static long ops_rename(char **a)
{
	return ops_renamed(renameat2(AT_FDCWD, a[0], AT_FDCWD, a[1], 0), a[0], a[1]);
}

static long ops_exchange(char **a)
{
	long status = renameat2(AT_FDCWD, a[0], AT_FDCWD, a[1], RENAME_EXCHANGE);

	return ops_mark(ops_mark(status, a[0]), a[1]);
}

static long ops_noreplace(char **a)
{
	long status = renameat2(AT_FDCWD, a[0], AT_FDCWD, a[1], RENAME_NOREPLACE);

	return ops_renamed(status, a[0], a[1]);
}

static long ops_link(char **a)
{
	return ops_mark(ops_mark(link(a[0], a[1]), a[0]), a[1]);
}

/* linkfd SLOT PATH: gives a name to what O_TMPFILE opened */
static long ops_link_fd(char **a)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", *ops_slot(a[0]));
	return linkat(AT_FDCWD, path, AT_FDCWD, a[1], AT_SYMLINK_FOLLOW);
}

static long ops_symlink(char **a)
{
	return symlink(a[0], a[1]);
}

long ops_readlink(char **a)
{
	char target[5000];
	ssize_t n = readlink(a[0], target, sizeof(target) - 1);

	if (n >= 0) {
		target[n] = '\0';
		ops_say_name(target);
	}
	return n;
}

static long ops_chmod(char **a)
{
	return ops_mark(chmod(a[0], (mode_t)ops_num(a[1])), a[0]);
}

static long ops_fchmod(char **a)
{
	int status = fchmod(*ops_slot(a[0]), (mode_t)ops_num(a[1]));
	struct stat st;

	if (status == 0 && fstat(*ops_slot(a[0]), &st) == 0)
		ops_mark_file(&st);
	return status;
}

/* chown PATH UID GID */
static long ops_chown(char **a)
{
	return ops_mark(lchown(a[0], (uid_t)ops_num(a[1]), (gid_t)ops_num(a[2])), a[0]);
}

/* utimes PATH SECONDS NANOSECONDS FOLLOW */
static long ops_utimes(char **a)
{
	struct timespec times[2] = {{ops_num(a[1]) + 1, 0},
				    {ops_num(a[1]), ops_num(a[2])}};
	int flag = ops_num(a[3]) ? 0 : AT_SYMLINK_NOFOLLOW;
	struct stat st;
	int status = utimensat(AT_FDCWD, a[0], times, flag);

	if (status == 0 && fstatat(AT_FDCWD, a[0], &st, flag) == 0) {
		ops_mark_file(&st);
		ops_say_time("a", &st.st_atim);
		ops_say_time("m", &st.st_mtim);
	}
	return status;
}

/* mknod PATH fifo|socket|device */
static long ops_mknod(char **a)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;
	int status;

	if (a[1][0] == 'f')
		return mkfifo(a[0], 0644);
	if (a[1][0] == 'd')
		return mknod(a[0], S_IFCHR | 0644, 0x103);
	if (strlen(a[0]) >= sizeof(address.sun_path))
		return 0;
	memcpy(address.sun_path, a[0], strlen(a[0]) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	status = bind(fd, (struct sockaddr *)&address, sizeof(address));
	(void)close(fd);
	return status;
}

static long ops_umask(char **a)
{
	return (long)umask((mode_t)ops_num(a[0]));
}

static long ops_exit(char **a)
{
	exit((int)ops_num(a[0]));
}

static long ops_kill(char **a)
{
	(void)fflush(stdout);
	return raise((int)ops_num(a[0]));
}

static const struct ops_operation ops_operations[] = {
	{"stat", 1, ops_stat},         {"lstat", 1, ops_lstat},
	{"fstat", 1, ops_fstat},       {"same", 2, ops_same},
	{"fsame", 2, ops_fsame},       {"open", 4, ops_open},
	{"close", 1, ops_close},       {"read", 3, ops_read},
	{"write", 4, ops_write},       {"ftruncate", 2, ops_ftruncate},
	{"truncate", 2, ops_truncate}, {"fallocate", 4, ops_fallocate},
	{"mmapw", 4, ops_mmap_write},  {"mmapr", 4, ops_mmap_read},
	{"fsync", 1, ops_fsync},       {"copy", 5, ops_copy},
	{"seek", 3, ops_seek},         {"access", 2, ops_access},
	{"mkdir", 2, ops_mkdir},       {"rmdir", 1, ops_rmdir},
	{"unlink", 1, ops_unlink},     {"rename", 2, ops_rename},
	{"exchange", 2, ops_exchange}, {"noreplace", 2, ops_noreplace},
	{"link", 2, ops_link},         {"linkfd", 2, ops_link_fd},
	{"symlink", 2, ops_symlink},   {"readlink", 1, ops_readlink},
	{"chmod", 2, ops_chmod},       {"fchmod", 2, ops_fchmod},
	{"chown", 3, ops_chown},       {"utimes", 4, ops_utimes},
	{"mknod", 2, ops_mknod},       {"umask", 1, ops_umask},
	{"exit", 1, ops_exit},         {"kill", 1, ops_kill},
	{"readdir", 1, ops_readdir},   {"rdchange", 2, ops_readdir_changing},
	{"setx", 3, ops_set_xattr},    {"getx", 2, ops_get_xattr},
	{"listx", 1, ops_list_xattr},  {"rmx", 2, ops_remove_xattr},
	{"lock", 3, ops_lock},         {"notify", 1, ops_notify},
	{"exec", 2, ops_exec},         {"mkops", 1, ops_make_program},
	{"busy", 1, ops_busy},         {"at", 2, ops_at},
	{"atslot", 2, ops_at_slot},
};

long ops_run(int n, char **words)
{
	for (size_t i = 0; i < sizeof(ops_operations) / sizeof(*ops_operations); i++) {
		const struct ops_operation *op = &ops_operations[i];

		if (strcmp(words[0], op->name) == 0 && n - 1 >= op->n_arguments)
			return op->run(words + 1);
	}
	(void)fprintf(stderr, "ops: no operation %s with %d arguments\n", words[0],
		      n - 1);
	exit(2);
}

static int ops_hex(char c)
{
	return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

/* Splits a line in place; %XX become bytes. */
static int ops_split(char *line, char **words)
{
	int n = 0;

	for (char *word = strtok(line, " \n"); word && n < OPS_WORDS_MAX - 1;
	     word = strtok(NULL, " \n")) {
		char *to = word;

		words[n++] = word;
		for (char *from = word; *from; from++) {
			if (*from == '%') {
				*to++ = (char)(ops_hex(from[1]) * 16 + ops_hex(from[2]));
				from += 2;
			} else {
				*to++ = *from;
			}
		}
		*to = '\0';
		if (strcmp(word, "''") == 0) /* an empty argument */
			*word = '\0';
	}
	words[n] = NULL;
	return n;
}

static void ops_script(FILE *script)
{
	char *words[OPS_WORDS_MAX];
	char *line = NULL;
	size_t cap = 0;
	int step = 0;

	while (getline(&line, &cap, script) > 0) {
		int n = ops_split(line, words);
		long result;

		if (!n)
			continue;
		errno = 0;
		result = ops_run(n, words);
		(void)printf("%d %s = %ld %s ", ++step, words[0], result,
			     result == -1 ? strerrorname_np(errno) : "");
		ops_flush();
	}
	free(line);
}

int main(int argc, char **argv)
{
	char end;
	FILE *script;

	if (argc == 3 && strcmp(argv[1], "exit") == 0)
		return (int)ops_num(argv[2]);
	if (argc == 2 && strcmp(argv[1], "pause") == 0)
		return read(0, &end, 1) == 0 ? 0 : 1;
	script = argc == 2 ? fopen(argv[1], "re") : NULL;
	if (!script) {
		(void)fprintf(stderr, "usage: ops SCRIPT\n");
		return 2;
	}
	for (size_t i = 0; i < OPS_SLOTS; i++)
		ops_slots[i] = -1;
	ops_script(script);
	ops_list();
	return 0;
}
