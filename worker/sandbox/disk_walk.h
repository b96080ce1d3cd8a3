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

#define DISK_WALK_DEPTH_MAX 1024 /* levels: nothing deeper can be an output */

/* One that waits, is being read, or has one below it that does. */
struct disk_walk_dir {
	struct disk_walk_dir *parent; /* a reference; NULL: it is the top */
	size_t n_refs;
	unsigned int depth;
	int fd; /* -1: not open, or not any more */
	char name[];
};

struct disk_walk {
	int top_fd;                /* borrowed */
	struct disk_walk_dir *dir; /* being read, or NULL */
	DIR *stream;               /* of dir */
	struct disk_walk_dir **todo;
	size_t n_todo;
	size_t cap;
	bool is_done;
	bool is_cut;      /* something was not looked at: below DISK_WALK_DEPTH_MAX */
	int64_t bytes;    /* so far: never more than there was */
	int64_t n_inodes; /* names, more than one of a file, too */
	int64_t largest;  /* apparent size of the largest file so far */
};

void disk_walk_init(struct disk_walk *walk, int top_fd);
void disk_walk_deinit(struct disk_walk *walk);
/* Goes on until all was seen (true), or for about that long. */
bool disk_walk_step(struct disk_walk *walk, int64_t for_ns);
