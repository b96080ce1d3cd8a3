/*
 * One large file on its way to a server that has much of it already, as chunks of another
 * version: only the others are sent, and the server puts them together.
 *
 * Threads: any; blocking, on network and disk.
 */
#pragma once

#include "lib/cas/remote.h"

struct upload_chunks {
	struct remote *remote;
	const struct digest *digest;
	int fd;
	/* Whether to go on; asked between calls. */
	bool (*goes_on)(void *ctx);
	void *ctx;
	int64_t bytes_sent; /* what it came to … */
	int64_t n_calls;    /* … also where it came to nothing */
};
/* False: it is to be sent whole, since nothing would be gained, or some call failed. */
bool upload_chunks_send(struct upload_chunks *upload);
