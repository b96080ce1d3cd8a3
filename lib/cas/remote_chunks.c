/*
 * Chunks at the remote: what it says of them, taking blobs apart and putting them
 * together, by the calls of 2.13 (streams) where it knows those, else by those of 2.12.
 * Whether the answer is streamed makes no difference to who reads it.
 */
#include <inttypes.h>

#include "lib/base/wire.h"
#include "lib/cas/remote_internal.h"
#include "lib/rpc/stream.h"
#include "lib/store/chunk_map.h"
#include "lib/tree/chunker.h"

#define REMOTE_CHUNKS_PAGE  ((size_t)16 << 10) /* digests in a message of a stream */
#define REMOTE_SPLICE_SPEED (32 << 20) /* bytes a second at least, without a word */

static const struct rpc_method remote_split_blob = {
	&reapi__content_addressable_storage__descriptor, "SplitBlob"};
static const struct rpc_method remote_get_chunk_mapping = {
	&reapi__content_addressable_storage__descriptor, "GetChunkMapping"};
static const struct rpc_method remote_splice_blob = {
	&reapi__content_addressable_storage__descriptor, "SpliceBlob"};
static const struct rpc_method remote_register_chunk_mapping = {
	&reapi__content_addressable_storage__descriptor, "RegisterChunkMapping"};

bool remote_chunker(struct remote *remote, enum remote_chunks what,
		    struct chunker *chunker_out)
{
	remote_learn_wait(remote);
	return atomic_load(what == REMOTE_SPLIT ? &remote->has_split
						: &remote->has_splice) &&
	       chunker_init(chunker_out, atomic_load(&remote->chunk_average),
			    atomic_load(&remote->chunk_seed)) &&
	       chunker_out->max <= remote_batch_max(remote);
}

/* ---- apart ---------------------------------------------------------------------- */

static struct error *remote_part(const struct digest *blob, int64_t max,
				 struct slice bytes, struct chunk_list *out)
{
	struct digest digest;
	struct error *err = digest_decode(bytes, &digest);

	if (err)
		return error_recode(err, ERROR_DATA_LOSS);
	if (digest.size == 0)
		return NULL;
	if (digest.size > max || digest.size > blob->size - chunk_list_size(out) ||
	    out->n == CHUNK_MAP_CHUNKS)
		return error_new(ERROR_DATA_LOSS,
				 "the remote store names chunks that cannot be the "
				 "blob's");
	chunk_list_add(out, &digest);
	return NULL;
}

/* SplitBlobResponse and GetChunkMappingResponse: chunk_digests = 1. */
struct error *remote_split_message(struct slice message, const struct digest *blob,
				   int64_t max, struct chunk_list *out)
{
	struct wire wire = wire_of(message);
	struct wire_field field;

	while (wire_next(&wire, &field)) {
		struct error *err = NULL;

		if (field.number == 1 && field.type == WIRE_BYTES)
			err = remote_part(blob, max, field.bytes, out);
		if (err)
			return err;
	}
	return wire.is_bad ? error_new(ERROR_DATA_LOSS, "a list of chunks is none")
			   : NULL;
}

struct remote_parts {
	const struct digest *blob;
	int64_t max; /* bytes of a chunk */
	struct chunk_list *list;
};

static struct error *remote_parts_each(void *ctx, struct slice message)
{
	const struct remote_parts *parts = ctx;

	return remote_split_message(message, parts->blob, parts->max, parts->list);
}

