/*
 * Where the bytes of a blob are, for whoever is to send or keep them. A description only:
 * it owns nothing and opens nothing.
 */
#pragma once

#include "lib/base/buf.h"
#include "lib/tree/digest.h"

enum blob_from { BLOB_BYTES, BLOB_PATH, BLOB_FD, BLOB_STORE };

struct blob_source {
	struct digest digest;
	enum blob_from from;
	struct slice bytes; /* BLOB_BYTES: borrowed */
	const char *path;   /* BLOB_PATH: opened below a directory when it is read */
	int fd;             /* BLOB_FD: borrowed; path is its name in messages */
};
