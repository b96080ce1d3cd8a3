/*
 * Names of ByteStream resources: [INSTANCE/]blobs/HASH/SIZE and
 * [INSTANCE/]uploads/UUID/blobs/HASH/SIZE[/…]; with compressed-blobs/zstd in the place of
 * blobs the bytes that cross are zstd frames. HASH and SIZE are the blob's own then, too.
 * Pure.
 */
#pragma once

#include "lib/tree/digest.h"

#define RESOURCE_NAME_MAX 2048
#define RESOURCE_UUID_MAX 128

struct resource_name {
	struct slice instance; /* a view into the text */
	struct slice uuid;     /* of uploads */
	bool is_upload;
	bool is_zstd;
	struct digest digest;
};

/* INVALID_ARGUMENT says what is wrong with it. text must outlive *out. */
struct error *resource_name_parse(const char *text, struct resource_name *out);
