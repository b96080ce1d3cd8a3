/*
 * Owns FindMissingBlobs, BatchUpdateBlobs and BatchReadBlobs, and lists the methods of
 * the service, those of other files included. Every step runs on a worker, as it reads
 * the disk or hashes. The payloads of a batch are taken from the request's bytes by hand
 * and never copied.
 */
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/wire.h"
#include "lib/base/zstd.h"
#include "lib/store/chunks.h"
#include "server/durable.h"
#include "server/get_tree.h"
#include "server/service.h"
#include "server/splice.h"
#include "server/split.h"

#define CAS_STEP_DIGESTS 4096 /* looked for in one step */
/* Of a batch: read or written in one step, about. */
#define CAS_STEP_BLOBS 64
#define CAS_STEP_BYTES ((size_t)512 << 10)
#define CAS_ANSWER_BYTES                                                                 \
	128 /* about what an entry of an answer takes beside its blob                    \
	     */

/* ---- FindMissingBlobs ----------------------------------------------------------- */

/* A large request takes many steps, with others' between them. What clients are told to
 * be here they will not send: it must not be lost either. */
struct cas_find {
	struct durable durable;
	Reapi__FindMissingBlobsRequest *request;
	Reapi__Digest **missing; /* in the arena */
	size_t n_missing, next;
};

static void cas_find_drop(void *find)
{
	durable_deinit(&((struct cas_find *)find)->durable);
}

static struct error *cas_find_begin(struct rpc_in *in, const struct server *server,
				    struct cas_find *find)
{
	find->request = (void *)rpc_request(in);
	if (!find->request)
		return error_new(ERROR_INVALID_ARGUMENT, "the request is malformed");
	find->missing = arena_array(rpc_arena(in), find->request->n_blob_digests,
				    sizeof(Reapi__Digest *));
	if (!find->missing)
		return arena_error("the answer");
	return server_check(server, in, find->request->instance_name,
			    find->request->digest_function);
}

static struct error *cas_find_some(const struct server *server, struct cas_find *find)
{
	bool is_settled = store_is_settled(server->store);
	size_t end = find->next + CAS_STEP_DIGESTS;

	if (end > find->request->n_blob_digests)
		end = find->request->n_blob_digests;
	for (; find->next < end; find->next++) {
		Reapi__Digest *wire = find->request->blob_digests[find->next];
		struct digest digest, holder;
		struct error *err = digest_from_wire(wire, &digest);

		if (err)
			return err;
		if (!server_find(server, &digest, &holder))
			find->missing[find->n_missing++] = wire;
		else if (!is_settled)
			durable_add(&find->durable, server->store, &holder);
	}
	return NULL;
}

static enum rpc_verdict cas_find_missing(struct rpc_in *in, void *service)
{
	struct cas_find *find = rpc_state(in, sizeof(*find), cas_find_drop);
	Reapi__FindMissingBlobsResponse response =
		REAPI__FIND_MISSING_BLOBS_RESPONSE__INIT;
	struct error *err = NULL;

	if (find->durable.is_waiting)
		return durable_step(in, &find->durable);
	if (!find->request)
		err = cas_find_begin(in, service, find);
	if (!err)
		err = cas_find_some(service, find);
	if (err)
		return rpc_fail(in, err);
	if (rpc_is_cancelled(in))
		return rpc_fail(in, error_new(ERROR_CANCELLED, "the client left"));
	if (find->next < find->request->n_blob_digests)
		return RPC_AGAIN;
	response.missing_blob_digests = find->missing;
	response.n_missing_blob_digests = find->n_missing;
	return durable_send(in, &find->durable, &response.base);
}

/* ---- BatchUpdateBlobs ----------------------------------------------------------- */

struct cas_update { /* one Request of the batch */
	Reapi__Digest *digest;
	struct slice data;
	uint64_t compressor;
};

static bool cas_update_parse(struct slice bytes, struct arena *arena,
			     struct cas_update *out)
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;

	*out = (struct cas_update){0};
	while (wire_next(&wire, &field)) {
		if (field.number == 1 && field.type == WIRE_BYTES) {
			out->digest = (Reapi__Digest *)rpc_decode(
				&reapi__digest__descriptor, field.bytes, arena);
			if (!out->digest)
				return false;
		} else if (field.number == 2 && field.type == WIRE_BYTES) {
			out->data = field.bytes;
		} else if (field.number == 3 && field.type == WIRE_VARINT) {
			out->compressor = field.value;
		}
	}
	return !wire.is_bad;
}

