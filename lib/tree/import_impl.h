/*
 * An import's inside: import_walk.c lists, import_read.c hashes, import.c encodes and
 * hands out.
 *
 * Threads: within a phase a directory or a file belongs to one thread; what all share is
 * atomic or under mutex. Between phases, and once it has run, it is one thread's.
 */
#pragma once

#include <stdatomic.h>
#include <sys/stat.h>

#include "lib/base/arena.h"
#include "lib/base/sync.h"
#include "lib/tree/dirset.h"
#include "lib/tree/import.h"
#include "lib/tree/stat_cache.h"

#define IMPORT_NAMES_MAX ((size_t)256 << 20) /* names and links of one directory */

struct import_entry {
	struct tree_node node;
	struct stat_record record;
	struct tree_props props; /* node's, where it has any */
	const char *path;        /* below the root; files and directories */
	struct import_dir *dir;  /* of a directory */
	bool has_digest;
	bool is_settled;
	bool is_held;     /* what was hashed of it is kept */
	bool is_gone;     /* it vanished before it was read */
	struct buf bytes; /* of a small held file */
	int fd;           /* of a large one; else -1 */
};

struct import_dir {
	struct arena arena;
	const char *path;             /* "" is the root */
	struct import_entry *entries; /* in order of name */
	size_t n;
	size_t n_dirs;
	bool is_gone;  /* it vanished */
	bool has_lost; /* a file of it vanished */
	struct digest digest;
	struct buf bytes;
	struct buf records;
	struct slice old_records;
};

struct import_level {
	struct import_dir **dirs;
	size_t n;
};

struct import {
	struct import_config config;
	_Atomic int64_t n_entries; /* met so far */
	char *root;                /* absolute; "" for "/" */
	char *name;                /* of a file by itself, in root */
	int dir_fd;
	enum tree_kind kind;
	bool is_executable;
	struct digest digest;
	struct import_level *levels;
	size_t n_levels;
	size_t levels_cap;
	size_t at_level;             /* the one that is listed or encoded */
	struct import_entry **files; /* to be hashed */
	size_t n_files;
	struct import_entry *single; /* a file by itself, the only one */
	struct blob_source *items;
	size_t n_items;
	struct dirset dirs; /* borrows from levels */
	struct stat_cache *cache;
	atomic_bool is_failed;
	atomic_bool has_products; /* of a build */
	struct sync_mutex mutex;
	struct error *err SYNC_GUARDED_BY(&mutex); /* the first failure */
	char **notes SYNC_GUARDED_BY(&mutex);
	size_t n_notes SYNC_GUARDED_BY(&mutex);
	size_t notes_cap SYNC_GUARDED_BY(&mutex);
	_Atomic int64_t held_bytes, held_files;
	_Atomic int64_t files_done, bytes_hashed, n_dirs, n_symlinks, bytes, n_hashed,
		n_skipped;
};

/* Both phases, over the pool; they fail with the first error met. */
struct error *import_walk(struct import *import);
struct error *import_hash_all(struct import *import);
/* Fills in the digest, and whether the file's times allow to remember it; or is_gone. */
struct error *import_hash_file(struct import *import, struct import_entry *entry);

/* Something is of another kind than it was listed as: ABORTED, to begin anew. Another
 * error comes back as it is. NULL stays NULL. */
struct error *import_other_kind(struct error *err);
/* Gives a file's node its time, where nodes have one. */
void import_set_props(const struct import *import, struct import_entry *entry);
bool import_wants_held(const struct import *import, const char *path);
void import_entry_deinit(struct import_entry *entry);

/* Consumes err; the first one stays. */
void import_fail(struct import *import, struct error *err);
void import_progress(struct import *import, int64_t n_files, int64_t bytes_hashed);
struct stat_record import_record_of(const struct stat *st);
bool import_same_record(const struct stat_record *a, const struct stat_record *b);
/* The key of a directory in the stat cache. */
char *import_cache_key(const struct import *import, const char *path);
void import_dir_free(struct import_dir *dir);
