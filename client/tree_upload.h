/*
 * Local trees on their way into the store: import with the user's stat cache, then
 * upload, with progress.
 *
 * Threads: main; the threads of an import or an upload only call back.
 */
#pragma once

#include "client/client.h"
#include "lib/cas/upload.h"
#include "lib/tree/import.h"

struct tree_upload_totals {
	int64_t n_files;
	int64_t bytes;
	int64_t n_hashed;
	int64_t n_sent;
	int64_t bytes_sent;
	int64_t bytes_saved;  /* beside them: chunks that were there already */
	int64_t bytes_shrunk; /* of bytes_sent: those that zstd kept from the wire */
};

/*
 * Files that changed between their import and their upload. Whoever has some imports
 * again, with them held, and uploads again, as long as tree_upload_settle() says so.
 */
struct tree_upload_changes {
	char **paths; /* in order once tree_upload_settle() said "again" */
	size_t n, cap;
	bool has_more;    /* since the last import */
	bool with_mtimes; /* whatever --mtimes says: others of the same tree have them */
	unsigned int n_rounds;
};
void tree_upload_changes_deinit(struct tree_upload_changes *changes);
/* How an upload ended, consumed: NULL and *again_out where it failed for files that
 * changed and another round may help. */
struct error *tree_upload_settle(struct tree_upload_changes *changes, struct error *err,
				 bool *again_out);

/* INVALID_ARGUMENT where --mtimes is none of its words. */
struct error *tree_upload_mtimes(const struct client *client, enum import_mtimes *out);
/* Walks and hashes path; skipped sockets and the like are said on stderr, once. */
struct error *tree_upload_import(struct client *client, const char *path,
				 const struct tree_upload_changes *changes,
				 struct import **import_out);
/* Uploads what import holds (may be NULL) and further blobs; adds to totals (may be
 * NULL). After client_connect(). FAILED_PRECONDITION: a file changed, see changes. */
struct error *tree_upload_upload(struct client *client, const struct import *import,
				 const struct blob_source *more, size_t n_more,
				 struct tree_upload_changes *changes,
				 struct tree_upload_totals *totals);
/* The same into the local store, where a command of this machine finds it: "sent" is what
 * that lacked. */
struct error *tree_upload_store(struct client *client, const struct import *import,
				const struct blob_source *more, size_t n_more,
				struct tree_upload_changes *changes,
				struct tree_upload_totals *totals);
/* A line on stderr; is_here: the local store has it. */
void tree_upload_summary(const struct tree_upload_totals *totals, bool is_here);
