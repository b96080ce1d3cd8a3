/* What goes on after a restart, and how. */
#include "tests/unit/restore_fixture.h"

/* ---- jobs ----------------------------------------------------------------------- */

static void test_restore_order_by_priority_turn_and_age(void **state)
{
	static const struct {
		const char *action, *client;
		int32_t priority;
	} jobs[] = {{"1", "many", 0}, {"2", "many", 0}, {"3", "many", 0},
		    {"4", "few", 0},  {"5", "late", 1}, {"6", "many", -1}};
	static const char *const order[] = {"6", "1", "4", "2", "3", "5"};
	struct world *world = *state;
	struct bot bot;

	for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
		struct queue_spec spec = spec_of(jobs[i].action);

		spec.client = jobs[i].client;
		spec.priority = jobs[i].priority;
		(void)submit_spec(world, &spec);
	}
	world_restart(world);
	assert_int_equal(world->restored.n_queued, 6);
	assert_int_equal(world->restored.n_left_out, 0);
	bot_open(world, &bot, 6);
	bot_report(world, &bot, NULL, LEASE_PENDING, NOW);
	assert_int_equal(bot.n_leases, 6);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		assert_true(slice_is(bot.leases[i].action, order[i]));
}

static void test_restore_a_new_client_takes_turns_with_the_old(void **state)
{
	static const char *const order[] = {"2", "new", "3"};
	struct world *world = *state;
	struct queue_spec spec;
	struct bot bot;

	bot_open(world, &bot, 1);
	for (const char *const *a = (const char *const[]){"0", "1", "2", "3", NULL}; *a;
	     a++)
		(void)submit(world, *a);
	bot_report(world, &bot, bot_take(world, &bot, 0), LEASE_COMPLETED, 0);
	world_restart(world);
	bot_report(world, &bot, bot.leases[0].id, LEASE_ACTIVE, NOW);
	spec = spec_of("new");
	spec.client = "other";
	(void)submit_spec(world, &spec);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		bot_report(world, &bot, bot.leases[0].id, LEASE_ACTIVE, NOW);
		bot_report(world, &bot, bot.leases[0].id, LEASE_COMPLETED, NOW);
		assert_int_equal(bot.n_leases, 1);
		assert_true(slice_is(bot.leases[0].action, order[i]));
	}
}

static void test_restore_job_keeps_all_that_was_asked(void **state)
{
	static const struct queue_property required[] = {{"OSFamily", "linux"},
							 {"x", ""}};
	static const struct queue_property has[] = {{"OSFamily", "linux"}, {"x", ""}};
	struct world *world = *state;
	struct queue_spec spec = spec_of("a");
	struct queue_bot config = bot_config("good", "me", 2);
	struct queue_lease_job job;
	struct bot plain, good = {0};

	spec.required = required;
	spec.n_required = ARRAY_SIZE(required);
	spec.do_not_cache = true;
	(void)submit_spec(world, &spec);
	(void)submit_spec(world, &spec);
	world_restart(world);
	bot_open(world, &plain, 2);
	bot_report(world, &plain, NULL, LEASE_PENDING, NOW);
	assert_int_equal(plain.n_leases, 0);
	config.properties = has;
	config.n_properties = ARRAY_SIZE(has);
	assert_null(queue_session_open(world->queue, &config, NOW, good.name));
	bot_report(world, &good, NULL, LEASE_PENDING, NOW);
	assert_int_equal(good.n_leases, 2);
	assert_true(queue_lease_find(world->queue, good.name, good.leases[0].id,
				     &world->arena, &job));
	assert_true(job.do_not_cache);
	assert_int_equal(job.wall_ns, spec.wall_ns);
}

static void test_restore_identical_actions_are_joined_still(void **state)
{
	struct world *world = *state;
	struct name one = submit(world, "a"), two = submit(world, "a"), three;
	struct queue_stats stats;
	struct bot bot;

	world_restart(world);
	three = submit(world, "a");
	queue_stats(world->queue, &stats);
	assert_int_equal(stats.n_joined, 1);
	assert_int_equal(stats.n_queued, 1);
	bot_open(world, &bot, 1);
	bot_report(world, &bot, bot_take(world, &bot, NOW), LEASE_COMPLETED, NOW);
	assert_int_equal(code_of(world, &one), ERROR_OK);
	assert_int_equal(code_of(world, &two), ERROR_OK);
	assert_int_equal(code_of(world, &three), ERROR_OK);
}

