/* Conformance of execution, operations and bots: docs/protocol.md, 39 to 60, with
 * a bot that the test plays. */
#include "tests/integration/bot_fixture.h"

static struct error *cancel(struct fixture *fixture, const char *name)
{
	Longrunning__CancelOperationRequest request =
		LONGRUNNING__CANCEL_OPERATION_REQUEST__INIT;

	request.name = name;
	return call(fixture, OPS_SERVICE, "CancelOperation", &request.base, NULL);
}

static void assert_missing(const Reapi__ExecuteResponse *response,
			   Reapi__Digest *const *digests, size_t n)
{
	_cleanup_error_ struct error *err = rpc_status_error(response->status);

	assert_int_equal(error_code(err), ERROR_FAILED_PRECONDITION);
	assert_int_equal(error_n_missing(err), n);
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *subject =
			alloc_printf("blobs/%s/%lld", digests[i]->hash,
				     (long long)digests[i]->size_bytes);

		assert_string_equal(error_missing(err, i), subject);
	}
}

static void test_40_41_life_of_an_execution(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *action = put_action(fixture, NULL);
	struct bot bot = bot_open(fixture, "b1", NULL);
	struct run run = run_execute(fixture, action, false, 0);
	Bots__Lease *lease;

	assert_true(run_next(&run));
	assert_true(run.operation->name[0] != '\0');
	assert_int_equal(run.metadata->stage, REAPI__EXECUTION_STAGE__VALUE__QUEUED);
	assert_string_equal(run.metadata->action_digest->hash, action->hash);
	lease = bot_take(&bot);
	run_until(&run, REAPI__EXECUTION_STAGE__VALUE__EXECUTING);
	bot_complete_exit(&bot, lease, 0);
	assert_int_equal(run_finish(&run), 0);
	assert_false(run.response->cached_result);
	assert_string_equal(run.metadata->action_digest->hash, action->hash);
	bot_close(&bot);
}

static void test_42_missing_blobs_are_named(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *absent = absent_blob(fixture);
	Reapi__Digest *missing[] = {absent_blob(fixture), absent_blob(fixture)};
	Reapi__Action action = REAPI__ACTION__INIT;
	struct run run = run_execute(fixture, absent, false, 0);

	assert_int_equal(run_finish(&run), ERROR_FAILED_PRECONDITION);
	assert_missing(run.response, &absent, 1);
	action.command_digest = missing[0];
	action.input_root_digest = missing[1];
	run = run_execute(fixture, put_message(fixture, &action.base), false, 0);
	assert_int_equal(run_finish(&run), ERROR_FAILED_PRECONDITION);
	assert_missing(run.response, missing, 2);
}

static void test_43_action_without_digest_is_invalid(void **state)
{
	struct fixture *fixture = *state;
	struct run run = run_execute(fixture, NULL, false, 0);

	assert_false(run_next(&run));
	assert_error(rpc_stream_finish(run.stream), ERROR_INVALID_ARGUMENT,
		     "action_digest");
	run_close(&run);
}

static void test_44_undecodable_messages_are_invalid(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *garbage = put_text(fixture, "\xff\xff\xff");
	Reapi__Action action = REAPI__ACTION__INIT;
	struct run run = run_execute(fixture, garbage, false, 0);

	assert_int_equal(run_finish(&run), ERROR_INVALID_ARGUMENT);
	action.command_digest = garbage;
	action.input_root_digest = wire_of_digest(fixture, &digest_of_empty);
	run = run_execute(fixture, put_message(fixture, &action.base), false, 0);
	assert_int_equal(run_finish(&run), ERROR_INVALID_ARGUMENT);
}

