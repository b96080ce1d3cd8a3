/*
 * Owns the list of files seen in one look. Processes that end meanwhile count as nothing.
 * Only files of an overlay count: those of the sandbox's other file systems are known to
 * these, and a memory file is memory.
 */
#include "worker/sandbox/disk_held.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"

#define HELD_TEXT_MAX ((size_t)16 << 20) /* of one process's list of mappings */

struct held_file {
	dev_t dev;
	ino_t ino;
	int64_t blocks;
	int64_t size;
};

struct held_list {
	struct held_file *files;
	size_t n;
	size_t cap;
	pid_t *todo;
	size_t n_todo;
	size_t todo_cap;
};

/* name in directory dir_fd: a magic link to a file that is open or mapped. */
static void held_look(struct held_list *list, int dir_fd, const char *name)
{
	_cleanup_fd_ int fd = -1;
	struct statfs fs;
	struct stat st;

	if (fstatat(dir_fd, name, &st, 0) < 0 || !S_ISREG(st.st_mode) || st.st_nlink)
		return;
	fd = openat(dir_fd, name, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != OVERLAYFS_SUPER_MAGIC)
		return;
	list->files =
		alloc_grow(list->files, &list->cap, list->n + 1, sizeof(*list->files));
	list->files[list->n++] =
		(struct held_file){st.st_dev, st.st_ino, st.st_blocks * 512, st.st_size};
}

static void held_look_open(struct held_list *list, int proc_fd)
{
	int fd = openat(proc_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		cleanup_fd(&fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			held_look(list, fd, entry->d_name);
	(void)closedir(dir);
}

/* "START-END … PATH (deleted)": map_files has a link START-END for each. */
static void held_look_mapped(struct held_list *list, int proc_fd)
{
	static const char mark[] = " (deleted)";
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_error_ struct error *err =
		file_read_all(proc_fd, "maps", HELD_TEXT_MAX, &text);
	char *rest = err ? NULL : (char *)text.data;

	for (char *line; (line = strsep(&rest, "\n"));) {
		size_t len = strlen(line);
		char name[64];
		uint64_t start;
		uint64_t end;

		if (len < strlen(mark) || strcmp(line + len - strlen(mark), mark) != 0 ||
		    sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) != 2)
			continue;
		(void)snprintf(name, sizeof(name), "map_files/%" PRIx64 "-%" PRIx64,
			       start, end);
		held_look(list, proc_fd, name);
	}
}

/* The children of each of its threads are still to be looked at. */
static void held_add_children(struct held_list *list, int proc_fd)
{
	int fd = openat(proc_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		cleanup_fd(&fd);
		return;
	}
	while ((entry = readdir(dir))) {
		_cleanup_buf_ struct buf text = BUF_INIT;
		_cleanup_error_ struct error *err = NULL;
		char name[300];
		char *rest;

		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(name, sizeof(name), "%s/children", entry->d_name);
		err = file_read_all(fd, name, HELD_TEXT_MAX, &text);
		rest = err ? NULL : (char *)text.data;
		for (char *word; (word = strsep(&rest, " \n"));) {
			int pid = atoi(word);

			if (pid <= 0)
				continue;
			list->todo = alloc_grow(list->todo, &list->todo_cap,
						list->n_todo + 1, sizeof(pid_t));
			list->todo[list->n_todo++] = pid;
		}
	}
	(void)closedir(dir);
}

static int held_compare(const void *a, const void *b)
{
	const struct held_file *x = a;
	const struct held_file *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

void disk_held_read(pid_t first, struct disk_held *out)
{
	struct held_list list = {0};

	*out = (struct disk_held){0};
	list.todo = alloc_grow(NULL, &list.todo_cap, 1, sizeof(pid_t));
	if (first)
		list.todo[list.n_todo++] = first;
	while (list.n_todo) {
		_cleanup_fd_ int fd = -1;
		char path[32];

		(void)snprintf(path, sizeof(path), "/proc/%d", list.todo[--list.n_todo]);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			continue;
		held_look_open(&list, fd);
		held_look_mapped(&list, fd);
		held_add_children(&list, fd);
	}
	if (list.n)
		qsort(list.files, list.n, sizeof(*list.files), held_compare);
	for (size_t i = 0; i < list.n; i++) {
		if (i && held_compare(&list.files[i - 1], &list.files[i]) == 0)
			continue;
		out->n_inodes++;
		out->bytes += list.files[i].blocks;
		if (list.files[i].size > out->largest)
			out->largest = list.files[i].size;
	}
	free(list.files);
	free(list.todo);
}
