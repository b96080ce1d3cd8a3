/* What bot_fixture.h declares; the tests of one program run on one thread. */
#include "tests/integration/bot_fixture.h"

struct bot bot_open(struct fixture *fixture, const char *bot_id,
		    const struct bot_options *options)
{
	Bots__CreateBotSessionRequest request = BOTS__CREATE_BOT_SESSION_REQUEST__INIT;
	Bots__BotSession session = BOTS__BOT_SESSION__INIT;
	Bots__Worker worker = BOTS__WORKER__INIT;
	Bots__Worker__Property properties[8], *list[8];
	Bots__Worker__Config config = BOTS__WORKER__CONFIG__INIT, *configs = &config;
	struct bot bot = {.fixture = fixture, .bot_id = bot_id};
	ProtobufCMessage *message = NULL;
	size_t n = 0;

	for (; options && options->properties && options->properties[2 * n]; n++) {
		bots__worker__property__init(&properties[n]);
		properties[n].key = options->properties[2 * n];
		properties[n].value = options->properties[2 * n + 1];
		list[n] = &properties[n];
	}
	worker.n_properties = n;
	worker.properties = list;
	config.key = "capacity";
	config.value = (options && options->capacity ? options->capacity : "1");
	worker.n_configs = 1;
	worker.configs = &configs;
	session.bot_id = bot_id;
	session.worker = &worker;
	if (options && options->instance)
		request.parent = options->instance;
	request.bot_session = &session;
	assert_no_error(
		call(fixture, BOTS_SERVICE, "CreateBotSession", &request.base, &message));
	bot.name = ((Bots__BotSession *)message)->name;
	return bot;
}

struct error *bot_update_status(struct bot *bot, Bots__Lease *lease,
				Bots__BotStatus status, int64_t timeout_ms)
{
	const struct rpc_method method = {BOTS_SERVICE, "UpdateBotSession"};
	const struct rpc_options options = {.timeout_ms = timeout_ms};
	Bots__UpdateBotSessionRequest request = BOTS__UPDATE_BOT_SESSION_REQUEST__INIT;
	Bots__BotSession session = BOTS__BOT_SESSION__INIT;
	ProtobufCMessage *message = NULL;
	struct error *err;

	session.name = bot->name;
	session.bot_id = bot->bot_id;
	session.status = status;
	session.n_leases = lease ? 1 : 0;
	session.leases = &lease;
	request.name = bot->name;
	request.bot_session = &session;
	err = rpc_call_message(bot->fixture->chan, &method, &request.base, &options,
			       &bot->fixture->arena, &message);
	if (!err)
		bot->told = (void *)message;
	return err;
}

struct error *bot_update(struct bot *bot, Bots__Lease *lease)
{
	return bot_update_status(bot, lease, BOTS__BOT_STATUS__OK, 0);
}

Bots__Lease *bot_take(struct bot *bot)
{
	Bots__Lease *lease;

	do
		assert_no_error(bot_update(bot, NULL));
	while (bot->told->n_leases == 0);
	lease = bot->told->leases[0];
	assert_int_equal(lease->state, BOTS__LEASE_STATE__PENDING);
	assert_string_equal(lease->payload->type_url,
			    "type.googleapis.com/build.bazel.remote.execution.v2.Action");
	lease->state = BOTS__LEASE_STATE__ACTIVE;
	assert_no_error(bot_update(bot, lease));
	assert_int_equal(bot->told->n_leases, 1);
	assert_int_equal(bot->told->leases[0]->state, BOTS__LEASE_STATE__ACTIVE);
	return lease;
}

void bot_complete(struct bot *bot, Bots__Lease *lease, const Reapi__ActionResult *result,
		  int code)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	Rpcstatus__Status status = RPCSTATUS__STATUS__INIT;
	Pb__Any any = PB__ANY__INIT;

	status.code = code;
	status.message = (code ? "as the bot says" : "");
	lease->state = BOTS__LEASE_STATE__COMPLETED;
	lease->status = &status;
	lease->result = NULL;
	if (result) {
		rpc_encode(&result->base, &bytes);
		any.type_url = "type.googleapis.com/"
			       "build.bazel.remote.execution.v2."
			       "ActionResult";
		any.value.data = bytes.data;
		any.value.len = bytes.len;
		lease->result = &any;
	}
	assert_no_error(bot_update(bot, lease));
	for (size_t i = 0; i < bot->told->n_leases; i++)
		assert_string_not_equal(bot->told->leases[i]->id, lease->id);
}

void bot_complete_exit(struct bot *bot, Bots__Lease *lease, int exit_code)
{
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;

	result.exit_code = exit_code;
	bot_complete(bot, lease, &result, 0);
}

