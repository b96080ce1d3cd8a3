/*
 * Owns nothing: the fake's unary calls, but for QueryWriteStatus, which goes with Write.
 */
#include "lib/base/alloc.h"
#include "lib/base/zstd.h"
#include "tests/fake/fake_internal.h"

#define CAS_SERVICE  &reapi__content_addressable_storage__descriptor
#define CAPS_SERVICE &reapi__capabilities__descriptor

/* ---- GetCapabilities ------------------------------------------------------------ */

static enum rpc_verdict fake_capabilities(struct rpc_in *in, void *service)
{
	static Reapi__Compressor__Value zstd[] = {REAPI__COMPRESSOR__VALUE__ZSTD};
	Reapi__ServerCapabilities response = REAPI__SERVER_CAPABILITIES__INIT;
	Reapi__CacheCapabilities cache = REAPI__CACHE_CAPABILITIES__INIT;
	Reapi__FastCdc2020Params params = REAPI__FAST_CDC2020_PARAMS__INIT;
	Semver__SemVer high = SEMVER__SEM_VER__INIT;
	struct fake_in *state = rpc_state(in, sizeof(*state), NULL);
	struct fake *fake = service;
	enum rpc_verdict verdict;

	if (!state->has_begun)
		fake_begin(fake, state, FAKE_CAPABILITIES);
	if (!fake_proceed(fake, in, state, &verdict))
		return verdict;
	cache.max_batch_total_size_bytes = fake->batch_max;
	if (fake->has_zstd) {
		cache.n_supported_compressors =
			cache.n_supported_batch_update_compressors = 1;
		cache.supported_compressors = zstd;
		cache.supported_batch_update_compressors = zstd;
	}
	if (fake->chunk_average) {
		params.avg_chunk_size_bytes = fake->chunk_average;
		cache.fast_cdc_2020_params = &params;
		cache.split_blob_support = cache.splice_blob_support = true;
		high.major = 2;
		high.minor = fake->has_mappings ? 13 : 12;
		response.high_api_version = &high;
	}
	response.cache_capabilities = &cache;
	rpc_send(in, &response.base);
	return RPC_DONE;
}

/* ---- FindMissingBlobs ----------------------------------------------------------- */

static enum rpc_verdict fake_find(struct rpc_in *in, void *service)
{
	Reapi__FindMissingBlobsResponse response =
		REAPI__FIND_MISSING_BLOBS_RESPONSE__INIT;
	struct fake_in *state = rpc_state(in, sizeof(*state), NULL);
	Reapi__FindMissingBlobsRequest *request;
	struct fake *fake = service;
	enum rpc_verdict verdict;

	if (!state->has_begun) {
		state->request = rpc_request(in);
		if (!state->request)
			return RPC_DONE;
		request = (Reapi__FindMissingBlobsRequest *)state->request;
		state->digests = fake_digests(request->blob_digests,
					      request->n_blob_digests, rpc_arena(in));
		state->n_digests = request->n_blob_digests;
		fake_begin(fake, state, FAKE_FIND);
	}
	if (!fake_proceed(fake, in, state, &verdict))
		return verdict;
	request = (Reapi__FindMissingBlobsRequest *)state->request;
	response.missing_blob_digests =
		arena_zero(rpc_arena(in), (state->n_digests + 1) * sizeof(void *));
	for (size_t i = 0; i < state->n_digests; i++) {
		if (!fake_has(fake, &state->digests[i]))
			response.missing_blob_digests[response.n_missing_blob_digests++] =
				request->blob_digests[i];
	}
	rpc_send(in, &response.base);
	return RPC_DONE;
}

static bool fake_is_over(const struct fake *fake, const struct fake_in *state,
			 struct rpc_in *in)
{
	int64_t sum = 0;

	for (size_t i = 0; i < state->n_digests; i++)
		sum += state->digests[i].size;
	if (sum <= fake->batch_max)
		return false;
	(void)rpc_fail(in, error_new(ERROR_INVALID_ARGUMENT,
				     "%lld bytes are over this server's limit",
				     (long long)sum));
	return true;
}

