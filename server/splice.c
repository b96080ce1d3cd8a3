/*
 * Owns SpliceBlob and its successor RegisterChunkMapping: a blob is made of chunks that
 * are here. It is written like an upload, chunk by chunk as they are named, and becomes
 * visible where its digest is right; what it was made of is not kept (split.c finds
 * chunks by itself).
 *
 * A few bytes of a request become many on the disk here, and a lie shows only at the end.
 * So all chunks of a message must be here, and those of a unary one have the blob's size,
 * before any of it is copied; no blob is evicted before the end (is_unproven); a step
 * copies only some; and what was copied in vain its host owes (debts.h).
 *
 * The two requests have the same fields under the same numbers, and are read by hand: of
 * a stream, the message at hand is gone through digest by digest, and no list is kept.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/wire.h"
#include "lib/base/clock.h"
#include "lib/rpc/caller.h"
#include "lib/store/chunks.h"
#include "server/debts.h"
#include "server/durable.h"
#include "server/splice.h"
#include "server/uploads.h"

#define SPLICE_STEP       ((size_t)4 << 20) /* bytes copied in one step, about */
#define SPLICE_PIECE      ((size_t)1 << 20)
#define SPLICE_CHUNKS     128               /* begun in one step */
#define SPLICE_LOOKS      1024              /* looked for in one step */
#define SPLICE_CHUNKS_MAX ((size_t)1 << 20) /* of one blob */

struct splice {
	struct server *server;
	bool has_begun;
	struct digest blob, holder;
	struct upload *upload;
	struct wire wire;   /* what is left of the message at hand … */
	bool has_message;   /* … if there is one */
	struct wire looked; /* what is left to be looked for of it … */
	bool is_looking;    /* … if something is */
	char host[RPC_CALLER_HOST_MAX];
	int64_t in_vain;  /* bytes copied, until they are the blob */
	int64_t declared; /* bytes of the chunks named so far */
	size_t n_chunks;
	int fd; /* of the chunk that is copied: -1 where there is none */
	int64_t at, left;
	struct durable durable;
};

static void splice_drop(void *state)
{
	struct splice *splice = state;

	durable_deinit(&splice->durable);
	if (splice->upload)
		upload_drop(splice->upload);
	if (splice->in_vain)
		debts_add(splice->server->debts, splice->host, splice->in_vain,
			  clock_mono_ns());
	if (splice->has_begun && splice->fd >= 0)
		(void)close(splice->fd);
}

/* ---- the first message ---------------------------------------------------------- */

struct splice_request { /* views into the message */
	struct slice instance, blob;
	uint64_t digest_function, chunking_function;
};

static struct error *splice_parse(struct slice bytes, struct splice_request *out)
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;

	*out = (struct splice_request){0};
	while (wire_next(&wire, &field)) {
		if (field.number == 1 && field.type == WIRE_BYTES)
			out->instance = field.bytes;
		else if (field.number == 2 && field.type == WIRE_BYTES)
			out->blob = field.bytes;
		else if (field.number == 4 && field.type == WIRE_VARINT)
			out->digest_function = field.value;
		else if (field.number == 5 && field.type == WIRE_VARINT)
			out->chunking_function = field.value;
	}
	return wire.is_bad ? error_new(ERROR_INVALID_ARGUMENT, "the request is malformed")
			   : NULL;
}

static struct error *splice_check(struct rpc_in *in, const struct server *server,
				  const struct splice_request *request,
				  struct digest *blob_out)
{
	_cleanup_buf_ struct buf instance = BUF_INIT;
	struct error *err;

	buf_add(&instance, request->instance.data, request->instance.len);
	err = server_check(server, in, buf_string(&instance),
			   (Reapi__DigestFunction__Value)request->digest_function);
	if (!err)
		err = error_wrap(digest_decode(request->blob, blob_out), "blob_digest");
	if (!err && blob_out->size > SERVER_BLOB_MAX)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"a blob of %" PRId64 " bytes is over the limit",
				blob_out->size);
	/* how it was cut is all the same to us, but what nobody knows is a mistake */
	if (!err &&
	    request->chunking_function > REAPI__CHUNKING_FUNCTION__VALUE__REP_MAX_CDC)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"chunking function %" PRIu64 " is unknown",
				request->chunking_function);
	return err;
}

