/*
 * A local file or directory as a Merkle tree: walked and hashed in parallel. A stat cache
 * (SQLite) remembers (path, device, inode, size, mtime, ctime) → digest, so an unchanged
 * file is not read again; an entry is only trusted where the file's times lie safely
 * before the moment it was hashed, so a change within the clock's granularity is seen.
 *
 * Nothing is copied: files are read again when they are uploaded. Those that changed
 * until then are named to the next import (held), which keeps what it hashed of them.
 *
 * The tree may change meanwhile. What vanished was never there; what changes while it is
 * read is read again, a bounded number of times; each digest is of bytes that were the
 * file's at one moment, as far as its times tell.
 */
#pragma once

#include "lib/base/pool.h"
#include "lib/tree/blob.h"
#include "lib/tree/tree.h"

struct import;

/* Whether files carry their mtime as a node property. AUTO: where products of a build are
 * among them (objects, archives, bytecode, told by their names): what decides by times
 * whether those are up to date, must see true ones. */
enum import_mtimes { IMPORT_MTIMES_NEVER, IMPORT_MTIMES_AUTO, IMPORT_MTIMES_ALWAYS };

struct import_config {
	struct pool *pool;
	enum import_mtimes mtimes;
	int64_t entries_max;    /* files, links and directories; 0: 10,000,000 */
	const char *stat_cache; /* path of its database, or NULL: none */
	/* absolute paths of files, in order of strcmp(): their bytes are kept, in memory
	 * or by an open file, as far as IMPORT_HELD_* allow */
	char *const *held;
	size_t n_held;
	/* may be called from several threads */
	void (*progress)(void *ctx, int64_t n_files, int64_t bytes_hashed);
	void *ctx;
};

#define IMPORT_HELD_SMALL     ((int64_t)1 << 20)  /* in memory; above: an open file */
#define IMPORT_HELD_BYTES_MAX ((int64_t)64 << 20) /* in memory, of one import */
#define IMPORT_HELD_FILES_MAX 256                 /* open, of one import */

/* Sockets, FIFOs and devices are skipped; notes name them. A file that cannot be read, or
 * that never holds still, is an error naming it. Symbolic links are never followed, but
 * for path itself. */
struct error *import_run(const struct import_config *config, const char *path,
			 struct import **import_out);
void *import_free(struct import *import);
CLEANUP_DEFINE(struct import, import_free)

enum tree_kind import_kind(const struct import *import); /* of path itself */
const struct digest *import_digest(const struct import *import);
bool import_is_executable(const struct import *import);             /* a file */
const struct tree_props *import_props(const struct import *import); /* a file; or NULL */
bool import_has_mtimes(const struct import *import);
/* Everything to upload: Directories as bytes, files as paths below import_dir_fd(). */
const struct blob_source *import_items(const struct import *import, size_t *n_out);
int import_dir_fd(const struct import *import);
/* The absolute path of an item that is a file; the caller frees it. */
char *import_item_path(const struct import *import, const struct blob_source *item);
/* Gives an imported Directory, as treebuild_load_fn; NOT_FOUND for others. */
struct error *import_load(void *import, const struct digest *digest,
			  struct tree_dir **out);

struct import_stats {
	int64_t n_files;
	int64_t n_dirs;
	int64_t n_symlinks;
	int64_t bytes;
	int64_t n_hashed;  /* files read */
	int64_t n_skipped; /* sockets and the like */
};
void import_stats(const struct import *import, struct import_stats *out);
size_t import_n_notes(const struct import *import);
const char *import_note(const struct import *import, size_t i);
