/*
 * Owns ByteStream.Write and QueryWriteStatus. A write that breaks off leaves its upload
 * behind, to be resumed: uploads.h says for how long, and who gives way to whom.
 *
 * An upload that is being written belongs to that call's steps alone. Compressed bytes
 * can be a thousand times as many when they are not any more: a step takes some of them
 * (UPLOADS_STEP) and leaves the rest of its message to the next.
 */
#include "lib/base/wire.h"
#include "server/bytestream.h"
#include "server/durable.h"
#include "server/logstream.h"
#include "server/resource_name.h"
#include "server/service.h"
#include "server/uploads.h"

/* ---- Write ---------------------------------------------------------------------- */

struct write {
	struct server *server;
	char *name;
	struct digest digest;
	bool is_zstd;
	struct upload *upload;
	struct logstream *log; /* instead, where the name is one's */
	bool is_finished;
	struct slice rest;      /* of the message that came last … */
	bool has_more;          /* … there is something, here or in a decoder */
	struct durable durable; /* the answer, once there is one */
};

struct write_request { /* views into the message */
	struct slice name;
	int64_t offset;
	bool finishes;
	struct slice data;
};

static void write_drop(void *state)
{
	struct write *write = state;

	durable_deinit(&write->durable);
	if (write->upload)
		upload_keep(write->upload);
	if (write->log)
		logstream_leave(write->log, clock_mono_ns());
}

static struct error *write_parse(struct slice bytes, struct write_request *out)
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;

	*out = (struct write_request){0};
	while (wire_next(&wire, &field)) {
		if (field.number == 1 && field.type == WIRE_BYTES)
			out->name = field.bytes;
		else if (field.number == 2 && field.type == WIRE_VARINT)
			out->offset = (int64_t)field.value;
		else if (field.number == 3 && field.type == WIRE_VARINT)
			out->finishes = field.value != 0;
		else if (field.number == 10 && field.type == WIRE_BYTES)
			out->data = field.bytes;
	}
	return wire.is_bad
		       ? error_new(ERROR_INVALID_ARGUMENT, "a WriteRequest is malformed")
		       : NULL;
}

/* The first message. *is_there_out: the blob is in the store already. */
static struct error *write_begin(struct rpc_in *in, struct server *server,
				 struct write *write, const struct write_request *request,
				 bool *is_there_out)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct logstreams_name log_name;
	struct resource_name name;
	struct error *err;

	write->server = server;
	buf_add(&text, request->name.data, request->name.len);
	write->name = arena_string(rpc_arena(in), buf_string(&text));
	if (!write->name)
		return arena_error("the resource name");
	if (logstreams_parse(write->name, &log_name))
		return logstream_write_begin(in, server, &log_name, &write->log);
	err = bytestream_check_name(in, server, buf_string(&text), true, &name);
	if (!err && name.digest.size > SERVER_BLOB_MAX)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"a blob of %lld bytes is over the limit",
				(long long)name.digest.size);
	if (err)
		return err;
	write->digest = name.digest;
	write->is_zstd = name.is_zstd;
	*is_there_out = server_has(server, &write->digest);
	if (*is_there_out)
		return NULL;
	/* Beginning at the start means beginning anew. */
	return uploads_take(server->uploads, in, write->name,
			    &(struct upload_kind){.digest = &write->digest,
						  .is_zstd = write->is_zstd,
						  .is_from_start = request->offset == 0},
			    &write->upload);
}

static struct error *write_take(struct write *write, const struct write_request *request)
{
	struct error *err = write->upload ? upload_check(write->upload) : NULL;

	if (err)
		return err;
	if (request->name.len > 0 && !slice_is(request->name, write->name))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the resource name changed from \"%.200s\"",
				 write->name);
	if (write->is_finished && request->data.len > 0)
		return error_new(ERROR_INVALID_ARGUMENT, "data after finish_write");
	if (write->log) {
		write->is_finished |= request->finishes;
		return logstream_write(write->server, write->log, request->offset,
				       request->data, request->finishes);
	}
	if (request->offset != upload_size(write->upload))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "write at %lld, but \"%.200s\" has %lld bytes",
				 (long long)request->offset, write->name,
				 (long long)upload_size(write->upload));
	write->is_finished |= request->finishes;
	write->rest = request->data;
	write->has_more = true;
	return NULL;
}

