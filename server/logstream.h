/*
 * Log streams as ByteStream has them: what bytestream.c does for a name that is one of
 * theirs (logstreams_parse()).
 *
 * Threads: the steps' (lib/rpc/server.h).
 */
#pragma once

#include "server/logstreams.h"
#include "server/service.h"

struct logstream_read { /* of one call; zeroed before */
	struct logstream_reader reader;
	int64_t at, end;
};

struct error *logstream_read_begin(struct rpc_in *in, const struct server *server,
				   const Bytestream__ReadRequest *request,
				   const struct logstreams_name *name,
				   struct logstream_read *read);
/* What has come, and later what comes; the call ends with the stream. */
enum rpc_verdict logstream_read(struct rpc_in *in, struct logstream_read *read);

struct error *logstream_write_begin(struct rpc_in *in, const struct server *server,
				    const struct logstreams_name *name,
				    struct logstream **out);
/* One message's bytes; is_last ends the stream, once more is harmless. */
struct error *logstream_write(const struct server *server, struct logstream *stream,
			      int64_t offset, struct slice data, bool is_last);
enum rpc_verdict logstream_query(struct rpc_in *in, const struct server *server,
				 const struct logstreams_name *name);
