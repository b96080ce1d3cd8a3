/*
 * What the files of the capture share, from the ground up:
 *
 *   capture_record.c  new blobs, what was left out, limits
 *   capture_upper.c   reading upper directories
 *   capture_tree.c    files into the store, Directories and Trees
 *   capture.c         paths and results
 *
 * Threads: the capture's, one at a time.  */
#pragma once

#include <sys/stat.h>

#include "fuse/capture.h"
#include "lib/base/arena.h"
#include "lib/base/htab.h"
#include "lib/tree/dirset.h"

/* What is written may be anything. */
#define CAPTURE_NOTES_MAX 100
#define CAPTURE_NOTE_MAX  512 /* bytes of one */

enum capture_entry_kind {
	CAPTURE_ENTRY_FILE,
	CAPTURE_ENTRY_DIR,
	CAPTURE_ENTRY_SYMLINK,
	CAPTURE_ENTRY_WHITEOUT,
	CAPTURE_ENTRY_OTHER,
};

/* One entry of an upper directory. All memory is the arena's. */
struct capture_entry {
	const char *name;
	enum capture_entry_kind kind;
	bool is_executable;
	bool has_digest; /* files: metacopy, or in the store by now */
	struct digest digest;
	int64_t size;
	struct slice target; /* symlinks */
	const char *what;    /* OTHER: "a socket", or why else it is left out */
	const struct tree_props *props;
	struct capture_dir *dir; /* directories */
};

/* An upper directory, and the Directory that it is merged with, if any. */
struct capture_dir {
	const char *path; /* below upper; "" is upper itself */
	unsigned int depth;
	bool has_lower;
	bool is_scanned;
	bool is_built;
	bool is_whiteout_dir; /* opaque=x: may hold whiteouts that are files */
	struct digest lower_digest;
	struct timespec mtime;         /* at the scan, before files leave it */
	struct tree_dir *lower;        /* once scanned; owned by the capture */
	struct capture_entry *entries; /* in order of name */
	size_t n_entries;
	struct digest digest; /* once built */
};

/* The Tree of a directory, made once however often it is asked for. */
struct capture_tree {
	struct hnode node;
	struct digest root;
	struct digest tree;
};

struct capture {
	struct capture_config config;
	struct digest root_digest;
	char *mount_path;
	bool has_user_xattrs; /* the overlay's notes are user.overlay.* */
	struct arena arena;
	struct capture_dir top;
	struct tree_dir **lowers; /* references, until the end */
	size_t n_lowers;
	size_t lowers_cap;
	struct dirset built; /* Directories that it made; their bytes are the arena's */
	struct htab trees;   /* capture_tree */
	struct htab blob_set;
	struct digest *blobs;
	size_t n_blobs;
	size_t blobs_cap;
	char *notes[CAPTURE_NOTES_MAX + 1];
	size_t n_notes;
	uint64_t n_skipped; /* all that was to be noted */
	struct capture_stats stats;
};

/* capture_record.c */
/* What was written does not fit into the arena: RESOURCE_EXHAUSTED, as the next. */
struct error *capture_full(const struct capture *capture);
/* what: who has more than entries_max entries, and the verb ("it has"). */
struct error *capture_too_many(const struct capture *capture, const char *what);
struct error *capture_add_blob(struct capture *capture, const struct digest *digest);
/* entry, which is OTHER, is left out. */
void capture_add_note(struct capture *capture, const struct capture_dir *dir,
		      const struct capture_entry *entry);

/* capture_upper.c */
/* Reads dir's entries, once. */
struct error *capture_scan(struct capture *capture, struct capture_dir *dir);
/* NULL: nothing was written under this name. dir was scanned. */
struct capture_entry *capture_find(const struct capture_dir *dir, const char *name);
/* The Directory, kept until the end of the capture; borrowed. */
struct error *capture_lower(struct capture *capture, const struct digest *digest,
			    struct tree_dir **dir_out);
/* The caller closes it; -1: errno says why. */
int capture_open_dir(const struct capture *capture, const struct capture_dir *dir);

/* capture_tree.c */
/* Brings one file into the store, where it is not there yet. */
struct error *capture_adopt_file(struct capture *capture, const struct capture_dir *dir,
				 struct capture_entry *entry);
/* Brings all files below dir into the store and makes its Directories. */
struct error *capture_build(struct capture *capture, struct capture_dir *dir);
/* Stores the Tree of a directory that is built or of the lower layer. */
struct error *capture_make_tree(struct capture *capture, const struct digest *root,
				struct digest *tree_out);
