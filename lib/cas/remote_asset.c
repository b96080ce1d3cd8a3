/* Owns the calls of Remote Asset. Threads: any; blocking. */
#include "lib/cas/remote_internal.h"

static const struct rpc_method remote_asset_fetch = {&asset__fetch__descriptor,
						     "FetchDirectory"};
static const struct rpc_method remote_asset_push = {&asset__push__descriptor,
						    "PushDirectory"};

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
	if (!err)
		err = digest_from_wire(response->root_directory_digest, root_out);
	if (!err)
		*expires_s_out = response->expires_at ? response->expires_at->seconds : 0;
	return err;
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
