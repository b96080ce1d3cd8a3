/*
 * Owns the client side of one CAS: its instance, its limits as the server announced them,
 * and the unary calls. Streams (ByteStream, GetTree) are in remote_stream.c.
 *
 * Threads: any. Capabilities are asked for once, under their own mutex (a caller that
 * comes meanwhile waits: only blocking functions ask). The batch limit and whether the
 * server knows zstd are atomic copies, and remote_learn() asks for them alone, in the
 * background: a poller brings the answer. Until then nothing is compressed.
 */
#include "lib/cas/remote.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/latch.h"
#include "lib/base/sync.h"
#include "lib/base/wire.h"
#include "lib/base/zstd.h"
#include "lib/cas/remote_internal.h"

#define LOG_MODULE "remote"
#include "lib/base/log.h"

#define REMOTE_RETRIES        4
#define REMOTE_QUIET_ATTEMPTS 3 /* a moment's trouble is nobody's business */
#define REMOTE_TIMEOUT_MS     60000
#define REMOTE_FIND_DIGESTS   12000 /* of about 80 bytes: well below a message's limit */
#define REMOTE_MAPPINGS       13    /* 2.13 has streams of chunks' digests */
#define REMOTE_CAPS_MAX       ((size_t)1 << 20)

struct error *remote_new(const struct remote_config *config, struct remote **remote_out)
{
	struct remote *remote = alloc_new(struct remote);

	remote->chan = config->chan;
	remote->instance = alloc_string(config->instance ? config->instance : "");
	remote->n_attempts = (config->n_retries ? config->n_retries : REMOTE_RETRIES) + 1;
	remote->is_patient = config->is_patient;
	remote->until_ns = config->until_ns;
	remote->timeout_ms = config->timeout_ms ? config->timeout_ms : REMOTE_TIMEOUT_MS;
	atomic_store(&remote->batch_max, RPC_BATCH_MAX);
	sync_mutex_init(&remote->mutex);
	sync_mutex_rank(&remote->mutex, 1);
	sync_alone(&remote->mutex);
	remote->caps_arena = ARENA_INIT(REMOTE_CAPS_MAX);
	sync_mutex_init(&remote->learn_mutex);
	sync_cond_init(&remote->learned);
	*remote_out = remote;
	return NULL;
}

static void remote_learn_end(struct remote *remote);

void *remote_free(struct remote *remote)
{
	if (!remote)
		return NULL;
	remote_learn_end(remote);
	arena_deinit(&remote->caps_arena);
	sync_cond_deinit(&remote->learned);
	sync_mutex_deinit(&remote->learn_mutex);
	sync_mutex_deinit(&remote->mutex);
	free(remote->instance);
	free(remote);
	return NULL;
}

const char *remote_instance(const struct remote *remote)
{
	return remote->instance;
}

struct rpc_chan *remote_chan(const struct remote *remote)
{
	return remote->chan;
}

unsigned int remote_attempts(const struct remote *remote, const struct error *err)
{
	bool may_return = remote->is_patient
				  ? error_code(err) == ERROR_UNAVAILABLE
				  : error_is_unreachable(err) &&
					    rpc_chan_has_answered(remote->chan);

	return may_return ? REMOTE_ATTEMPTS_PATIENT : remote->n_attempts;
}

/* Waits before the next attempt, or says that there is none: consumes err in both cases.
 */
struct error *remote_again(struct remote *remote, struct error *err,
			   struct remote_tries *tries)
{
	enum log_level level = tries->n < REMOTE_QUIET_ATTEMPTS ? LOG_INFO : LOG_WARN;
	int64_t delay_ms =
		rpc_retry_delay_ms(err, tries->n, remote_attempts(remote, err));

	if (!tries->is_renewed && rpc_chan_renew(remote->chan, err)) {
		tries->is_renewed = true;
		delay_ms = 0;
	}
	if (delay_ms >= 0)
		delay_ms = rpc_retry_jitter_ms(delay_ms);
	if (delay_ms < 0 || remote_timeout(remote, delay_ms + 1) <= delay_ms)
		return err;
	if (rpc_chan_retried(remote->chan, err, delay_ms))
		level = LOG_DEBUG;
	log_drop(level, err, "again in %" PRId64 " ms", delay_ms);
	clock_sleep_ms(delay_ms);
	tries->n++;
	return NULL;
}

