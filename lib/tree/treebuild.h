/*
 * A Merkle tree under construction: files, links and whole known subtrees put at paths,
 * then encoded from the leaves up. Used by import, by `run --input` and by capture.
 *
 * A known subtree stays one digest until something is put inside it; then its Directory
 * is asked for through load(). The same path put twice: equal things merge, others clash
 * (ALREADY_EXISTS naming the path). Threads: one.
 */
#pragma once

#include "lib/tree/tree.h"

struct treebuild;

/* Gives the Directory of a digest; a reference for the caller. May block. */
typedef struct error *treebuild_load_fn(void *ctx, const struct digest *digest,
					struct tree_dir **dir_out);

struct treebuild *treebuild_new(treebuild_load_fn *load, void *ctx);
void *treebuild_free(struct treebuild *build);
CLEANUP_DEFINE(struct treebuild, treebuild_free)

/* path is relative, without "." and ".." ("" is the root); parents are made. */
struct error *treebuild_put_file(struct treebuild *build, const char *path,
				 const struct digest *digest, bool is_executable,
				 const struct tree_props *props);
struct error *treebuild_put_symlink(struct treebuild *build, const char *path,
				    const char *target, const struct tree_props *props);
struct error *treebuild_put_dir(
	struct treebuild *build, const char *path,
	const struct tree_props *props); /* exists, perhaps empty */
struct error *treebuild_put_tree(struct treebuild *build, const char *path,
				 const struct digest *root);

/* Nothing is at path any more ("" is the root), nor anything but directories above it. */
struct error *treebuild_clear(struct treebuild *build, const char *path);

/*
 * Encodes all new directories: calls emit for each, children before their parents, equal
 * ones once; known subtrees that were not entered are not emitted.
 */
typedef struct error *treebuild_emit_fn(void *ctx, const struct digest *digest,
					struct slice bytes);
struct error *treebuild_finish(struct treebuild *build, treebuild_emit_fn *emit,
			       void *ctx, struct digest *root_out);
