/*
 * What an action brought back, read again: files, notes, and Trees as listings.
 */
#pragma once

#include "tests/integration/worker_fixture.h"

#include <limits.h>

const char *note_about(struct fixture *fixture, const struct outcome *outcome,
		       const char *path);

void assert_file_says(struct fixture *fixture, const struct outcome *outcome,
		      const char *path, const char *text);

/* ---- Trees, read again ---------------------------------------------------------- */

struct tree {
	struct slice *dirs; /* encoded, the root first */
	struct digest *digests;
	size_t n;
};

void tree_deinit(struct tree *tree);

struct tree tree_of(struct fixture *fixture, const Reapi__OutputDirectory *output);

struct tree_dir *tree_decode_at(const struct tree *tree, size_t i);

/* Every Directory once, all that are named are there, parents before their children. */
void assert_tree_is_canonical(const struct tree *tree);

void assert_tree_lists(struct fixture *fixture, const Reapi__OutputDirectory *output,
		       const char *listing);

void assert_all_stored(struct fixture *fixture, const struct tree *tree);
