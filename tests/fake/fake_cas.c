/*
 * Owns the fake's blobs, its script and its log. The steps of the calls are in
 * fake_unary.c and fake_stream.c; all of them run on the server's workers and enter here
 * under one mutex, which is never held while a call is answered.
 *
 * A call's own fault is found once, when it begins; a blob's, whenever it is answered
 * for.
 */
#include "tests/fake/fake_cas.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/tree/hasher.h"
#include "tests/fake/fake_internal.h"

#define FAKE_BATCH_MAX ((int64_t)4 << 20)
#define FAKE_BLOB_MAX  ((size_t)64 << 20) /* of the store's */

/* ---- set-up --------------------------------------------------------------------- */

struct fake *fake_new(const struct fake_config *config)
{
	const struct rpc_server_config server = {.addresses = &config->address,
						 .n_addresses = 1,
						 .n_pollers = 1,
						 .n_workers = 1};
	struct fake *fake = alloc_new(struct fake);

	fake->store = config->store;
	fake->batch_max = config->batch_max ? config->batch_max : FAKE_BATCH_MAX;
	fake->has_zstd = config->has_zstd;
	fake->tree_page = config->tree_page ? config->tree_page : SIZE_MAX;
	fake->chunk_average = config->chunk_average;
	fake->has_mappings = config->has_mappings;
	(void)pthread_mutex_init(&fake->mutex, NULL);
	(void)pthread_cond_init(&fake->changed, NULL);
	list_init(&fake->uploads);
	require(!rpc_init(0));
	require(!rpc_server_new(&server, &fake->server));
	rpc_server_add(fake->server, fake_unary_handlers, fake_n_unary_handlers, fake);
	rpc_server_add(fake->server, fake_stream_handlers, fake_n_stream_handlers, fake);
	if (fake->chunk_average)
		rpc_server_add(fake->server, fake_chunk_handlers, fake_n_chunk_handlers,
			       fake);
	require(!rpc_server_start(fake->server));
	return fake;
}

void *fake_free(struct fake *fake)
{
	struct hnode *node;
	struct list *link;

	if (!fake)
		return NULL;
	fake_release(fake);
	rpc_server_free(fake->server);
	while ((node = htab_pop(&fake->blobs))) {
		struct fake_blob *blob = container_of(node, struct fake_blob, node);

		buf_deinit(&blob->bytes);
		free(blob->claim);
		free(blob);
	}
	htab_deinit(&fake->blobs);
	while ((link = list_pop(&fake->uploads))) {
		struct fake_upload *upload = container_of(link, struct fake_upload, link);

		buf_deinit(&upload->bytes);
		free(upload->name);
		free(upload);
	}
	free(fake->calls);
	(void)pthread_cond_destroy(&fake->changed);
	(void)pthread_mutex_destroy(&fake->mutex);
	free(fake);
	return NULL;
}

const char *fake_address(const struct fake *fake)
{
	return rpc_server_address(fake->server, 0);
}

/* ---- blobs ---------------------------------------------------------------------- */

/* With the mutex, as all that follows here unless it takes it. Made where unknown. */
static struct fake_blob *fake_blob_of(struct fake *fake, const struct digest *digest)
{
	uint64_t hash = digest_key(digest);
	struct fake_blob *blob;

	for (struct hnode *n = htab_first(&fake->blobs, hash); n;
	     n = htab_next(n, hash)) {
		blob = container_of(n, struct fake_blob, node);
		if (digest_equal(&blob->digest, digest))
			return blob;
	}
	blob = alloc_new(struct fake_blob);
	blob->digest = *digest;
	htab_insert(&fake->blobs, &blob->node, hash);
	return blob;
}

struct digest fake_put(struct fake *fake, const void *data, size_t len)
{
	struct fake_blob *blob;
	struct digest digest;

	hasher_digest(data, len, &digest);
	(void)pthread_mutex_lock(&fake->mutex);
	blob = fake_blob_of(fake, &digest);
	if (blob->bytes.len == 0)
		buf_add(&blob->bytes, data, len);
	blob->is_here = true;
	(void)pthread_mutex_unlock(&fake->mutex);
	return digest;
}

void fake_drop(struct fake *fake, const struct digest *digest)
{
	(void)pthread_mutex_lock(&fake->mutex);
	fake_blob_of(fake, digest)->is_here = false;
	(void)pthread_mutex_unlock(&fake->mutex);
}

