/*
 * lazyroot operations: what the execution service runs, has queued, and has run of late.
 */
#include "client/execution.h"
#include "lib/base/alloc.h"

static const struct rpc_method operations_list = {&longrunning__operations__descriptor,
						  "ListOperations"};

struct operations_verb {
	struct client client;
	struct buf filter;
	json_t *list;
};

static void operations_verb_deinit(struct operations_verb *verb)
{
	json_decref(verb->list);
	buf_deinit(&verb->filter);
	client_deinit(&verb->client);
}

static const char *operations_stage(const Reapi__ExecuteOperationMetadata *metadata)
{
	switch (metadata ? metadata->stage : REAPI__EXECUTION_STAGE__VALUE__UNKNOWN) {
	case REAPI__EXECUTION_STAGE__VALUE__CACHE_CHECK:
		return "cache-check";
	case REAPI__EXECUTION_STAGE__VALUE__QUEUED:
		return "queued";
	case REAPI__EXECUTION_STAGE__VALUE__EXECUTING:
		return "executing";
	case REAPI__EXECUTION_STAGE__VALUE__COMPLETED:
		return "completed";
	default:
		return "unknown";
	}
}

static void operations_show(struct operations_verb *verb,
			    const Longrunning__Operation *operation, struct arena *arena)
{
	const Pb__Any *any = operation->metadata;
	const Reapi__ExecuteOperationMetadata *metadata =
		any ? (void *)rpc_decode(&reapi__execute_operation_metadata__descriptor,
					 (struct slice){any->value.data, any->value.len},
					 arena)
		    : NULL;
	const char *stage = operations_stage(metadata);
	char text[DIGEST_STRING_MAX] = "-";
	struct digest action;
	_cleanup_error_ struct error *err =
		digest_from_wire(metadata ? metadata->action_digest : NULL, &action);

	if (!err)
		(void)digest_format(&action, text);
	if (!verb->client.is_json) {
		say_out("%s %s %s\n", operation->name, stage, text);
		return;
	}
	(void)json_array_append_new(
		verb->list,
		json_pack("{s:o,s:s,s:b,s:o}", "operation",
			  client_json_bytes(slice_of(operation->name)), "stage", stage,
			  "done", (int)operation->done, "action",
			  err ? json_null() : client_json_digest(&action)));
}

/* One page; *token is the next one's, freed and made anew, or NULL after the last. */
static struct error *operations_page(struct operations_verb *verb, char **token)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	Longrunning__ListOperationsRequest request =
		LONGRUNNING__LIST_OPERATIONS_REQUEST__INIT;
	struct rpc_options options = {.timeout_ms =
					      verb->client.rpc_timeout_ns / NS_PER_MS};
	Longrunning__ListOperationsResponse *response;
	ProtobufCMessage *reply = NULL;
	struct error *err;

	request.name = remote_instance(verb->client.execution);
	request.filter = buf_string(&verb->filter);
	if (*token)
		request.page_token = *token;
	err = rpc_call_message(remote_chan(verb->client.execution), &operations_list,
			       &request.base, &options, &arena, &reply);
	if (err)
		return err;
	response = (Longrunning__ListOperationsResponse *)reply;
	for (size_t i = 0; i < response->n_operations; i++)
		operations_show(verb, response->operations[i], &arena);
	free(take(*token));
	if (*response->next_page_token && response->n_operations)
		*token = alloc_string(response->next_page_token);
	return NULL;
}

static struct error *operations_all(struct operations_verb *verb)
{
	_cleanup_free_ char *token = NULL;
	struct error *err;

	do {
		err = operations_page(verb, &token);
	} while (!err && token);
	return err;
}

int cmd_operations(int argc, char **argv)
{
	_cleanup_(operations_verb_deinit) struct operations_verb verb = {
		.client = CLIENT_INIT};
	const struct option_def defs[] = {CLIENT_OPTIONS(&verb.client)};
	const struct option_program program = {
		.name = "lazyroot operations",
		.usage = "[FIELD=VALUE]...",
		.summary = "Lists the service's operations, oldest first: name, stage, "
			   "action. All of the\nconditions hold: stage=queued, executing "
			   "or completed; done=true or false;\naction=DIGEST; and what "
			   "else the service knows. It wants the right to operate.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	int operands;
	int code;
	struct error *err;

	if (!client_parse(&program, argc, argv, &operands, &code))
		return code;
	for (int i = operands; i < argc; i++)
		buf_printf(&verb.filter, "%s%s", verb.filter.len ? " AND " : "", argv[i]);
	err = client_connect(&verb.client);
	if (err)
		return client_fail_start("operations", err, CLIENT_FAILED);
	verb.list = json_array();
	err = operations_all(&verb);
	if (!err && verb.client.is_json)
		client_print_json(json_incref(verb.list));
	return client_fail("operations", err, CLIENT_FAILED);
}
