/*
 * Uploads: of many blobs, only those that the remote lacks, in batches and streams, many
 * in flight. Blocking; uses its own few threads for the network and the pool for none.
 */
#pragma once

#include <stdatomic.h>

#include "lib/cas/remote.h"
#include "lib/store/store.h"
#include "lib/tree/blob.h"

struct upload_progress {
	/* may be called from several threads; totals are known from the first call on */
	void (*update)(void *ctx, int64_t n_done, int64_t n_total, int64_t bytes_done,
		       int64_t bytes_total);
	void *ctx;
};

struct upload_stats {
	int64_t n_sent;
	int64_t bytes_sent;
	int64_t bytes_saved; /* of blobs that were sent: chunks that were there already */
	int64_t bytes_shrunk; /* of bytes_sent: those that zstd kept from the wire */
	int64_t n_calls;
};

struct upload_config {
	struct remote *remote;
	struct store *store;                    /* for BLOB_STORE; else NULL */
	int dir_fd;                             /* for BLOB_PATH */
	const struct upload_progress *progress; /* NULL: none */
	const atomic_bool *is_cancelled;        /* NULL: never; once true: CANCELLED */
	/* Told of each file that changed, from any thread; all else is sent then before
	 * the upload fails. NULL: the first one ends it. */
	void (*changed)(void *ctx, const struct blob_source *item);
	void *changed_ctx;
};

/* A file that changed since it was hashed, or is gone, is FAILED_PRECONDITION naming it:
 * what is sent are the bytes that were hashed, or nothing. Duplicates are sent once.
 * stats_out may be NULL. */
struct error *upload_run(const struct upload_config *config,
			 const struct blob_source *items, size_t n,
			 struct upload_stats *stats_out);