int64_t remote_timeout(const struct remote *remote, int64_t ms)
{
	int64_t left_ms;

	if (!remote->until_ns)
		return ms;
	left_ms = (remote->until_ns - clock_mono_ns()) / NS_PER_MS;
	left_ms = left_ms > 1 ? left_ms : 1;
	return ms < left_ms ? ms : left_ms;
}

struct error *remote_call(struct remote *remote, const struct rpc_method *method,
			  const ProtobufCMessage *request, struct arena *arena,
			  ProtobufCMessage **reply_out)
{
	struct remote_tries tries = {.is_renewed = true}; /* rpc_call() does that */

	for (;;) {
		struct rpc_options options = {
			.timeout_ms = remote_timeout(remote, remote->timeout_ms)};
		struct error *err = rpc_call_message(remote->chan, method, request,
						     &options, arena, reply_out);

		if (!err)
			return NULL;
		err = remote_again(remote, err, &tries);
		if (err)
			return err;
	}
}

/* Capabilities */

static const struct rpc_method remote_get_capabilities = {
	&reapi__capabilities__descriptor, "GetCapabilities"};

static bool remote_knows_zstd(const Reapi__Compressor__Value *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (list[i] == REAPI__COMPRESSOR__VALUE__ZSTD)
			return true;
	}
	return false;
}

static void remote_take_chunks(struct remote *remote,
			       const Reapi__CacheCapabilities *cache,
			       const Semver__SemVer *high)
{
	const Reapi__FastCdc2020Params *params = cache->fast_cdc_2020_params;

	atomic_store(&remote->chunk_average, params ? params->avg_chunk_size_bytes : 0);
	atomic_store(&remote->chunk_seed, params ? params->seed : 0);
	atomic_store(&remote->has_split, cache->split_blob_support);
	atomic_store(&remote->has_splice, cache->splice_blob_support);
	atomic_store(&remote->has_mappings,
		     high && (high->major > 2 ||
			      (high->major == 2 && high->minor >= REMOTE_MAPPINGS)));
}

static void remote_take_limits(struct remote *remote,
			       const Reapi__ServerCapabilities *caps)
{
	const Reapi__CacheCapabilities *cache = caps->cache_capabilities;

	if (!cache)
		return;
	remote_take_chunks(remote, cache, caps->high_api_version);
	if (cache->max_batch_total_size_bytes > 0 &&
	    cache->max_batch_total_size_bytes < RPC_BATCH_MAX)
		atomic_store(&remote->batch_max,
			     (size_t)cache->max_batch_total_size_bytes);
	atomic_store(&remote->has_zstd,
		     remote_knows_zstd(cache->supported_compressors,
				       cache->n_supported_compressors));
	atomic_store(&remote->has_batch_zstd,
		     remote_knows_zstd(cache->supported_batch_update_compressors,
				       cache->n_supported_batch_update_compressors));
}

struct error *remote_capabilities(struct remote *remote,
				  const Reapi__ServerCapabilities **caps_out)
{
	Reapi__GetCapabilitiesRequest request = REAPI__GET_CAPABILITIES_REQUEST__INIT;
	const Reapi__ServerCapabilities *caps;
	ProtobufCMessage *reply = NULL;
	struct error *err = NULL;

	request.instance_name = remote->instance;
	sync_lock(&remote->mutex);
	if (!remote->caps) {
		err = remote_call(remote, &remote_get_capabilities, &request.base,
				  &remote->caps_arena, &reply);
		if (!err) {
			remote->caps = (Reapi__ServerCapabilities *)reply;
			remote_take_limits(remote, remote->caps);
		}
	}
	caps = remote->caps;
	sync_unlock(&remote->mutex);
	if (err)
		return error_wrap(err, "ask %s for its capabilities",
				  rpc_chan_address(remote->chan));
	*caps_out = caps;
	return NULL;
}