struct error *remote_split(struct remote *remote, const struct digest *blob,
			   int64_t timeout_ms, struct chunk_list *out)
{
	/* the request of 2.13 has the same fields under the same numbers */
	Reapi__SplitBlobRequest request = REAPI__SPLIT_BLOB_REQUEST__INIT;
	struct rpc_options options = {.timeout_ms = remote_timeout(remote, timeout_ms)};
	struct remote_parts parts = {
		.blob = blob, .max = (int64_t)remote_batch_max(remote), .list = out};
	Reapi__Digest wire = REAPI__DIGEST__INIT;
	char hex[DIGEST_HEX_MAX];
	struct error *err;

	request.instance_name = remote->instance;
	digest_to_wire(blob, hex, &wire);
	request.blob_digest = &wire;
	request.digest_function = REAPI__DIGEST_FUNCTION__VALUE__SHA256;
	request.chunking_function = REAPI__CHUNKING_FUNCTION__VALUE__FAST_CDC_2020;
	err = remote_stream_each(remote,
				 atomic_load(&remote->has_mappings)
					 ? &remote_get_chunk_mapping
					 : &remote_split_blob,
				 &request.base, &options, remote_parts_each, &parts);
	if (!err && chunk_list_size(out) != blob->size)
		err = error_new(ERROR_DATA_LOSS,
				"the remote store names chunks of %" PRId64
				" bytes for a blob of %" PRId64,
				chunk_list_size(out), blob->size);
	return err;
}

/* ---- together ------------------------------------------------------------------- */

/* The request for the list from its chunk *at on, n of them; those of both calls have the
 * same fields under the same numbers. The caller's arena holds the digests. */
static bool remote_whole_fill(Reapi__SpliceBlobRequest *request,
			      const struct chunk_list *list, size_t at, size_t n,
			      struct arena *arena)
{
	request->chunk_digests = arena_array(arena, n, sizeof(Reapi__Digest *));
	request->n_chunk_digests = n;
	for (size_t i = 0; i < n && !arena->is_full; i++)
		request->chunk_digests[i] =
			digest_to_arena(&list->items[at + i].digest, arena);
	return !arena->is_full;
}

static struct error *remote_whole_send(struct rpc_stream *stream,
				       Reapi__SpliceBlobRequest *request,
				       const struct chunk_list *list, size_t page,
				       bool *is_broken)
{
	struct error *err = NULL;

	for (size_t at = 0; !err && !*is_broken && at < list->n; at += page) {
		_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);

		if (!remote_whole_fill(request, list, at,
				       list->n - at < page ? list->n - at : page, &arena))
			return arena_error("a list of chunks");
		err = rpc_stream_send_message(stream, &request->base, is_broken);
		reapi__splice_blob_request__init(request); /* the first says it all */
	}
	return err || *is_broken ? err : rpc_stream_close_send(stream);
}

/* The digest in the answer is what was asked for, or the call has failed. */
static struct error *remote_whole_answer(struct rpc_stream *stream)
{
	struct slice message = {0};
	bool has_message = false;
	struct error *err = rpc_stream_receive(stream, &has_message, &message);

	return err ? err : rpc_stream_finish(stream);
}

struct error *remote_splice(struct remote *remote, const struct digest *blob,
			    const struct chunk_list *list)
{
	Reapi__SpliceBlobRequest request = REAPI__SPLICE_BLOB_REQUEST__INIT;
	struct rpc_options options = remote_stream_options(remote, blob->size);
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	bool has_mappings = atomic_load(&remote->has_mappings), is_broken = false;
	Reapi__Digest wire = REAPI__DIGEST__INIT;
	char hex[DIGEST_HEX_MAX];
	struct error *err;

	request.instance_name = remote->instance;
	digest_to_wire(blob, hex, &wire);
	request.blob_digest = &wire;
	request.digest_function = REAPI__DIGEST_FUNCTION__VALUE__SHA256;
	request.chunking_function = REAPI__CHUNKING_FUNCTION__VALUE__FAST_CDC_2020;
	/* nothing is heard while the server puts it together */
	options.idle_ms += blob->size / REMOTE_SPLICE_SPEED * 1000;
	err = rpc_stream_open(remote->chan,
			      has_mappings ? &remote_register_chunk_mapping
					   : &remote_splice_blob,
			      &options, &stream);
	if (!err)
		err = remote_whole_send(stream, &request, list,
					has_mappings ? REMOTE_CHUNKS_PAGE : list->n,
					&is_broken);
	return err ? err : remote_whole_answer(stream);
}
