/*
 * What a result names, on its way into a directory: staged beside its place, and put
 * there by rename once all of it is whole. Nothing is written outside the directory,
 * through a symbolic link or below one, whatever the paths, trees and links say; what is
 * asked for ends up exactly as it was named, and what stood in its place is gone. Where
 * anything fails before, nothing has changed; where one cannot be put in its place then,
 * the others are.
 *
 * Threads: one at a time; blocking.
 */
#pragma once

#include "lib/cas/checkout.h"

struct handover;

/* Both borrowed; dest_fd is the directory that all paths are relative to. */
struct handover *handover_new(const struct checkout_config *config, int dest_fd);
void *handover_free(struct handover *handover); /* removes what was staged */
CLEANUP_DEFINE(struct handover, handover_free)

/* Nothing happens yet. Paths as people write them; the working directory itself ("", ".")
 * may only be a tree. INVALID_ARGUMENT where a path leaves the destination. */
struct error *handover_add_file(struct handover *handover, const char *path,
				const struct digest *digest, bool is_executable,
				const struct tree_props *props); /* NULL: none */
struct error *handover_add_link(struct handover *handover, const char *path,
				const char *target);
struct error *handover_add_tree(struct handover *handover, const char *path,
				const struct digest *root);

/* Trees only: what stands in a place by then stays, but for an empty directory, and
 * ALREADY_EXISTS says so. */
void handover_spare(struct handover *handover);

/*
 * All of it, once. INVALID_ARGUMENT where what was added contradicts itself (a path below
 * a link or file, or other than the tree that it lies in says). A tree for the
 * destination itself is laid over what is there, file by file. An error names each that
 * is not in its place.
 */
struct error *handover_run(struct handover *handover);
/* Whether, whatever handover_run() ended with, something is in its place. */
bool handover_has_placed(const struct handover *handover);
