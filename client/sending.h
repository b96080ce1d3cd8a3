/*
 * Local trees on their way into the store: import with the user's stat cache, then
 * upload, with progress.
 */
#pragma once

#include <pthread.h>

#include "client/client.h"
#include "lib/cas/import.h"
#include "lib/cas/upload.h"

struct sending_totals {
	int64_t n_files;
	int64_t bytes;
	int64_t n_hashed;
	int64_t n_sent;
	int64_t bytes_sent;
};

/*
 * Files that changed between their import and their upload. Whoever has some imports
 * again, with them held, and uploads again, as long as sending_settle() says so.
 */
struct sending_changes {
	pthread_mutex_t mutex;
	char **paths; /* guarded by mutex, as all below; in order once an upload ended */
	size_t n, cap;
	bool has_more;    /* since the last import */
	bool with_mtimes; /* whatever --mtimes says: others of the same tree have them */
	unsigned int n_rounds;
};
#define SENDING_CHANGES_INIT                                                             \
	{                                                                                \
		.mutex = PTHREAD_MUTEX_INITIALIZER                                       \
	}
void sending_changes_deinit(struct sending_changes *changes);
/* How an upload ended, consumed: NULL and *again_out where it failed for files that
 * changed and another round may help. */
struct error *sending_settle(struct sending_changes *changes, struct error *err,
			     bool *again_out);

/* INVALID_ARGUMENT where --mtimes is none of its words. */
struct error *sending_mtimes(const struct client *client, enum import_mtimes *out);
/* Walks and hashes path; skipped sockets and the like are said on stderr, once. */
struct error *sending_import(struct client *client, const char *path,
			     const struct sending_changes *changes,
			     struct import **import_out);
/* Uploads what import holds (may be NULL) and further blobs; adds to totals (may be
 * NULL). */
struct error *sending_upload(struct client *client, const struct import *import,
			     const struct upload_item *more, size_t n_more,
			     struct sending_changes *changes,
			     struct sending_totals *totals);
void sending_summary(const struct sending_totals *totals); /* a line on stderr */