static void test_45_46_cached_and_forced_again(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *action = put_action(fixture, NULL);
	struct bot bot = bot_open(fixture, "b1", NULL);
	struct run run = run_execute(fixture, action, false, 0);
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;

	bot_complete_exit(&bot, bot_take(&bot), 0);
	assert_int_equal(run_finish(&run), 0);
	run = run_execute(fixture, action, false,
			  0); /* nobody polls: no worker is needed */
	assert_int_equal(run_finish(&run), 0);
	assert_true(run.response->cached_result);
	run = run_execute(fixture, action, true, 0);
	result.stdout_raw.data = (uint8_t *)(uintptr_t) "new";
	result.stdout_raw.len = 3;
	bot_complete(&bot, bot_take(&bot), &result, 0);
	assert_int_equal(run_finish(&run), 0);
	assert_false(run.response->cached_result);
	run = run_execute(fixture, action, false, 0);
	assert_int_equal(run_finish(&run), 0);
	assert_true(run.response->cached_result);
	assert_int_equal(run.response->result->stdout_raw.len, 3);
	bot_close(&bot);
}

static void test_47_do_not_cache_is_never_merged_nor_served(void **state)
{
	struct fixture *fixture = *state;
	const struct action_options options = {.do_not_cache = true};
	const struct bot_options two = {.capacity = "2"};
	Reapi__Digest *action = put_action(fixture, &options);
	struct bot bot = bot_open(fixture, "b1", &two);
	struct run one = run_execute(fixture, action, false, 0);
	struct run other = run_execute(fixture, action, false, 0);
	Bots__Lease *leases[2];

	run_until(&one, REAPI__EXECUTION_STAGE__VALUE__QUEUED);
	run_until(&other, REAPI__EXECUTION_STAGE__VALUE__QUEUED);
	assert_no_error(bot_update(&bot, NULL));
	assert_int_equal(bot.told->n_leases, 2);
	leases[0] = bot.told->leases[0];
	leases[1] = bot.told->leases[1];
	bot_complete_exit(&bot, leases[0], 0);
	assert_int_equal(bot.told->n_leases, 1); /* offered again: it was not taken */
	bot_complete_exit(&bot, leases[1], 0);
	assert_int_equal(run_finish(&one), 0);
	assert_int_equal(run_finish(&other), 0);
	one = run_execute(fixture, action, false, 0);
	bot_complete_exit(&bot, bot_take(&bot), 0);
	assert_int_equal(run_finish(&one), 0);
	assert_false(one.response->cached_result);
	bot_close(&bot);
}

/* Neither is it stored, nor is a result served that somebody put there. */
static void test_47_do_not_cache_meets_no_cache(void **state)
{
	struct fixture *fixture = *state;
	const struct action_options options = {.do_not_cache = true};
	Reapi__GetActionResultRequest get = REAPI__GET_ACTION_RESULT_REQUEST__INIT;
	Reapi__UpdateActionResultRequest put = REAPI__UPDATE_ACTION_RESULT_REQUEST__INIT;
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;
	Reapi__Digest *action = put_action(fixture, &options);
	struct bot bot = bot_open(fixture, "b1", NULL);
	struct run run = run_execute(fixture, action, false, 0);

	bot_complete_exit(&bot, bot_take(&bot), 0);
	assert_int_equal(run_finish(&run), 0);
	get.action_digest = put.action_digest = action;
	assert_error(call(fixture, ACTION_SERVICE, "GetActionResult", &get.base, NULL),
		     ERROR_NOT_FOUND, "");
	put.action_result = &result;
	assert_no_error(
		call(fixture, ACTION_SERVICE, "UpdateActionResult", &put.base, NULL));
	run = run_execute(fixture, action, false, 0);
	bot_complete_exit(&bot, bot_take(&bot), 0);
	assert_int_equal(run_finish(&run), 0);
	assert_false(run.response->cached_result);
	bot_close(&bot);
}

