/*
 * Owns CreateLogStream, and reading and writing log streams by ByteStream. Their state is
 * logstreams.c's. A reader is woken by each write and sends pieces until it is at the
 * end; one that does not read costs a piece of memory and no thread.
 */
#include "server/logstream.h"

#include <errno.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/wire.h"

#define LOGSTREAM_PIECE ((size_t)64 << 10)

/* Whether the caller may do in the name's instance what its method is for. */
static struct error *logstream_check(struct rpc_in *in, const struct server *server,
				     const struct logstreams_name *name)
{
	_cleanup_buf_ struct buf instance = BUF_INIT;

	buf_add(&instance, name->instance.data, name->instance.len);
	return server_check_instance(server, in, buf_string(&instance));
}

/* ---- CreateLogStream ------------------------------------------------------------ */

static enum rpc_verdict logstream_create(struct rpc_in *in, void *service)
{
	Logstream__CreateLogStreamRequest *request = (void *)rpc_request(in);
	Logstream__LogStream response = LOGSTREAM__LOG_STREAM__INIT;
	char name[LOGSTREAMS_NAME_MAX], write_name[LOGSTREAMS_NAME_MAX];
	const struct server *server = service;
	struct error *err;

	if (!request)
		return RPC_DONE;
	err = server_check_instance(server, in, request->parent);
	if (!err)
		err = logstreams_create(server->logstreams, request->parent, NULL,
					clock_mono_ns(), name, write_name);
	if (err)
		return rpc_fail(in, err);
	response.name = name;
	response.write_resource_name = write_name;
	rpc_send(in, &response.base);
	return RPC_DONE;
}

/* ---- Read ----------------------------------------------------------------------- */

struct error *logstream_read_begin(struct rpc_in *in, const struct server *server,
				   const Bytestream__ReadRequest *request,
				   const struct logstreams_name *name,
				   struct logstream_read *read)
{
	struct error *err = logstream_check(in, server, name);
	struct logstream_state state;

	if (!err && (request->read_offset < 0 || request->read_limit < 0))
		err = error_new(ERROR_OUT_OF_RANGE, "the offset or limit is negative");
	if (!err)
		err = logstreams_read(server->logstreams, name, in, &read->reader);
	if (err)
		return err;
	state = logstream_reader_look(&read->reader);
	if (request->read_offset > state.size) {
		logstream_reader_leave(&read->reader);
		return error_new(ERROR_OUT_OF_RANGE,
				 "offset %lld is past the %lld bytes of the log so far",
				 (long long)request->read_offset, (long long)state.size);
	}
	read->at = request->read_offset;
	read->end = LOGSTREAMS_SIZE_MAX;
	if (request->read_limit > 0 && request->read_limit < read->end - read->at)
		read->end = read->at + request->read_limit;
	return NULL;
}

static struct error *logstream_fill(int fd, int64_t at, size_t len, uint8_t *out)
{
	for (size_t done = 0; done < len;) {
		ssize_t n =
			pread(fd, out + done, len - done, (off_t)(at + (int64_t)done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_errno(n < 0 ? errno : EIO, "read a log stream");
		done += (size_t)n;
	}
	return NULL;
}

static enum rpc_verdict logstream_send(struct rpc_in *in, struct logstream_read *read,
				       const struct logstream_state *state)
{
	_cleanup_buf_ struct buf head = BUF_INIT;
	int64_t left = (state->size < read->end ? state->size : read->end) - read->at;
	uint8_t piece[LOGSTREAM_PIECE];
	size_t len = left < (int64_t)sizeof(piece) ? (size_t)left : sizeof(piece);
	struct error *err = logstream_fill(state->fd, read->at, len, piece);

	if (err)
		return rpc_fail(in, err);
	wire_put_head(&head, 10, len);
	rpc_send_raw(in, buf_slice(&head), (struct slice){piece, len}, NULL, NULL);
	read->at += (int64_t)len;
	return RPC_LATER;
}

enum rpc_verdict logstream_read(struct rpc_in *in, struct logstream_read *read)
{
	struct logstream_state state;

	if (!rpc_can_send(in))
		return RPC_LATER;
	state = logstream_reader_look(&read->reader);
	if (read->at < state.size && read->at < read->end)
		return logstream_send(in, read, &state);
	if (state.is_ended || read->at == read->end)
		return RPC_DONE;
	if (state.is_stopped)
		return rpc_fail(in,
				error_new(ERROR_UNAVAILABLE, "the server is stopping"));
	return RPC_LATER;
}

/* ---- Write and QueryWriteStatus ------------------------------------------------- */

struct error *logstream_write_begin(struct rpc_in *in, const struct server *server,
				    const struct logstreams_name *name,
				    struct logstream **out)
{
	struct error *err = logstream_check(in, server, name);

	return err ? err : logstreams_write(server->logstreams, name, out);
}

/* With a lease's first bytes its operations get to know where to read them. */
static void logstream_tell(const struct server *server, const struct logstream *stream)
{
	struct logstreams_lease lease;

	if (logstream_lease(stream, &lease))
		queue_logs_begun(server->queue, lease.session, lease.id, lease.which);
}

struct error *logstream_write(const struct server *server, struct logstream *stream,
			      int64_t offset, struct slice data, bool is_last)
{
	struct error *err = NULL;

	if (data.len > 0)
		err = logstream_append(stream, offset, data);
	if (!err && data.len > 0 && offset == 0)
		logstream_tell(server, stream);
	if (!err && is_last)
		logstream_end(stream, clock_mono_ns());
	return err;
}

enum rpc_verdict logstream_query(struct rpc_in *in, const struct server *server,
				 const struct logstreams_name *name)
{
	Bytestream__QueryWriteStatusResponse response =
		BYTESTREAM__QUERY_WRITE_STATUS_RESPONSE__INIT;
	struct error *err = logstream_check(in, server, name);
	bool is_ended = false;

	if (!err)
		err = logstreams_query(server->logstreams, name, &response.committed_size,
				       &is_ended);
	if (err)
		return rpc_fail(in, err);
	response.complete = is_ended;
	rpc_send(in, &response.base);
	return RPC_DONE;
}

static const struct rpc_handler logstream_list[] = {
	{{&logstream__log_stream_service__descriptor, "CreateLogStream"},
	 RPC_UNARY,
	 RPC_RIGHTS(ACCESS_WORKER),
	 logstream_create},
};
const struct rpc_handlers logstream_handlers = {logstream_list,
						ARRAY_SIZE(logstream_list)};