static void remote_learned(void *ctx, struct error *err, struct rpc_reply *reply)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(REMOTE_CAPS_MAX);
	Reapi__ServerCapabilities *caps = NULL;
	struct remote *remote = ctx;

	if (!err)
		caps = (Reapi__ServerCapabilities *)rpc_decode(
			&reapi__server_capabilities__descriptor, reply->bytes, &arena);
	if (caps)
		remote_take_limits(remote, caps);
	else
		log_info("the batch limit and compression stay as they are: %s",
			 error_text(err));
	error_free(err);
	sync_lock(&remote->learn_mutex);
	remote->learning = caps ? REMOTE_LEARNED : REMOTE_IGNORANT;
	sync_broadcast(&remote->learned);
	sync_unlock(&remote->learn_mutex);
}

void remote_learn(struct remote *remote)
{
	Reapi__GetCapabilitiesRequest request = REAPI__GET_CAPABILITIES_REQUEST__INIT;
	struct rpc_options options = {.timeout_ms = remote->timeout_ms};
	bool is_first;
	uint64_t id;

	sync_lock(&remote->learn_mutex);
	is_first = remote->learning == REMOTE_IGNORANT;
	if (is_first)
		remote->learning = REMOTE_LEARNING;
	sync_unlock(&remote->learn_mutex);
	if (!is_first)
		return;
	request.instance_name = remote->instance;
	id = rpc_start(remote->chan, &remote_get_capabilities, &request.base, &options,
		       remote_learned, remote);
	sync_lock(&remote->learn_mutex);
	remote->learn_id = id;
	sync_unlock(&remote->learn_mutex);
}

void remote_learn_wait(struct remote *remote)
{
	sync_lock(&remote->learn_mutex);
	while (remote->learning == REMOTE_LEARNING)
		sync_wait(&remote->learned, &remote->learn_mutex);
	sync_unlock(&remote->learn_mutex);
}

/* No thread but ours knows the remote any more. */
static void remote_learn_end(struct remote *remote)
{
	uint64_t id;

	sync_lock(&remote->learn_mutex);
	id = remote->learn_id;
	sync_unlock(&remote->learn_mutex);
	rpc_cancel(remote->chan, id);
	remote_learn_wait(remote);
}

bool remote_refuses_zstd(struct remote *remote, const struct error *err)
{
	if (error_code(err) != ERROR_INVALID_ARGUMENT &&
	    error_code(err) != ERROR_UNIMPLEMENTED)
		return false;
	sync_lock(&remote->learn_mutex);
	if (remote->learning == REMOTE_LEARNED)
		remote->learning = REMOTE_IGNORANT;
	sync_unlock(&remote->learn_mutex);
	remote_learn(remote);
	return true;
}

size_t remote_batch_max(struct remote *remote)
{
	return atomic_load_explicit(&remote->batch_max, memory_order_relaxed);
}

uint64_t remote_saved(const struct remote *remote)
{
	return atomic_load_explicit(&remote->saved, memory_order_relaxed);
}

uint64_t remote_saved_up(const struct remote *remote)
{
	return atomic_load_explicit(&remote->saved_up, memory_order_relaxed);
}

struct error *remote_missing(const struct digest *digest, const char *where)
{
	char name[DIGEST_STRING_MAX];
	char subject[DIGEST_STRING_MAX + 8] = "blobs/";
	struct error *err;

	(void)digest_format(digest, name);
	memcpy(subject + 6, name, strlen(name) + 1);
	err = error_new(ERROR_NOT_FOUND, "%s has no blob %s", where, name);
	error_add_missing(err, subject);
	return err;
}

/* FindMissingBlobs, several calls in flight */

static const struct rpc_method remote_find_missing_blobs = {
	&reapi__content_addressable_storage__descriptor, "FindMissingBlobs"};

