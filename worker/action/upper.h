/*
 * Where an action writes: below its input root, in /tmp and /dev/shm. Either in
 * directories on the cache's file system, where somebody has to count (guard.h), or,
 * where its limit of disk space is to be exact, on a file system of that size of its own:
 * a tmpfs, or an ext4 in a sparse file. What does not fit there is ENOSPC for the
 * command, at the limit and not a moment later.
 *
 * Threads: one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/error.h"

enum upper_kind { UPPER_DIR, UPPER_TMPFS, UPPER_LOOP };

struct upper_config {
	enum upper_kind kind;
	int64_t bytes;   /* what the action may write in all */
	const char *dir; /* of the action: what its files lie in */
	const char
		*point; /* made, and removed at the end: reachable by the actions' user */
};

struct upper;

/* "dir", "tmpfs" or "loop"; false: none of them. */
bool upper_parse(const char *name, enum upper_kind *kind_out);

/* Mounts it; UPPER_DIR is none (NULL). */
struct error *upper_new(const struct upper_config *config, struct upper **out);
/* Once all that is ours lies there: what is left is as large as config.bytes. */
struct error *upper_settle(struct upper *upper);
/* Unmounts it, and all that was written is gone. Nothing of it may be open any more. */
void *upper_free(struct upper *upper);
CLEANUP_DEFINE(struct upper, upper_free)

/* Paths on it, borrowed; the latter two are anybody's to write. */
const char *upper_overlay(
	const struct upper *upper); /* not made: an overlay's directory */
const char *upper_tmp(const struct upper *upper);
const char *upper_shm(const struct upper *upper);
int upper_fd(const struct upper *upper); /* of the mount; borrowed */

/* FAILED_PRECONDITION where this machine cannot: dir as an action's, point as above. */
struct error *upper_probe(enum upper_kind kind, const char *dir, const char *point);
