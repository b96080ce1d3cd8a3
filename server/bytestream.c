/*
 * Owns ByteStream.Read: a blob's file, read piece by piece on a worker, each piece handed
 * to gRPC without a further copy. One piece is out at a time, so a reader that stops
 * reading costs one piece of memory and no thread. Of a compressed read each piece is a
 * zstd frame by itself, for the same reason: between two pieces there is nothing to keep.
 */
#include <errno.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/wire.h"
#include "lib/base/zstd.h"
#include "lib/store/chunks.h"
#include "server/bytestream.h"
#include "server/logstream.h"
#include "server/resource_name.h"
#include "server/service.h"

struct bytestream_read {
	bool has_begun;
	bool is_zstd;
	bool is_over; /* nothing is left to be sent */
	int fd;
	int64_t start; /* of the blob in its file: it may be a part of a larger one */
	int64_t at;
	int64_t end;
	struct logstream_read log; /* instead, where the name is one's */
};

static void bytestream_read_drop(void *state)
{
	struct bytestream_read *read = state;

	logstream_reader_leave(&read->log.reader);
	if (read->has_begun && read->fd >= 0)
		(void)close(read->fd);
}

static struct error *bytestream_open(const struct server *server, const char *name,
				     const struct digest *digest, int *fd_out,
				     int64_t *start_out)
{
	struct error *err;

	*fd_out = -1;
	if (digest->size == 0)
		return NULL;
	err = chunks_get(server->chunks, digest, fd_out, start_out);
	if (!err && *fd_out < 0)
		err = error_new(ERROR_NOT_FOUND, "\"%.200s\" is not in the store", name);
	return err;
}

static struct error *bytestream_begin(struct rpc_in *in, const struct server *server,
				      struct bytestream_read *read)
{
	Bytestream__ReadRequest *request = (void *)rpc_request(in);
	struct logstreams_name log_name;
	struct resource_name name;
	struct error *err;

	if (!request)
		return error_new(ERROR_INVALID_ARGUMENT, "the request is malformed");
	if (logstreams_parse(request->resource_name, &log_name)) {
		read->fd = -1;
		err = logstream_read_begin(in, server, request, &log_name, &read->log);
		read->has_begun = !err;
		return err;
	}
	err = bytestream_check_name(in, server, request->resource_name, false, &name);
	if (err)
		return err;
	if (request->read_offset < 0 || request->read_offset > name.digest.size)
		return error_new(ERROR_OUT_OF_RANGE,
				 "offset %lld is outside of \"%.200s\"",
				 (long long)request->read_offset, request->resource_name);
	if (request->read_limit < 0)
		return error_new(ERROR_OUT_OF_RANGE, "limit %lld is negative",
				 (long long)request->read_limit);
	if (name.is_zstd && request->read_limit > 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "a compressed read goes to the end: limit %lld is not 0",
				 (long long)request->read_limit);
	err = bytestream_open(server, request->resource_name, &name.digest, &read->fd,
			      &read->start);
	if (err)
		return err;
	read->has_begun = true;
	read->at = request->read_offset;
	read->end = name.digest.size;
	if (request->read_limit > 0 && request->read_limit < read->end - read->at)
		read->end = read->at + request->read_limit;
	read->is_zstd = name.is_zstd;
	/* of nothing there is a frame, too: no decoder takes none at all for whole */
	read->is_over = read->at == read->end && !read->is_zstd;
	return NULL;
}

static struct error *bytestream_fill(struct bytestream_read *read, uint8_t *data,
				     size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(read->fd, data + done, len - done,
				  (off_t)(read->start + read->at + (int64_t)done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(errno, "read a blob");
		if (n == 0)
			return error_new(ERROR_DATA_LOSS, "a blob's file is too short");
		done += (size_t)n;
	}
	return NULL;
}

static void bytestream_release(void *data)
{
	free(data);
}

/* Consumes the memory, of len bytes. */
static void bytestream_send(struct rpc_in *in, uint8_t *data, size_t len)
{
	_cleanup_buf_ struct buf head = BUF_INIT;

	wire_put_head(&head, 10, len);
	rpc_send_raw(in, buf_slice(&head), (struct slice){data, len}, bytestream_release,
		     data);
}

/* The next piece of the file, as it is or as a frame. */
static struct error *bytestream_piece(struct rpc_in *in, struct bytestream_read *read)
{
	_cleanup_free_ uint8_t *data = NULL;
	_cleanup_buf_ struct buf frame = BUF_INIT;
	size_t len = rpc_chunk(in);
	struct error *err;

	if (read->end - read->at < (int64_t)len)
		len = (size_t)(read->end - read->at);
	data = alloc_bounded(len, RPC_CHUNK);
	if (!data)
		return error_new(ERROR_RESOURCE_EXHAUSTED, "no memory to read");
	err = bytestream_fill(read, data, len);
	if (!err && read->is_zstd)
		err = zstd_compress((struct slice){data, len}, &frame);
	if (err)
		return err;
	read->at += (int64_t)len;
	read->is_over = read->at == read->end;
	if (read->is_zstd) {
		len = frame.len;
		bytestream_send(in, (uint8_t *)buf_steal_string(&frame), len);
	} else {
		bytestream_send(in, take(data), len);
	}
	return NULL;
}

static enum rpc_verdict bytestream_read(struct rpc_in *in, void *service)
{
	struct bytestream_read *read = rpc_state(in, sizeof(*read), bytestream_read_drop);
	struct error *err = NULL;

	if (!read->has_begun)
		err = bytestream_begin(in, service, read);
	if (err)
		return rpc_fail(in, err);
	if (read->log.reader.stream)
		return logstream_read(in, &read->log);
	if (read->is_over)
		return RPC_DONE;
	if (!rpc_can_send(in))
		return RPC_LATER;
	err = bytestream_piece(in, read);
	if (err)
		return rpc_fail(in, err);
	return read->is_over ? RPC_DONE : RPC_LATER;
}

#define BYTESTREAM_SERVICE &bytestream__byte_stream__descriptor

static const struct rpc_handler bytestream_list[] = {
	{{BYTESTREAM_SERVICE, "Read"},
	 RPC_SERVER_STREAM,
	 RPC_RIGHTS(ACCESS_CAS_READ),
	 bytestream_read},
	{{BYTESTREAM_SERVICE, "Write"},
	 RPC_CLIENT_STREAM,
	 RPC_RIGHTS(ACCESS_CAS_WRITE),
	 bytestream_write},
	{{BYTESTREAM_SERVICE, "QueryWriteStatus"},
	 RPC_UNARY,
	 RPC_RIGHTS(ACCESS_CAS_WRITE),
	 bytestream_query},
};
const struct rpc_handlers bytestream_handlers = {bytestream_list,
						 ARRAY_SIZE(bytestream_list)};