struct remote_find {
	struct remote *remote;
	const struct digest *digests;
	const uint32_t *order; /* indices in order of digest */
	size_t n;
	bool *is_missing;
	struct latch latch;
	struct sync_mutex mutex;
	struct error *err SYNC_GUARDED_BY(&mutex); /* the first */
};

static void remote_find_mark(struct remote_find *find, const struct digest *digest)
{
	size_t low = 0;
	size_t high = find->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (digest_compare(&find->digests[find->order[middle]], digest) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < find->n && digest_equal(&find->digests[find->order[low]], digest);
	     low++)
		find->is_missing[find->order[low]] = true;
}

static struct error *remote_find_parse(struct remote_find *find, struct slice reply)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	Reapi__FindMissingBlobsResponse *message =
		(Reapi__FindMissingBlobsResponse *)rpc_decode(
			&reapi__find_missing_blobs_response__descriptor, reply, &arena);

	if (!message)
		return error_new(ERROR_DATA_LOSS,
				 "the reply to FindMissingBlobs is none");
	for (size_t i = 0; i < message->n_missing_blob_digests; i++) {
		struct digest digest;
		struct error *err =
			digest_from_wire(message->missing_blob_digests[i], &digest);

		if (err)
			return error_recode(err, ERROR_DATA_LOSS);
		remote_find_mark(find, &digest);
	}
	return NULL;
}

static void remote_find_done(void *ctx, struct error *err, struct rpc_reply *reply)
{
	struct remote_find *find = ctx;

	sync_lock(&find->mutex);
	if (!err)
		err = remote_find_parse(find, reply->bytes);
	if (err && !find->err)
		find->err = take(err);
	sync_unlock(&find->mutex);
	error_free(err);
	latch_down(&find->latch);
}

static void remote_find_start(struct remote_find *find, size_t from, size_t n)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	struct rpc_options options = {.timeout_ms = find->remote->timeout_ms};

	request.instance_name = find->remote->instance;
	request.blob_digests = arena_alloc(&arena, n * sizeof(Reapi__Digest *));
	require(request.blob_digests);
	for (size_t i = 0; i < n; i++)
		request.blob_digests[i] =
			digest_to_arena(&find->digests[find->order[from + i]], &arena);
	request.n_blob_digests = n;
	(void)rpc_start(find->remote->chan, &remote_find_missing_blobs, &request.base,
			&options, remote_find_done, find);
}

static struct error *remote_find_once(struct remote_find *find)
{
	struct error *err;

	latch_init(&find->latch,
		   (find->n + REMOTE_FIND_DIGESTS - 1) / REMOTE_FIND_DIGESTS);
	for (size_t at = 0; at < find->n; at += REMOTE_FIND_DIGESTS)
		remote_find_start(find, at,
				  find->n - at < REMOTE_FIND_DIGESTS
					  ? find->n - at
					  : REMOTE_FIND_DIGESTS);
	latch_wait(&find->latch);
	latch_deinit(&find->latch);
	sync_lock(&find->mutex);
	err = take(find->err);
	sync_unlock(&find->mutex);
	return err;
}

static int remote_find_order(const void *a, const void *b, void *digests)
{
	const struct digest *d = digests;

	return digest_compare(&d[*(const uint32_t *)a], &d[*(const uint32_t *)b]);
}

struct error *remote_find_missing(struct remote *remote, const struct digest *digests,
				  size_t n, bool *is_missing)
{
	_cleanup_free_ uint32_t *order = alloc_array(n, sizeof(*order));
	struct remote_find find = {.remote = remote,
				   .digests = digests,
				   .n = n,
				   .is_missing = is_missing,
				   .mutex = SYNC_MUTEX_INIT};
	struct remote_tries tries = {0};

	if (!n)
		return NULL;
	for (size_t i = 0; i < n; i++)
		order[i] = (uint32_t)i;
	qsort_r(order, n, sizeof(*order), remote_find_order, (void *)(uintptr_t)digests);
	find.order = order;
	remote_learn(remote); /* whoever asks this sends batches next */
	for (;;) {
		struct error *err;

		memset(is_missing, 0, n);
		err = remote_find_once(&find);
		if (!err)
			break;
		err = remote_again(remote, err, &tries);
		if (err)
			return error_wrap(err, "ask which of %zu blobs are missing", n);
	}
	remote_learn_wait(remote);
	return NULL;
}