/* Frames are taken for what they are to come to, which the batch's limit bounds. */
static struct error *cas_update_zstd(const struct server *server,
				     const struct digest *digest, struct slice frames)
{
	_cleanup_free_ uint8_t *data = alloc_bounded((size_t)digest->size, RPC_BATCH_MAX);
	struct error *err;

	if (!data)
		return error_new(ERROR_RESOURCE_EXHAUSTED, "no memory for a blob");
	err = zstd_decompress(frames, data, (size_t)digest->size);
	return err ? err : store_put(server->store, digest, data, (size_t)digest->size);
}

/* What it takes here. One that is sent as it is was judged by its digest, not by what it
 * says. */
static size_t cas_update_bytes(const struct cas_update *update)
{
	int64_t size = update->digest ? update->digest->size_bytes : 0;

	if (update->compressor == REAPI__COMPRESSOR__VALUE__IDENTITY || size < 0 ||
	    (uint64_t)size < update->data.len)
		return update->data.len;
	return size < RPC_BATCH_MAX ? (size_t)size : RPC_BATCH_MAX + 1;
}

static struct error *cas_update_one(const struct server *server,
				    const struct cas_update *update)
{
	struct digest digest;
	struct error *err = digest_from_wire(update->digest, &digest);

	if (err)
		return err;
	err = server_check_compressor(server,
				      (Reapi__Compressor__Value)update->compressor);
	if (err)
		return err;
	if (update->compressor == REAPI__COMPRESSOR__VALUE__ZSTD)
		return cas_update_zstd(server, &digest, update->data);
	return store_put(server->store, &digest, update->data.data, update->data.len);
}

typedef Reapi__BatchUpdateBlobsResponse__Response cas_update_answer;

/* A batch takes several steps, as FindMissingBlobs does. */
struct cas_batch {
	struct durable durable;
	bool has_begun;
	char *instance;
	uint64_t function;
	struct cas_update *updates;
	size_t n, cap;
	size_t n_bytes;
	size_t next;
	cas_update_answer *list; /* in the arena, as are the pointers to it */
	cas_update_answer **responses;
};

static void cas_batch_drop(void *state)
{
	struct cas_batch *batch = state;

	durable_deinit(&batch->durable);
	free(batch->updates);
}

static char *cas_text(struct slice bytes, struct arena *arena)
{
	char *text = arena_zero(arena, bytes.len + 1);

	if (text && bytes.len)
		memcpy(text, bytes.data, bytes.len);
	return text;
}

static struct error *cas_batch_parse(struct slice bytes, struct arena *arena,
				     struct cas_batch *batch)
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;
	struct cas_update update;

	batch->instance = arena_string(arena, "");
	while (wire_next(&wire, &field)) {
		if (field.number == 1 && field.type == WIRE_BYTES) {
			batch->instance = cas_text(field.bytes, arena);
		} else if (field.number == 5 && field.type == WIRE_VARINT) {
			batch->function = field.value;
		} else if (field.number == 2 && field.type == WIRE_BYTES) {
			if (!cas_update_parse(field.bytes, arena, &update)) {
				wire.is_bad = true;
				break;
			}
			batch->updates = alloc_grow(batch->updates, &batch->cap,
						    batch->n + 1, sizeof(update));
			batch->updates[batch->n++] = update;
			batch->n_bytes += cas_update_bytes(&update);
		}
	}
	if (arena->is_full)
		return arena_error("the batch");
	return wire.is_bad ? error_new(ERROR_INVALID_ARGUMENT, "the batch is malformed")
			   : NULL;
}

static struct error *cas_batch_check(const struct server *server, struct rpc_in *in,
				     size_t n_bytes, const char *instance,
				     Reapi__DigestFunction__Value function)
{
	if (n_bytes > RPC_BATCH_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "a batch of %zu bytes is over the limit of %d", n_bytes,
				 RPC_BATCH_MAX);
	return server_check(server, in, instance, function);
}

static struct error *cas_batch_begin(struct rpc_in *in, const struct server *server,
				     struct cas_batch *batch)
{
	struct arena *arena = rpc_arena(in);
	struct slice bytes = {0};
	struct error *err;
	bool is_end;

	(void)rpc_receive(in, &bytes, &is_end);
	err = rpc_check_elements(in, bytes);
	if (!err)
		err = cas_batch_parse(bytes, arena, batch);
	if (!err)
		err = cas_batch_check(server, in, batch->n_bytes, batch->instance,
				      (Reapi__DigestFunction__Value)batch->function);
	if (err)
		return err;
	batch->list = arena_array(arena, batch->n, sizeof(*batch->list));
	batch->responses = arena_array(arena, batch->n, sizeof(*batch->responses));
	batch->has_begun = true;
	return arena->is_full ? arena_error("the answer") : NULL;
}