/* ---- bots ----------------------------------------------------------------------- */

static void test_restore_bot_goes_on_with_its_lease(void **state)
{
	struct world *world = *state;
	struct name name = submit(world, "a");
	const char *id;
	struct bot bot;

	bot_open(world, &bot, 1);
	id = bot_take(world, &bot, 0);
	for (int i = 0; i < 3; i++) {
		world_restart(world);
		assert_int_equal(world->restored.n_running, 1);
		assert_int_equal(stage_of(world, &name), QUEUE_EXECUTING);
	}
	bot_report(world, &bot, id, LEASE_ACTIVE, NOW);
	assert_int_equal(bot.n_strange, 0);
	assert_int_equal(bot.n_leases, 1);
	assert_int_equal(bot.leases[0].state, LEASE_ACTIVE);
	bot_report(world, &bot, id, LEASE_COMPLETED, NOW);
	assert_int_equal(code_of(world, &name), ERROR_OK);
}

static void test_restore_result_of_meanwhile_is_taken(void **state)
{
	struct world *world = *state;
	struct name name = submit(world, "a");
	struct queue_lease_job job;
	const char *id;
	struct bot bot;

	bot_open(world, &bot, 1);
	id = bot_take(world, &bot, 0);
	world_restart(world);
	assert_true(queue_lease_find(world->queue, bot.name, id, &world->arena, &job));
	bot_report(world, &bot, id, LEASE_COMPLETED, NOW);
	assert_int_equal(bot.n_strange, 0);
	assert_int_equal(code_of(world, &name), ERROR_OK);
}

/* The bot said that it takes an offer, and nobody wrote that down. */
static void test_restore_offer_that_was_taken_is_not_given_to_another(void **state)
{
	struct world *world = *state;
	struct name name = submit(world, "a");
	struct queue_bot config = bot_config("other", "me", 1);
	struct bot bot, other = {0};

	bot_open(world, &bot, 1);
	bot_report(world, &bot, NULL, LEASE_PENDING, 0);
	(void)world_write(world);
	bot_report(world, &bot, bot.leases[0].id, LEASE_ACTIVE, 0);
	world_restart_after(world, 0);
	assert_null(queue_session_open(world->queue, &config, NOW, other.name));
	bot_report(world, &other, NULL, LEASE_PENDING, NOW);
	assert_int_equal(other.n_leases, 0);
	bot_report(world, &bot, bot.leases[0].id, LEASE_ACTIVE, NOW);
	assert_int_equal(bot.n_strange, 0);
	assert_int_equal(stage_of(world, &name), QUEUE_EXECUTING);
}

static void test_restore_bot_that_stays_away_loses_its_job(void **state)
{
	struct world *world = *state;
	struct name name = submit(world, "a");
	struct queue_stats stats;
	struct bot bot;

	bot_open(world, &bot, 1);
	/* more often than bots may die with a job */
	for (int i = 0; i <= QUEUE_TRIES_MAX; i++) {
		(void)bot_take(world, &bot, NOW);
		world_restart(world);
		queue_tick(world->queue, NOW + QUEUE_RETURN_NS - 1);
		assert_int_equal(stage_of(world, &name), QUEUE_EXECUTING);
		queue_tick(world->queue, NOW + QUEUE_RETURN_NS);
		assert_int_equal(stage_of(world, &name), QUEUE_QUEUED);
		queue_stats(world->queue, &stats);
		assert_int_equal(stats.n_sessions, 0);
		bot_open(world, &bot, 1);
	}
}

static void test_restore_bot_that_no_longer_has_it_gives_it_back(void **state)
{
	struct world *world = *state;
	struct name name = submit(world, "a");
	struct bot bot;

	bot_open(world, &bot, 1);
	for (int i = 0; i <= QUEUE_TRIES_MAX; i++) {
		(void)bot_take(world, &bot, NOW);
		world_restart(world);
	}
	bot_report(world, &bot, NULL, LEASE_PENDING, NOW);
	assert_int_equal(stage_of(world, &name), QUEUE_QUEUED);
	assert_int_equal(bot.n_leases, 1);
	assert_int_equal(bot.leases[0].state, LEASE_PENDING);
}