/* Batches */

static const struct rpc_method remote_batch_read_blobs = {
	&reapi__content_addressable_storage__descriptor, "BatchReadBlobs"};
static const struct rpc_method remote_batch_update_blobs = {
	&reapi__content_addressable_storage__descriptor, "BatchUpdateBlobs"};

void remote_read_batch(struct remote *remote, const struct digest *digests, size_t n,
		       rpc_done_fn *done, void *ctx)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	static Reapi__Compressor__Value acceptable[] = {REAPI__COMPRESSOR__VALUE__ZSTD};
	Reapi__BatchReadBlobsRequest request = REAPI__BATCH_READ_BLOBS_REQUEST__INIT;
	struct rpc_options options = {.timeout_ms = remote->timeout_ms};

	request.instance_name = remote->instance;
	request.digests = arena_alloc(&arena, n * sizeof(Reapi__Digest *));
	require(request.digests);
	for (size_t i = 0; i < n; i++)
		request.digests[i] = digest_to_arena(&digests[i], &arena);
	request.n_digests = n;
	if (atomic_load(&remote->has_zstd)) {
		request.acceptable_compressors = acceptable;
		request.n_acceptable_compressors = ARRAY_SIZE(acceptable);
	}
	(void)rpc_start(remote->chan, &remote_batch_read_blobs, &request.base, &options,
			done, ctx);
}

/* A reply to BatchReadBlobs that is taken apart. */
struct remote_batch {
	void (*each)(void *ctx, const struct digest *digest, struct error *err,
		     struct slice bytes);
	void *ctx;
	size_t plain_left; /* so many bytes may frames still come to */
};

/* What a frame was; *plain is the memory of *data then. Nobody asks for more than a
 * batch, so more than one is not made either. */
static struct error *remote_batch_plain(struct remote_batch *batch, uint64_t compressor,
					const struct digest *digest, uint8_t **plain,
					struct slice *data)
{
	size_t size = (size_t)digest->size;
	struct error *err;

	if (compressor == REAPI__COMPRESSOR__VALUE__IDENTITY)
		return NULL;
	if (compressor != REAPI__COMPRESSOR__VALUE__ZSTD || size > batch->plain_left)
		return error_new(ERROR_DATA_LOSS,
				 "a blob came in a way that was not asked for");
	*plain = alloc_bounded(size, batch->plain_left);
	if (!*plain)
		return error_new(ERROR_RESOURCE_EXHAUSTED, "no memory for a blob");
	batch->plain_left -= size;
	err = zstd_decompress(*data, *plain, size);
	if (error_code(err) == ERROR_INVALID_ARGUMENT)
		err = error_recode(err, ERROR_DATA_LOSS);
	*data = (struct slice){*plain, size};
	return err;
}

/* One Response: digest = 1, data = 2, status = 3, compressor = 4. */
static struct error *remote_batch_one(struct remote_batch *batch, struct slice bytes)
{
	_cleanup_free_ uint8_t *plain = NULL;
	uint64_t compressor = REAPI__COMPRESSOR__VALUE__IDENTITY;
	struct wire wire = wire_of(bytes);
	struct slice digest_bytes = {0};
	struct slice data = {0};
	struct error *err = NULL, *bad;
	struct wire_field field;
	struct digest digest;
	char name[DIGEST_STRING_MAX];

