/*
 * Owns Remote Asset: names that clients push for blobs and trees, and fetch. Nothing is
 * ever fetched from elsewhere: what nobody pushed is NOT_FOUND.
 *
 * A name is served only while all that its push spoke of is here: the blob or the whole
 * tree, and what it references. Looking counts as a use, so the blobs of an asset stay
 * for the promised time, then grow old together and are evicted after what nobody asks
 * for; there is no pin beyond that, which would let names fill the disk. What was pushed
 * without its blob, as to a server that keeps names for others that keep blobs, is served
 * as the name that it is.
 *
 * The messages of blobs and directories have the same fields under the same numbers, so
 * both are dealt with as those of blobs.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/text.h"
#include "lib/base/wire.h"
#include "lib/tree/hasher.h"
#include "server/asset_cache.h"
#include "server/response.h"
#include "server/service.h"
#include "server/walk.h"

#define ASSET_URIS_MAX       64 /* of one request */
#define ASSET_URI_MAX        4096
#define ASSET_QUALIFIERS_MAX 64
#define ASSET_NAME_MAX       256
#define ASSET_VALUE_MAX      4096
#define ASSET_REFERENCES_MAX 16384 /* blobs and directories of one push */
#define ASSET_STEP_DIRS      64    /* looked at before others have their turn */

#define ASSET_SAME(a, b, field_a, field_b)                                               \
	_Static_assert(sizeof(a) == sizeof(b) &&                                         \
			       offsetof(a, field_a) == offsetof(b, field_b),             \
		       "blobs and directories are asked for in the same form")
ASSET_SAME(Asset__FetchBlobRequest, Asset__FetchDirectoryRequest, digest_function,
	   digest_function);
ASSET_SAME(Asset__PushBlobRequest, Asset__PushDirectoryRequest, blob_digest,
	   root_directory_digest);

struct asset_ask { /* what all four methods are given: views into the request */
	const char *instance;
	const char *const *uris;
	size_t n_uris;
	Asset__Qualifier *const *qualifiers;
	size_t n_qualifiers;
	bool is_directory;
	struct digest qualified; /* a hash over the qualifiers, in whatever order */
};

/* ---- requests ------------------------------------------------------------------- */

static struct error *asset_check_text(const char *text, size_t max, const char *what)
{
	size_t len = strlen(text);

	if (len > max)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%s of %zu bytes is over the limit of %zu", what, len,
				 max);
	if (!text_is_utf8(slice_of(text)))
		return error_new(ERROR_INVALID_ARGUMENT, "%s is no UTF-8", what);
	return NULL;
}

static struct error *asset_check_uris(const struct asset_ask *ask)
{
	struct error *err = NULL;

	if (ask->n_uris == 0)
		return error_new(ERROR_INVALID_ARGUMENT, "there is no URI");
	if (ask->n_uris > ASSET_URIS_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%zu URIs are over the limit of %d", ask->n_uris,
				 ASSET_URIS_MAX);
	for (size_t i = 0; i < ask->n_uris && !err; i++) {
		if (!ask->uris[i][0])
			err = error_new(ERROR_INVALID_ARGUMENT, "a URI is empty");
		else
			err = asset_check_text(ask->uris[i], ASSET_URI_MAX, "a URI");
	}
	return err;
}

static int asset_compare(const void *a, const void *b)
{
	return strcmp((*(Asset__Qualifier *const *)a)->name,
		      (*(Asset__Qualifier *const *)b)->name);
}

/* Sorted by name, so that order means nothing; a name twice is refused. */
static struct error *asset_qualify(struct asset_ask *ask)
{
	const Asset__Qualifier *sorted[ASSET_QUALIFIERS_MAX] = {0};
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct error *err = NULL;

	if (ask->n_qualifiers > ASSET_QUALIFIERS_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%zu qualifiers are over the limit of %d",
				 ask->n_qualifiers, ASSET_QUALIFIERS_MAX);
	for (size_t i = 0; i < ask->n_qualifiers && !err; i++) {
		sorted[i] = ask->qualifiers[i];
		err = asset_check_text(sorted[i]->name, ASSET_NAME_MAX,
				       "a qualifier's name");
		if (!err)
			err = asset_check_text(sorted[i]->value, ASSET_VALUE_MAX,
					       "a qualifier's value");
	}
	if (err)
		return err;
	qsort(sorted, ask->n_qualifiers, sizeof(sorted[0]), asset_compare);
	for (size_t i = 0; i < ask->n_qualifiers; i++) {
		if (i > 0 && strcmp(sorted[i]->name, sorted[i - 1]->name) == 0)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "the qualifier \"%s\" is there twice",
					 sorted[i]->name);
		wire_put_bytes(&bytes, 1, slice_of(sorted[i]->name));
		wire_put_bytes(&bytes, 2, slice_of(sorted[i]->value));
	}
	hasher_digest(bytes.data, bytes.len, &ask->qualified);
	return NULL;
}