static void test_restore_bot_that_was_started_anew_takes_over(void **state)
{
	struct world *world = *state;
	struct name name = submit(world, "a");
	struct bot bot;

	bot_open(world, &bot, 1);
	for (int i = 0; i <= QUEUE_TRIES_MAX; i++) {
		(void)bot_take(world, &bot, NOW);
		world_restart(world);
		bot_open(world, &bot, 1);
		assert_int_equal(stage_of(world, &name), QUEUE_QUEUED);
	}
	/* from here on it is as ever */
	for (int i = 0; i < QUEUE_TRIES_MAX; i++) {
		(void)bot_take(world, &bot, NOW);
		bot_open(world, &bot, 1);
	}
	assert_int_equal(code_of(world, &name), ERROR_FAILED_PRECONDITION);
}

/* It lost sight of its session, not of what it does. */
static void test_restore_bot_with_a_new_session_keeps_what_it_holds(void **state)
{
	struct world *world = *state;
	struct name one = submit(world, "a"), two = submit(world, "b");
	struct queue_bot config = bot_config("bot", "me", 2);
	const char *held[] = {"none such", NULL};
	struct bot bot;

	bot_open(world, &bot, 1);
	held[1] = bot_take(world, &bot, 0);
	config.held = held;
	config.n_held = ARRAY_SIZE(held);
	for (int i = 0; i < 3; i++) {
		if (i < 2)
			world_restart(world);
		assert_null(queue_session_open(world->queue, &config, NOW, bot.name));
		assert_int_equal(stage_of(world, &one), QUEUE_EXECUTING);
	}
	bot_report(world, &bot, held[1], LEASE_COMPLETED, NOW);
	assert_int_equal(bot.n_strange, 0);
	assert_int_equal(code_of(world, &one), ERROR_OK);
	assert_int_equal(stage_of(world, &two), QUEUE_QUEUED);
	assert_int_equal(bot.n_leases, 1);
}

static void test_restore_deaths_before_still_count(void **state)
{
	struct world *world = *state;
	struct name name = submit(world, "a");
	struct bot bot;

	bot_open(world, &bot, 1);
	for (int i = 0; i < QUEUE_TRIES_MAX; i++) {
		world_restart(world);
		bot_open(world, &bot, 1);
		(void)bot_take(world, &bot, NOW);
		bot_open(world, &bot, 1);
	}
	assert_int_equal(code_of(world, &name), ERROR_FAILED_PRECONDITION);
}

static void test_restore_session_is_its_owners_only(void **state)
{
	struct world *world = *state;
	struct name name = submit(world, "a");
	struct queue_bot thief = bot_config("bot", "thief", 1);
	char session[QUEUE_NAME_MAX];
	struct error *err;
	struct bot bot;

	bot_open(world, &bot, 1);
	(void)bot_take(world, &bot, 0);
	world_restart(world);
	assert_false(queue_session_is_of(world->queue, bot.name, "thief"));
	assert_true(queue_session_is_of(world->queue, bot.name, "me"));
	err = queue_session_open(world->queue, &thief, NOW, session);
	assert_int_equal(error_code(err), ERROR_ALREADY_EXISTS);
	error_free(err);
	assert_int_equal(stage_of(world, &name), QUEUE_EXECUTING);
}

static void test_restore_run_over_its_limit_ends(void **state)
{
	struct world *world = *state;
	struct name name = submit(world, "a");
	struct bot bot;

	bot_open(world, &bot, 1);
	(void)bot_take(world, &bot, 0);
	(void)world_write(world);
	world_restart_after(world, 120 * S + QUEUE_SLACK_NS + S);
	queue_tick(world->queue, NOW);
	assert_int_equal(code_of(world, &name), ERROR_DEADLINE_EXCEEDED);
}

/* ---- operations ----------------------------------------------------------------- */

