/*
 * Owns ByteStream.Write and QueryWriteStatus, and with them the uploads: an upload has
 * the resource's name (its UUID makes it one client's) and the staged bytes so far. A
 * write that breaks off leaves its upload behind, idle, to be resumed; the oldest idle
 * ones make room.
 *
 * An upload that is being written belongs to that call's steps alone; the lock guards the
 * table and the list of idle ones.
 */
#include <pthread.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/htab.h"
#include "lib/base/list.h"
#include "lib/base/wire.h"
#include "server/resource_name.h"
#include "server/durable.h"
#include "server/service.h"

#define UPLOADS_MAX     4096 /* at once, idle ones included */
#define UPLOADS_IDLE_NS (600 * NS_PER_S)

struct upload {
	struct hnode node;
	struct list idle_link; /* in no list while it is written */
	bool is_idle;
	int64_t idle_since_ns;
	char *name;
	struct staged *staged;
};

struct uploads {
	pthread_mutex_t mutex;
	struct htab by_name;
	struct list idle; /* longest idle first */
};

/* ---- the table ------------------------------------------------------------------ */

struct uploads *uploads_new(void)
{
	struct uploads *uploads = alloc_new(struct uploads);

	require(pthread_mutex_init(&uploads->mutex, NULL) == 0);
	list_init(&uploads->idle);
	return uploads;
}

/* With the lock, but for the staged file, which goes without it. */
static struct staged *uploads_forget(struct uploads *uploads, struct upload *upload)
{
	struct staged *staged = take(upload->staged);

	htab_remove(&uploads->by_name, &upload->node);
	list_remove(&upload->idle_link);
	free(upload->name);
	free(upload);
	return staged;
}

void *uploads_free(struct uploads *uploads)
{
	if (!uploads)
		return NULL;
	uploads_tick(uploads, CLOCK_NEVER);
	require(uploads->by_name.len == 0);
	htab_deinit(&uploads->by_name);
	(void)pthread_mutex_destroy(&uploads->mutex);
	free(uploads);
	return NULL;
}

/* Drops the longest idle one if it is idle since before; false: it is not. */
static bool uploads_drop_idle(struct uploads *uploads, int64_t before_ns)
{
	struct staged *staged = NULL;
	struct upload *oldest;
	bool is_dropped = false;

	(void)pthread_mutex_lock(&uploads->mutex);
	oldest = container_of(uploads->idle.next, struct upload, idle_link);
	if (!list_is_empty(&uploads->idle) && oldest->idle_since_ns <= before_ns) {
		staged = uploads_forget(uploads, oldest);
		is_dropped = true;
	}
	(void)pthread_mutex_unlock(&uploads->mutex);
	staged_free(staged);
	return is_dropped;
}

void uploads_tick(struct uploads *uploads, int64_t now_ns)
{
	int64_t before_ns = now_ns == CLOCK_NEVER ? now_ns : now_ns - UPLOADS_IDLE_NS;

	while (uploads_drop_idle(uploads, before_ns))
		;
}

static struct upload *uploads_find(const struct uploads *uploads, const char *name)
{
	uint64_t hash = slice_hash(slice_of(name));

	for (struct hnode *n = htab_first(&uploads->by_name, hash); n;
	     n = htab_next(n, hash)) {
		struct upload *upload = container_of(n, struct upload, node);

		if (strcmp(upload->name, name) == 0)
			return upload;
	}
	return NULL;
}

/* Finds the upload, or makes it; either way it is the caller's now. */
static struct error *uploads_take(struct uploads *uploads, const char *name,
				  struct upload **out)
{
	struct upload *upload;
	bool is_busy;

	(void)pthread_mutex_lock(&uploads->mutex);
	while (uploads->by_name.len >= UPLOADS_MAX) {
		bool is_dropped;

		(void)pthread_mutex_unlock(&uploads->mutex);
		is_dropped = uploads_drop_idle(uploads, CLOCK_NEVER);
		if (!is_dropped)
			return error_new(ERROR_RESOURCE_EXHAUSTED,
					 "%d uploads run already", UPLOADS_MAX);
		(void)pthread_mutex_lock(&uploads->mutex);
	}
	upload = uploads_find(uploads, name);
	is_busy = upload && !upload->is_idle;
	if (!upload) {
		upload = alloc_new(struct upload);
		upload->name = alloc_string(name);
		list_init(&upload->idle_link);
		htab_insert(&uploads->by_name, &upload->node, slice_hash(slice_of(name)));
	}
	if (!is_busy) {
		list_remove(&upload->idle_link);
		upload->is_idle = false;
	}
	(void)pthread_mutex_unlock(&uploads->mutex);
	if (is_busy)
		return error_new(ERROR_ABORTED,
				 "\"%.200s\" is being written by another call", name);
	*out = upload;
	return NULL;
}

static void uploads_drop(struct uploads *uploads, struct upload *upload)
{
	struct staged *staged;

	(void)pthread_mutex_lock(&uploads->mutex);
	staged = uploads_forget(uploads, upload);
	(void)pthread_mutex_unlock(&uploads->mutex);
	staged_free(staged);
}

static void uploads_keep(struct uploads *uploads, struct upload *upload)
{
	(void)pthread_mutex_lock(&uploads->mutex);
	upload->is_idle = true;
	upload->idle_since_ns = clock_mono_ns();
	list_push(&uploads->idle, &upload->idle_link);
	(void)pthread_mutex_unlock(&uploads->mutex);
}

/* ---- Write ---------------------------------------------------------------------- */

