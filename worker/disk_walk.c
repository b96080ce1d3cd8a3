/*
 * Owns one open directory and the names of those that wait. What vanishes on the way
 * counts as nothing; a file with several names counts once in all, a share for each name.
 */
#include "worker/disk_walk.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"

#define DISK_WALK_BATCH 64 /* entries between two looks at the clock */

/* Consumes path. */
static void disk_walk_push(struct disk_walk *walk, char *path, unsigned int depth)
{
	walk->todo =
		alloc_grow(walk->todo, &walk->cap, walk->n_todo + 1, sizeof(*walk->todo));
	walk->todo[walk->n_todo++] = (struct disk_walk_dir){path, depth};
}

void disk_walk_init(struct disk_walk *walk, int top_fd)
{
	*walk = (struct disk_walk){.top_fd = top_fd};
	disk_walk_push(walk, alloc_string(""), 0);
}

void disk_walk_deinit(struct disk_walk *walk)
{
	if (walk->dir)
		(void)closedir(walk->dir);
	for (size_t i = 0; i < walk->n_todo; i++)
		free(walk->todo[i].path);
	free(walk->todo);
	free(walk->path);
	*walk = (struct disk_walk){.top_fd = -1, .is_done = true};
}

/* The next directory that can be opened; false: there is none. */
static bool disk_walk_next_dir(struct disk_walk *walk)
{
	while (!walk->dir && walk->n_todo) {
		struct error *err;
		int fd = -1;

		free(walk->path);
		walk->path = walk->todo[--walk->n_todo].path;
		walk->depth = walk->todo[walk->n_todo].depth;
		err = file_open_deep(walk->top_fd, walk->path, &fd);
		error_free(err); /* it was removed meanwhile */
		walk->dir = fd < 0 ? NULL : fdopendir(fd);
		if (fd >= 0 && !walk->dir)
			(void)close(fd);
	}
	return walk->dir != NULL;
}

static void disk_walk_entry(struct disk_walk *walk, const struct dirent *entry)
{
	struct stat st;

	if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
		return;
	if (fstatat(dirfd(walk->dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	walk->n_inodes++;
	if (S_ISDIR(st.st_mode)) {
		if (walk->depth < DISK_WALK_DEPTH_MAX)
			disk_walk_push(walk,
				       alloc_printf("%s%s%s", walk->path,
						    *walk->path ? "/" : "",
						    entry->d_name),
				       walk->depth + 1);
		else
			walk->is_too_deep = true;
		walk->bytes += st.st_blocks * 512;
		return;
	}
	walk->bytes += st.st_blocks * 512 / (int64_t)(st.st_nlink ? st.st_nlink : 1);
	if (S_ISREG(st.st_mode) && st.st_size > walk->largest)
		walk->largest = st.st_size;
}

bool disk_walk_step(struct disk_walk *walk, int64_t for_ns)
{
	int64_t until = clock_mono_ns() + for_ns;

	while (!walk->is_done) {
		for (int i = 0; i < DISK_WALK_BATCH && disk_walk_next_dir(walk); i++) {
			struct dirent *entry = readdir(walk->dir);

			if (entry) {
				disk_walk_entry(walk, entry);
				continue;
			}
			(void)closedir(walk->dir);
			walk->dir = NULL;
		}
		if (!walk->dir && !walk->n_todo)
			walk->is_done = true;
		else if (clock_mono_ns() >= until)
			break;
	}
	return walk->is_done;
}