bool fake_has(struct fake *fake, const struct digest *digest)
{
	bool is_here;

	(void)pthread_mutex_lock(&fake->mutex);
	is_here = fake_blob_of(fake, digest)->is_here;
	(void)pthread_mutex_unlock(&fake->mutex);
	return is_here || digest->size == 0 ||
	       (fake->store && store_has(fake->store, digest));
}

void fake_claim(struct fake *fake, const struct digest *blob,
		const struct digest *digests, size_t n)
{
	struct fake_blob *known;

	(void)pthread_mutex_lock(&fake->mutex);
	known = fake_blob_of(fake, blob);
	free(known->claim);
	known->claim = alloc_memdup(digests, n * sizeof(*digests));
	known->n_claim = n;
	(void)pthread_mutex_unlock(&fake->mutex);
}

bool fake_claimed(struct fake *fake, const struct digest *blob, struct arena *arena,
		  struct digest **digests_out, size_t *n_out)
{
	const struct fake_blob *known;
	bool is_claimed;

	(void)pthread_mutex_lock(&fake->mutex);
	known = fake_blob_of(fake, blob);
	is_claimed = known->claim != NULL;
	if (is_claimed) {
		*n_out = known->n_claim;
		*digests_out = arena_memdup(arena, known->claim,
					    known->n_claim * sizeof(*known->claim));
	}
	(void)pthread_mutex_unlock(&fake->mutex);
	return is_claimed;
}

/* The true bytes: of the fake's own blobs borrowed, of the store's in arena. */
static bool fake_true_bytes(struct fake *fake, const struct digest *digest,
			    struct arena *arena, struct slice *out)
{
	_cleanup_error_ struct error *err = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct fake_blob *blob;
	bool is_here;

	(void)pthread_mutex_lock(&fake->mutex);
	blob = fake_blob_of(fake, digest);
	is_here = blob->is_here;
	if (is_here)
		*out = buf_slice(&blob->bytes);
	(void)pthread_mutex_unlock(&fake->mutex);
	if (is_here || !fake->store)
		return is_here;
	err = store_read(fake->store, digest, FAKE_BLOB_MAX, &bytes);
	if (err)
		return false;
	*out = (struct slice){arena_memdup(arena, bytes.data, bytes.len), bytes.len};
	return true;
}

bool fake_bytes(struct fake *fake, const struct digest *digest,
		const struct fake_fault *fault, struct arena *arena, struct slice *out)
{
	struct slice bytes = {0};
	uint8_t *copy;
	size_t at;

	if (digest->size > 0 && !fake_true_bytes(fake, digest, arena, &bytes))
		return false;
	*out = bytes;
	if (!fault)
		return true;
	at = (size_t)fault->at;
	if (fault->kind == FAKE_TRUNCATE)
		out->len = at < bytes.len ? at : bytes.len;
	if (fault->kind != FAKE_CORRUPT && fault->kind != FAKE_EXTEND)
		return true;
	copy = arena_zero(arena, bytes.len + at + 1);
	if (bytes.len)
		memcpy(copy, bytes.data, bytes.len);
	if (fault->kind == FAKE_CORRUPT)
		copy[at] ^= 0x40;
	else
		out->len += at;
	out->data = copy;
	return true;
}

struct digest *fake_digests(Reapi__Digest *const *wire, size_t n, struct arena *arena)
{
	struct digest *digests = arena_zero(arena, (n + 1) * sizeof(*digests));

	for (size_t i = 0; i < n; i++)
		require(!digest_from_wire(wire[i], &digests[i]));
	return digests;
}

/* ---- the script ----------------------------------------------------------------- */

void fake_script(struct fake *fake, const struct fake_fault *fault)
{
	struct fake_script *script;

	(void)pthread_mutex_lock(&fake->mutex);
	require(fake->n_scripts < FAKE_FAULTS_MAX);
	script = &fake->scripts[fake->n_scripts++];
	*script = (struct fake_script){.fault = *fault,
				       .has_digest = fault->digest != NULL};
	if (fault->digest)
		script->digest = *fault->digest;
	script->fault.digest = NULL;
	(void)pthread_mutex_unlock(&fake->mutex);
}

void fake_heal(struct fake *fake)
{
	(void)pthread_mutex_lock(&fake->mutex);
	fake->n_scripts = 0;
	(void)pthread_mutex_unlock(&fake->mutex);
}