/* ---- BatchReadBlobs ------------------------------------------------------------- */

typedef Reapi__BatchReadBlobsResponse__Response fake_read_answer;

/* The blob as a frame, where the call takes that. */
static void fake_batch_shrink(struct arena *arena, fake_read_answer *one)
{
	_cleanup_buf_ struct buf frame = BUF_INIT;

	if (!zstd_shrink((struct slice){one->data.data, one->data.len}, &frame))
		return;
	one->data.data = arena_memdup(arena, frame.data, frame.len);
	one->data.len = frame.len;
	one->compressor = REAPI__COMPRESSOR__VALUE__ZSTD;
}

static void fake_batch_add(struct fake *fake, const struct digest *digest,
			   bool takes_zstd, struct arena *arena,
			   Reapi__BatchReadBlobsResponse *response)
{
	fake_read_answer *one = arena_zero(arena, sizeof(*one));
	_cleanup_error_ struct error *err = NULL;
	struct fake_fault fault;
	bool has_fault = fake_blob_fault(fake, FAKE_BATCH_READ, digest, &fault);
	struct slice bytes = {0};

	if (has_fault && fault.kind == FAKE_OMIT)
		return;
	if (has_fault && fault.kind == FAKE_REFUSE)
		err = fake_error(&fault);
	else if (!fake_bytes(fake, digest, has_fault ? &fault : NULL, arena, &bytes))
		err = error_new(ERROR_NOT_FOUND, "this fake has no such blob");
	reapi__batch_read_blobs_response__response__init(one);
	one->digest = digest_to_arena(digest, arena);
	one->status = rpc_status_message(err, arena);
	one->data.data = (uint8_t *)(uintptr_t)bytes.data;
	one->data.len = bytes.len;
	if (takes_zstd)
		fake_batch_shrink(arena, one);
	response->responses[response->n_responses++] = one;
	if (has_fault && fault.kind == FAKE_TWICE)
		response->responses[response->n_responses++] = one;
}

static enum rpc_verdict fake_batch_read(struct rpc_in *in, void *service)
{
	Reapi__BatchReadBlobsResponse response = REAPI__BATCH_READ_BLOBS_RESPONSE__INIT;
	struct fake_in *state = rpc_state(in, sizeof(*state), NULL);
	Reapi__BatchReadBlobsRequest *request;
	struct fake *fake = service;
	enum rpc_verdict verdict;

	if (!state->has_begun) {
		request = (Reapi__BatchReadBlobsRequest *)rpc_request(in);
		if (!request)
			return RPC_DONE;
		state->digests =
			fake_digests(request->digests, request->n_digests, rpc_arena(in));
		state->n_digests = request->n_digests;
		state->request = &request->base;
		fake_begin(fake, state, FAKE_BATCH_READ);
	}
	if (!fake_proceed(fake, in, state, &verdict))
		return verdict;
	if (fake_is_over(fake, state, in))
		return RPC_DONE;
	request = (Reapi__BatchReadBlobsRequest *)state->request;
	response.responses =
		arena_zero(rpc_arena(in), (2 * state->n_digests + 1) * sizeof(void *));
	for (size_t i = 0; i < state->n_digests; i++)
		fake_batch_add(fake, &state->digests[i],
			       request->n_acceptable_compressors > 0, rpc_arena(in),
			       &response);
	if (state->has_fault && state->fault.kind == FAKE_UNASKED)
		fake_batch_add(fake, &digest_of_empty, false, rpc_arena(in), &response);
	rpc_send(in, &response.base);
	return RPC_DONE;
}

/* ---- BatchUpdateBlobs ----------------------------------------------------------- */

static struct error *fake_update_one(struct fake *fake, const struct digest *digest,
				     struct slice data, bool is_zstd)
{
	_cleanup_free_ uint8_t *plain = alloc_zero((size_t)digest->size);
	struct digest stored;
	struct error *err;