/* What requests to fetch and to push have in common, under fields of the same names. */
#define ASSET_ASK(request, of_directory)                                                 \
	((struct asset_ask){.instance = (request)->instance_name,                        \
			    .uris = (const char *const *)(request)->uris,                \
			    .n_uris = (request)->n_uris,                                 \
			    .qualifiers = (request)->qualifiers,                         \
			    .n_qualifiers = (request)->n_qualifiers,                     \
			    .is_directory = (of_directory)})

static struct error *asset_check(struct rpc_in *in, const struct server *server,
				 struct asset_ask *ask,
				 Reapi__DigestFunction__Value function)
{
	struct error *err = server_check(server, in, ask->instance, function);

	if (!err)
		err = asset_check_uris(ask);
	return err ? err : asset_qualify(ask);
}

/* What the i-th URI is known by. */
static void asset_name(const struct asset_ask *ask, size_t i, struct digest *out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	wire_put_int(&bytes, 1, ask->is_directory);
	wire_put_bytes(&bytes, 2, slice_of(ask->instance));
	wire_put_bytes(&bytes, 3, slice_of(ask->uris[i]));
	wire_put_bytes(&bytes, 4,
		       (struct slice){ask->qualified.hash, sizeof(ask->qualified.hash)});
	hasher_digest(bytes.data, bytes.len, out);
}

/* Wall time; what is out of reach is the nearest that is not. NULL: as given. */
static struct error *asset_time(const Pb__Timestamp *time, int64_t unset_ns,
				const char *what, int64_t *out)
{
	if (!time) {
		*out = unset_ns;
		return NULL;
	}
	if (time->nanos < 0 || time->nanos >= NS_PER_S)
		return error_new(ERROR_INVALID_ARGUMENT, "%s has %d nanoseconds", what,
				 (int)time->nanos);
	if (time->seconds < 0)
		*out = 0;
	else if (time->seconds >= CLOCK_NEVER / NS_PER_S)
		*out = CLOCK_NEVER;
	else
		*out = time->seconds * NS_PER_S + time->nanos;
	return NULL;
}

/* ---- Fetch ---------------------------------------------------------------------- */

struct asset_fetch {
	const struct server *server;
	struct asset_ask ask;
	int64_t oldest_ns;
	size_t next; /* URI */
	bool has_begun;
	bool is_checking; /* the asset of the URI before, with walk */
	struct asset asset;
	struct walk walk;
};

static void asset_check_end(struct asset_fetch *fetch)
{
	if (!fetch->is_checking)
		return;
	fetch->is_checking = false;
	walk_deinit(&fetch->walk);
	asset_deinit(&fetch->asset);
}

static void asset_fetch_drop(void *state)
{
	asset_check_end(state);
}

static struct error *asset_fetch_begin(struct rpc_in *in, const struct server *server,
				       bool is_directory, struct asset_fetch *fetch)
{
	Asset__FetchBlobRequest *request = (void *)rpc_request(in);
	struct error *err;

	if (!request)
		return error_new(ERROR_INVALID_ARGUMENT, "the request is malformed");
	fetch->server = server;
	fetch->ask = ASSET_ASK(request, is_directory);
	err = asset_check(in, server, &fetch->ask, request->digest_function);
	if (!err)
		err = asset_time(request->oldest_content_accepted, 0,
				 "oldest_content_accepted", &fetch->oldest_ns);
	fetch->has_begun = !err;
	return err;
}

/* Looks the next URI up, and begins to look at what its asset needs. */
static struct error *asset_look_up(struct asset_fetch *fetch)
{
	struct digest name;
	bool is_found = false;
	struct error *err;