static bool fake_fits(const struct fake_script *script, enum fake_method method,
		      bool is_of_blob, const struct digest *digests, size_t n)
{
	if (script->fault.method != method ||
	    (script->fault.kind >= FAKE_REFUSE) != is_of_blob)
		return false;
	for (size_t i = 0; i < n && script->has_digest; i++) {
		if (digest_equal(&script->digest, &digests[i]))
			return true;
	}
	return !script->has_digest;
}

static bool fake_find_fault(struct fake *fake, enum fake_method method, bool is_of_blob,
			    const struct digest *digests, size_t n,
			    struct fake_fault *out)
{
	for (size_t i = 0; i < fake->n_scripts; i++) {
		struct fake_script *script = &fake->scripts[i];
		unsigned int seen;

		if (!fake_fits(script, method, is_of_blob, digests, n))
			continue;
		seen = script->n_seen++;
		if (seen < script->fault.n_skip ||
		    (script->fault.n_times &&
		     seen - script->fault.n_skip >= script->fault.n_times))
			continue;
		*out = script->fault;
		return true;
	}
	return false;
}

bool fake_blob_fault(struct fake *fake, enum fake_method method,
		     const struct digest *digest, struct fake_fault *out)
{
	bool has_fault;

	(void)pthread_mutex_lock(&fake->mutex);
	has_fault = fake_find_fault(fake, method, true, digest, 1, out);
	(void)pthread_mutex_unlock(&fake->mutex);
	return has_fault;
}

struct error *fake_error(const struct fake_fault *fault)
{
	struct error *err = error_new(fault->code ? fault->code : ERROR_UNAVAILABLE,
				      "so the script wants it");

	if (fault->has_retry_info)
		error_set_retry_delay_ms(err, fault->retry_ms);
	return err;
}

void fake_garbage(struct rpc_in *in)
{
	static const uint8_t bytes[] = {0x0a, 0xff, 0xff, 0xff, 0x7f, 0x00};

	rpc_send_raw(in, (struct slice){bytes, sizeof(bytes)}, (struct slice){NULL, 0},
		     NULL, NULL);
}

/* ---- calls ---------------------------------------------------------------------- */

void fake_begin(struct fake *fake, struct fake_in *state, enum fake_method method)
{
	struct fake_call *call;

	(void)pthread_mutex_lock(&fake->mutex);
	state->has_begun = true;
	state->index = fake->n_calls;
	fake->calls = alloc_grow(fake->calls, &fake->calls_cap, fake->n_calls + 1,
				 sizeof(*fake->calls));
	call = &fake->calls[fake->n_calls++];
	*call = (struct fake_call){.method = method, .n_blobs = state->n_digests};
	if (state->n_digests)
		call->first = state->digests[0];
	for (size_t i = 0; i < state->n_digests; i++)
		fake_blob_of(fake, &state->digests[i])->n_asked[method]++;
	state->has_fault = fake_find_fault(fake, method, false, state->digests,
					   state->n_digests, &state->fault);
	if (state->has_fault && state->fault.kind == FAKE_DELAY)
		state->until_ns = clock_mono_ns() + state->fault.at * NS_PER_MS;
	(void)pthread_cond_broadcast(&fake->changed);
	(void)pthread_mutex_unlock(&fake->mutex);
}

void fake_note(struct fake *fake, const struct fake_in *state, int64_t offset,
	       int64_t n_bytes)
{
	(void)pthread_mutex_lock(&fake->mutex);
	fake->calls[state->index].offset = offset;
	fake->calls[state->index].bytes = n_bytes;
	(void)pthread_mutex_unlock(&fake->mutex);
}

void fake_note_zstd(struct fake *fake, const struct fake_in *state, bool is_zstd)
{
	(void)pthread_mutex_lock(&fake->mutex);
	fake->calls[state->index].is_zstd = is_zstd;
	(void)pthread_mutex_unlock(&fake->mutex);
}

/* Whether the call has to wait for the release. */
static bool fake_is_held(struct fake *fake, struct rpc_in *in,
			 const struct fake_in *state)
{
	const struct fake_call *call;
	bool is_known = false;
	bool is_held;

	(void)pthread_mutex_lock(&fake->mutex);
	call = &fake->calls[state->index];
	is_held = fake->is_holding[call->method] && !call->is_released;
	for (size_t i = 0; i < fake->n_held; i++)
		is_known |= fake->held[i].in == in;
	if (is_held && !is_known) {
		require(fake->n_held < FAKE_HELD_MAX);
		fake->held[fake->n_held++] =
			(struct fake_held){rpc_in_ref(in), state->index};
		(void)pthread_cond_broadcast(&fake->changed);
	}
	(void)pthread_mutex_unlock(&fake->mutex);
	return is_held;
}

