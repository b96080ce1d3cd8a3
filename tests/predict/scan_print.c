/*
 * Prints what predict/scan finds in files, for scan_agrees.py and for people: of each
 * path of the standard input a line "= PATH", then "KIND TEXT" lines. With --time it
 * prints instead how many bytes of them it looks at in a second of processor time.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "predict/scan.h"

static const char *const kind_names[] = {
	[SCAN_QUOTED] = "quoted",   [SCAN_ANGLED] = "angled",
	[SCAN_NEXT] = "next",       [SCAN_INTERPRETER] = "interpreter",
	[SCAN_PROGRAM] = "program", [SCAN_RUNPATH] = "runpath",
	[SCAN_LIBRARY] = "library", [SCAN_MODULE] = "module",
	[SCAN_BESIDE] = "beside",   [SCAN_PATH] = "path",
	[SCAN_PERL] = "perl",       [SCAN_PACKAGE] = "package",
	[SCAN_GO] = "go",
};

struct print {
	int fd;
	bool is_quiet;
	size_t n_bytes;
	size_t n_found;
};

static size_t print_read(void *ctx, int64_t at, void *buf, size_t len)
{
	struct print *print = ctx;
	ssize_t n = pread(print->fd, buf, len, at);

	print->n_bytes += n > 0 ? (size_t)n : 0;
	return n > 0 ? (size_t)n : 0;
}

static void print_found(void *ctx, enum scan_kind kind, struct slice text)
{
	struct print *print = ctx;

	print->n_found++;
	if (!print->is_quiet)
		printf("%s %.*s\n", kind_names[kind], (int)text.len,
		       (const char *)text.data);
}

static void print_file(struct print *print, const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct scan_file file = {.read = print_read, .ctx = print};
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return;
	if (!print->is_quiet)
		printf("= %s\n", path);
	file.size = st.st_size;
	print->fd = fd;
	scan_run(&file, slice_of(slash ? slash + 1 : path), print_found, print);
}

int main(int argc, char **argv)
{
	struct print print = {.is_quiet = argc > 1 && strcmp(argv[1], "--time") == 0};
	_cleanup_free_ char *line = NULL;
	struct timespec from;
	struct timespec to;
	size_t cap = 0;
	ssize_t len;
	double seconds;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
	while ((len = getline(&line, &cap, stdin)) > 0) {
		line[len - (line[len - 1] == '\n')] = '\0';
		print_file(&print, line);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
	seconds = (double)(to.tv_sec - from.tv_sec) +
		  (double)(to.tv_nsec - from.tv_nsec) / 1e9;
	if (print.is_quiet)
		printf("%zu bytes, %zu found, %.0f MB/s\n", print.n_bytes, print.n_found,
		       (double)print.n_bytes / seconds / 1e6);
	return 0;
}
