/*
 * What an action left behind: the upper directory resolved against the known tree, at a
 * cost proportional to what changed. Understands whiteouts, opaque directories, redirects
 * (relative and absolute) and metacopy; ignores origin, impure, uuid. What still comes
 * from the lower layer takes its digest from the Merkle tree, unread; what was written
 * goes into the store (by rename).
 *
 * What is written may be anything: more entries than entries_max, or more of them than
 * fits into memory_max bytes, are RESOURCE_EXHAUSTED.
 *
 * The upper directory is changed by it (files move into the store), so the overlay must
 * be detached before and not be used afterwards. Links in paths are resolved as the
 * command would see them, within the root only. Threads: one that may block; uses the
 * pool for hashing.
 */
#pragma once

#include <sys/stat.h>

#include "lib/base/pool.h"
#include "lib/cas/dircache.h"

struct capture;

/* What it cost, which is to be proportional to what changed. */
struct capture_stats {
	uint64_t n_scanned; /* entries of upper directories */
	uint64_t n_dirs;    /* Directories of the lower tree that were looked into */
	uint64_t n_files;   /* files hashed, or about to be */
	int64_t bytes;      /* of them */
};

struct capture_config {
	int upper_fd;              /* of the overlay; borrowed */
	const struct digest *root; /* the lower layer's tree */
	/* where the command saw the input root ("/build", "/"): absolute links that lead
	 * there are followed, others leave the root */
	const char *mount_path;
	struct dircache *dirs;
	struct store *store;
	struct pool *pool;
	/* Asked before each file is hashed, from any thread of the pool; its error ends
	 * the capture. NULL: nobody minds. */
	struct error *(*may_go_on)(void *ctx, const struct capture_stats *with_it);
	void *ctx;
	/* of written directories together, and of one Tree, each path counted */
	int64_t entries_max;
	size_t memory_max; /* bytes for names, links and Directories of what was written
			    */
	bool with_mtime;   /* output_node_properties: record them */
	bool with_unix_mode;
	/*
	 * Set where upper_fd is no overlay's, but a plain directory in which root was
	 * staged: what is not there is gone. Tells what a file, directory or link was
	 * staged as: a node with its digest and properties, where it is that still; of a
	 * directory only that it is the same one. NULL: it is none of them, or changed.
	 */
	const struct tree_node *(*staged)(void *ctx, const struct stat *st);
	void *staged_ctx;
};

struct capture *capture_new(const struct capture_config *config);
void *capture_free(struct capture *capture);
CLEANUP_DEFINE(struct capture, capture_free)

enum capture_kind {
	CAPTURE_NONE,
	CAPTURE_FILE,
	CAPTURE_DIR,
	CAPTURE_SYMLINK,
	CAPTURE_OTHER
};

struct capture_result {
	enum capture_kind kind; /* NONE: no such path; OTHER: socket, FIFO, device */
	struct digest digest;   /* file; or root Directory of a directory */
	bool is_executable;
	char *target;             /* symlink */
	struct tree_props *props; /* of a file or symlink, where it has any */
	/* of a directory */
	struct digest tree_digest; /* the REAPI Tree message, stored, where asked for */
};
void capture_result_deinit(struct capture_result *result);

/*
 * Captures one path, relative to the input root ("" is the root itself), without
 * following it if it is a link; its parents' links are followed within the root.
 * want_tree asks for the Tree message as well. All blobs named by the result are in the
 * store, but for those that the lower tree already had. A path that leaves the root
 * ("..", "/x") is INVALID_ARGUMENT.
 */
struct error *capture_path(struct capture *capture, const char *path, bool want_tree,
			   struct capture_result *out);

/* What stands at a path, as capture_path() would say; nothing is read or stored. */
struct error *capture_look(struct capture *capture, const char *path,
			   enum capture_kind *kind_out);
/* Notes that something is left out. */
void capture_skip(struct capture *capture, const char *path, const char *what);

/* New blobs to upload (files, Directories, Trees), each once; borrowed until free. */
const struct digest *capture_blobs(const struct capture *capture, size_t *n_out);
/* What was left out: "out/sock: a socket, skipped", the first CAPTURE_NOTES_MAX of them
 * and how many more; borrowed. */
size_t capture_n_notes(const struct capture *capture);
const char *capture_note(const struct capture *capture, size_t i);

void capture_stats(const struct capture *capture, struct capture_stats *out);