	while (wire_next(&wire, &field)) {
		if (field.number == 4 && field.type == WIRE_VARINT)
			compressor = field.value;
		if (field.type != WIRE_BYTES)
			continue;
		if (field.number == 1) {
			digest_bytes = field.bytes;
		} else if (field.number == 2) {
			data = field.bytes;
		} else if (field.number == 3) {
			error_free(err);
			err = rpc_status_decode(field.bytes);
		}
	}
	bad = wire.is_bad ? error_new(ERROR_DATA_LOSS, "it is no message")
			  : digest_decode(digest_bytes, &digest);
	if (bad) {
		error_free(err);
		return error_recode(error_wrap(bad, "a reply to BatchReadBlobs"),
				    ERROR_DATA_LOSS);
	}
	if (!err)
		err = remote_batch_plain(batch, compressor, &digest, &plain, &data);
	if (error_code(err) == ERROR_NOT_FOUND) {
		error_free(err);
		err = remote_missing(&digest, "the remote store");
	}
	if (err)
		err = error_wrap(err, "read %s", digest_format(&digest, name));
	batch->each(batch->ctx, &digest, err, data);
	return NULL;
}

struct error *remote_batch_each(struct slice reply,
				void (*each)(void *ctx, const struct digest *digest,
					     struct error *err, struct slice bytes),
				void *ctx)
{
	struct remote_batch batch = {
		.each = each, .ctx = ctx, .plain_left = RPC_BATCH_MAX};
	struct wire wire = wire_of(reply);
	struct wire_field field;

	while (wire_next(&wire, &field)) {
		struct error *err;

		if (field.number != 1 || field.type != WIRE_BYTES)
			continue;
		err = remote_batch_one(&batch, field.bytes);
		if (err)
			return err;
	}
	if (wire.is_bad)
		return error_new(ERROR_DATA_LOSS, "the reply to BatchReadBlobs is none");
	return NULL;
}

/* A BatchUpdateBlobs: the blobs, and which of them still wait for an answer. */
struct remote_update {
	struct remote *remote;
	const struct remote_put *puts;
	size_t n;
	struct error **errs;
	struct buf *frames; /* of each blob that shrinks; the others' are empty */
	bool *is_open;
	size_t n_open;
};

/* Matches one response to the blobs it answers for. */
static void remote_put_answer(struct remote_update *update,
			      const Reapi__BatchUpdateBlobsResponse__Response *response)
{
	struct digest digest;
	struct error *err = digest_from_wire(response->digest, &digest);

	if (err) {
		error_free(err);
		return;
	}
	for (size_t i = 0; i < update->n; i++) {
		if (!update->is_open[i] ||
		    !digest_equal(&update->puts[i].digest, &digest))
			continue;
		update->is_open[i] = false;
		update->errs[i] = rpc_status_error(response->status);
	}
}

static void remote_put_answers(struct remote_update *update,
			       const Reapi__BatchUpdateBlobsResponse *reply)
{
	char name[DIGEST_STRING_MAX];

	for (size_t i = 0; i < reply->n_responses; i++)
		remote_put_answer(update, reply->responses[i]);
	for (size_t i = 0; i < update->n; i++) {
		if (update->is_open[i])
			update->errs[i] =
				error_new(ERROR_DATA_LOSS,
					  "the reply to BatchUpdateBlobs leaves out %s",
					  digest_format(&update->puts[i].digest, name));
		update->is_open[i] = false;
	}
	update->n_open = 0;
}

/* A blob of a batch, as it is sent. */
static void remote_put_fill(const struct remote_update *update, size_t i,
			    Reapi__BatchUpdateBlobsRequest__Request *one)
{
	struct slice data = update->puts[i].bytes;

	if (update->frames && update->frames[i].len) {
		data = buf_slice(&update->frames[i]);
		one->compressor = REAPI__COMPRESSOR__VALUE__ZSTD;
	}
	one->data.data = (uint8_t *)(uintptr_t)data.data;
	one->data.len = data.len;
}

static struct error *remote_put_open(struct remote_update *update)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	Reapi__BatchUpdateBlobsRequest request = REAPI__BATCH_UPDATE_BLOBS_REQUEST__INIT;
	ProtobufCMessage *reply = NULL;
	struct error *err;

	request.instance_name = update->remote->instance;
	request.requests = arena_alloc(&arena, update->n * sizeof(*request.requests));
	require(request.requests);
	for (size_t i = 0; i < update->n; i++) {
		Reapi__BatchUpdateBlobsRequest__Request *one;

		if (!update->is_open[i])
			continue;
		one = arena_zero(&arena, sizeof(*one));
		reapi__batch_update_blobs_request__request__init(one);
		one->digest = digest_to_arena(&update->puts[i].digest, &arena);
		remote_put_fill(update, i, one);
		request.requests[request.n_requests++] = one;
	}
	err = remote_call(update->remote, &remote_batch_update_blobs, &request.base,
			  &arena, &reply);
	if (err)
		return error_wrap(err, "upload %zu blobs", update->n);
	remote_put_answers(update, (Reapi__BatchUpdateBlobsResponse *)reply);
	return NULL;
}