static void test_restore_completed_ones_can_be_asked_for(void **state)
{
	struct world *world = *state;
	struct queue_spec spec = spec_of("cached");
	struct name ran = submit(world, "a"), joined = submit(world, "a"), cached;
	struct queue_watch watch = {.wake = world_wake, .ctx = &world->n_wakes};
	struct queue_state seen = {0};
	bool is_stopped;
	struct bot bot;

	assert_null(queue_submit_done(world->queue, &spec, slice_of(""), 0, cached.text));
	bot_open(world, &bot, 1);
	bot_report(world, &bot, bot_take(world, &bot, 0), LEASE_COMPLETED, 0);
	world_restart(world);
	assert_int_equal(world->restored.n_completed, 3);
	assert_int_equal(code_of(world, &ran), ERROR_OK);
	assert_int_equal(code_of(world, &joined), ERROR_OK);
	assert_null(queue_watch(world->queue, cached.text, &watch));
	assert_true(queue_watch_read(world->queue, &watch, &world->arena, &seen,
				     &is_stopped));
	assert_int_equal(seen.stage, QUEUE_COMPLETED);
	queue_bytes_unref(seen.shared);
	queue_unwatch(world->queue, &watch, NOW);
	/* an hour after their end, not after the restart */
	world_restart_after(world, QUEUE_RETAINED_NS - S);
	queue_tick(world->queue, NOW);
	assert_int_equal(code_of(world, &ran), ERROR_OK);
	queue_tick(world->queue, NOW + S);
	assert_unknown(world, &ran);
	(void)world_write(world);
	assert_int_equal(world_count(world, QUEUE_KIND_OPERATION), 0);
	assert_int_equal(world_count(world, QUEUE_KIND_JOB), 0);
}

static void test_restore_cancelled_ones_stay_so(void **state)
{
	struct world *world = *state;
	struct name alone = submit(world, "a"), one = submit(world, "b"),
		    two = submit(world, "b");
	struct bot bot;

	(void)world_write(world);
	assert_null(queue_cancel(world->queue, alone.text, 0));
	assert_null(queue_cancel(world->queue, one.text, 0));
	world_restart(world);
	assert_int_equal(world->restored.n_left_out, 0);
	assert_int_equal(code_of(world, &alone), ERROR_CANCELLED);
	assert_int_equal(code_of(world, &one), ERROR_CANCELLED);
	assert_int_equal(stage_of(world, &two), QUEUE_QUEUED);
	bot_open(world, &bot, 2);
	bot_report(world, &bot, bot_take(world, &bot, NOW), LEASE_COMPLETED, NOW);
	assert_int_equal(code_of(world, &two), ERROR_OK);
	assert_int_equal(code_of(world, &one), ERROR_CANCELLED);
}

static void test_restore_of_a_lease_that_was_cancelled_ends_the_run(void **state)
{
	struct world *world = *state;
	struct name name = submit(world, "a");
	const char *id;
	struct bot bot;

	bot_open(world, &bot, 1);
	id = bot_take(world, &bot, 0);
	assert_null(queue_cancel(world->queue, name.text, 0));
	world_restart(world);
	bot_report(world, &bot, id, LEASE_ACTIVE, NOW);
	assert_int_equal(bot.n_leases, 0); /* what is not named is let go */
	assert_int_equal(code_of(world, &name), ERROR_CANCELLED);
}

static void test_restore_who_waited_has_time_to_come_back(void **state)
{
	struct world *world = *state;
	struct queue_spec spec = spec_of("detached");
	struct name left = submit(world, "a"), detached;

	spec.is_detached = true;
	detached = submit_spec(world, &spec);
	(void)world_write(world);
	world_restart_after(world, 3600 * S);
	queue_tick(world->queue, NOW + 60 * S - 1);
	assert_int_equal(stage_of(world, &left), QUEUE_QUEUED);
	queue_tick(world->queue, NOW + 60 * S);
	assert_int_equal(code_of(world, &left), ERROR_CANCELLED);
	queue_tick(world->queue, NOW + 3600 * S);
	assert_int_equal(stage_of(world, &detached), QUEUE_QUEUED);
}

