/*
 * The disk space of files that have no name any more but are still open, or mapped, in
 * the processes of one sandbox: no walk through directories finds them.
 *
 * Threads: one.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct disk_held {
	int64_t bytes;
	int64_t n_inodes;
	int64_t largest; /* apparent size */
};

/* first: the sandbox's pid 1, of which all its processes descend; 0: none is known. */
void disk_held_read(pid_t first, struct disk_held *out);
