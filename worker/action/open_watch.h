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

struct open_watch;

struct open_watch_config {
	int merged_fd;             /* the overlay; borrowed */
	const char *root_path;     /* where the command sees the input root */
	const struct digest *root; /* the input tree */
	struct dircache *dirs;
	/* Of each inode once: a file or a directory of the input root, by its path there;
	 * digest is a file's. NULL: nobody listens. */
	void (*opened)(void *ctx, const char *path, const struct digest *digest);
	void *ctx;
};

struct error *open_watch_new(const struct open_watch_config *config,
			     struct open_watch **out);
void *open_watch_free(struct open_watch *opened);
CLEANUP_DEFINE(struct open_watch, open_watch_free)
int open_watch_fd(const struct open_watch
			  *opened); /* POLLIN: open_watch_drain() has work; borrowed */
void open_watch_drain(struct open_watch *opened);

struct open_watch_totals {
	int64_t files; /* of the input root, each once */
	int64_t bytes; /* their sizes */
};
void open_watch_totals(const struct open_watch *opened, struct open_watch_totals *out);
