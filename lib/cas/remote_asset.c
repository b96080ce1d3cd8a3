/* Owns the calls of Remote Asset. Threads: any; blocking. */
#include "lib/base/clock.h"
#include "lib/cas/remote_internal.h"

static const struct rpc_method remote_asset_fetch = {&asset__fetch__descriptor,
						     "FetchDirectory"};
static const struct rpc_method remote_asset_push = {&asset__push__descriptor,
						    "PushDirectory"};

/* What it says, unless that is of no use any more, or to us. */
static struct error *remote_take_directory(const Asset__FetchDirectoryResponse *response,
					   const char *uri, struct digest *root_out,
					   int64_t *expires_s_out)
{
	const Pb__Timestamp *expires = response->expires_at;
	struct digest root;
	struct error *err;

	if (response->digest_function != REAPI__DIGEST_FUNCTION__VALUE__UNKNOWN &&
	    response->digest_function != REAPI__DIGEST_FUNCTION__VALUE__SHA256)
		return error_new(ERROR_FAILED_PRECONDITION,
				 "%s is known there by digest function %d, not SHA256",
				 uri, (int)response->digest_function);
	err = digest_from_wire(response->root_directory_digest, &root);
	if (err)
		return err;
	if (expires && expires->seconds <= clock_wall_ns() / NS_PER_S)
		return error_new(ERROR_NOT_FOUND, "%s was valid until a while ago", uri);
	*root_out = root;
	*expires_s_out = expires ? expires->seconds : 0;
	return NULL;
}

struct error *remote_fetch_directory(struct remote *remote, const char *uri,
				     struct digest *root_out, int64_t *expires_s_out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	Asset__FetchDirectoryRequest request = ASSET__FETCH_DIRECTORY_REQUEST__INIT;
	Asset__FetchDirectoryResponse *response;
	const char *uris[] = {uri};
	ProtobufCMessage *reply = NULL;
	struct error *err;

	request.instance_name = remote->instance;
	request.uris = uris;
	request.n_uris = 1;
	err = remote_call(remote, &remote_asset_fetch, &request.base, &arena, &reply);
	if (err)
		return err;
	response = (Asset__FetchDirectoryResponse *)reply;
	/* some answer so, some by the call's own status */
	err = response->status ? rpc_status_error(response->status) : NULL;
	return err ? err : remote_take_directory(response, uri, root_out, expires_s_out);
}

struct error *remote_push_directory(struct remote *remote, const char *uri,
				    const struct digest *root, int64_t expires_s)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	Asset__PushDirectoryRequest request = ASSET__PUSH_DIRECTORY_REQUEST__INIT;
	Pb__Timestamp expires = PB__TIMESTAMP__INIT;
	Reapi__Digest digest = REAPI__DIGEST__INIT;
	const char *uris[] = {uri};
	char hex[DIGEST_HEX_MAX];
	ProtobufCMessage *reply = NULL;

	request.instance_name = remote->instance;
	request.uris = uris;
	request.n_uris = 1;
	digest_to_wire(root, hex, &digest);
	request.root_directory_digest = &digest;
	expires.seconds = expires_s;
	request.expire_at = expires_s ? &expires : NULL;
	return remote_call(remote, &remote_asset_push, &request.base, &arena, &reply);
}
