/*
 * A large blob from what is here already of another version, and the chunks that are not.
 *
 * Threads: those for streams; blocks on network and disk.
 */
#pragma once

#include "lib/cas/fetch_job.h"

/* What one came to. */
struct fetch_chunked {
	int fd;           /* of the blob: the caller's */
	int64_t bytes;    /* fetched for it */
	int64_t saved;    /* of its bytes: those that were here */
	uint64_t n_trips; /* calls for it */
};
/* False: nothing would be gained, or something failed: it is to be read as a stream. The
 * calls for that are counted. */
bool fetch_chunks_get(struct fetch *fetch, const struct digest *blob, bool is_demand,
		      struct fetch_chunked *out);
/* A blob came as a stream: its chunks may serve the next. */
void fetch_chunks_came(struct fetch *fetch, const struct digest *blob);