static void test_48_identical_actions_are_merged(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *action = put_action(fixture, NULL);
	struct run one = run_execute(fixture, action, false, 0);
	struct run other;
	struct bot bot;
	Bots__Lease *lease;

	run_until(&one, REAPI__EXECUTION_STAGE__VALUE__QUEUED);
	other = run_execute(fixture, action, false, 0);
	run_until(&other, REAPI__EXECUTION_STAGE__VALUE__QUEUED);
	assert_string_not_equal(one.operation->name, other.operation->name);
	bot = bot_open(fixture, "b1", &(struct bot_options){.capacity = "4"});
	lease = bot_take(&bot);
	bot_complete_exit(&bot, lease, 0);
	assert_int_equal(bot.told->n_leases, 0);
	assert_int_equal(run_finish(&one), 0);
	assert_int_equal(run_finish(&other), 0);
	bot_close(&bot);
}

static void test_49_failures_are_never_cached(void **state)
{
	static const struct {
		int exit_code, code;
	} cases[] = {{1, 0}, {0, ERROR_DEADLINE_EXCEEDED}, {0, ERROR_INTERNAL}};
	struct fixture *fixture = *state;
	struct bot bot = bot_open(fixture, "b1", NULL);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		Reapi__Digest *action = put_action(fixture, NULL);
		Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;
		struct run run = run_execute(fixture, action, false, 0);

		result.exit_code = cases[i].exit_code;
		bot_complete(&bot, bot_take(&bot), &result, cases[i].code);
		assert_int_equal(run_finish(&run), cases[i].code);
		assert_int_equal(run.response->result->exit_code, cases[i].exit_code);
		run = run_execute(fixture, action, false, 0);
		assert_true(run_next(&run));
		assert_false(run.operation->done);
		assert_no_error(cancel(fixture, run.operation->name));
		assert_int_equal(run_finish(&run), ERROR_CANCELLED);
	}
	bot_close(&bot);
}

static void test_lease_without_a_result_is_internal(void **state)
{
	struct fixture *fixture = *state;
	struct bot bot = bot_open(fixture, "b1", NULL);
	struct run run = run_execute(fixture, put_action(fixture, NULL), false, 0);

	bot_complete(&bot, bot_take(&bot), NULL, 0);
	assert_int_equal(run_finish(&run), ERROR_INTERNAL);
	bot_close(&bot);
}

static void test_50_wait_execution(void **state)
{
	struct fixture *fixture = *state;
	struct run run = run_execute(fixture, put_action(fixture, NULL), false, 0);
	struct run wait;
	struct bot bot;
	const char *name;

	assert_true(run_next(&run));
	name = run.operation->name;
	wait = run_wait(fixture, name);
	assert_true(run_next(&wait));
	assert_int_equal(wait.metadata->stage, REAPI__EXECUTION_STAGE__VALUE__QUEUED);
	bot = bot_open(fixture, "b1", NULL);
	bot_complete_exit(&bot, bot_take(&bot), 0);
	assert_int_equal(run_finish(&wait), 0);
	assert_int_equal(run_finish(&run), 0);
	wait = run_wait(fixture, name);
	assert_int_equal(run_finish(&wait), 0);
	wait = run_wait(fixture, "nonsense");
	assert_false(run_next(&wait));
	assert_error(rpc_stream_finish(wait.stream), ERROR_NOT_FOUND, "nonsense");
	run_close(&wait);
	bot_close(&bot);
}

static void test_51_client_that_leaves_does_not_end_the_job(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *action = put_action(fixture, NULL);
	struct run run = run_execute(fixture, action, false, 0);
	struct bot bot = bot_open(fixture, "b1", NULL);
	Bots__Lease *lease;
	const char *name;

	assert_true(run_next(&run));
	name = run.operation->name;
	lease = bot_take(&bot);
	run_close(&run);
	bot_complete_exit(&bot, lease, 0);
	run = run_wait(fixture, name);
	assert_int_equal(run_finish(&run), 0);
	bot_close(&bot);
}

