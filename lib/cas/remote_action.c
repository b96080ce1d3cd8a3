/* Owns the calls of the action cache. Threads: any; blocking. */
#include "lib/cas/remote_internal.h"

static const struct rpc_method remote_get_action_result = {
	&reapi__action_cache__descriptor, "GetActionResult"};

struct error *remote_get_action(struct remote *remote, const struct digest *action,
				struct arena *arena, Reapi__ActionResult **result_out)
{
	Reapi__GetActionResultRequest request = REAPI__GET_ACTION_RESULT_REQUEST__INIT;
	ProtobufCMessage *reply = NULL;
	struct error *err;

	request.instance_name = remote->instance;
	request.action_digest = digest_to_arena(action, arena);
	request.inline_stdout = true;
	request.inline_stderr = true;
	err = remote_call(remote, &remote_get_action_result, &request.base, arena,
			  &reply);
	if (error_code(err) == ERROR_NOT_FOUND) {
		error_free(err);
		*result_out = NULL;
		return NULL;
	}
	if (err)
		return err;
	*result_out = (Reapi__ActionResult *)reply;
	return NULL;
}

static const struct rpc_method remote_update_action_result = {
	&reapi__action_cache__descriptor, "UpdateActionResult"};

struct error *remote_put_action(struct remote *remote, const struct digest *action,
				const Reapi__ActionResult *result)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	Reapi__UpdateActionResultRequest request =
		REAPI__UPDATE_ACTION_RESULT_REQUEST__INIT;
	ProtobufCMessage *reply = NULL;

	request.instance_name = remote->instance;
	request.action_digest = digest_to_arena(action, &arena);
	request.action_result = (Reapi__ActionResult *)(uintptr_t)result;
	return remote_call(remote, &remote_update_action_result, &request.base, &arena,
			   &reply);
}
