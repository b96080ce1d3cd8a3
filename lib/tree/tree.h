/*
 * Directories of a Merkle tree. A tree_dir is one REAPI Directory, decoded straight from
 * the wire and validated, immutable and shared by reference: names are views into the
 * bytes that it owns. Entries of all kinds stand in one array in name order.
 *
 * Validated (INVALID_ARGUMENT, naming the entry): names ("", ".", "..", "/", NUL, over
 * 255 bytes), duplicates over all kinds, sort order within each kind, digests, counts; so
 * a tree_dir can be trusted. Limits: TREE_DIR_MAX bytes, TREE_DEPTH_MAX levels.
 */
#pragma once

#include <stdatomic.h>

#include "lib/tree/digest.h"

#define TREE_DIR_MAX   ((size_t)256 << 20) /* bytes of one Directory */
#define TREE_DEPTH_MAX 1024
#define TREE_ENTRIES_MAX                                                                 \
	((int64_t)10 * 1000 * 1000) /* paths in one: a limit's default                   \
				     */
#define TREE_NAME_MAX   255
#define TREE_TARGET_MAX 4095

enum tree_kind { TREE_FILE, TREE_DIR, TREE_SYMLINK };

struct tree_props { /* of NodeProperties, those that mean something to a file system */
	bool has_mtime;
	bool has_unix_mode;
	bool has_read_only; /* property SubtreeReadOnly, of directories: this and all
			       below */
	bool is_read_only;
	uint32_t unix_mode;
	int32_t mtime_ns;
	int64_t mtime_s;
	struct slice raw; /* the encoded NodeProperties, kept for encoding again */
};

struct tree_node {
	struct slice name;
	struct digest digest;           /* files and directories */
	struct slice target;            /* symlinks: byte-exact */
	const struct tree_props *props; /* NULL: none */
	enum tree_kind kind;
	bool is_executable;
};

struct tree_dir {
	atomic_uint refs;
	uint32_t n_nodes;
	const struct tree_node *nodes;  /* in order of name */
	const struct tree_props *props; /* of the directory itself; NULL: none */
	uint32_t n_files;
	uint32_t n_dirs;
	uint32_t n_symlinks;
	size_t memory; /* bytes it holds, for cache limits */
};

/* Consumes bytes (takes the buffer over, also on failure). */
struct error *tree_dir_decode(struct buf *bytes, struct tree_dir **out);
struct tree_dir *tree_dir_ref(struct tree_dir *dir);
void *tree_dir_unref(struct tree_dir *dir);
CLEANUP_DEFINE(struct tree_dir, tree_dir_unref)
const struct tree_node *tree_dir_find(const struct tree_dir *dir, struct slice name);

/* Canonical encoding of nodes in any order: sorted, validated as above (a clash is
 * INVALID_ARGUMENT). props: the directory's own, or NULL. */
struct error *tree_encode(const struct tree_node *nodes, size_t n,
			  const struct tree_props *props, struct buf *out);
/* Appends a NodeProperties message: raw where there is one, else made of the other
 * fields. */
void tree_props_encode(const struct tree_props *props, struct buf *out);

/* INVALID_ARGUMENT unless name may name a directory entry. */
struct error *tree_name_check(struct slice name);
/* The same for the name of node, and for the target where it is a symlink. */
struct error *tree_node_check(const struct tree_node *node);
/* INVALID_ARGUMENT: name stands in a Directory twice. */
struct error *tree_clash(struct slice name);

/*
 * A REAPI Tree of Directories already encoded: root first, children deduplicated. Where
 * is_topological, parents also come before their children and what the root does not
 * reach is left out; else the order given is kept.
 */
void tree_message_encode(struct slice root, const struct slice *children,
			 size_t n_children, bool is_topological, struct buf *out);
/* Splits an encoded Tree into its Directory bytes; slices point into bytes. The root is
 * the first. The caller frees the array. */
struct error *tree_message_split(struct slice bytes, struct slice **dirs_out,
				 size_t *n_out);
