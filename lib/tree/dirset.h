/*
 * Directories by digest while trees are made of them: each once, with its bytes, in the
 * order in which they came. For what imports, captures and merges encode and later hand
 * out, or read back.
 *
 * A set that is zeroed is empty. Threads: one that adds, or any number that only look.
 */
#pragma once

#include "lib/base/htab.h"
#include "lib/tree/blob.h"
#include "lib/tree/tree.h"

struct dirset {
	struct htab tab;
	struct dirset_entry **entries;
	size_t n;
	size_t cap;
};

void dirset_deinit(struct dirset *set);
#define _cleanup_dirset_ _cleanup_(dirset_deinit)

/* Adds a Directory whose bytes are borrowed: they stay for as long as the set does.
 * False: it has it already, and keeps the bytes that it has. */
bool dirset_add(struct dirset *set, const struct digest *digest, struct slice bytes);
/* As dirset_add(), and keeps a copy of the bytes, which the set frees. */
bool dirset_add_copy(struct dirset *set, const struct digest *digest, struct slice bytes);

/* False: it has none. *bytes_out is borrowed. */
bool dirset_find(const struct dirset *set, const struct digest *digest,
		 struct slice *bytes_out);
/* A decoded Directory: a reference for the caller. NOT_FOUND names the digest. */
struct error *dirset_load(const struct dirset *set, const struct digest *digest,
			  struct tree_dir **dir_out);
/* The ith that was added, as something to upload; borrows from the set. */
struct blob_source dirset_item(const struct dirset *set, size_t i);