	if (is_zstd) {
		err = zstd_decompress(data, plain, (size_t)digest->size);
		if (err)
			return err;
		data = (struct slice){plain, (size_t)digest->size};
	}
	stored = fake_put(fake, data.data, data.len);
	if (digest_equal(&stored, digest))
		return NULL;
	return error_new(ERROR_INVALID_ARGUMENT, "these bytes have another digest");
}

static void fake_update_add(struct fake *fake, const struct digest *digest,
			    const Reapi__BatchUpdateBlobsRequest__Request *request,
			    struct arena *arena,
			    Reapi__BatchUpdateBlobsResponse *response)
{
	struct slice data = {request->data.data, request->data.len};
	Reapi__BatchUpdateBlobsResponse__Response *one = arena_zero(arena, sizeof(*one));
	_cleanup_error_ struct error *err = NULL;
	struct fake_fault fault;
	bool has_fault = fake_blob_fault(fake, FAKE_BATCH_UPDATE, digest, &fault);

	if (has_fault && fault.kind == FAKE_OMIT)
		return;
	err = has_fault && fault.kind == FAKE_REFUSE
		      ? fake_error(&fault)
		      : fake_update_one(fake, digest, data, request->compressor != 0);
	reapi__batch_update_blobs_response__response__init(one);
	one->digest = digest_to_arena(digest, arena);
	one->status = rpc_status_message(err, arena);
	response->responses[response->n_responses++] = one;
	if (has_fault && fault.kind == FAKE_TWICE)
		response->responses[response->n_responses++] = one;
}

static bool fake_update_begin(struct fake *fake, struct rpc_in *in, struct fake_in *state)
{
	Reapi__BatchUpdateBlobsRequest *request =
		(Reapi__BatchUpdateBlobsRequest *)rpc_request(in);
	int64_t n_bytes = 0;
	Reapi__Digest **wire;

	if (!request)
		return false;
	wire = arena_zero(rpc_arena(in), (request->n_requests + 1) * sizeof(*wire));
	for (size_t i = 0; i < request->n_requests; i++) {
		wire[i] = request->requests[i]->digest;
		n_bytes += (int64_t)request->requests[i]->data.len;
	}
	state->request = &request->base;
	state->digests = fake_digests(wire, request->n_requests, rpc_arena(in));
	state->n_digests = request->n_requests;
	fake_begin(fake, state, FAKE_BATCH_UPDATE);
	fake_note(fake, state, 0, n_bytes);
	return true;
}

static enum rpc_verdict fake_batch_update(struct rpc_in *in, void *service)
{
	Reapi__BatchUpdateBlobsResponse response =
		REAPI__BATCH_UPDATE_BLOBS_RESPONSE__INIT;
	struct fake_in *state = rpc_state(in, sizeof(*state), NULL);
	Reapi__BatchUpdateBlobsRequest *request;
	struct fake *fake = service;
	enum rpc_verdict verdict;

	if (!state->has_begun && !fake_update_begin(fake, in, state))
		return RPC_DONE;
	if (!fake_proceed(fake, in, state, &verdict))
		return verdict;
	if (fake_is_over(fake, state, in))
		return RPC_DONE;
	request = (Reapi__BatchUpdateBlobsRequest *)state->request;
	response.responses =
		arena_zero(rpc_arena(in), (2 * state->n_digests + 1) * sizeof(void *));
	for (size_t i = 0; i < state->n_digests; i++)
		fake_update_add(fake, &state->digests[i], request->requests[i],
				rpc_arena(in), &response);
	rpc_send(in, &response.base);
	return RPC_DONE;
}

const struct rpc_handler fake_unary_handlers[] = {
	{{CAPS_SERVICE, "GetCapabilities"}, RPC_UNARY, 0, fake_capabilities},
	{{CAS_SERVICE, "FindMissingBlobs"}, RPC_UNARY, 0, fake_find},
	{{CAS_SERVICE, "BatchReadBlobs"}, RPC_UNARY, 0, fake_batch_read},
	{{CAS_SERVICE, "BatchUpdateBlobs"}, RPC_UNARY, 0, fake_batch_update},
};
const size_t fake_n_unary_handlers = ARRAY_SIZE(fake_unary_handlers);