/* It came whole: it is promised, and perhaps others will ask for parts of it. */
static void cas_came(const struct server *server, const Reapi__Digest *wire,
		     struct durable *durable)
{
	struct digest digest;
	_cleanup_error_ struct error *err = digest_from_wire(wire, &digest);

	if (err)
		return;
	durable_add(durable, server->store, &digest);
	chunks_note(server->chunks, NULL, &digest);
}

static struct error *cas_batch_store(struct rpc_in *in, const struct server *server,
				     struct cas_batch *batch)
{
	struct arena *arena = rpc_arena(in);
	size_t n_bytes = 0;

	for (size_t n = 0; n < CAS_STEP_BLOBS && n_bytes < CAS_STEP_BYTES &&
			   batch->next < batch->n && !arena->is_full;
	     n++) {
		const struct cas_update *update = &batch->updates[batch->next];
		_cleanup_error_ struct error *err = cas_update_one(server, update);
		cas_update_answer *one = &batch->list[batch->next];

		reapi__batch_update_blobs_response__response__init(one);
		one->digest = update->digest;
		one->status = rpc_status_message(err, arena);
		batch->responses[batch->next++] = one;
		n_bytes += cas_update_bytes(update);
		if (!err)
			cas_came(server, one->digest, &batch->durable);
	}
	return arena->is_full ? arena_error("the answer") : NULL;
}

static enum rpc_verdict cas_batch_update(struct rpc_in *in, void *service)
{
	struct cas_batch *batch = rpc_state(in, sizeof(*batch), cas_batch_drop);
	Reapi__BatchUpdateBlobsResponse response =
		REAPI__BATCH_UPDATE_BLOBS_RESPONSE__INIT;
	struct error *err = NULL;

	if (batch->durable.is_waiting)
		return durable_step(in, &batch->durable);
	if (!batch->has_begun)
		err = cas_batch_begin(in, service, batch);
	if (!err)
		err = cas_batch_store(in, service, batch);
	if (err)
		return rpc_fail(in, err);
	if (rpc_is_cancelled(in))
		return rpc_fail(in, error_new(ERROR_CANCELLED, "the client left"));
	if (batch->next < batch->n)
		return RPC_AGAIN;
	response.responses = batch->responses;
	response.n_responses = batch->n;
	return durable_send(in, &batch->durable, &response.base);
}

/* ---- BatchReadBlobs ------------------------------------------------------------- */

/* The blob becomes a frame where it shrinks. */
static bool cas_read_shrink(struct buf *data)
{
	_cleanup_buf_ struct buf frame = BUF_INIT;
	struct buf plain = *data;

	if (!zstd_shrink(buf_slice(data), &frame))
		return false;
	*data = frame;
	frame = plain;
	return true;
}

/* One Response of the reply, appended: by hand, so a blob is copied once. */
static void cas_read_one(const struct server *server, const struct digest *digest,
			 bool takes_zstd, struct buf *out)
{
	Reapi__Digest wire = REAPI__DIGEST__INIT;
	char hex[DIGEST_HEX_MAX];
	_cleanup_buf_ struct buf data = BUF_INIT;
	_cleanup_buf_ struct buf one = BUF_INIT;
	_cleanup_buf_ struct buf part = BUF_INIT;
	_cleanup_error_ struct error *err = NULL;

	if (digest->size > 0)
		err = server_read(server, digest, RPC_BATCH_MAX, &data);
	digest_to_wire(digest, hex, &wire);
	rpc_encode(&wire.base, &part);
	wire_put_bytes(&one, 1, buf_slice(&part));
	buf_clear(&part);
	rpc_status_encode(err, &part);
	wire_put_bytes(&one, 3, buf_slice(&part));
	if (err || data.len == 0) {
		wire_put_bytes(out, 1, buf_slice(&one));
		return;
	}
	if (takes_zstd && cas_read_shrink(&data))
		wire_put_int(&one, 4, REAPI__COMPRESSOR__VALUE__ZSTD);
	buf_clear(&part);
	wire_put_head(&part, 2, data.len);
	wire_put_head(out, 1, one.len + part.len + data.len);
	buf_add(out, one.data, one.len);
	buf_add(out, part.data, part.len);
	buf_add(out, data.data, data.len);
}

static void cas_reply_free(void *reply)
{
	free(reply);
}