static void test_restore_names_of_pages_stay_good(void **state)
{
	struct world *world = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT(1 << 20);
	const struct queue_filter filter = {.instance = "", .stages = ~0u};
	struct queue_state *list;
	struct name second, third;
	uint64_t after;
	bool has_more;

	(void)submit(world, "a");
	second = submit(world, "b");
	assert_int_equal(
		queue_list(world->queue, &filter, 0, 1, &arena, &list, &has_more), 1);
	after = list[0].serial;
	world_restart(world);
	third = submit(world, "c");
	assert_int_equal(
		queue_list(world->queue, &filter, after, 9, &arena, &list, &has_more), 2);
	assert_string_equal(list[0].name, second.text);
	assert_string_equal(list[1].name, third.text);
}

static void test_restore_request_metadata_stays_with_it(void **state)
{
	struct world *world = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT(1 << 20);
	Reapi__RequestMetadata metadata = REAPI__REQUEST_METADATA__INIT;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct queue_filter filter = {.instance = "", .stages = ~0u};
	struct queue_spec spec = spec_of("a");
	struct queue_state *list, one;
	struct name name;
	bool has_more;

	metadata.tool_invocation_id = "build 7";
	metadata.target_id = "//x:y";
	rpc_encode(&metadata.base, &bytes);
	spec.request = buf_slice(&bytes);
	name = submit_spec(world, &spec);
	(void)submit(world, "b");
	world_restart(world);
	assert_null(queue_get(world->queue, name.text, &arena, &one));
	assert_true(slice_equal(one.request, buf_slice(&bytes)));
	filter.request[QUEUE_REQUEST_INVOCATION] = slice_of("build 7");
	filter.request[QUEUE_REQUEST_TARGET] = slice_of("//x:y");
	assert_int_equal(
		queue_list(world->queue, &filter, 0, 9, &arena, &list, &has_more), 1);
	assert_string_equal(list[0].name, name.text);
	filter.request[QUEUE_REQUEST_CORRELATED] = slice_of("x");
	assert_int_equal(
		queue_list(world->queue, &filter, 0, 9, &arena, &list, &has_more), 0);
}

static void test_restore_instances_stay_apart(void **state)
{
	struct world *world = *state;
	struct queue_spec spec = spec_of("a");
	struct queue_stats stats;
	struct bot bot;
	struct name other;

	(void)submit_spec(world, &spec);
	spec.instance = "b";
	other = submit_spec(world, &spec);
	world_restart(world);
	queue_stats(world->queue, &stats);
	assert_int_equal(stats.n_queued, 2);
	bot_open(world, &bot, 2);
	bot_report(world, &bot, bot_take(world, &bot, NOW), LEASE_COMPLETED, NOW);
	assert_int_equal(bot.n_leases, 0);
	assert_int_equal(stage_of(world, &other), QUEUE_QUEUED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_restore_order_by_priority_turn_and_age, world_setup,
			world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_a_new_client_takes_turns_with_the_old, world_setup,
			world_teardown),
		cmocka_unit_test_setup_teardown(test_restore_job_keeps_all_that_was_asked,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_identical_actions_are_joined_still, world_setup,
			world_teardown),
		cmocka_unit_test_setup_teardown(test_restore_bot_goes_on_with_its_lease,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_restore_result_of_meanwhile_is_taken,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_offer_that_was_taken_is_not_given_to_another,
			world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_bot_that_stays_away_loses_its_job, world_setup,
			world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_bot_that_no_longer_has_it_gives_it_back, world_setup,
			world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_bot_that_was_started_anew_takes_over, world_setup,
			world_teardown),
		cmocka_unit_test_setup_teardown(test_restore_deaths_before_still_count,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_bot_with_a_new_session_keeps_what_it_holds,
			world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_restore_session_is_its_owners_only,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_restore_run_over_its_limit_ends,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_completed_ones_can_be_asked_for, world_setup,
			world_teardown),
		cmocka_unit_test_setup_teardown(test_restore_cancelled_ones_stay_so,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_of_a_lease_that_was_cancelled_ends_the_run,
			world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_who_waited_has_time_to_come_back, world_setup,
			world_teardown),
		cmocka_unit_test_setup_teardown(test_restore_names_of_pages_stay_good,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_request_metadata_stays_with_it, world_setup,
			world_teardown),
		cmocka_unit_test_setup_teardown(test_restore_instances_stay_apart,
						world_setup, world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