static struct error *splice_begin(struct rpc_in *in, struct server *server,
				  struct splice *splice, struct slice bytes,
				  bool *is_there_out)
{
	static _Atomic uint64_t n_splices;
	struct splice_request request;
	_cleanup_free_ char *name = NULL;
	char text[DIGEST_STRING_MAX];
	struct error *err;

	if (server->chunks_offer == SERVER_CHUNKS_NEVER)
		return error_new(ERROR_UNIMPLEMENTED, "this server splices no blobs");
	err = splice_parse(bytes, &request);
	if (!err)
		err = splice_check(in, server, &request, &splice->blob);
	if (err)
		return err;
	splice->server = server;
	splice->fd = -1;
	splice->has_begun = true;
	*is_there_out = server_find(server, &splice->blob, &splice->holder);
	if (*is_there_out)
		return NULL;
	(void)snprintf(splice->host, sizeof(splice->host), "%s", rpc_caller(in)->host);
	err = debts_check(server->debts, splice->host, clock_mono_ns());
	if (err)
		return err;
	/* no resource's name begins so: an upload of its own, that nobody resumes */
	name = alloc_printf("//splice/%" PRIu64 "/%s", atomic_fetch_add(&n_splices, 1),
			    digest_format(&splice->blob, text));
	return uploads_take(server->uploads, in, name,
			    &(struct upload_kind){.digest = &splice->blob,
						  .is_from_start = true,
						  .is_unproven = true},
			    &splice->upload);
}

/* ---- chunks --------------------------------------------------------------------- */

/* Whether what a message names can be so, before any of it is copied. */
static struct error *splice_count(struct splice *splice, struct slice bytes)
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;

	while (wire_next(&wire, &field)) {
		struct digest chunk;
		struct error *err;

		if (field.number != 3 || field.type != WIRE_BYTES)
			continue;
		err = digest_decode(field.bytes, &chunk);
		if (err)
			return error_wrap(err, "chunk %zu", splice->n_chunks);
		if (++splice->n_chunks > SPLICE_CHUNKS_MAX)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "a blob is made of %zu chunks at most",
					 SPLICE_CHUNKS_MAX);
		if (chunk.size > splice->blob.size - splice->declared)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "the chunks have more bytes than the blob, "
					 "which has %" PRId64,
					 splice->blob.size);
		splice->declared += chunk.size;
	}
	return wire.is_bad ? error_new(ERROR_INVALID_ARGUMENT, "the request is malformed")
			   : NULL;
}

static struct error *splice_check_size(const struct splice *splice)
{
	return splice->declared == splice->blob.size
		       ? NULL
		       : error_new(ERROR_INVALID_ARGUMENT,
				   "the chunks have %" PRId64 " bytes, the blob %" PRId64,
				   splice->declared, splice->blob.size);
}

/* is_only: no other follows. */
static struct error *splice_message(struct rpc_in *in, struct server *server,
				    struct splice *splice, struct slice bytes,
				    bool is_only, bool *is_there_out)
{
	struct error *err = rpc_check_elements(in, bytes);

	if (!err && !splice->has_begun)
		err = splice_begin(in, server, splice, bytes, is_there_out);
	if (!err)
		err = splice_count(splice, bytes);
	if (!err && is_only && !*is_there_out)
		err = splice_check_size(splice);
	splice->wire = splice->looked = wire_of(bytes);
	splice->has_message = splice->is_looking = !err;
	return err;
}

static struct error *splice_absent(const struct digest *chunk)
{
	char name[DIGEST_STRING_MAX];
	struct error *err = error_new(ERROR_NOT_FOUND, "chunk %s is not in the store",
				      digest_format(chunk, name));

	server_add_missing(err, chunk);
	return err;
}

/* Whether some more of the chunks of the message at hand are here. */
static struct error *splice_look(struct splice *splice)
{
	struct wire_field field;

	for (size_t n = 0; n < SPLICE_LOOKS; n++) {
		struct digest chunk;
		struct error *err;

		splice->is_looking = wire_next(&splice->looked, &field);
		if (!splice->is_looking)
			return NULL;
		if (field.number != 3 || field.type != WIRE_BYTES)
			continue;
		err = digest_decode(field.bytes, &chunk);
		if (err)
			return err;
		if (!server_has(splice->server, &chunk))
			return splice_absent(&chunk);
	}
	return NULL;
}

/* Opens the next chunk of the message at hand, or finds that there is none. */
static struct error *splice_next(struct splice *splice)
{
	struct wire_field field;
	struct digest chunk;
	struct error *err;

	do {
		splice->has_message = wire_next(&splice->wire, &field);
	} while (splice->has_message && (field.number != 3 || field.type != WIRE_BYTES));
	if (!splice->has_message)
		return NULL;
	err = digest_decode(field.bytes, &chunk);
	if (err || digest_equal(&chunk, &digest_of_empty))
		return err;
	err = chunks_get(splice->server->chunks, &chunk, &splice->fd, &splice->at);
	splice->left = chunk.size;
	if (!err && splice->fd < 0)
		err = splice_absent(&chunk);
	return err;
}

