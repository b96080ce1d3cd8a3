/* How long the server waits, for whom, and what it says meanwhile: streams that are
 * silent, clients that are gone, actions that no worker could run, operations of before.
 */
#include "lib/base/clock.h"
#include "tests/integration/bot_fixture.h"

static int setup(void **state)
{
	static const char *const more[] = {"--heartbeat", "200ms", "--abandon", "1500ms",
					   NULL};

	return fixture_setup_with(state, more);
}

static void test_stream_says_again_that_no_worker_is_there(void **state)
{
	struct fixture *fixture = *state;
	struct run run = run_execute(fixture, put_action(fixture, NULL), false, 0);
	const Reapi__ExecutedActionMetadata *partial;

	for (int i = 0; i < 4; i++) { /* by itself, it would say so once */
		assert_true(run_next(&run));
		assert_int_equal(run.metadata->stage,
				 REAPI__EXECUTION_STAGE__VALUE__QUEUED);
		partial = run.metadata->partial_execution_metadata;
		assert_non_null(partial);
		assert_int_equal(partial->n_auxiliary_metadata, 1);
		assert_non_null(strstr((char *)partial->auxiliary_metadata[0]->value.data,
				       "no worker is connected"));
	}
	run_close(&run);
}

static void test_stream_of_a_long_run_is_not_silent(void **state)
{
	struct fixture *fixture = *state;
	struct run run = run_execute(fixture, put_action(fixture, NULL), false, 0);
	struct bot bot = bot_open(fixture, "b1", NULL);
	Bots__Lease *lease = bot_take(&bot);

	for (int i = 0; i < 4; i++)
		run_until(&run, REAPI__EXECUTION_STAGE__VALUE__EXECUTING);
	bot_complete_exit(&bot, lease, 0);
	assert_int_equal(run_finish(&run), 0);
	bot_close(&bot);
}

/* Says that it runs until it is told something else, or for about so many seconds. */
static Bots__LeaseState bot_runs_on(struct bot *bot, Bots__Lease *lease, int seconds)
{
	int64_t end_ns = clock_mono_ns() + seconds * NS_PER_S;

	while (clock_mono_ns() < end_ns) {
		error_free(bot_update_status(bot, lease, BOTS__BOT_STATUS__OK, 1100));
		assert_int_equal(bot->told->n_leases, 1);
		if (bot->told->leases[0]->state != BOTS__LEASE_STATE__ACTIVE)
			return bot->told->leases[0]->state;
	}
	return BOTS__LEASE_STATE__ACTIVE;
}

static void test_what_nobody_waits_for_is_cancelled(void **state)
{
	struct fixture *fixture = *state;
	struct run run = run_execute(fixture, put_action(fixture, NULL), false, 0);
	struct bot bot = bot_open(fixture, "b1", NULL);
	Bots__Lease *lease = bot_take(&bot);
	const char *name;

	run_until(&run, REAPI__EXECUTION_STAGE__VALUE__EXECUTING);
	name = run.operation->name;
	run_close(&run);
	assert_int_equal(bot_runs_on(&bot, lease, 30), BOTS__LEASE_STATE__CANCELLED);
	run = run_wait(fixture, name);
	assert_int_equal(run_finish(&run), ERROR_CANCELLED);
	lease->state = BOTS__LEASE_STATE__CANCELLED;
	assert_no_error(bot_update(&bot, lease));
	bot_close(&bot);
}

static void test_what_another_waits_for_goes_on(void **state)
{
	struct fixture *fixture = *state;
	struct run run = run_execute(fixture, put_action(fixture, NULL), false, 0), wait;
	struct bot bot = bot_open(fixture, "b1", NULL);
	Bots__Lease *lease = bot_take(&bot);

	run_until(&run, REAPI__EXECUTION_STAGE__VALUE__EXECUTING);
	wait = run_wait(fixture, run.operation->name);
	run_until(&wait, REAPI__EXECUTION_STAGE__VALUE__EXECUTING);
	run_close(&run);
	assert_int_equal(bot_runs_on(&bot, lease, 4), BOTS__LEASE_STATE__ACTIVE);
	bot_complete_exit(&bot, lease, 0);
	assert_int_equal(run_finish(&wait), 0);
	bot_close(&bot);
}

/* Two clients that asked for the same action have operations of their own, and one job.
 */
static void test_of_two_that_were_joined_either_may_leave(void **state)
{
	struct fixture *fixture = *state;
	struct bot bot = bot_open(fixture, "b1", NULL);

	for (int leaver = 0; leaver < 2; leaver++) {
		Reapi__Digest *action = put_action(fixture, NULL);
		struct run runs[2];
		Bots__Lease *lease;

		for (int i = 0; i < 2; i++)
			runs[i] = run_execute(fixture, action, false, 0);
		lease = bot_take(&bot);
		for (int i = 0; i < 2; i++)
			run_until(&runs[i], REAPI__EXECUTION_STAGE__VALUE__EXECUTING);
		run_close(&runs[leaver]);
		assert_int_equal(bot_runs_on(&bot, lease, 4), BOTS__LEASE_STATE__ACTIVE);
		bot_complete_exit(&bot, lease, 0);
		assert_int_equal(run_finish(&runs[!leaver]), 0);
	}
	bot_close(&bot);
}

