/*
 * What the files of ByteStream share: its names, and the methods that bytestream.c lists.
 *
 * Threads: the steps' (lib/rpc/server.h).
 */
#pragma once

#include "server/service.h"

/* bytestream_name.c: the name, its instance, the header that repeats it. */
struct resource_name;
struct error *bytestream_check_name(struct rpc_in *in, const struct server *server,
				    const char *text, bool is_upload,
				    struct resource_name *out);
/* bytestream_write.c's methods, listed by bytestream.c. */
enum rpc_verdict bytestream_write(struct rpc_in *in, void *service);
enum rpc_verdict bytestream_query(struct rpc_in *in, void *service);
