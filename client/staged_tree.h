/*
 * A tree that was staged into a directory (lib/cas/checkout.h), looked at once, so that
 * later it can be told what of it is still as it was: by inode, size and times. A file
 * that moved with its directory is that file still.
 *
 * Threads: main makes it; finding from any.
 */
#pragma once

#include <sys/stat.h>

#include "lib/cas/dircache.h"

struct staged_tree;

/* Also gives directories and links that bring no time of their own the one that inputs
 * have. Returns only when a change from now on has a later time than all of it. */
struct error *staged_tree_new(struct dircache *dirs, const struct digest *root,
			      int root_fd, struct staged_tree **out);
void *staged_tree_free(struct staged_tree *tree);
CLEANUP_DEFINE(struct staged_tree, staged_tree_free)

/* As capture_config.staged wants it; ctx is the staged_tree. */
const struct tree_node *staged_tree_find(void *ctx, const struct stat *st);