	asset_name(&fetch->ask, fetch->next++, &name);
	err = asset_cache_get(fetch->server->assets, &name, clock_wall_ns(),
			      &fetch->asset, &is_found);
	if (err || !is_found)
		return err;
	if (fetch->asset.pushed_ns < fetch->oldest_ns)
		asset_deinit(&fetch->asset);
	else
		fetch->is_checking = true;
	return NULL;
}

/* The blobs at once; the directories are put into the walk. */
static bool asset_has_blobs(struct asset_fetch *fetch)
{
	const struct asset *asset = &fetch->asset;
	bool has_all = true;

	if (fetch->ask.is_directory)
		walk_init(&fetch->walk, fetch->server, &asset->digest);
	else
		has_all = server_has(fetch->server, &asset->digest);
	for (size_t i = 0; i < asset->n_references && has_all; i++) {
		const struct digest *one = &asset->references[i];

		if (i < asset->n_blobs)
			has_all = server_has(fetch->server, one);
		else if (!fetch->walk.server)
			walk_init(&fetch->walk, fetch->server, one);
		else
			has_all = walk_also(&fetch->walk, one);
	}
	return has_all;
}

static bool asset_has_file(void *server, const struct digest *digest)
{
	return server_has(server, digest);
}

/* Some directories more; *is_whole_out false: something is not here, or it is no tree. */
static void asset_walk(struct asset_fetch *fetch, bool *is_whole_out)
{
	for (size_t i = 0; i < ASSET_STEP_DIRS && *is_whole_out; i++) {
		_cleanup_error_ struct error *err = NULL;

		if (walk_is_over(&fetch->walk))
			return;
		err = walk_next(&fetch->walk, NULL, asset_has_file,
				(void *)(uintptr_t)fetch->server, is_whole_out);
		if (err)
			*is_whole_out = false;
	}
}

static enum rpc_verdict asset_answer(struct rpc_in *in, const struct asset_fetch *fetch)
{
	Asset__FetchBlobResponse response = ASSET__FETCH_BLOB_RESPONSE__INIT;
	Rpcstatus__Status ok = RPCSTATUS__STATUS__INIT;
	struct arena *arena = rpc_arena(in);

	response.status = &ok;
	response.uri = fetch->ask.uris[fetch->next - 1];
	response.n_qualifiers = fetch->ask.n_qualifiers;
	response.qualifiers = (Asset__Qualifier **)(uintptr_t)fetch->ask.qualifiers;
	if (fetch->asset.expire_ns != CLOCK_NEVER)
		response.expires_at = response_timestamp(fetch->asset.expire_ns, arena);
	response.blob_digest = digest_to_arena(&fetch->asset.digest, arena);
	response.digest_function = REAPI__DIGEST_FUNCTION__VALUE__SHA256;
	if (arena->is_full)
		return rpc_fail(in, arena_error("the answer"));
	rpc_send(in, &response.base);
	return RPC_DONE;
}

static enum rpc_verdict asset_check_on(struct rpc_in *in, struct asset_fetch *fetch,
				       bool is_first)
{
	bool is_whole = true;

	if (fetch->asset.is_name_only)
		return asset_answer(in, fetch);
	if (is_first)
		is_whole = asset_has_blobs(fetch);
	if (is_whole)
		asset_walk(fetch, &is_whole);
	if (is_whole && walk_is_over(&fetch->walk))
		return asset_answer(in, fetch);
	if (!is_whole)
		asset_check_end(fetch);
	return RPC_AGAIN;
}

static enum rpc_verdict asset_fetch(struct rpc_in *in, const struct server *server,
				    bool is_directory)
{
	struct asset_fetch *fetch = rpc_state(in, sizeof(*fetch), asset_fetch_drop);
	bool is_first = !fetch->is_checking;
	struct error *err = NULL;

	if (!fetch->has_begun)
		err = asset_fetch_begin(in, server, is_directory, fetch);
	if (!err && rpc_is_cancelled(in))
		err = error_new(ERROR_CANCELLED, "the client left");
	if (!err && is_first && fetch->next == fetch->ask.n_uris)
		err = error_new(ERROR_NOT_FOUND, "no asset is called \"%.200s\"%s",
				fetch->ask.uris[0],
				fetch->next > 1 ? ", or as the other URIs say" : "");
	if (!err && is_first)
		err = asset_look_up(fetch);
	if (err)
		return rpc_fail(in, err);
	return fetch->is_checking ? asset_check_on(in, fetch, is_first) : RPC_AGAIN;
}

