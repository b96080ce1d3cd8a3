/*
 * Where things stand for a command: its input root, either as its whole file system or
 * beside the host's read-only one, and what the sandbox puts over either. All is found
 * out before the sandbox starts, so that what cannot be is told by name and at once.
 *
 * Threads: one.
 */
#pragma once

#include "fuse/overlay.h"
#include "lib/base/buf.h"

/* Mount points of the sandbox's own; the last only in a root that is "/". */
enum layout_point { LAYOUT_PROC, LAYOUT_DEV, LAYOUT_TMP, LAYOUT_SYS };
#define LAYOUT_POINT_N 4

#define LAYOUT_ROOT "/build" /* where a command finds its input root by default */

struct layout_config {
	const char *merged; /* the input root, writable */
	int merged_fd;
	const char *root_path; /* where the command sees it: absolute, clean */
	const char *dir;       /* of the action, for what is made meanwhile */
	const char *prefix;    /* of names that the actions' user can reach */
	const char *etc;       /* accounts.h, for the usual user without a network */
	unsigned int uid;
	unsigned int gid;
	bool with_network;
};

struct layout {
	bool is_whole;
	const char *merged; /* both borrowed from the config */
	const char *root_path;
	char *root_at; /* root_path without the host's links */
	/* a read-only tree of the host's, with a place for the input root in it; or NULL
	 */
	struct overlay *under;
	char *under_at; /* "/usr" */
	char *etc;
	bool is_etc_own; /* to be removed */
	bool with_network;
	bool has_accounts;            /* over the host's */
	char *hosts_at;               /* where etc's hosts go; NULL: nowhere */
	char *points[LAYOUT_POINT_N]; /* without links */
	char **made;                  /* in merged, by us, in this order */
	size_t n_made;
	size_t made_cap;
};

/* INVALID_ARGUMENT names the path that cannot be, and why. */
struct error *layout_make(const struct layout_config *config, struct layout *out);
/* The command has ended: what was made in the input root is gone, so that no output shows
 * it. */
void layout_tidy(struct layout *layout, int merged_fd);
/* Nobody sees any of it any more. */
void layout_deinit(struct layout *layout);

/* Directories of the host's that a command sees. */
extern const char *const layout_host_dirs[];
extern const size_t layout_n_host_dirs;