struct write {
	struct server *server;
	char *name;
	struct digest digest;
	struct upload *upload;
	bool is_finished;
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
	if (write->upload && write->upload->staged)
		uploads_keep(write->server->uploads, write->upload);
	else if (write->upload)
		uploads_drop(write->server->uploads, write->upload);
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
	struct resource_name name;
	struct error *err;

	buf_add(&text, request->name.data, request->name.len);
	err = bytestream_check_name(in, server, buf_string(&text), true, &name);
	if (!err && name.digest.size > SERVER_BLOB_MAX)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"a blob of %lld bytes is over the limit",
				(long long)name.digest.size);
	if (err)
		return err;
	write->server = server;
	write->digest = name.digest;
	write->name = arena_string(rpc_arena(in), buf_string(&text));
	if (!write->name)
		return arena_error("the resource name");
	*is_there_out = server_has(server, &write->digest);
	if (*is_there_out)
		return NULL;
	err = uploads_take(server->uploads, write->name, &write->upload);
	if (err)
		return err;
	/* Beginning at the start means beginning anew. */
	if (write->upload->staged && request->offset == 0)
		write->upload->staged = staged_free(write->upload->staged);
	if (!write->upload->staged)
		err = staged_open(server->store, &write->digest, &write->upload->staged);
	return err;
}

static struct error *write_take(struct write *write, const struct write_request *request)
{
	struct upload *upload = write->upload;
	struct error *err;

	if (request->name.len > 0 && !slice_is(request->name, write->name))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the resource name changed from \"%.200s\"",
				 write->name);
	if (write->is_finished && request->data.len > 0)
		return error_new(ERROR_INVALID_ARGUMENT, "data after finish_write");
	if (request->offset != staged_size(upload->staged))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "write at %lld, but \"%.200s\" has %lld bytes",
				 (long long)request->offset, write->name,
				 (long long)staged_size(upload->staged));
	write->is_finished |= request->finishes;
	err = staged_write(upload->staged, request->data.data, request->data.len);
	if (err) /* what is staged cannot become the blob any more */
		upload->staged = staged_free(upload->staged);
	return err;
}

static enum rpc_verdict write_answer(struct rpc_in *in, struct write *write,
				     int64_t committed_size)
{
	Bytestream__WriteResponse response = BYTESTREAM__WRITE_RESPONSE__INIT;

	response.committed_size = committed_size;
	return durable_send(in, &write->durable, &response.base);
}

/* The blob is in the store: said once it is on the disk. */
static enum rpc_verdict write_promise(struct rpc_in *in, struct write *write)
{
	durable_add(&write->durable, write->server->store, &write->digest);
	return write_answer(in, write, write->digest.size);
}

static enum rpc_verdict write_end(struct rpc_in *in, struct write *write)
{
	struct error *err;

	if (rpc_is_cancelled(in))
		return rpc_fail(in, error_new(ERROR_CANCELLED, "the client left"));
	if (!write->upload)
		return rpc_fail(in, error_new(ERROR_INVALID_ARGUMENT,
					      "the call has no WriteRequest"));
	if (!write->is_finished)
		return write_answer(in, write, staged_size(write->upload->staged));
	err = staged_commit(take(write->upload->staged), NULL);
	return err ? rpc_fail(in, err) : write_promise(in, write);
}

enum rpc_verdict bytestream_write(struct rpc_in *in, void *service)
{
	struct write *write = rpc_state(in, sizeof(*write), write_drop);
	struct write_request request;
	struct slice bytes;
	bool is_end;

	if (write->durable.is_waiting)
		return durable_step(in, &write->durable);
	while (rpc_receive(in, &bytes, &is_end)) {
		struct error *err;
		bool is_there = false;

		if (is_end)
			return write_end(in, write);
		err = write_parse(bytes, &request);
		if (!err && !write->upload)
			err = write_begin(in, service, write, &request, &is_there);
		if (!err && is_there)
			return write_promise(in, write);
		if (!err)
			err = write_take(write, &request);
		if (err)
			return rpc_fail(in, err);
	}
	return RPC_LATER;
}

/* ---- QueryWriteStatus ----------------------------------------------------------- */

enum rpc_verdict bytestream_query(struct rpc_in *in, void *service)
{
	Bytestream__QueryWriteStatusRequest *request = (void *)rpc_request(in);
	Bytestream__QueryWriteStatusResponse response =
		BYTESTREAM__QUERY_WRITE_STATUS_RESPONSE__INIT;
	struct server *server = service;
	struct resource_name name;
	struct upload *upload;
	struct error *err;
	bool is_known;

	if (!request)
		return RPC_DONE;
	err = bytestream_check_name(in, server, request->resource_name, true, &name);
	if (err)
		return rpc_fail(in, err);
	is_known = server_has(server, &name.digest);
	response.complete = is_known;
	response.committed_size = name.digest.size;
	if (!is_known) {
		(void)pthread_mutex_lock(&server->uploads->mutex);
		upload = uploads_find(server->uploads, request->resource_name);
		/* One that is being written is its call's: it begins anew or asks later.
		 */
		is_known = upload && upload->is_idle;
		response.committed_size = is_known ? staged_size(upload->staged) : 0;
		(void)pthread_mutex_unlock(&server->uploads->mutex);
	}
	if (!is_known)
		return rpc_fail(in, error_new(ERROR_NOT_FOUND,
					      "no upload \"%.200s\" is known",
					      request->resource_name));
	rpc_send(in, &response.base);
	return RPC_DONE;
}
