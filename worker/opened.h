/*
 * Which input files a command opened or executed, told by fanotify on the action's
 * overlay (fanotify(7): FAN_OPEN on the file system, since a mark on the mount does not
 * see opens through the sandbox's bind of it). About 2 µs an open, even when every cache
 * is warm.
 *
 * Threads: one.
 */
#pragma once

#include "lib/cas/dircache.h"

struct opened;

struct opened_config {
	int merged_fd;             /* the overlay; borrowed */
	const char *root_path;     /* where the command sees the input root */
	const struct digest *root; /* the input tree */
	struct dircache *dirs;
};

struct error *opened_new(const struct opened_config *config, struct opened **out);
void *opened_free(struct opened *opened);
CLEANUP_DEFINE(struct opened, opened_free)
int opened_fd(
	const struct opened *opened); /* POLLIN: opened_drain() has work; borrowed */
void opened_drain(struct opened *opened);

struct opened_totals {
	int64_t files; /* of the input root, each once */
	int64_t bytes; /* their sizes */
};
void opened_totals(const struct opened *opened, struct opened_totals *out);