static void test_52_cancel(void **state)
{
	struct fixture *fixture = *state;
	struct run run = run_execute(fixture, put_action(fixture, NULL), false, 0);
	struct bot bot = bot_open(fixture, "b1", NULL);
	Bots__Lease *lease = bot_take(&bot);
	int64_t expires_s = bot.told->expire_time->seconds;
	const char *name;

	run_until(&run, REAPI__EXECUTION_STAGE__VALUE__EXECUTING);
	name = run.operation->name;
	assert_no_error(cancel(fixture, name));
	assert_no_error(cancel(fixture, name));
	assert_int_equal(run_finish(&run), ERROR_CANCELLED);
	assert_no_error(bot_update(&bot, lease)); /* still running, it says */
	assert_int_equal(bot.told->n_leases, 1);
	assert_int_equal(bot.told->leases[0]->state, BOTS__LEASE_STATE__CANCELLED);
	/* some bots act on it only once they have to come back */
	assert_true(bot.told->expire_time->seconds < expires_s);
	lease->state = BOTS__LEASE_STATE__CANCELLED;
	assert_no_error(bot_update(&bot, lease));
	assert_int_equal(bot.told->n_leases, 0);
	assert_error(cancel(fixture, "nonsense"), ERROR_NOT_FOUND, "nonsense");
	bot_close(&bot);
}

static void test_53_lower_priority_first(void **state)
{
	static const int32_t priorities[] = {7, 0, -3, 0};
	static const int order[] = {2, 1, 3, 0};
	struct fixture *fixture = *state;
	struct run runs[4];
	struct bot bot;

	for (int i = 0; i < 4; i++) {
		runs[i] = run_execute(fixture, put_action(fixture, NULL), false,
				      priorities[i]);
		run_until(&runs[i], REAPI__EXECUTION_STAGE__VALUE__QUEUED);
	}
	bot = bot_open(fixture, "b1", NULL);
	for (int i = 0; i < 4; i++) {
		Bots__Lease *lease = bot_take(&bot);
		struct digest digest =
			digest_of(lease->payload->value.data, lease->payload->value.len);

		assert_string_equal(wire_of_digest(fixture, &digest)->hash,
				    runs[order[i]].metadata->action_digest->hash);
		assert_no_error(cancel(fixture, runs[order[i]].operation->name));
		assert_int_equal(run_finish(&runs[order[i]]), ERROR_CANCELLED);
		lease->state = BOTS__LEASE_STATE__CANCELLED;
		assert_no_error(bot_update(&bot, lease));
	}
	bot_close(&bot);
}

static void test_54_timeout_over_the_limit_is_invalid(void **state)
{
	struct fixture *fixture = *state;
	const struct action_options over = {.timeout_s = 3601},
				    negative = {.timeout_s = -1};
	struct run run = run_execute(fixture, put_action(fixture, &over), false, 0);

	assert_int_equal(run_finish(&run), ERROR_INVALID_ARGUMENT);
	run = run_execute(fixture, put_action(fixture, &negative), false, 0);
	assert_int_equal(run_finish(&run), ERROR_INVALID_ARGUMENT);
}

static void test_55_all_properties_are_required(void **state)
{
	static const char *const wanted[] = {"OSFamily", "linux", "tool", "gcc",
					     "tool",     "clang", NULL};
	static const char *const some[] = {"OSFamily", "linux", "tool", "gcc", NULL};
	const struct action_options options = {.properties = wanted};
	struct fixture *fixture = *state;
	struct run run = run_execute(fixture, put_action(fixture, &options), false, 0);
	struct bot wrong =
		bot_open(fixture, "wrong", &(struct bot_options){.properties = some});
	struct bot right =
		bot_open(fixture, "right", &(struct bot_options){.properties = wanted});

	run_until(&run, REAPI__EXECUTION_STAGE__VALUE__QUEUED);
	assert_no_error(bot_update_status(&wrong, NULL, BOTS__BOT_STATUS__OK, 1100));
	assert_int_equal(wrong.told->n_leases, 0);
	bot_complete_exit(&right, bot_take(&right), 0);
	assert_int_equal(run_finish(&run), 0);
	bot_close(&wrong);
	bot_close(&right);
}