struct cas_read {
	bool takes_zstd;
	struct digest *digests;
	size_t n, next;
	struct buf reply;
};

static void cas_read_drop(void *state)
{
	struct cas_read *read = state;

	free(read->digests);
	buf_deinit(&read->reply);
}

static struct error *cas_read_begin(struct rpc_in *in, const struct server *server,
				    struct cas_read *read)
{
	Reapi__BatchReadBlobsRequest *request = (void *)rpc_request(in);
	struct error *err = NULL;
	size_t n_bytes = 0;

	if (!request)
		return error_new(ERROR_INVALID_ARGUMENT, "the request is malformed");
	for (size_t i = 0; i < request->n_acceptable_compressors; i++)
		read->takes_zstd |= request->acceptable_compressors[i] ==
					    REAPI__COMPRESSOR__VALUE__ZSTD &&
				    server->compression != SERVER_COMPRESS_NEVER;
	read->n = request->n_digests;
	read->digests = alloc_array(read->n, sizeof(*read->digests));
	for (size_t i = 0; i < read->n && !err; i++) {
		struct digest *digest = &read->digests[i];

		err = digest_from_wire(request->digests[i], digest);
		n_bytes += err                            ? 0
			   : digest->size > RPC_BATCH_MAX ? RPC_BATCH_MAX + 1
							  : (size_t)digest->size;
	}
	if (!err)
		err = cas_batch_check(server, in, n_bytes, request->instance_name,
				      request->digest_function);
	if (!err)
		buf_reserve(&read->reply, n_bytes + read->n * CAS_ANSWER_BYTES);
	return err;
}

static bool cas_read_some(const struct server *server, struct cas_read *read)
{
	size_t n_bytes = 0;

	for (size_t n = 0;
	     n < CAS_STEP_BLOBS && read->next < read->n && n_bytes < CAS_STEP_BYTES;
	     n++) {
		const struct digest *digest = &read->digests[read->next++];

		cas_read_one(server, digest, read->takes_zstd, &read->reply);
		n_bytes += (size_t)digest->size;
	}
	return read->next < read->n && read->reply.len <= RPC_MESSAGE_MAX;
}

static enum rpc_verdict cas_batch_read(struct rpc_in *in, void *service)
{
	struct cas_read *read = rpc_state(in, sizeof(*read), cas_read_drop);
	struct error *err = NULL;
	size_t len;
	char *data;

	if (!read->digests)
		err = cas_read_begin(in, service, read);
	if (err)
		return rpc_fail(in, err);
	if (cas_read_some(service, read))
		return rpc_is_cancelled(in) ? rpc_fail(in, error_new(ERROR_CANCELLED,
								     "the client left"))
					    : RPC_AGAIN;
	len = read->reply.len;
	data = buf_steal_string(&read->reply);
	rpc_send_raw(in, (struct slice){NULL, 0}, (struct slice){(uint8_t *)data, len},
		     cas_reply_free, data);
	return RPC_DONE;
}

#define CAS_SERVICE &reapi__content_addressable_storage__descriptor
#define CAS_READ    RPC_RIGHTS(ACCESS_CAS_READ)
#define CAS_WRITE   RPC_RIGHTS(ACCESS_CAS_WRITE)

static const struct rpc_handler cas_list[] = {
	{{CAS_SERVICE, "FindMissingBlobs"},
	 RPC_UNARY,
	 RPC_MANY | CAS_READ | CAS_WRITE,
	 cas_find_missing},
	{{CAS_SERVICE, "BatchUpdateBlobs"},
	 RPC_UNARY,
	 RPC_MANY | CAS_WRITE,
	 cas_batch_update},
	{{CAS_SERVICE, "BatchReadBlobs"}, RPC_UNARY, RPC_MANY | CAS_READ, cas_batch_read},
	{{CAS_SERVICE, "GetTree"}, RPC_SERVER_STREAM, CAS_READ, cas_get_tree},
	{{CAS_SERVICE, "SplitBlob"}, RPC_UNARY, CAS_READ, split_blob},
	{{CAS_SERVICE, "GetChunkMapping"}, RPC_SERVER_STREAM, CAS_READ, split_mapping},
	{{CAS_SERVICE, "SpliceBlob"}, RPC_UNARY, RPC_MANY | CAS_WRITE, splice_blob},
	{{CAS_SERVICE, "RegisterChunkMapping"},
	 RPC_CLIENT_STREAM,
	 RPC_MANY | CAS_WRITE,
	 splice_mapping},
};
const struct rpc_handlers cas_handlers = {cas_list, ARRAY_SIZE(cas_list)};
