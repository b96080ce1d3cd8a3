/* The queue as a state machine: no sockets, and time is an argument. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/tree/hasher.h"
#include "server/response.h"

#define S NS_PER_S

struct bot {
	char name[QUEUE_NAME_MAX];
	struct queue_poll poll;
	int n_wakes;
	struct arena arena;
	struct queue_lease_told *leases;
	size_t n_leases, n_strange;
};

struct client {
	char name[QUEUE_NAME_MAX];
	struct queue_watch watch;
	int n_wakes;
	struct arena arena;
	struct queue_state state;
};

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

static void count_wake(void *ctx)
{
	++*(int *)ctx;
}

static struct queue_spec spec_of(const char *action)
{
	struct queue_spec spec = {.instance = "", .limit_ns = 60 * S};
	static int64_t wall;

	spec.wall_ns = ++wall;
	spec.action = slice_of(action);
	hasher_digest(action, strlen(action), &spec.action_digest);
	return spec;
}

/* ---- clients -------------------------------------------------------------------- */

static void client_watch(struct queue *queue, struct client *client)
{
	client->arena = ARENA_INIT(1 << 20);
	client->watch.wake = count_wake;
	client->watch.ctx = &client->n_wakes;
	assert_null(queue_watch(queue, client->name, &client->watch));
}

static void client_submit(struct queue *queue, struct client *client,
			  const struct queue_spec *spec)
{
	*client = (struct client){0};
	assert_null(queue_submit(queue, spec, 0, client->name));
	client_watch(queue, client);
}

static bool client_read(struct queue *queue, struct client *client)
{
	bool is_stopped;

	client->state.shared = queue_bytes_unref(client->state.shared);
	return queue_watch_read(queue, &client->watch, &client->arena, &client->state,
				&is_stopped);
}

static void client_end(struct queue *queue, struct client *client)
{
	queue_unwatch(queue, &client->watch, 0);
	queue_unwatch(queue, &client->watch, 0);
	client->state.shared = queue_bytes_unref(client->state.shared);
	arena_deinit(&client->arena);
}

static enum error_code client_code(struct queue *queue, struct client *client)
{
	Reapi__ExecuteResponse *response;

	(void)client_read(queue, client);
	assert_int_equal(client->state.stage, QUEUE_COMPLETED);
	response = (void *)rpc_decode(&reapi__execute_response__descriptor,
				      client->state.response, &client->arena);
	assert_non_null(response);
	return response->status ? (enum error_code)response->status->code : ERROR_OK;
}

/* ---- bots ----------------------------------------------------------------------- */

static void bot_open(struct queue *queue, struct bot *bot, const char *id,
		     size_t capacity, const struct queue_property *properties, size_t n)
{
	const struct queue_bot config = {.instance = "",
					 .bot_id = id,
					 .owner = "me",
					 .properties = properties,
					 .n_properties = n,
					 .capacity = capacity};

	*bot = (struct bot){.arena = ARENA_INIT(1 << 20)};
	assert_null(queue_session_open(queue, &config, 0, bot->name));
	bot->poll.wake = count_wake;
	bot->poll.ctx = &bot->n_wakes;
}

/* A poll with these claims; true: it is answered at once. */
static bool bot_poll(struct queue *queue, struct bot *bot,
		     const struct queue_claim *claims, size_t n, int64_t now_ns)
{
	const struct queue_report report = {claims, n, true, false};

	assert_null(queue_poll_begin(queue, bot->name, &report, &bot->poll, now_ns,
				     &bot->n_strange));
	return queue_poll_answer(queue, &bot->poll, false, &bot->arena, &bot->leases,
				 &bot->n_leases);
}

static bool bot_hears(struct queue *queue, struct bot *bot)
{
	return queue_poll_answer(queue, &bot->poll, false, &bot->arena, &bot->leases,
				 &bot->n_leases);
}

