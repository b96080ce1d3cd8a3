/*
 * The disk space and the files below a directory that others change meanwhile, added up
 * in small steps, so that whoever walks decides how much time it may take.
 *
 * Threads: one.
 */
#pragma once

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Levels: nothing deeper can be an output, and opening a directory costs its depth. */
#define DISK_WALK_DEPTH_MAX 1024

struct disk_walk_dir {
	char *path;
	unsigned int depth;
};

struct disk_walk {
	int top_fd;         /* borrowed */
	DIR *dir;           /* being read, or NULL */
	char *path;         /* of dir, below the top */
	unsigned int depth; /* of dir */
	struct disk_walk_dir *todo;
	size_t n_todo;
	size_t cap;
	bool is_done;
	bool is_too_deep; /* what is below DISK_WALK_DEPTH_MAX was not looked at */
	int64_t bytes;    /* so far: never more than there was */
	int64_t n_inodes; /* names, more than one of a file, too */
	int64_t largest;  /* apparent size of the largest file so far */
};

void disk_walk_init(struct disk_walk *walk, int top_fd);
void disk_walk_deinit(struct disk_walk *walk);
/* Goes on until all was seen (true), or for about that long. */
bool disk_walk_step(struct disk_walk *walk, int64_t for_ns);
