/*
 * Paths of an input root, as a command would follow them: symbolic links within the root
 * lead on, nothing leads out. Only Directories that are at hand are looked at: where one
 * is missing the answer is that nobody knows yet.
 *
 * Threads: those of the world.
 */
#pragma once

#include "lib/tree/tree.h"

#define RESOLVE_LINKS_MAX 40 /* symlinks on one way, as Linux has it */
#define RESOLVE_PATH_MAX  4096

/* Where Directories come from. */
struct resolve_world {
	/* A reference, or NULL where it is not at hand; never blocks. */
	struct tree_dir *(*dir)(void *ctx, const struct digest *digest);
	void *ctx;
};

enum resolve_outcome {
	RESOLVE_FOUND,
	RESOLVE_ABSENT,  /* the root has no such path */
	RESOLVE_UNKNOWN, /* a Directory on the way is not here yet */
};

struct resolved {
	enum tree_kind kind; /* file or directory: links were followed */
	bool is_executable;
	bool has_mtime; /* a file: its time is part of the tree */
	struct digest digest;
	/* From the root, clean and without links: the name that the file goes by. Where a
	 * path was not found: as far as it went. */
	char path[RESOLVE_PATH_MAX];
};

/* path: absolute, or from base (clean, from the root; "" is the root). */
enum resolve_outcome resolve_path(const struct resolve_world *world,
				  const struct digest *root, const char *base,
				  struct slice path, struct resolved *out);
/* What stands between the root and a path's last name; *dir_out is a reference, NULL
 * unless found and a directory. path is clean. */
enum resolve_outcome resolve_dir(const struct resolve_world *world,
				 const struct digest *root, const char *path,
				 struct tree_dir **dir_out);
