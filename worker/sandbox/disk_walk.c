/*
 * Owns the open directories on the way to the one being read, and the names of those that
 * wait. What vanishes on the way counts as nothing; a file with several names counts once
 * in all, a share for each name.
 *
 * Depth first: the directories that are needed again are one way down from the top. A
 * level is one openat() relative to the one above, so that a chain of d levels costs d
 * and not d * d, and names are single components that no link is followed for. Of a long
 * way only the lowest few and one in so many stay open; the others are opened again from
 * there, which costs a few levels for each level climbed.
 */
#include "worker/sandbox/disk_walk.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/cleanup.h"
#include "lib/base/clock.h"

#define DISK_WALK_BATCH 64 /* entries between two looks at the clock */
#define DISK_WALK_APART 64 /* levels from one that stays open to the next */
#define DISK_WALK_LAST  16 /* as many lowest levels stay open, too */

static void disk_walk_push(struct disk_walk *walk, struct disk_walk_dir *parent,
			   const char *name)
{
	size_t size = strlen(name) + 1;
	struct disk_walk_dir *dir = alloc_zero(sizeof(*dir) + size);

	*dir = (struct disk_walk_dir){.parent = parent, .n_refs = 1, .fd = -1};
	memcpy(dir->name, name, size);
	if (parent) {
		dir->depth = parent->depth + 1;
		parent->n_refs++;
	}
	walk->todo =
		alloc_grow(walk->todo, &walk->cap, walk->n_todo + 1, sizeof(*walk->todo));
	walk->todo[walk->n_todo++] = dir;
}

static void disk_walk_unref(struct disk_walk_dir *dir)
{
	while (dir && --dir->n_refs == 0) {
		struct disk_walk_dir *parent = dir->parent;

		if (dir->fd >= 0)
			(void)close(dir->fd);
		free(dir);
		dir = parent;
	}
}

void disk_walk_init(struct disk_walk *walk, int top_fd)
{
	*walk = (struct disk_walk){.top_fd = top_fd};
	disk_walk_push(walk, NULL, ".");
}

static void disk_walk_leave_dir(struct disk_walk *walk)
{
	if (walk->stream)
		(void)closedir(walk->stream);
	walk->stream = NULL;
	disk_walk_unref(walk->dir);
	walk->dir = NULL;
}

void disk_walk_deinit(struct disk_walk *walk)
{
	disk_walk_leave_dir(walk);
	for (size_t i = 0; i < walk->n_todo; i++)
		disk_walk_unref(walk->todo[i]);
	free(walk->todo);
	*walk = (struct disk_walk){.top_fd = -1, .is_done = true};
}

/* Closes the one above dir that is no longer among the lowest. */
static void disk_walk_close_above(struct disk_walk_dir *dir)
{
	for (int i = 0; dir && i < DISK_WALK_LAST; i++)
		dir = dir->parent;
	if (!dir || dir->fd < 0 || dir->depth % DISK_WALK_APART == 0)
		return;
	(void)close(dir->fd);
	dir->fd = -1;
}

/* Opens dir, and before it what is closed between it and the next open one above. */
static bool disk_walk_open(struct disk_walk *walk, struct disk_walk_dir *dir)
{
	struct disk_walk_dir *way[DISK_WALK_APART];
	size_t n = 0;
	int fd;

	for (; dir && dir->fd < 0; dir = dir->parent) {
		if (n == ARRAY_SIZE(way))
			return false; /* one that stays open could not be opened */
		way[n++] = dir;
	}
	fd = dir ? dir->fd : walk->top_fd;
	while (n > 0) {
		dir = way[--n];
		dir->fd = openat(fd, dir->name,
				 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (dir->fd < 0)
			return false; /* it was removed meanwhile */
		disk_walk_close_above(dir);
		fd = dir->fd;
	}
	return true;
}

/* Tries the next directory: that one may have vanished, and then none is being read. */
static void disk_walk_next_dir(struct disk_walk *walk)
{
	int fd;

	walk->dir = walk->todo[--walk->n_todo];
	if (disk_walk_open(walk, walk->dir)) {
		/* its own stays for those below it, when the stream is closed */
		fd = fcntl(walk->dir->fd, F_DUPFD_CLOEXEC, 0);
		walk->stream = fd < 0 ? NULL : fdopendir(fd);
		if (fd >= 0 && !walk->stream)
			(void)close(fd);
	}
	if (!walk->stream)
		disk_walk_leave_dir(walk);
}

static void disk_walk_entry(struct disk_walk *walk, const struct dirent *entry)
{
	struct stat st;

	if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
		return;
	if (fstatat(walk->dir->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	walk->n_inodes++;
	if (S_ISDIR(st.st_mode)) {
		if (walk->dir->depth < DISK_WALK_DEPTH_MAX)
			disk_walk_push(walk, walk->dir, entry->d_name);
		else
			walk->is_cut = true;
		walk->bytes += st.st_blocks * 512;
		return;
	}
	walk->bytes += st.st_blocks * 512 / (int64_t)(st.st_nlink ? st.st_nlink : 1);
	if (S_ISREG(st.st_mode) && st.st_size > walk->largest)
		walk->largest = st.st_size;
}

static void disk_walk_one(struct disk_walk *walk)
{
	const struct dirent *entry;

	if (!walk->stream) {
		disk_walk_next_dir(walk);
		return;
	}
	entry = readdir(walk->stream);
	if (entry)
		disk_walk_entry(walk, entry);
	else
		disk_walk_leave_dir(walk);
}

bool disk_walk_step(struct disk_walk *walk, int64_t for_ns)
{
	int64_t until = clock_mono_ns() + for_ns;

	while (!walk->is_done) {
		for (int i = 0; i < DISK_WALK_BATCH && (walk->stream || walk->n_todo);
		     i++)
			disk_walk_one(walk);
		if (!walk->stream && !walk->n_todo)
			walk->is_done = true;
		else if (clock_mono_ns() >= until)
			break;
	}
	return walk->is_done;
}