static void test_56_bot_that_is_taken_over_gives_its_job_back(void **state)
{
	struct fixture *fixture = *state;
	struct run run = run_execute(fixture, put_action(fixture, NULL), false, 0);
	struct bot bot = {0};

	for (int i = 0; i < 2; i++) {
		bot = bot_open(fixture, "b1", NULL);
		(void)bot_take(&bot);
	}
	bot = bot_open(fixture, "b1", NULL);
	assert_int_equal(run_finish(&run), ERROR_FAILED_PRECONDITION);
	assert_non_null(strstr(run.response->status->message, "2 workers died"));
	bot_close(&bot);
}

static void test_unknown_session_is_invalid(void **state)
{
	struct fixture *fixture = *state;
	struct bot bot = {.fixture = fixture, .bot_id = "b1"};

	bot.name = "no-such-session";
	assert_error(bot_update(&bot, NULL), ERROR_INVALID_ARGUMENT, "no-such-session");
}

static void test_59_metadata_names_the_worker_and_the_queueing(void **state)
{
	struct fixture *fixture = *state;
	struct run run = run_execute(fixture, put_action(fixture, NULL), false, 0);
	struct bot bot = bot_open(fixture, "the-bot", NULL);
	Reapi__ExecutedActionMetadata *metadata;

	bot_complete_exit(&bot, bot_take(&bot), 0);
	assert_int_equal(run_finish(&run), 0);
	metadata = run.response->result->execution_metadata;
	assert_string_equal(metadata->worker, "the-bot");
	assert_true(metadata->queued_timestamp->seconds > 1700000000);
	bot_close(&bot);
}

static void test_operations_get_and_list(void **state)
{
	struct fixture *fixture = *state;
	Longrunning__GetOperationRequest get = LONGRUNNING__GET_OPERATION_REQUEST__INIT;
	Longrunning__ListOperationsRequest list =
		LONGRUNNING__LIST_OPERATIONS_REQUEST__INIT;
	struct run run = run_execute(fixture, put_action(fixture, NULL), false, 0);
	Longrunning__ListOperationsResponse *page;
	ProtobufCMessage *message = NULL;
	bool is_listed = false;

	assert_true(run_next(&run));
	get.name = run.operation->name;
	assert_no_error(call(fixture, OPS_SERVICE, "GetOperation", &get.base, &message));
	assert_false(((Longrunning__Operation *)message)->done);
	list.page_size = 2;
	do {
		assert_no_error(call(fixture, OPS_SERVICE, "ListOperations", &list.base,
				     &message));
		page = (void *)message;
		assert_true(page->n_operations <= 2);
		for (size_t i = 0; i < page->n_operations; i++)
			is_listed |= strcmp(page->operations[i]->name, get.name) == 0;
		list.page_token = page->next_page_token;
	} while (list.page_token[0]);
	assert_true(is_listed);
	assert_no_error(cancel(fixture, get.name));
	assert_int_equal(run_finish(&run), ERROR_CANCELLED);
	get.name = "nonsense";
	assert_error(call(fixture, OPS_SERVICE, "GetOperation", &get.base, &message),
		     ERROR_NOT_FOUND, "nonsense");
}

/* How many operations a filter lets through; -1: it is refused. */
static int n_listed(struct fixture *fixture, const char *filter, const char *token)
{
	Longrunning__ListOperationsRequest list =
		LONGRUNNING__LIST_OPERATIONS_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	struct error *err;

	list.filter = filter;
	list.page_token = token;
	err = call(fixture, OPS_SERVICE, "ListOperations", &list.base, &message);
	if (err) {
		assert_error(err, ERROR_INVALID_ARGUMENT, token[0] ? "token" : "filter");
		return -1;
	}
	return (int)((Longrunning__ListOperationsResponse *)message)->n_operations;
}