/* Opens those again, as they are, that the server refused as frames. */
static void remote_put_plain(struct remote_update *update)
{
	for (size_t i = 0; update->frames && i < update->n; i++) {
		if (!update->frames[i].len ||
		    !remote_refuses_zstd(update->remote, update->errs[i]))
			continue;
		buf_deinit(&update->frames[i]);
		update->errs[i] = error_free(update->errs[i]);
		update->is_open[i] = true;
		update->n_open++;
	}
}

/* Opens those again that the server may take another time, after a pause: none where all
 * is said. */
static void remote_put_reopen(struct remote_update *update, struct remote_tries *tries)
{
	_cleanup_error_ struct error *first = NULL;

	for (size_t i = 0; i < update->n && !first; i++) {
		if (update->errs[i] &&
		    rpc_retry_delay_ms(
			    update->errs[i], tries->n,
			    remote_attempts(update->remote, update->errs[i])) >= 0)
			first = error_dup(update->errs[i]);
	}
	if (!first)
		return;
	first = remote_again(update->remote, take(first), tries);
	for (size_t i = 0; i < update->n; i++) {
		if (!update->errs[i] || rpc_retry_delay_ms(update->errs[i], 0, 2) < 0)
			continue;
		update->errs[i] = error_free(update->errs[i]);
		update->is_open[i] = true;
		update->n_open++;
	}
}

/* Compresses what shrinks, once for all attempts; where the server knows it. */
static void remote_put_shrink(struct remote_update *update)
{
	if (!atomic_load(&update->remote->has_batch_zstd))
		return;
	update->frames = alloc_array(update->n, sizeof(*update->frames));
	for (size_t i = 0; i < update->n; i++) {
		if (!zstd_shrink(update->puts[i].bytes, &update->frames[i]))
			buf_deinit(&update->frames[i]);
	}
}

static void remote_put_count(const struct remote_update *update)
{
	uint64_t saved = 0;

	for (size_t i = 0; update->frames && i < update->n; i++)
		if (!update->errs[i] && update->frames[i].len)
			saved += update->puts[i].bytes.len - update->frames[i].len;
	atomic_fetch_add(&update->remote->saved_up, saved);
}

static void remote_update_deinit(struct remote_update *update)
{
	for (size_t i = 0; update->frames && i < update->n; i++)
		buf_deinit(&update->frames[i]);
	free(update->frames);
}

struct error *remote_put_batch(struct remote *remote, const struct remote_put *puts,
			       size_t n, struct error **errs)
{
	_cleanup_free_ bool *is_open = alloc_array(n, sizeof(bool));
	_cleanup_(remote_update_deinit) struct remote_update update = {.remote = remote,
								       .puts = puts,
								       .n = n,
								       .errs = errs,
								       .is_open = is_open,
								       .n_open = n};
	struct remote_tries tries = {.is_renewed = true};

	memset(is_open, 1, n);
	memset(errs, 0, n * sizeof(*errs));
	remote_put_shrink(&update);
	while (update.n_open) {
		struct error *err = remote_put_open(&update);

		if (update.frames && remote_refuses_zstd(remote, err)) {
			remote_update_deinit(&update);
			update.frames = NULL;
			error_free(err);
			continue;
		}
		if (err) {
			for (size_t i = 0; i < n; i++)
				errs[i] = error_free(errs[i]);
			return err;
		}
		remote_put_plain(&update);
		remote_put_reopen(&update, &tries);
	}
	remote_put_count(&update);
	return NULL;
}