static enum rpc_verdict write_answer(struct rpc_in *in, struct write *write,
				     int64_t committed_size)
{
	Bytestream__WriteResponse response = BYTESTREAM__WRITE_RESPONSE__INIT;

	response.committed_size = committed_size;
	return durable_send(in, &write->durable, &response.base);
}

/* The blob is in the store: said once it is on the disk. */
static enum rpc_verdict write_promise(struct rpc_in *in, struct write *write,
				      int64_t committed_size)
{
	durable_add(&write->durable, write->server->store, &write->digest);
	return write_answer(in, write, committed_size);
}

static enum rpc_verdict write_end(struct rpc_in *in, struct write *write)
{
	struct error *err;
	int64_t size;

	if (rpc_is_cancelled(in))
		return rpc_fail(in, error_new(ERROR_CANCELLED, "the client left"));
	if (write->log)
		return write_answer(in, write, logstream_size(write->log));
	if (!write->upload)
		return rpc_fail(in, error_new(ERROR_INVALID_ARGUMENT,
					      "the call has no WriteRequest"));
	err = upload_check(write->upload);
	if (err)
		return rpc_fail(in, err);
	size = upload_size(write->upload);
	if (!write->is_finished)
		return write_answer(in, write, size);
	err = upload_commit(write->upload);
	return err ? rpc_fail(in, err) : write_promise(in, write, size);
}

/* One message, if it is the first and the blob is there the last. */
static struct error *write_message(struct rpc_in *in, struct server *server,
				   struct write *write, struct slice bytes,
				   bool *is_there_out)
{
	struct write_request request;
	struct error *err = write_parse(bytes, &request);

	if (!err && !write->upload && !write->log)
		err = write_begin(in, server, write, &request, is_there_out);
	return err || *is_there_out ? err : write_take(write, &request);
}

enum rpc_verdict bytestream_write(struct rpc_in *in, void *service)
{
	struct write *write = rpc_state(in, sizeof(*write), write_drop);
	struct slice bytes = {0};
	struct error *err = NULL;
	bool is_end = false, is_there = false;

	if (write->durable.is_waiting)
		return durable_step(in, &write->durable);
	while (write->has_more || rpc_receive(in, &bytes, &is_end)) {
		if (!write->has_more && is_end)
			return write_end(in, write);
		if (!write->has_more)
			err = write_message(in, service, write, bytes, &is_there);
		if (is_there) /* of frames, nobody knows how many there would be */
			return write_promise(in, write,
					     write->is_zstd ? -1 : write->digest.size);
		if (!err && write->has_more)
			err = upload_write(write->upload, &write->rest, &write->has_more);
		if (err)
			return rpc_fail(in, err);
		if (write->has_more)
			return rpc_is_cancelled(in) ? RPC_LATER : RPC_AGAIN;
	}
	err = write->upload ? upload_check(write->upload) : NULL;
	return err ? rpc_fail(in, err) : RPC_LATER;
}

/* ---- QueryWriteStatus ----------------------------------------------------------- */

/* An upload that is not known, as before it began or after a restart, has nothing; of one
 * that another call writes just now, nothing is safe. So the client begins at 0. */
enum rpc_verdict bytestream_query(struct rpc_in *in, void *service)
{
	Bytestream__QueryWriteStatusRequest *request = (void *)rpc_request(in);
	Bytestream__QueryWriteStatusResponse response =
		BYTESTREAM__QUERY_WRITE_STATUS_RESPONSE__INIT;
	struct server *server = service;
	struct logstreams_name log_name;
	struct resource_name name;
	struct error *err;

	if (!request)
		return RPC_DONE;
	if (logstreams_parse(request->resource_name, &log_name))
		return logstream_query(in, server, &log_name);
	err = bytestream_check_name(in, server, request->resource_name, true, &name);
	if (err)
		return rpc_fail(in, err);
	response.complete = server_has(server, &name.digest);
	/* of one that is there, no frames are kept: who does not look further begins
	 * anew, and is told that it is there */
	response.committed_size =
		!response.complete ? uploads_size(server->uploads, request->resource_name)
				   : (name.is_zstd ? 0 : name.digest.size);
	rpc_send(in, &response.base);
	return RPC_DONE;
}
