/* Whose a bot's session is: who may take it over, who may report in it, what that costs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/base/clock.h"
#include "server/queue.h"

struct bot {
	char name[QUEUE_NAME_MAX];
	struct queue_poll poll;
	struct arena arena;
	struct queue_lease_told *leases;
	size_t n_leases, n_strange;
};

static const struct queue_bot config_of_me = {
	.instance = "", .bot_id = "b", .owner = "me", .capacity = 1};
static const struct queue_bot config_of_you = {
	.instance = "", .bot_id = "b", .owner = "you", .capacity = 1};

static void no_wake(void *ctx)
{
	(void)ctx;
}

static void bot_open(struct queue *queue, struct bot *bot, const struct queue_bot *config)
{
	*bot = (struct bot){.arena = ARENA_INIT(1 << 20), .poll.wake = no_wake};
	assert_null(queue_session_open(queue, config, 0, bot->name));
}

/* A poll; with an id it says so of that lease. True: it is answered at once. */
static bool bot_poll(struct queue *queue, struct bot *bot, const char *id,
		     enum queue_lease_state state)
{
	const struct queue_claim claim = {id, state, .response = slice_of("")};
	const struct queue_report report = {&claim, id ? 1 : 0, true, false};

	assert_null(queue_poll_begin(queue, bot->name, &report, &bot->poll, 0,
				     &bot->n_strange));
	return queue_poll_answer(queue, &bot->poll, false, &bot->arena, &bot->leases,
				 &bot->n_leases);
}

/* Takes the one job there is; its poll waits for more. */
static const char *bot_take(struct queue *queue, struct bot *bot)
{
	const char *id;

	assert_true(bot_poll(queue, bot, NULL, LEASE_PENDING));
	assert_int_equal(bot->n_leases, 1);
	id = bot->leases[0].id;
	queue_poll_end(queue, &bot->poll, false, 0);
	assert_true(bot_poll(queue, bot, id, LEASE_ACTIVE));
	queue_poll_end(queue, &bot->poll, false, 0);
	assert_false(bot_poll(queue, bot, id, LEASE_ACTIVE));
	return id;
}

static void bot_close(struct queue *queue, struct bot *bot)
{
	queue_poll_end(queue, &bot->poll, false, 0);
	arena_deinit(&bot->arena);
}

static void submit(struct queue *queue, char name[static QUEUE_NAME_MAX])
{
	const struct queue_spec spec = {
		.instance = "", .action = slice_of("action"), .limit_ns = 1000000000};

	assert_null(queue_submit(queue, &spec, 0, name));
}

static enum queue_stage stage_of(struct queue *queue, const char *name)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(1 << 20);
	struct queue_state state;

	assert_null(queue_get(queue, name, &arena, &state));
	(void)queue_bytes_unref(state.shared);
	return state.stage;
}

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

/* ---- claims --------------------------------------------------------------------- */

static void test_owner_other_bot_of_the_name_is_refused(void **state)
{
	struct queue_bot elsewhere = config_of_you;
	struct queue *queue = *state;
	char name[QUEUE_NAME_MAX];
	struct error *err;
	struct bot bot;

	bot_open(queue, &bot, &config_of_me);
	err = queue_session_open(queue, &config_of_you, 0, name);
	assert_int_equal(error_code(err), ERROR_ALREADY_EXISTS);
	assert_non_null(strstr(error_text(err), "\"b\""));
	error_free(err);
	assert_false(bot_poll(queue, &bot, NULL, LEASE_PENDING)); /* it goes on */
	queue_poll_end(queue, &bot.poll, false, 0);
	elsewhere.instance = "elsewhere";
	assert_null(queue_session_open(queue, &elsewhere, 0, name));
	queue_tick(queue, QUEUE_SILENCE_NS); /* when it is gone, its name is free */
	assert_null(queue_session_open(queue, &config_of_you, QUEUE_SILENCE_NS, name));
	bot_close(queue, &bot);
}

static void test_owner_session_of_a_credential_needs_it(void **state)
{
	struct queue_bot bot = config_of_you;
	struct queue *queue = *state;
	char name[QUEUE_NAME_MAX];

	assert_null(queue_session_open(queue, &bot, 0, name));
	assert_true(queue_session_is_of(queue, name, "me")); /* who knows the name */
	bot.is_owner_proven = true;
	assert_null(queue_session_open(queue, &bot, 0, name));
	assert_false(queue_session_is_of(queue, name, "me"));
	assert_true(queue_session_is_of(queue, name, "you"));
	assert_true(queue_session_is_of(queue, "nothing", "me"));
}

/* A running job whose bot is replaced as often as bots may be lost with it. */
static enum queue_stage stage_after_takeovers(struct queue *queue, bool polls)
{
	char name[QUEUE_NAME_MAX];

	submit(queue, name);
	for (unsigned int i = 0; i < QUEUE_TRIES_MAX; i++) {
		struct bot bot, next;

		bot_open(queue, &bot, &config_of_me);
		(void)bot_take(queue, &bot);
		if (!polls)
			queue_poll_end(queue, &bot.poll, true, 0);
		bot_open(queue, &next, &config_of_me);
		bot_close(queue, &bot);
		bot_close(queue, &next);
	}
	return stage_of(queue, name);
}

static void test_owner_takes_over_from_a_live_bot_without_loss(void **state)
{
	assert_int_equal(stage_after_takeovers(*state, true), QUEUE_QUEUED);
}

static void test_owner_that_died_and_came_back_is_a_loss(void **state)
{
	assert_int_equal(stage_after_takeovers(*state, false), QUEUE_COMPLETED);
}

static void test_owner_of_another_lease_is_not_heard(void **state)
{
	const struct queue_bot other = {
		.instance = "", .bot_id = "thief", .owner = "me", .capacity = 1};
	struct queue *queue = *state;
	char name[QUEUE_NAME_MAX];
	struct bot bot, thief;
	const char *id;

	submit(queue, name);
	bot_open(queue, &bot, &config_of_me);
	id = bot_take(queue, &bot);
	assert_int_equal(bot.n_strange, 0);
	bot_open(queue, &thief, &other);
	assert_true(bot_poll(queue, &thief, id, LEASE_COMPLETED));
	assert_int_equal(thief.n_strange, 1);
	assert_int_equal(stage_of(queue, name), QUEUE_EXECUTING);
	queue_poll_end(queue, &thief.poll, false, 0);
	assert_true(bot_poll(queue, &thief, id, LEASE_CANCELLED));
	assert_int_equal(stage_of(queue, name), QUEUE_EXECUTING);
	bot_close(queue, &bot);
	bot_close(queue, &thief);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_owner_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(other_bot_of_the_name_is_refused),
		T(session_of_a_credential_needs_it),
		T(takes_over_from_a_live_bot_without_loss),
		T(that_died_and_came_back_is_a_loss),
		T(of_another_lease_is_not_heard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
