/*
 * Local trees on their way into the store: import with the user's stat cache, then
 * upload, with progress.
 */
#pragma once

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

/* Walks and hashes path; skipped sockets and the like are said on stderr. */
struct error *sending_import(struct client *client, const char *path,
			     struct import **import_out);
/* Uploads what import holds (may be NULL) and further blobs; adds to totals (may be
 * NULL). */
struct error *sending_upload(struct client *client, const struct import *import,
			     const struct upload_item *more, size_t n_more,
			     struct sending_totals *totals);
void sending_summary(const struct sending_totals *totals); /* a line on stderr */
