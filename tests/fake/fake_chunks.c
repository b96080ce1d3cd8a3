/*
 * Owns nothing: the fake's calls about chunks, of 2.12 and of 2.13. What a blob is made
 * of is what the test claims of it, else what the announced chunker says.
 */
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/tree/chunker.h"
#include "tests/fake/fake_internal.h"

#define CAS_SERVICE &reapi__content_addressable_storage__descriptor

#define FAKE_ENDLESS_PAGE 1000

/* ---- apart ---------------------------------------------------------------------- */

/* Its chunks, which are blobs of the fake from then on. */
static bool fake_cut(struct fake *fake, const struct digest *blob, struct arena *arena,
		     struct digest **digests_out, size_t *n_out)
{
	struct chunker chunker;
	struct slice bytes = {0};
	size_t n = 0;

	if (!fake_bytes(fake, blob, NULL, arena, &bytes))
		return false;
	require(chunker_init(&chunker, fake->chunk_average, 0));
	*digests_out =
		arena_array(arena, bytes.len / chunker.min + 1, sizeof(**digests_out));
	for (size_t at = 0; at < bytes.len; n++) {
		size_t len = chunker_cut(&chunker, bytes.data + at, bytes.len - at);

		(*digests_out)[n] = fake_put(fake, bytes.data + at, len);
		at += len;
	}
	*n_out = n;
	return true;
}

static bool fake_split_begin(struct fake *fake, struct rpc_in *in, struct fake_in *state)
{
	Reapi__SplitBlobRequest *request = (Reapi__SplitBlobRequest *)rpc_request(in);

	if (!request)
		return false;
	state->digests = fake_digests(&request->blob_digest, 1, rpc_arena(in));
	state->n_digests = 1;
	fake_begin(fake, state, FAKE_SPLIT);
	return true;
}

static void fake_split_fill(Reapi__SplitBlobResponse *response,
			    const struct digest *digests, size_t n, struct arena *arena)
{
	response->chunk_digests = arena_array(arena, n, sizeof(Reapi__Digest *));
	response->n_chunk_digests = n;
	for (size_t i = 0; i < n; i++)
		response->chunk_digests[i] = digest_to_arena(&digests[i], arena);
}

/* Chunks without end, and without a byte. */
static enum rpc_verdict fake_split_endless(struct rpc_in *in)
{
	Reapi__SplitBlobResponse response = REAPI__SPLIT_BLOB_RESPONSE__INIT;
	struct digest none[FAKE_ENDLESS_PAGE];
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)8 << 20);

	if (rpc_can_send(in)) {
		for (size_t i = 0; i < FAKE_ENDLESS_PAGE; i++)
			none[i] = digest_of_empty;
		fake_split_fill(&response, none, FAKE_ENDLESS_PAGE, &arena);
		rpc_send(in, &response.base);
	}
	return RPC_LATER;
}

static enum rpc_verdict fake_split(struct rpc_in *in, void *service)
{
	Reapi__SplitBlobResponse response = REAPI__SPLIT_BLOB_RESPONSE__INIT;
	struct fake_in *state = rpc_state(in, sizeof(*state), NULL);
	struct fake *fake = service;
	enum rpc_verdict verdict;
	struct digest *digests;
	size_t n = 0;

	if (!state->has_begun && !fake_split_begin(fake, in, state))
		return RPC_DONE;
	if (!fake_proceed(fake, in, state, &verdict))
		return verdict;
	if (state->has_fault && state->fault.kind == FAKE_ENDLESS)
		return fake_split_endless(in);
	if (!fake_claimed(fake, state->digests, rpc_arena(in), &digests, &n) &&
	    !fake_cut(fake, state->digests, rpc_arena(in), &digests, &n))
		return rpc_fail(in, error_new(ERROR_NOT_FOUND, "no such blob"));
	fake_split_fill(&response, digests, n, rpc_arena(in));
	rpc_send(in, &response.base);
	return RPC_DONE;
}

/* ---- together ------------------------------------------------------------------- */

struct fake_splice {
	struct fake_in in;
	struct digest blob;
	struct buf bytes;
	bool is_lacking; /* a chunk is not here */
};

static void fake_splice_drop(void *state)
{
	buf_deinit(&((struct fake_splice *)state)->bytes);
}

static void fake_splice_message(struct fake *fake, struct rpc_in *in,
				struct fake_splice *splice, struct slice bytes)
{
	Reapi__SpliceBlobRequest *request = (void *)rpc_decode(
		&reapi__splice_blob_request__descriptor, bytes, rpc_arena(in));
	struct digest *chunks;

	require(request);
	if (!splice->in.has_begun) {
		require(!digest_from_wire(request->blob_digest, &splice->blob));
		splice->in.digests = &splice->blob;
		splice->in.n_digests = 1;
		fake_begin(fake, &splice->in, FAKE_SPLICE);
	}
	chunks = fake_digests(request->chunk_digests, request->n_chunk_digests,
			      rpc_arena(in));
	for (size_t i = 0; i < request->n_chunk_digests; i++) {
		struct slice part = {0};

		splice->is_lacking |=
			!fake_bytes(fake, &chunks[i], NULL, rpc_arena(in), &part);
		buf_add(&splice->bytes, part.data, part.len);
	}
}

static enum rpc_verdict fake_splice_end(struct fake *fake, struct rpc_in *in,
					struct fake_splice *splice)
{
	Reapi__SpliceBlobResponse response = REAPI__SPLICE_BLOB_RESPONSE__INIT;
	struct digest made;

	if (splice->is_lacking)
		return rpc_fail(in, error_new(ERROR_NOT_FOUND, "a chunk is missing"));
	made = fake_put(fake, splice->bytes.data, splice->bytes.len);
	if (!digest_equal(&made, &splice->blob)) {
		fake_drop(fake, &made);
		return rpc_fail(in, error_new(ERROR_INVALID_ARGUMENT, "another blob"));
	}
	response.blob_digest = digest_to_arena(&made, rpc_arena(in));
	rpc_send(in, &response.base);
	return RPC_DONE;
}

static enum rpc_verdict fake_splice(struct rpc_in *in, void *service)
{
	struct fake_splice *splice = rpc_state(in, sizeof(*splice), fake_splice_drop);
	struct fake *fake = service;
	enum rpc_verdict verdict;
	struct slice bytes;
	bool is_end;

	while (rpc_receive(in, &bytes, &is_end)) {
		if (!is_end) {
			fake_splice_message(fake, in, splice, bytes);
			continue;
		}
		if (!fake_proceed(fake, in, &splice->in, &verdict))
			return verdict;
		return fake_splice_end(fake, in, splice);
	}
	return RPC_LATER;
}

const struct rpc_handler fake_chunk_handlers[] = {
	{{CAS_SERVICE, "SplitBlob"}, RPC_UNARY, 0, fake_split},
	{{CAS_SERVICE, "GetChunkMapping"}, RPC_SERVER_STREAM, 0, fake_split},
	{{CAS_SERVICE, "SpliceBlob"}, RPC_UNARY, 0, fake_splice},
	{{CAS_SERVICE, "RegisterChunkMapping"}, RPC_CLIENT_STREAM, 0, fake_splice},
};
const size_t fake_n_chunk_handlers = ARRAY_SIZE(fake_chunk_handlers);