static void test_detached_goes_on(void **state)
{
	struct fixture *fixture = *state;
	const struct rpc_method method = {EXEC_SERVICE, "Execute"};
	const struct rpc_header header = {"lazyroot-detached", slice_of("1")};
	const struct rpc_options options = {.headers = &header, .n_headers = 1};
	Reapi__ExecuteRequest request = REAPI__EXECUTE_REQUEST__INIT;
	struct run run = {.fixture = fixture};
	struct bot bot = bot_open(fixture, "b1", NULL);
	Bots__Lease *lease;
	bool is_broken;

	request.action_digest = put_action(fixture, NULL);
	assert_no_error(rpc_stream_open(fixture->chan, &method, &options, &run.stream));
	assert_no_error(rpc_stream_send_message(run.stream, &request.base, &is_broken));
	assert_no_error(rpc_stream_close_send(run.stream));
	lease = bot_take(&bot);
	run_close(&run);
	assert_int_equal(bot_runs_on(&bot, lease, 4), BOTS__LEASE_STATE__ACTIVE);
	bot_complete_exit(&bot, lease, 0);
	bot_close(&bot);
}

static void test_action_that_no_worker_could_run_says_why(void **state)
{
	static const char *const has[] = {"OSFamily", "linux", "cores", "8", NULL};
	static const char *const value[] = {"cores", "8", "OSFamily", "Linux", NULL};
	static const char *const name[] = {"container-image", "docker://x", NULL};
	struct fixture *fixture = *state;
	const struct action_options other = {.properties = value},
				    image = {.properties = name};
	struct bot bot =
		bot_open(fixture, "b1", &(struct bot_options){.properties = has});
	struct run run;

	error_free(bot_update_status(&bot, NULL, BOTS__BOT_STATUS__OK, 100));
	run = run_execute(fixture, put_action(fixture, &other), false, 0);
	assert_int_equal(run_finish(&run), ERROR_FAILED_PRECONDITION);
	assert_non_null(strstr(run.response->status->message, "\"OSFamily\""));
	assert_non_null(strstr(run.response->status->message, "\"Linux\""));
	assert_non_null(strstr(run.response->status->message, "\"linux\""));
	run = run_execute(fixture, put_action(fixture, &image), false, 0);
	assert_int_equal(run_finish(&run), ERROR_FAILED_PRECONDITION);
	assert_non_null(strstr(run.response->status->message, "\"container-image\""));
	assert_non_null(strstr(run.response->status->message, "\"cores\""));
	bot_close(&bot);
}

/* As if the server had been killed before it wrote them down. */
static void forget_operations(const struct fixture *fixture)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		_cleanup_free_ char *path =
			alloc_printf("%s/operations.sqlite%s", fixture->dir, suffixes[i]);

		(void)unlink(path);
	}
}

static void test_operation_of_before_a_restart_is_begun_again(void **state)
{
	struct fixture *fixture = *state;
	struct run run = run_execute(fixture, put_action(fixture, NULL), false, 0);
	Longrunning__GetOperationRequest get = LONGRUNNING__GET_OPERATION_REQUEST__INIT;
	struct bot bot = bot_open(fixture, "b1", NULL);
	const char *name;

	(void)bot_take(&bot);
	run_until(&run, REAPI__EXECUTION_STAGE__VALUE__EXECUTING);
	name = run.operation->name;
	run_close(&run);
	(void)server_stop(fixture, SIGKILL);
	forget_operations(fixture);
	server_start(fixture);
	get.name = name;
	assert_error(call(fixture, OPS_SERVICE, "GetOperation", &get.base, NULL),
		     ERROR_UNAVAILABLE, name);
	run = run_wait(fixture, name);
	bot = bot_open(fixture, "b1", NULL);
	bot_complete_exit(&bot, bot_take(&bot), 0);
	assert_int_equal(run_finish(&run), 0);
	bot_close(&bot);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream_of_a_long_run_is_not_silent),
		cmocka_unit_test(test_what_nobody_waits_for_is_cancelled),
		cmocka_unit_test(test_what_another_waits_for_goes_on),
		cmocka_unit_test(test_of_two_that_were_joined_either_may_leave),
		cmocka_unit_test(test_detached_goes_on),
		cmocka_unit_test(test_action_that_no_worker_could_run_says_why),
		cmocka_unit_test(test_operation_of_before_a_restart_is_begun_again),
		/* the last one: it leaves an action that waits */
		cmocka_unit_test(test_stream_says_again_that_no_worker_is_there),
	};

	return cmocka_run_group_tests(tests, setup, fixture_teardown);
}