static void bot_end_poll(struct queue *queue, struct bot *bot, int64_t now_ns)
{
	queue_poll_end(queue, &bot->poll, false, now_ns);
}

static bool bot_claim(struct queue *queue, struct bot *bot, const char *id,
		      enum queue_lease_state state, int64_t now_ns)
{
	const struct queue_claim claim = {
		.id = id, .state = state, .response = slice_of("")};

	return bot_poll(queue, bot, &claim, 1, now_ns);
}

/* Polls, takes the one lease offered, and makes it active. */
static const char *bot_take(struct queue *queue, struct bot *bot, int64_t now_ns)
{
	const char *id;

	assert_true(bot_poll(queue, bot, NULL, 0, now_ns));
	assert_int_equal(bot->n_leases, 1);
	assert_int_equal(bot->leases[0].state, LEASE_PENDING);
	bot_end_poll(queue, bot, now_ns);
	id = bot->leases[0].id;
	assert_true(bot_claim(queue, bot, id, LEASE_ACTIVE, now_ns));
	bot_end_poll(queue, bot, now_ns);
	return id;
}

static bool bot_got(const struct bot *bot, const char *action)
{
	return bot->n_leases > 0 &&
	       slice_is(bot->leases[bot->n_leases - 1].action, action);
}

static void bot_close(struct queue *queue, struct bot *bot)
{
	queue_poll_end(queue, &bot->poll, false, 0);
	arena_deinit(&bot->arena);
}

/* ---- claims --------------------------------------------------------------------- */

static void test_queue_job_wakes_the_bot_that_waits(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	struct client client;
	struct bot bot;

	bot_open(queue, &bot, "b", 1, NULL, 0);
	assert_false(bot_poll(queue, &bot, NULL, 0, 0));
	client_submit(queue, &client, &spec);
	assert_int_equal(bot.n_wakes, 1);
	assert_true(bot_hears(queue, &bot));
	assert_true(bot_got(&bot, "a"));
	client_end(queue, &client);
	bot_close(queue, &bot);
}

static void test_queue_life_of_a_job(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	struct queue_claim done = {.state = LEASE_COMPLETED, .response = slice_of("")};
	struct client client;
	struct bot bot;

	client_submit(queue, &client, &spec);
	assert_true(client_read(queue, &client));
	assert_int_equal(client.state.stage, QUEUE_QUEUED);
	assert_false(client_read(queue, &client));
	bot_open(queue, &bot, "b", 1, NULL, 0);
	done.id = bot_take(queue, &bot, 0);
	assert_int_equal(client.n_wakes, 1);
	assert_true(client_read(queue, &client));
	assert_int_equal(client.state.stage, QUEUE_EXECUTING);
	assert_true(bot_poll(queue, &bot, &done, 1, 0));
	assert_int_equal(bot.n_leases, 0);
	assert_int_equal(client.n_wakes, 2);
	assert_int_equal(client_code(queue, &client), ERROR_OK);
	/* Told again, it is dropped again. */
	bot_end_poll(queue, &bot, 0);
	assert_true(bot_poll(queue, &bot, &done, 1, 0));
	assert_int_equal(bot.n_leases, 0);
	client_end(queue, &client);
	bot_close(queue, &bot);
}

static void test_queue_lower_priority_first_equal_by_age(void **state)
{
	static const struct {
		const char *action;
		int32_t priority;
	} jobs[] = {{"third", 5}, {"fourth", 5}, {"first", -1}, {"second", 0}};
	static const char *const order[] = {"first", "second", "third", "fourth"};
	struct queue *queue = *state;
	struct bot bot;

	for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
		struct queue_spec spec = spec_of(jobs[i].action);
		char name[QUEUE_NAME_MAX];

		spec.priority = jobs[i].priority;
		assert_null(queue_submit(queue, &spec, 0, name));
	}
	bot_open(queue, &bot, "b", 4, NULL, 0);
	assert_true(bot_poll(queue, &bot, NULL, 0, 0));
	assert_int_equal(bot.n_leases, 4);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		assert_true(slice_is(bot.leases[i].action, order[i]));
	bot_close(queue, &bot);
}