/* A piece of the chunk that is open; data has SPLICE_PIECE bytes. */
static struct error *splice_copy(struct splice *splice, uint8_t *data, size_t *n_out)
{
	size_t want = splice->left < (int64_t)SPLICE_PIECE ? (size_t)splice->left
							   : SPLICE_PIECE;
	struct slice piece = {data, 0};
	ssize_t n = pread(splice->fd, data, want, (off_t)splice->at);
	bool has_more;

	*n_out = 0;
	if (n < 0 && errno == EINTR)
		return NULL;
	if (n < 0)
		return error_errno(errno, "read a chunk");
	if (n == 0)
		return error_new(ERROR_DATA_LOSS, "a chunk's file is too short");
	*n_out = piece.len = (size_t)n;
	splice->at += n;
	splice->left -= n;
	splice->in_vain += n;
	if (!splice->left) {
		(void)close(splice->fd);
		splice->fd = -1;
	}
	return upload_write(splice->upload, &piece, &has_more);
}

/* As much of the message at hand as a step may take. */
static struct error *splice_some(struct splice *splice)
{
	_cleanup_free_ uint8_t *data = alloc_bounded(SPLICE_PIECE, SPLICE_PIECE);
	struct error *err = NULL;
	size_t n_bytes = 0, n_chunks = 0;

	if (!data)
		return error_new(ERROR_RESOURCE_EXHAUSTED, "no memory to copy chunks");
	while (!err && splice->has_message && n_bytes < SPLICE_STEP &&
	       n_chunks < SPLICE_CHUNKS) {
		size_t n = 0;

		if (splice->fd >= 0) {
			err = splice_copy(splice, data, &n);
		} else {
			err = splice_next(splice);
			n_chunks++;
		}
		n_bytes += n;
	}
	return err;
}

/* ---- the call ------------------------------------------------------------------- */

/* Both answers have the one field. */
static enum rpc_verdict splice_answer(struct rpc_in *in, struct splice *splice)
{
	Reapi__SpliceBlobResponse response = REAPI__SPLICE_BLOB_RESPONSE__INIT;
	Reapi__Digest wire;
	char hex[DIGEST_HEX_MAX];

	digest_to_wire(&splice->blob, hex, &wire);
	response.blob_digest = &wire;
	durable_add(&splice->durable, splice->server->store, &splice->holder);
	return durable_send(in, &splice->durable, &response.base);
}

static enum rpc_verdict splice_end(struct rpc_in *in, struct splice *splice)
{
	struct error *err = NULL;

	if (rpc_is_cancelled(in))
		return rpc_fail(in, error_new(ERROR_CANCELLED, "the client left"));
	if (!splice->has_begun)
		err = error_new(ERROR_INVALID_ARGUMENT, "the call has no request");
	else
		err = splice_check_size(splice);
	if (!err)
		err = upload_commit(splice->upload);
	if (err)
		return rpc_fail(in, err);
	splice->in_vain = 0;
	chunks_note(splice->server->chunks, NULL, &splice->blob);
	return splice_answer(in, splice);
}

static enum rpc_verdict splice_step(struct rpc_in *in, void *service, bool is_unary)
{
	struct splice *splice = rpc_state(in, sizeof(*splice), splice_drop);
	struct slice bytes = {0};
	struct error *err = NULL;
	bool is_end = false, is_there = false;

	if (splice->durable.is_waiting)
		return durable_step(in, &splice->durable);
	if (splice->upload)
		err = upload_check(splice->upload);
	if (!err && !splice->has_message) {
		if (!rpc_receive(in, &bytes, &is_end))
			return RPC_LATER;
		if (is_end)
			return splice_end(in, splice);
		err = splice_message(in, service, splice, bytes, is_unary, &is_there);
	}
	if (!err && is_there)
		return splice_answer(in, splice);
	if (!err)
		err = splice->is_looking ? splice_look(splice) : splice_some(splice);
	if (err)
		return rpc_fail(in, err);
	return rpc_is_cancelled(in) ? RPC_LATER : RPC_AGAIN;
}

enum rpc_verdict splice_blob(struct rpc_in *in, void *service)
{
	return splice_step(in, service, true);
}

enum rpc_verdict splice_mapping(struct rpc_in *in, void *service)
{
	return splice_step(in, service, false);
}