enum rpc_verdict fake_end(struct rpc_in *in, const struct fake_fault *fault)
{
	return rpc_fail(in, fake_error(fault));
}

bool fake_proceed(struct fake *fake, struct rpc_in *in, struct fake_in *state,
		  enum rpc_verdict *verdict_out)
{
	const struct fake_fault *fault = &state->fault;

	*verdict_out = RPC_LATER;
	if (fake_is_held(fake, in, state))
		return false;
	if (!state->has_fault)
		return true;
	if (fault->kind == FAKE_STALL && fault->at == 0)
		return false;
	if (fault->kind == FAKE_DELAY && clock_mono_ns() < state->until_ns) {
		rpc_wake_at(in, state->until_ns);
		return false;
	}
	*verdict_out = RPC_DONE;
	if (fault->kind == FAKE_GARBAGE) {
		fake_garbage(in);
		return false;
	}
	if (fault->kind == FAKE_FAIL && fault->at == 0) {
		(void)fake_end(in, fault);
		return false;
	}
	return true;
}

void fake_hold(struct fake *fake, enum fake_method method)
{
	(void)pthread_mutex_lock(&fake->mutex);
	fake->is_holding[method] = true;
	(void)pthread_mutex_unlock(&fake->mutex);
}

void fake_await_held(struct fake *fake, size_t n)
{
	(void)pthread_mutex_lock(&fake->mutex);
	while (fake->n_held < n)
		(void)pthread_cond_wait(&fake->changed, &fake->mutex);
	(void)pthread_mutex_unlock(&fake->mutex);
}

/* Lets go of the first n. */
static void fake_release_some(struct fake *fake, size_t n)
{
	struct fake_held held[FAKE_HELD_MAX];

	(void)pthread_mutex_lock(&fake->mutex);
	n = n < fake->n_held ? n : fake->n_held;
	memcpy(held, fake->held, n * sizeof(*held));
	fake->n_held -= n;
	memmove(fake->held, fake->held + n, fake->n_held * sizeof(*held));
	for (size_t i = 0; i < n; i++)
		fake->calls[held[i].index].is_released = true;
	(void)pthread_mutex_unlock(&fake->mutex);
	for (size_t i = 0; i < n; i++) {
		rpc_wake(held[i].in);
		rpc_in_unref(held[i].in);
	}
}

void fake_release_one(struct fake *fake)
{
	fake_release_some(fake, 1);
}

void fake_release(struct fake *fake)
{
	(void)pthread_mutex_lock(&fake->mutex);
	memset(fake->is_holding, 0, sizeof(fake->is_holding));
	(void)pthread_mutex_unlock(&fake->mutex);
	fake_release_some(fake, FAKE_HELD_MAX);
}

/* ---- the log -------------------------------------------------------------------- */

size_t fake_n_calls(struct fake *fake, enum fake_method method)
{
	size_t n = 0;

	(void)pthread_mutex_lock(&fake->mutex);
	for (size_t i = 0; i < fake->n_calls; i++)
		n += fake->calls[i].method == method;
	(void)pthread_mutex_unlock(&fake->mutex);
	return n;
}

size_t fake_n_blobs(struct fake *fake, enum fake_method method)
{
	size_t n = 0;

	(void)pthread_mutex_lock(&fake->mutex);
	for (size_t i = 0; i < fake->n_calls; i++) {
		if (fake->calls[i].method == method)
			n += fake->calls[i].n_blobs;
	}
	(void)pthread_mutex_unlock(&fake->mutex);
	return n;
}

struct fake_call fake_call(struct fake *fake, enum fake_method method, size_t i)
{
	struct fake_call call = {0};
	bool is_found = false;

	(void)pthread_mutex_lock(&fake->mutex);
	for (size_t k = 0; k < fake->n_calls && !is_found; k++) {
		if (fake->calls[k].method != method || i-- > 0)
			continue;
		call = fake->calls[k];
		is_found = true;
	}
	(void)pthread_mutex_unlock(&fake->mutex);
	require(is_found);
	return call;
}

size_t fake_n_asked(struct fake *fake, enum fake_method method,
		    const struct digest *digest)
{
	size_t n;

	(void)pthread_mutex_lock(&fake->mutex);
	n = fake_blob_of(fake, digest)->n_asked[method];
	(void)pthread_mutex_unlock(&fake->mutex);
	return n;
}