void bot_close(struct bot *bot)
{
	assert_no_error(
		bot_update_status(bot, NULL, BOTS__BOT_STATUS__BOT_TERMINATING, 0));
}

Reapi__Digest *put_action(struct fixture *fixture, const struct action_options *options)
{
	Reapi__Action action = REAPI__ACTION__INIT;
	Reapi__Command command = REAPI__COMMAND__INIT;
	Reapi__Directory root = REAPI__DIRECTORY__INIT;
	Reapi__Platform platform = REAPI__PLATFORM__INIT;
	Reapi__Platform__Property properties[8], *list[8];
	Pb__Duration timeout = PB__DURATION__INIT;
	const char *arguments[] = {"true", unique_text(fixture, "argument")};
	size_t n = 0;

	for (; options && options->properties && options->properties[2 * n]; n++) {
		reapi__platform__property__init(&properties[n]);
		properties[n].name = options->properties[2 * n];
		properties[n].value = options->properties[2 * n + 1];
		list[n] = &properties[n];
	}
	platform.n_properties = n;
	platform.properties = list;
	command.n_arguments = 2;
	command.arguments = arguments;
	command.working_directory = "."; /* statement 60: harmless */
	action.command_digest = put_message(fixture, &command.base);
	action.input_root_digest = put_message(fixture, &root.base);
	action.platform = n ? &platform : NULL;
	action.do_not_cache = options && options->do_not_cache;
	timeout.seconds = options ? options->timeout_s : 0;
	action.timeout = timeout.seconds ? &timeout : NULL;
	return put_message(fixture, &action.base);
}

void run_close(struct run *run)
{
	run->stream = rpc_stream_free(run->stream);
}

static struct run run_open(struct fixture *fixture, const char *name,
			   const ProtobufCMessage *request)
{
	const struct rpc_method method = {EXEC_SERVICE, name};
	struct run run = {.fixture = fixture};
	bool is_broken;

	assert_no_error(rpc_stream_open(fixture->chan, &method, NULL, &run.stream));
	assert_no_error(rpc_stream_send_message(run.stream, request, &is_broken));
	assert_no_error(rpc_stream_close_send(run.stream));
	return run;
}

struct run run_execute(struct fixture *fixture, Reapi__Digest *action, bool skips_cache,
		       int32_t priority)
{
	Reapi__ExecuteRequest request = REAPI__EXECUTE_REQUEST__INIT;
	Reapi__ExecutionPolicy policy = REAPI__EXECUTION_POLICY__INIT;

	policy.priority = priority;
	request.action_digest = action;
	request.skip_cache_lookup = skips_cache;
	request.execution_policy = &policy;
	return run_open(fixture, "Execute", &request.base);
}

struct run run_wait(struct fixture *fixture, const char *name)
{
	Reapi__WaitExecutionRequest request = REAPI__WAIT_EXECUTION_REQUEST__INIT;

	request.name = name;
	return run_open(fixture, "WaitExecution", &request.base);
}

bool run_next(struct run *run)
{
	struct arena *arena = &run->fixture->arena;
	bool has_message = false;
	Pb__Any *any;
	struct slice bytes;

	assert_no_error(rpc_stream_receive(run->stream, &has_message, &bytes));
	if (!has_message)
		return false;
	run->operation =
		(void *)rpc_decode(&longrunning__operation__descriptor, bytes, arena);
	assert_non_null(run->operation);
	any = run->operation->metadata;
	assert_string_equal(any->type_url,
			    "type.googleapis.com/build.bazel.remote.execution."
			    "v2.ExecuteOperationMetadata");
	run->metadata = (void *)rpc_decode(
		&reapi__execute_operation_metadata__descriptor,
		(struct slice){any->value.data, any->value.len}, arena);
	assert_int_not_equal(run->operation->result_case,
			     LONGRUNNING__OPERATION__RESULT_ERROR);
	assert_int_equal(run->operation->done,
			 run->metadata->stage ==
				 REAPI__EXECUTION_STAGE__VALUE__COMPLETED);
	if (!run->operation->done)
		return true;
	any = run->operation->response;
	run->response = (void *)rpc_decode(
		&reapi__execute_response__descriptor,
		(struct slice){any->value.data, any->value.len}, arena);
	assert_non_null(run->response);
	return true;
}

int run_finish(struct run *run)
{
	while (run_next(run))
		;
	assert_no_error(rpc_stream_finish(run->stream));
	run_close(run);
	assert_true(run->operation && run->operation->done);
	return run->response->status ? run->response->status->code : 0;
}

void run_until(struct run *run, Reapi__ExecutionStage__Value stage)
{
	do
		assert_true(run_next(run));
	while (run->metadata->stage != stage);
}