static enum rpc_verdict asset_fetch_blob(struct rpc_in *in, void *service)
{
	return asset_fetch(in, service, false);
}

static enum rpc_verdict asset_fetch_directory(struct rpc_in *in, void *service)
{
	return asset_fetch(in, service, true);
}

/* ---- Push ----------------------------------------------------------------------- */

static struct error *asset_digests(Reapi__Digest *const *wire, size_t n, const char *what,
				   struct digest *out)
{
	struct error *err = NULL;

	for (size_t i = 0; i < n && !err; i++)
		err = error_wrap(digest_from_wire(wire[i], &out[i]), "%s", what);
	return err;
}

static struct error *asset_of_push(const struct server *server,
				   const Asset__PushBlobRequest *request,
				   struct asset *out)
{
	size_t n_blobs = request->n_references_blobs;
	size_t n = n_blobs + request->n_references_directories;
	struct error *err;

	if (n > ASSET_REFERENCES_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%zu references are over the limit of %d", n,
				 ASSET_REFERENCES_MAX);
	err = digest_from_wire(request->blob_digest, &out->digest);
	if (!err)
		err = asset_time(request->expire_at, CLOCK_NEVER, "expire_at",
				 &out->expire_ns);
	if (err)
		return err;
	out->references = alloc_array(n, sizeof(*out->references));
	out->n_references = n;
	out->n_blobs = n_blobs;
	err = asset_digests(request->references_blobs, n_blobs, "references_blobs",
			    out->references);
	if (!err)
		err = asset_digests(request->references_directories, n - n_blobs,
				    "references_directories", out->references + n_blobs);
	out->pushed_ns = clock_wall_ns();
	out->is_name_only = !server_has(server, &out->digest);
	return err;
}

static struct error *asset_store(struct rpc_in *in, const struct server *server,
				 const Asset__PushBlobRequest *request, bool is_directory)
{
	_cleanup_(asset_deinit) struct asset asset = {0};
	struct digest names[ASSET_URIS_MAX];
	struct asset_ask ask = ASSET_ASK(request, is_directory);
	struct error *err = asset_check(in, server, &ask, request->digest_function);

	if (!err)
		err = asset_of_push(server, request, &asset);
	if (err)
		return err;
	for (size_t i = 0; i < ask.n_uris; i++)
		asset_name(&ask, i, &names[i]);
	return asset_cache_put(server->assets, names, ask.n_uris, &asset);
}

static enum rpc_verdict asset_push(struct rpc_in *in, const struct server *server,
				   bool is_directory)
{
	Asset__PushBlobResponse response = ASSET__PUSH_BLOB_RESPONSE__INIT;
	Asset__PushBlobRequest *request = (void *)rpc_request(in);
	struct error *err;

	if (!request)
		return RPC_DONE;
	err = asset_store(in, server, request, is_directory);
	if (err)
		return rpc_fail(in, err);
	rpc_send(in, &response.base);
	return RPC_DONE;
}

static enum rpc_verdict asset_push_blob(struct rpc_in *in, void *service)
{
	return asset_push(in, service, false);
}

static enum rpc_verdict asset_push_directory(struct rpc_in *in, void *service)
{
	return asset_push(in, service, true);
}

#define ASSET_FETCH &asset__fetch__descriptor
#define ASSET_PUSH  &asset__push__descriptor
/* What a name means others will believe, as they do the result of an action. */
#define ASSET_READ  (RPC_LONG | RPC_RIGHTS(ACCESS_AC_READ))
#define ASSET_WRITE RPC_RIGHTS(ACCESS_AC_WRITE)

static const struct rpc_handler asset_list[] = {
	{{ASSET_FETCH, "FetchBlob"}, RPC_UNARY, ASSET_READ, asset_fetch_blob},
	{{ASSET_FETCH, "FetchDirectory"}, RPC_UNARY, ASSET_READ, asset_fetch_directory},
	{{ASSET_PUSH, "PushBlob"}, RPC_UNARY, ASSET_WRITE, asset_push_blob},
	{{ASSET_PUSH, "PushDirectory"}, RPC_UNARY, ASSET_WRITE, asset_push_directory},
};
const struct rpc_handlers asset_handlers = {asset_list, ARRAY_SIZE(asset_list)};