static void test_operations_are_filtered(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *action = put_action(fixture, NULL);
	struct run run = run_execute(fixture, action, false, 0);
	const char *mine = arena_printf(&fixture->arena, "action=%s/%lld", action->hash,
					(long long)action->size_bytes);
	const char *queued = arena_printf(&fixture->arena, "%s AND stage=queued", mine);
	const char *done = arena_printf(&fixture->arena, "%s AND done=true", mine);

	assert_true(run_next(&run));
	assert_int_equal(n_listed(fixture, mine, ""), 1);
	assert_int_equal(n_listed(fixture, queued, ""), 1);
	assert_int_equal(n_listed(fixture, done, ""), 0);
	assert_no_error(cancel(fixture, run.operation->name));
	assert_int_equal(run_finish(&run), ERROR_CANCELLED);
	assert_int_equal(n_listed(fixture, queued, ""), 0);
	assert_int_equal(n_listed(fixture, done, ""), 1);
	assert_int_equal(n_listed(fixture, done, "99999999"), 0); /* after all others */
	assert_int_equal(n_listed(fixture, "worker=x", ""), -1);
	assert_int_equal(n_listed(fixture, "", "x"), -1);
	assert_int_equal(n_listed(fixture, "", "-1"), -1);
	assert_int_equal(n_listed(fixture, "", "99999999999999999999999"), -1);
}

/* A poll that waits is answered by the job, not by its time: it would wait 30 s. */
struct poller {
	pthread_t thread;
	struct bot bot;
	Bots__Lease *lease;
};

static void *poll_once(void *arg)
{
	struct poller *poller = arg;

	error_free(bot_update(&poller->bot, NULL));
	return NULL;
}

static void test_waiting_poll_is_answered_by_the_job(void **state)
{
	struct fixture *fixture = *state;
	struct fixture mine = *fixture; /* an arena of its own for the other thread */
	struct poller poller;
	struct run run;

	mine.arena = ARENA_INIT(1 << 20);
	poller.bot = bot_open(&mine, "b1", NULL);
	assert_int_equal(pthread_create(&poller.thread, NULL, poll_once, &poller), 0);
	(void)usleep(50000);
	run = run_execute(fixture, put_action(fixture, NULL), false, 0);
	assert_int_equal(pthread_join(poller.thread, NULL), 0);
	assert_non_null(poller.bot.told);
	assert_int_equal(poller.bot.told->n_leases, 1);
	bot_complete_exit(&poller.bot, poller.bot.told->leases[0], 0);
	assert_int_equal(run_finish(&run), 0);
	bot_close(&poller.bot);
	arena_deinit(&mine.arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_40_41_life_of_an_execution),
		cmocka_unit_test(test_42_missing_blobs_are_named),
		cmocka_unit_test(test_43_action_without_digest_is_invalid),
		cmocka_unit_test(test_44_undecodable_messages_are_invalid),
		cmocka_unit_test(test_45_46_cached_and_forced_again),
		cmocka_unit_test(test_47_do_not_cache_is_never_merged_nor_served),
		cmocka_unit_test(test_47_do_not_cache_meets_no_cache),
		cmocka_unit_test(test_48_identical_actions_are_merged),
		cmocka_unit_test(test_49_failures_are_never_cached),
		cmocka_unit_test(test_lease_without_a_result_is_internal),
		cmocka_unit_test(test_50_wait_execution),
		cmocka_unit_test(test_51_client_that_leaves_does_not_end_the_job),
		cmocka_unit_test(test_52_cancel),
		cmocka_unit_test(test_53_lower_priority_first),
		cmocka_unit_test(test_54_timeout_over_the_limit_is_invalid),
		cmocka_unit_test(test_55_all_properties_are_required),
		cmocka_unit_test(test_56_bot_that_is_taken_over_gives_its_job_back),
		cmocka_unit_test(test_unknown_session_is_invalid),
		cmocka_unit_test(test_59_metadata_names_the_worker_and_the_queueing),
		cmocka_unit_test(test_operations_get_and_list),
		cmocka_unit_test(test_operations_are_filtered),
		cmocka_unit_test(test_waiting_poll_is_answered_by_the_job),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