static void test_queue_capacity_is_kept(void **state)
{
	struct queue *queue = *state;
	struct bot bot;

	for (int i = 0; i < 5; i++) {
		char text[16], name[QUEUE_NAME_MAX];
		struct queue_spec spec;

		(void)snprintf(text, sizeof(text), "%d", i);
		spec = spec_of(text);
		assert_null(queue_submit(queue, &spec, 0, name));
	}
	bot_open(queue, &bot, "b", 3, NULL, 0);
	assert_true(bot_poll(queue, &bot, NULL, 0, 0));
	assert_int_equal(bot.n_leases, 3);
	bot_close(queue, &bot);
}

static void test_queue_all_properties_are_required(void **state)
{
	static const struct queue_property has[] = {
		{"OSFamily", "linux"}, {"tool", "gcc"}, {"tool", "clang"}, {"user", "*"}};
	static const struct queue_property both[] = {{"tool", "gcc"}, {"tool", "clang"}};
	static const struct queue_property one_too_many[] = {{"tool", "gcc"},
							     {"tool", "icc"}};
	static const struct queue_property any[] = {{"user", "7"},
						    {"InputRootAbsolutePath", "/x"}};
	static const struct queue_property unknown[] = {{"gpu", "1"}};
	static const struct {
		const struct queue_property *list;
		size_t n;
		bool fits;
	} cases[] = {
		{both, 2, true},     {one_too_many, 2, false}, {any, 2, true},
		{unknown, 1, false}, {NULL, 0, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(queue_freep) struct queue *queue = queue_new(NULL);
		struct queue_spec spec = spec_of("a");
		char name[QUEUE_NAME_MAX];
		struct bot bot;

		spec.required = cases[i].list;
		spec.n_required = cases[i].n;
		assert_null(queue_submit(queue, &spec, 0, name));
		bot_open(queue, &bot, "b", 1, has, ARRAY_SIZE(has));
		assert_int_equal(bot_poll(queue, &bot, NULL, 0, 0), cases[i].fits);
		bot_close(queue, &bot);
	}
	(void)state;
}

static void test_queue_instances_do_not_share_bots(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	char name[QUEUE_NAME_MAX];
	struct bot bot;

	spec.instance = "other";
	assert_null(queue_submit(queue, &spec, 0, name));
	assert_int_equal(strncmp(name, "other/", 6), 0);
	bot_open(queue, &bot, "b", 1, NULL, 0);
	assert_false(bot_poll(queue, &bot, NULL, 0, 0));
	bot_close(queue, &bot);
}

static void test_queue_identical_actions_are_joined(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	struct client one, two;
	struct queue_stats stats;
	struct bot bot;
	const char *id;

	client_submit(queue, &one, &spec);
	client_submit(queue, &two, &spec);
	assert_string_not_equal(one.name, two.name);
	bot_open(queue, &bot, "b", 2, NULL, 0);
	id = bot_take(queue, &bot, 0);
	assert_true(bot_claim(queue, &bot, id, LEASE_COMPLETED, 0));
	assert_int_equal(client_code(queue, &one), ERROR_OK);
	assert_int_equal(client_code(queue, &two), ERROR_OK);
	queue_stats(queue, &stats);
	assert_int_equal(stats.n_joined, 1);
	client_end(queue, &one);
	client_end(queue, &two);
	bot_close(queue, &bot);
}

static void test_queue_do_not_cache_is_never_joined(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	char name[QUEUE_NAME_MAX];
	struct bot bot;

	spec.do_not_cache = true;
	assert_null(queue_submit(queue, &spec, 0, name));
	assert_null(queue_submit(queue, &spec, 0, name));
	bot_open(queue, &bot, "b", 5, NULL, 0);
	assert_true(bot_poll(queue, &bot, NULL, 0, 0));
	assert_int_equal(bot.n_leases, 2);
	bot_close(queue, &bot);
}

static void test_queue_cancel_of_one_leaves_the_other(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	struct client one, two;
	struct bot bot;
	const char *id;

	client_submit(queue, &one, &spec);
	client_submit(queue, &two, &spec);
	bot_open(queue, &bot, "b", 1, NULL, 0);
	id = bot_take(queue, &bot, 0);
	assert_false(bot_claim(queue, &bot, id, LEASE_ACTIVE, 0));
	assert_null(queue_cancel(queue, one.name, 0));
	assert_null(queue_cancel(queue, one.name, 0));
	assert_int_equal(client_code(queue, &one), ERROR_CANCELLED);
	assert_false(bot_hears(queue, &bot));
	bot_end_poll(queue, &bot, 0);
	assert_true(bot_claim(queue, &bot, id, LEASE_COMPLETED, 0));
	assert_int_equal(client_code(queue, &two), ERROR_OK);
	assert_int_equal(client_code(queue, &one), ERROR_CANCELLED);
	client_end(queue, &one);
	client_end(queue, &two);
	bot_close(queue, &bot);
}

static void test_queue_cancel_of_the_last_tells_the_bot(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a"), next = spec_of("b");
	struct client client;
	struct bot bot;
	const char *id;
	char name[QUEUE_NAME_MAX];

	client_submit(queue, &client, &spec);
	bot_open(queue, &bot, "b", 1, NULL, 0);
	id = bot_take(queue, &bot, 0);
	assert_false(bot_claim(queue, &bot, id, LEASE_ACTIVE, 0));
	assert_null(queue_cancel(queue, client.name, 0));
	assert_int_equal(client_code(queue, &client), ERROR_CANCELLED);
	assert_true(bot.n_wakes > 0);
	assert_true(bot_hears(queue, &bot));
	assert_int_equal(bot.n_leases, 1);
	assert_int_equal(bot.leases[0].state, LEASE_CANCELLED);
	bot_end_poll(queue, &bot, 0);
	/* Its place is free only when the bot has let go. */
	assert_null(queue_submit(queue, &next, 0, name));
	assert_true(bot_claim(queue, &bot, id, LEASE_CANCELLED, 0));
	assert_true(bot_got(&bot, "b"));
	client_end(queue, &client);
	bot_close(queue, &bot);
}

static void test_queue_cancelled_while_queued_is_never_given(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	struct client client;
	struct bot bot;

	client_submit(queue, &client, &spec);
	assert_null(queue_cancel(queue, client.name, 0));
	bot_open(queue, &bot, "b", 1, NULL, 0);
	assert_false(bot_poll(queue, &bot, NULL, 0, 0));
	client_end(queue, &client);
	bot_close(queue, &bot);
}

static void test_queue_lost_bots_end_in_unavailable(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	struct client client;
	int64_t now = 0;

	client_submit(queue, &client, &spec);
	for (int i = 0; i < QUEUE_TRIES_MAX; i++) {
		struct bot bot;

		bot_open(queue, &bot, "b", 1, NULL, 0);
		(void)bot_take(queue, &bot, now);
		now += QUEUE_SILENCE_NS - 1;
		queue_tick(queue, now);
		(void)client_read(queue, &client);
		assert_int_equal(client.state.stage, QUEUE_EXECUTING);
		now += 1;
		queue_tick(queue, now);
		(void)client_read(queue, &client);
		assert_int_equal(client.state.stage, i + 1 < QUEUE_TRIES_MAX
							     ? QUEUE_QUEUED
							     : QUEUE_COMPLETED);
		bot_close(queue, &bot);
	}
	assert_int_equal(client_code(queue, &client), ERROR_FAILED_PRECONDITION);
	client_end(queue, &client);
}

static void test_queue_broken_poll_is_lost_sooner(void **state)
{
	struct queue *queue = *state;
	struct queue_stats stats;
	struct bot bot;

	bot_open(queue, &bot, "b", 1, NULL, 0);
	assert_false(bot_poll(queue, &bot, NULL, 0, 0));
	queue_tick(queue, 10 * QUEUE_SILENCE_NS);
	queue_stats(queue, &stats);
	assert_int_equal(stats.n_sessions, 1);
	queue_poll_end(queue, &bot.poll, true, 0);
	queue_tick(queue, QUEUE_BROKEN_NS);
	queue_stats(queue, &stats);
	assert_int_equal(stats.n_sessions, 0);
	bot_close(queue, &bot);
}

static void test_queue_unreported_run_goes_back(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	struct client client;
	struct bot bot;

	client_submit(queue, &client, &spec);
	bot_open(queue, &bot, "b", 1, NULL, 0);
	(void)bot_take(queue, &bot, 0);
	assert_true(bot_poll(queue, &bot, NULL, 0, 0));
	assert_int_equal(bot.n_leases, 1);
	assert_int_equal(bot.leases[0].state, LEASE_PENDING);
	client_end(queue, &client);
	bot_close(queue, &bot);
}

static void test_queue_offer_that_was_lost_is_repeated(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	char name[QUEUE_NAME_MAX], id[QUEUE_LEASE_MAX];
	struct bot bot;

	assert_null(queue_submit(queue, &spec, 0, name));
	bot_open(queue, &bot, "b", 1, NULL, 0);
	for (int i = 0; i < 5; i++) {
		assert_true(bot_poll(queue, &bot, NULL, 0, 0));
		assert_int_equal(bot.n_leases, 1);
		if (i == 0)
			(void)snprintf(id, sizeof(id), "%s", bot.leases[0].id);
		assert_string_equal(bot.leases[0].id, id);
		bot_end_poll(queue, &bot, 0);
	}
	bot_close(queue, &bot);
}

static void test_queue_second_session_of_a_bot_takes_over(void **state)
{
	const struct queue_report report = {.takes_jobs = true};
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	char name[QUEUE_NAME_MAX];
	struct bot old, new;
	struct error *err;

	assert_null(queue_submit(queue, &spec, 0, name));
	bot_open(queue, &old, "b", 1, NULL, 0);
	(void)bot_take(queue, &old, 0);
	bot_open(queue, &new, "b", 1, NULL, 0);
	err = queue_poll_begin(queue, old.name, &report, &old.poll, 0, &old.n_strange);
	assert_int_equal(error_code(err), ERROR_ALREADY_EXISTS);
	assert_non_null(strstr(error_text(err), old.name));
	error_free(err);
	assert_true(bot_poll(queue, &new, NULL, 0, 0));
	assert_true(bot_got(&new, "a"));
	bot_close(queue, &old);
	bot_close(queue, &new);
}

static void test_queue_newer_poll_supersedes_the_older(void **state)
{
	const struct queue_report report = {.takes_jobs = true};
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	struct queue_poll second = {.wake = count_wake};
	char name[QUEUE_NAME_MAX];
	int n_wakes = 0;
	struct bot bot;

	second.ctx = &n_wakes;
	bot_open(queue, &bot, "b", 1, NULL, 0);
	assert_false(bot_poll(queue, &bot, NULL, 0, 0));
	assert_null(
		queue_poll_begin(queue, bot.name, &report, &second, 0, &bot.n_strange));
	assert_int_equal(bot.n_wakes, 1);
	assert_true(bot_hears(queue, &bot));
	assert_int_equal(bot.n_leases, 0);
	bot_end_poll(queue, &bot, 0);
	assert_null(queue_submit(queue, &spec, 0, name));
	assert_int_equal(n_wakes, 1);
	queue_poll_end(queue, &second, false, 0);
	bot_close(queue, &bot);
}

static void test_queue_bot_that_ends_gets_no_job(void **state)
{
	const struct queue_report report = {.is_last = true};
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	char name[QUEUE_NAME_MAX];
	struct bot bot;

	bot_open(queue, &bot, "b", 1, NULL, 0);
	assert_null(queue_submit(queue, &spec, 0, name));
	assert_null(
		queue_poll_begin(queue, bot.name, &report, &bot.poll, 0, &bot.n_strange));
	assert_true(bot_hears(queue, &bot));
	assert_int_equal(bot.n_leases, 0);
	bot_close(queue, &bot);
}

static void test_queue_run_over_its_limit_is_ended(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	int64_t end = 2 * spec.limit_ns + QUEUE_SLACK_NS;
	struct client client;
	struct bot bot;
	const char *id;

	client_submit(queue, &client, &spec);
	bot_open(queue, &bot, "b", 1, NULL, 0);
	id = bot_take(queue, &bot, 0);
	assert_false(bot_claim(queue, &bot, id, LEASE_ACTIVE, 0));
	queue_tick(queue, end - 1);
	(void)client_read(queue, &client);
	assert_int_equal(client.state.stage, QUEUE_EXECUTING);
	queue_tick(queue, end);
	assert_int_equal(client_code(queue, &client), ERROR_DEADLINE_EXCEEDED);
	assert_true(bot_hears(queue, &bot));
	assert_int_equal(bot.leases[0].state, LEASE_CANCELLED);
	client_end(queue, &client);
	bot_close(queue, &bot);
}

/* However long a job waited, its run has all of its limit. */
static void test_queue_waiting_counts_for_no_limit(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	int64_t limit = 2 * spec.limit_ns + QUEUE_SLACK_NS;
	int64_t start = 10 * limit;
	struct client client;
	struct bot bot;
	const char *id;

	client_submit(queue, &client, &spec);
	queue_tick(queue, start);
	bot_open(queue, &bot, "b", 1, NULL, 0);
	id = bot_take(queue, &bot, start);
	assert_false(bot_claim(queue, &bot, id, LEASE_ACTIVE, start));
	queue_tick(queue, start + limit - 1);
	(void)client_read(queue, &client);
	assert_int_equal(client.state.stage, QUEUE_EXECUTING);
	queue_tick(queue, start + limit);
	assert_int_equal(client_code(queue, &client), ERROR_DEADLINE_EXCEEDED);
	client_end(queue, &client);
	bot_close(queue, &bot);
}

static void test_queue_completed_operations_are_kept_for_a_while(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	_cleanup_arena_ struct arena arena = ARENA_INIT(1 << 20);
	struct queue_state got;
	struct client client = {0};
	struct error *err;

	assert_null(queue_submit_done(queue, &spec, slice_of("x"), 0, client.name));
	assert_null(queue_get(queue, client.name, &arena, &got));
	assert_true(slice_is(got.response, "x"));
	queue_bytes_unref(got.shared);
	queue_tick(queue, QUEUE_RETAINED_NS - 1);
	client_watch(queue, &client);
	queue_tick(queue, QUEUE_RETAINED_NS); /* watched: kept */
	assert_true(client_read(queue, &client));
	client_end(queue, &client);
	queue_tick(queue, QUEUE_RETAINED_NS);
	err = queue_get(queue, client.name, &arena, &got);
	assert_int_equal(error_code(err), ERROR_NOT_FOUND);
	error_free(err);
}

static void test_queue_remembers_only_so_many(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	char name[QUEUE_NAME_MAX];
	struct queue_stats stats;

	for (int i = 0; i < QUEUE_RETAINED_MAX + 50; i++)
		assert_null(queue_submit_done(queue, &spec, slice_of(""), 0, name));
	queue_stats(queue, &stats);
	assert_int_equal(stats.n_operations, QUEUE_RETAINED_MAX);
}

static void test_queue_stop_wakes_everybody(void **state)
{
	struct queue *queue = *state;
	struct queue_spec spec = spec_of("a");
	struct client client;
	struct bot bot;
	bool is_stopped = false;
	struct error *err;

	spec.instance = "x";
	client_submit(queue, &client, &spec);
	(void)client_read(queue, &client);
	bot_open(queue, &bot, "b", 1, NULL, 0);
	assert_false(bot_poll(queue, &bot, NULL, 0, 0));
	queue_stop(queue);
	assert_int_equal(client.n_wakes, 1);
	assert_int_equal(bot.n_wakes, 1);
	assert_true(bot_hears(queue, &bot));
	assert_false(queue_watch_read(queue, &client.watch, &client.arena, &client.state,
				      &is_stopped));
	assert_true(is_stopped);
	err = queue_submit(queue, &spec, 0, client.name);
	assert_int_equal(error_code(err), ERROR_UNAVAILABLE);
	error_free(err);
	client_end(queue, &client);
	bot_close(queue, &bot);
}

static void test_queue_list_goes_on_after_a_serial(void **state)
{
	struct queue *queue = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT(1 << 20);
	struct queue_filter filter = {.instance = "", .stages = ~0u};
	char names[5][QUEUE_NAME_MAX];
	struct queue_state *list;
	uint64_t after;
	bool has_more;

	for (int i = 0; i < 5; i++) {
		struct queue_spec spec = spec_of("a");

		spec.instance = i == 2 ? "x" : "";
		queue_submit_done(queue, &spec, slice_of(""), 0, names[i]);
	}
	assert_int_equal(queue_list(queue, &filter, 0, 2, &arena, &list, &has_more), 2);
	assert_true(has_more);
	assert_string_equal(list[1].name, names[1]);
	after = list[1].serial;
	assert_int_equal(queue_list(queue, &filter, after, 9, &arena, &list, &has_more),
			 2);
	assert_false(has_more);
	assert_string_equal(list[0].name, names[3]);
	filter.instance = "x";
	assert_int_equal(queue_list(queue, &filter, 0, 9, &arena, &list, &has_more), 1);
}

static void test_queue_bot_that_gives_its_job_back_did_not_die(void **state)
{
	struct queue *queue = *state;
	const struct queue_report drains = {NULL, 0, false, true};
	struct queue_spec spec = spec_of("a");
	struct client client;

	client_submit(queue, &client, &spec);
	for (int i = 0; i < 2 * QUEUE_TRIES_MAX; i++) {
		struct bot bot;

		bot_open(queue, &bot, "b", 1, NULL, 0);
		(void)bot_take(queue, &bot, 0);
		assert_null(queue_poll_begin(queue, bot.name, &drains, &bot.poll, 0,
					     &bot.n_strange));
		bot_end_poll(queue, &bot, 0);
		(void)client_read(queue, &client);
		assert_int_equal(client.state.stage, QUEUE_QUEUED);
		bot_close(queue, &bot);
	}
	client_end(queue, &client);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_queue_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(job_wakes_the_bot_that_waits),
		T(bot_that_gives_its_job_back_did_not_die),
		T(life_of_a_job),
		T(lower_priority_first_equal_by_age),
		T(capacity_is_kept),
		T(all_properties_are_required),
		T(instances_do_not_share_bots),
		T(identical_actions_are_joined),
		T(do_not_cache_is_never_joined),
		T(cancel_of_one_leaves_the_other),
		T(cancel_of_the_last_tells_the_bot),
		T(cancelled_while_queued_is_never_given),
		T(lost_bots_end_in_unavailable),
		T(broken_poll_is_lost_sooner),
		T(unreported_run_goes_back),
		T(offer_that_was_lost_is_repeated),
		T(second_session_of_a_bot_takes_over),
		T(newer_poll_supersedes_the_older),
		T(bot_that_ends_gets_no_job),
		T(run_over_its_limit_is_ended),
		T(waiting_counts_for_no_limit),
		T(completed_operations_are_kept_for_a_while),
		T(remembers_only_so_many),
		T(stop_wakes_everybody),
		T(list_goes_on_after_a_serial),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
