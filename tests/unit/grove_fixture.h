/*
 * For tests of predict/: an input root in memory, whose Directories and blobs are at hand
 * or not, one by one, and what foresight makes of it. The root is all that there is: a
 * wish for anything else fails the test.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/tree/treebuild.h"
#include "predict/foresight.h"
#include "predict/resolve.h"

struct grove_blob { /* of a file */
	struct digest digest;
	char *path; /* the first that it was put at */
	struct buf bytes;
	bool is_here;
};

struct grove_dir {
	struct digest digest;
	struct tree_dir *dir;
	bool is_here;
};

struct grove {
	struct treebuild *build;
	struct digest root;
	struct grove_blob *blobs;
	size_t n_blobs;
	size_t blobs_cap;
	struct grove_dir *dirs;
	size_t n_dirs;
	size_t dirs_cap;
	size_t n_dir; /* how often it asked for a Directory */
	size_t n_has; /* how often foresight asked whether a blob is at hand */
	struct resolve_world resolve;
	struct foresight_world world;
	struct foresight_way way; /* what foresight_next() is told */
	struct foresight *foresight;
	struct buf said; /* grove_wishes()'s answer */
};

void grove_init(struct grove *grove);
void grove_deinit(struct grove *grove);
#define _cleanup_grove_ _cleanup_(grove_deinit)

/* What the root holds; a file whose text is NULL holds its own path. */
void grove_file(struct grove *grove, const char *path, const char *text);
void grove_bytes(struct grove *grove, const char *path, struct slice bytes);
void grove_link(struct grove *grove, const char *path, const char *target);
void grove_dir(struct grove *grove, const char *path);
/* Directories of two Directories each, both the same, depth of them: 2^depth paths. */
void grove_fold(struct grove *grove, const char *path, unsigned int depth);
/* All is there, every Directory at hand and no blob. */
void grove_finish(struct grove *grove);

/* A Directory is at hand, or is not; "" is the root. */
void grove_show_dir(struct grove *grove, const char *path, bool is_here);
void grove_show_dirs(struct grove *grove, bool is_here); /* all of them */
/* The same of a file's blob. */
void grove_show(struct grove *grove, const char *path, bool is_here);

/* An action whose words stand in one string, with blanks between them; its root is
 * mounted at "/". */
void grove_think(struct grove *grove, const char *command_line);
void grove_think_of(struct grove *grove, const struct foresight_action *action);

/* The paths of all wishes that may be granted now, in order, blanks between them; and of
 * the first few. */
const char *grove_wishes(struct grove *grove);
const char *grove_take(struct grove *grove, size_t most);
/* The same, each brought as soon as it is wished for, until there are no more. */
const char *grove_settle(struct grove *grove);
/* All that was wished for and is not here yet comes. */
void grove_bring(struct grove *grove);
/* The command opens a file, which comes where it is not at hand. */
void grove_open(struct grove *grove, const char *path);

/* Whether a path stands among those of a list with blanks. */
bool grove_has(const char *list, const char *path);
size_t grove_count(const char *list);
