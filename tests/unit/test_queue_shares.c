/* What one client may have of the queue, and whose turn it is: no sockets, no time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/tree/hasher.h"
#include "server/response.h"

static int setup(void **state)
{
	*state = queue_new(NULL);
	return 0;
}

static int teardown(void **state)
{
	queue_free(*state);
	return 0;
}

static struct queue_spec spec_of(const char *client, const char *action)
{
	struct queue_spec spec = {.instance = "", .limit_ns = NS_PER_S, .client = client};
	static int64_t wall;

	spec.wall_ns = ++wall;
	spec.action = slice_of(action);
	hasher_digest(action, strlen(action), &spec.action_digest);
	return spec;
}

static void submit(struct queue *queue, const char *client, const char *action)
{
	struct queue_spec spec = spec_of(client, action);
	char name[QUEUE_NAME_MAX];

	assert_null(queue_submit(queue, &spec, 0, name));
}

/* ---- turns ---------------------------------------------------------------------- */

struct bot {
	char name[QUEUE_NAME_MAX];
	struct queue_poll poll;
	struct arena arena;
	struct queue_lease_told *leases;
	size_t n_leases;
};

static void ignore_wake(void *ctx)
{
	(void)ctx;
}

static void bot_say(struct queue *queue, struct bot *bot, enum queue_lease_state state)
{
	const struct queue_claim claim = {.id = bot->n_leases ? bot->leases[0].id : "",
					  .state = state,
					  .response = slice_of("")};
	const struct queue_report report = {&claim, bot->n_leases, true, false};

	size_t n_strange = 0;

	assert_null(
		queue_poll_begin(queue, bot->name, &report, &bot->poll, 0, &n_strange));
	assert_true(queue_poll_answer(queue, &bot->poll, false, &bot->arena, &bot->leases,
				      &bot->n_leases));
	queue_poll_end(queue, &bot->poll, false, 0);
}

/* Ends what the bot runs, if anything, and begins the next, which must be this. */
static void bot_runs(struct queue *queue, struct bot *bot, const char *action)
{
	bot_say(queue, bot, LEASE_COMPLETED);
	assert_int_equal(bot->n_leases, 1);
	assert_true(slice_is(bot->leases[0].action, action));
	bot_say(queue, bot, LEASE_ACTIVE);
}

static void test_shares_clients_take_turns(void **state)
{
	const struct queue_bot config = {
		.instance = "", .bot_id = "b", .owner = "me", .capacity = 1};
	struct bot bot = {.arena = ARENA_INIT(1 << 20), .poll.wake = ignore_wake};
	struct queue *queue = *state;

	for (int i = 0; i < 100; i++) {
		char action[16];

		(void)snprintf(action, sizeof(action), "many%d", i);
		submit(queue, "many", action);
	}
	assert_null(queue_session_open(queue, &config, 0, bot.name));
	bot_runs(queue, &bot, "many0");
	submit(queue, "few", "few0");
	submit(queue, "few", "few1");
	bot_runs(queue, &bot, "many1");
	bot_runs(queue, &bot, "few0");
	bot_runs(queue, &bot, "many2");
	bot_runs(queue, &bot, "few1");
	bot_runs(queue, &bot, "many3");
	arena_deinit(&bot.arena);
}

/* ---- shares --------------------------------------------------------------------- */

static void test_shares_of_the_operations(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("many", "same");
	char name[QUEUE_NAME_MAX];
	struct error *err;

	for (int i = 0; i < QUEUE_CLIENT_OPERATIONS; i++)
		submit(queue, "many", "same");
	err = queue_submit(queue, &spec, 0, name);
	assert_int_equal(error_code(err), ERROR_RESOURCE_EXHAUSTED);
	error_free(err);
	submit(queue, "other", "same");
}

static void test_shares_of_the_bytes(void **state)
{
	struct queue *queue = *state;
	_cleanup_free_ uint8_t *large = alloc_zero(QUEUE_CLIENT_BYTES / 4);
	struct slice response = {large, QUEUE_CLIENT_BYTES / 4};
	struct queue_spec spec = spec_of("many", "a");
	struct queue_watch watches[4] = {0};
	char name[QUEUE_NAME_MAX];
	struct error *err;

	for (int i = 0; i < 4; i++) {
		watches[i].wake = ignore_wake;
		assert_null(queue_submit_done(queue, &spec, response, 0, name));
		assert_null(queue_watch(queue, name, &watches[i]));
	}
	err = queue_submit_done(queue, &spec, response, 0, name);
	assert_int_equal(error_code(err), ERROR_RESOURCE_EXHAUSTED);
	error_free(err);
	queue_unwatch(queue, &watches[0], 0); /* it was read: there is room again */
	assert_null(queue_submit_done(queue, &spec, response, 0, name));
	for (int i = 1; i < 4; i++)
		queue_unwatch(queue, &watches[i], 0);
}

static void test_shares_completed_operations_are_kept_by_bytes(void **state)
{
	struct queue *queue = *state;
	_cleanup_free_ uint8_t *large = alloc_zero(QUEUE_RETAINED_BYTES / 4);
	struct slice response = {large, QUEUE_RETAINED_BYTES / 4};
	struct queue_spec spec = spec_of(NULL, "a");
	char name[QUEUE_NAME_MAX];
	struct queue_stats stats;

	for (int i = 0; i < 8; i++)
		assert_null(queue_submit_done(queue, &spec, response, i, name));
	queue_tick(queue, QUEUE_UNREAD_NS + 8);
	queue_stats(queue, &stats);
	assert_int_equal(stats.n_operations, 4);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_shares_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(clients_take_turns),
		T(of_the_operations),
		T(of_the_bytes),
		T(completed_operations_are_kept_by_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
