/*
 * worker/source/bots_sync: what the worker tells a server about its leases, and what it
 * makes of the answers (docs/protocol.md, "The worker's side of Bots"). No sockets: a
 * test plays the server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/rpc/rpc.h"
#include "lib/tree/hasher.h"
#include "worker/source/bots_sync.h"

#define ACTION_TYPE "type.googleapis.com/build.bazel.remote.execution.v2.Action"

struct server {
	struct bots_sync sync;
	struct arena arena;
	struct list actions;
};

static int setup(void **state)
{
	struct server *server = alloc_new(struct server);

	bots_sync_init(&server->sync);
	server->arena = ARENA_INIT((size_t)16 << 20);
	list_init(&server->actions);
	*state = server;
	return 0;
}

static int teardown(void **state)
{
	struct server *server = *state;
	struct list *node;

	while ((node = list_pop(&server->actions)))
		bots_action_free(container_of(node, struct bots_action, link));
	bots_sync_deinit(&server->sync);
	arena_deinit(&server->arena);
	free(server);
	return 0;
}

static Bots__Lease *lease(struct server *server, const char *id, Bots__LeaseState state,
			  const char *type)
{
	Bots__Lease *wire = arena_zero(&server->arena, sizeof(*wire));

	bots__lease__init(wire);
	wire->id = id;
	wire->state = state;
	if (type) {
		wire->payload = arena_zero(&server->arena, sizeof(Pb__Any));
		pb__any__init(wire->payload);
		wire->payload->type_url = type;
		wire->payload->value.data =
			(uint8_t *)arena_string(&server->arena, "\x0a");
		wire->payload->value.len = 1;
	}
	return wire;
}

/* The server's answer: these leases (NULL-terminated); whether it was news. */
static bool answer(struct server *server, Bots__Lease *first, Bots__Lease *second)
{
	Bots__BotSession session = BOTS__BOT_SESSION__INIT;
	Bots__Lease *leases[] = {first, second};

	session.leases = leases;
	session.n_leases = !first ? 0 : !second ? 1 : 2;
	return bots_sync_answer(&server->sync, &session, &server->actions);
}

/* What the worker tells of a lease now; UNSPECIFIED: nothing. */
static Bots__LeaseState told(struct server *server, const char *id)
{
	Bots__BotSession session = BOTS__BOT_SESSION__INIT;

	assert_true(bots_sync_fill(&server->sync, &session, &server->arena));
	for (size_t i = 0; i < session.n_leases; i++) {
		if (strcmp(session.leases[i]->id, id) == 0)
			return session.leases[i]->state;
	}
	return BOTS__LEASE_STATE__LEASE_STATE_UNSPECIFIED;
}

/* The next action as text, "assign a" or "cancel a"; "" where there is none. */
static const char *next(struct server *server)
{
	struct list *node = list_pop(&server->actions);
	struct bots_action *action;
	const char *text;

	if (!node)
		return "";
	action = container_of(node, struct bots_action, link);
	text = arena_printf(&server->arena, "%s %s",
			    action->kind == BOTS_ASSIGN ? "assign" : "cancel",
			    action->id);
	bots_action_free(action);
	return text;
}

static void start(struct server *server, const char *id)
{
	(void)answer(server, lease(server, id, BOTS__LEASE_STATE__PENDING, ACTION_TYPE),
		     NULL);
	assert_int_equal(told(server, id), BOTS__LEASE_STATE__ACTIVE);
	(void)answer(server, lease(server, id, BOTS__LEASE_STATE__ACTIVE, NULL), NULL);
	assert_string_equal(next(server), arena_printf(&server->arena, "assign %s", id));
}

static void test_job_starts_only_after_active_was_acknowledged(void **state)
{
	struct server *server = *state;

	(void)answer(server, lease(server, "a", BOTS__LEASE_STATE__PENDING, ACTION_TYPE),
		     NULL);
	assert_true(server->sync.has_news);
	assert_string_equal(next(server), "");
	assert_int_equal(told(server, "a"), BOTS__LEASE_STATE__ACTIVE);
	assert_string_equal(next(server), "");
	(void)answer(server, lease(server, "a", BOTS__LEASE_STATE__ACTIVE, NULL), NULL);
	assert_string_equal(next(server), "assign a");
	assert_string_equal(next(server), "");
}

static void finish_with(struct server *server, const char *id, size_t n_bytes)
{
	struct buf result = BUF_INIT;

	buf_reserve(&result, n_bytes);
	memset(result.data, 'r', n_bytes);
	result.len = n_bytes;
	bots_sync_finish(&server->sync, id, NULL, &result);
}

/* A request that is too large for a message would be refused again and again. */
static void test_results_that_fit_into_no_message_together_go_one_by_one(void **state)
{
	struct server *server = *state;

	start(server, "a");
	(void)answer(server, lease(server, "a", BOTS__LEASE_STATE__ACTIVE, NULL),
		     lease(server, "b", BOTS__LEASE_STATE__PENDING, ACTION_TYPE));
	assert_int_equal(told(server, "b"), BOTS__LEASE_STATE__ACTIVE);
	(void)answer(server, lease(server, "a", BOTS__LEASE_STATE__ACTIVE, NULL),
		     lease(server, "b", BOTS__LEASE_STATE__ACTIVE, NULL));
	assert_string_equal(next(server), "assign b");
	finish_with(server, "a", 9 << 20);
	finish_with(server, "b", 9 << 20);
	assert_int_equal(told(server, "a"), BOTS__LEASE_STATE__COMPLETED);
	assert_int_equal(told(server, "b"), BOTS__LEASE_STATE__ACTIVE);
	assert_true(server->sync.has_more);
	(void)answer(server, lease(server, "b", BOTS__LEASE_STATE__ACTIVE, NULL), NULL);
	assert_int_equal(told(server, "b"), BOTS__LEASE_STATE__COMPLETED);
	assert_false(server->sync.has_more);
}

static void test_job_is_assigned_once(void **state)
{
	struct server *server = *state;

	start(server, "a");
	for (int i = 0; i < 3; i++) {
		(void)told(server, "a");
		(void)answer(server, lease(server, "a", BOTS__LEASE_STATE__ACTIVE, NULL),
			     NULL);
	}
	assert_string_equal(next(server), "");
}

static void test_completed_is_told_until_the_server_lets_go(void **state)
{
	struct server *server = *state;
	struct buf result = BUF_INIT;

	start(server, "a");
	buf_add_string(&result, "result");
	bots_sync_finish(&server->sync, "a", NULL, &result);
	assert_true(server->sync.has_news);
	/* an answer to a poll sent before may still say ACTIVE */
	(void)answer(server, lease(server, "a", BOTS__LEASE_STATE__ACTIVE, NULL), NULL);
	assert_int_equal(told(server, "a"), BOTS__LEASE_STATE__COMPLETED);
	(void)answer(server, lease(server, "a", BOTS__LEASE_STATE__ACTIVE, NULL), NULL);
	assert_int_equal(told(server, "a"), BOTS__LEASE_STATE__COMPLETED);
	(void)answer(server, NULL, NULL);
	assert_true(bots_sync_is_idle(&server->sync));
}

static void test_completed_is_not_forgotten_by_an_older_answer(void **state)
{
	struct server *server = *state;
	struct buf result = BUF_INIT;

	start(server, "a");
	bots_sync_finish(&server->sync, "a", NULL, &result);
	/* nothing was told since: an answer without the lease is an answer to something
	 * else */
	(void)answer(server, NULL, NULL);
	assert_int_equal(told(server, "a"), BOTS__LEASE_STATE__COMPLETED);
}

static void test_cancelled_lease_is_killed_and_told_once(void **state)
{
	struct server *server = *state;
	struct buf result = BUF_INIT;

	start(server, "a");
	(void)told(server, "a");
	(void)answer(server, lease(server, "a", BOTS__LEASE_STATE__CANCELLED, NULL),
		     NULL);
	assert_string_equal(next(server), "cancel a");
	(void)answer(server, lease(server, "a", BOTS__LEASE_STATE__CANCELLED, NULL),
		     NULL);
	assert_string_equal(next(server), "");
	bots_sync_finish(&server->sync, "a", error_new(ERROR_CANCELLED, "killed"),
			 &result);
	assert_int_equal(told(server, "a"), BOTS__LEASE_STATE__CANCELLED);
	(void)answer(server, NULL, NULL);
	assert_true(bots_sync_is_idle(&server->sync));
}

static void test_lease_the_server_forgot_is_killed_and_not_told_of(void **state)
{
	struct server *server = *state;
	struct buf result = BUF_INIT;

	start(server, "a");
	(void)told(server, "a");
	(void)answer(server, NULL, NULL);
	assert_string_equal(next(server), "cancel a");
	assert_int_equal(told(server, "a"), BOTS__LEASE_STATE__LEASE_STATE_UNSPECIFIED);
	bots_sync_finish(&server->sync, "a", error_new(ERROR_CANCELLED, "killed"),
			 &result);
	assert_true(bots_sync_is_idle(&server->sync));
}

static void test_foreign_payload_is_refused(void **state)
{
	struct server *server = *state;

	(void)answer(server,
		     lease(server, "a", BOTS__LEASE_STATE__PENDING,
			   "type.googleapis.com/some.Other"),
		     NULL);
	assert_int_equal(told(server, "a"), BOTS__LEASE_STATE__COMPLETED);
	assert_string_equal(next(server), "");
}

static void test_new_session_voids_offers_and_keeps_what_runs(void **state)
{
	struct server *server = *state;

	start(server, "runs");
	(void)answer(server, lease(server, "runs", BOTS__LEASE_STATE__ACTIVE, NULL),
		     lease(server, "offered", BOTS__LEASE_STATE__PENDING, ACTION_TYPE));
	bots_sync_restart(&server->sync);
	assert_int_equal(told(server, "offered"),
			 BOTS__LEASE_STATE__LEASE_STATE_UNSPECIFIED);
	assert_int_equal(told(server, "runs"), BOTS__LEASE_STATE__ACTIVE);
}

static void test_unknown_results_are_ignored(void **state)
{
	struct server *server = *state;
	struct buf result = BUF_INIT;

	buf_add_string(&result, "stray");
	bots_sync_finish(&server->sync, "nobody", error_new(ERROR_INTERNAL, "x"),
			 &result);
	assert_true(bots_sync_is_idle(&server->sync));
	assert_false(server->sync.has_news);
}

/* BuildGrid asks nobody: what it assigns is ACTIVE from the start. */
static void test_job_that_comes_as_active_starts_at_once(void **state)
{
	struct server *server = *state;
	Bots__Lease *wire = lease(server, "a", BOTS__LEASE_STATE__ACTIVE, ACTION_TYPE);

	assert_true(answer(server, wire, NULL));
	assert_string_equal(next(server), "assign a");
	assert_int_equal(told(server, "a"), BOTS__LEASE_STATE__ACTIVE);
	assert_false(answer(server, wire, NULL)); /* said twice, and no news */
	assert_string_equal(next(server), "");
	assert_true(answer(server, NULL, NULL));
	assert_string_equal(next(server), "cancel a");
}

static void test_leases_that_are_over_are_not_taken(void **state)
{
	const Bots__LeaseState over[] = {BOTS__LEASE_STATE__COMPLETED,
					 BOTS__LEASE_STATE__CANCELLED,
					 BOTS__LEASE_STATE__LEASE_STATE_UNSPECIFIED};
	struct server *server = *state;

	for (size_t i = 0; i < ARRAY_SIZE(over); i++)
		assert_false(
			answer(server, lease(server, "a", over[i], ACTION_TYPE), NULL));
	assert_string_equal(next(server), "");
	assert_true(bots_sync_is_idle(&server->sync));
	/* one whose payload is none is refused, not run */
	assert_true(
		answer(server, lease(server, "b", BOTS__LEASE_STATE__ACTIVE, "x"), NULL));
	assert_string_equal(next(server), "");
	assert_int_equal(told(server, "b"), BOTS__LEASE_STATE__COMPLETED);
}

/* Trailers of an answer that spoke of an action with these streams. */
static void tell_logs(struct server *server, const char *out, const char *err, bool may)
{
	Reapi__ExecuteOperationMetadata metadata =
		REAPI__EXECUTE_OPERATION_METADATA__INIT;
	Reapi__Digest wire = REAPI__DIGEST__INIT;
	char hex[DIGEST_HEX_MAX];
	struct digest digest;

	hasher_digest("\x0a", 1, &digest);
	digest_to_wire(&digest, hex, &wire);
	metadata.action_digest = &wire;
	metadata.stdout_stream_name = out;
	metadata.stderr_stream_name = err;
	bots_sync_logs(&server->sync, &server->actions, &metadata, may);
}

/* The job of the next action, which is an assignment, as "stdout stderr". */
static const char *next_logs(struct server *server, bool *may_out)
{
	struct list *node = list_pop(&server->actions);
	struct bots_action *action;
	const char *text;

	assert_non_null(node);
	action = container_of(node, struct bots_action, link);
	*may_out = action->job->may_leave_logs_out;
	text = action->job->log_names[0]
		       ? arena_printf(&server->arena, "%s %s", action->job->log_names[0],
				      action->job->log_names[1])
		       : "none";
	bots_action_free(action);
	return text;
}

static void test_logs_go_to_the_lease_of_their_action(void **state)
{
	struct server *server = *state;
	bool may = false;

	/* two leases of one action: each has the names that were told for it */
	(void)answer(server, lease(server, "a", BOTS__LEASE_STATE__PENDING, ACTION_TYPE),
		     lease(server, "b", BOTS__LEASE_STATE__PENDING, ACTION_TYPE));
	tell_logs(server, "o1", "e1", true);
	tell_logs(server, "", "", true); /* of a server that has none: no names */
	tell_logs(server, "o1", "e1", true);
	tell_logs(server, "o2", "e2", true);
	tell_logs(server, "o3", "e3", true);
	(void)told(server, "a");
	(void)answer(server, lease(server, "a", BOTS__LEASE_STATE__ACTIVE, NULL),
		     lease(server, "b", BOTS__LEASE_STATE__ACTIVE, NULL));
	assert_string_equal(next_logs(server, &may), "o1 e1");
	assert_true(may);
	/* said again of what runs, it is not taken for the other's */
	tell_logs(server, "o1", "e1", true);
	assert_string_equal(next_logs(server, &may), "o2 e2");
	/* what comes as active is given out before its logs are heard of */
	(void)answer(server, lease(server, "c", BOTS__LEASE_STATE__ACTIVE, ACTION_TYPE),
		     NULL);
	tell_logs(server, "o4", "", false);
	assert_string_equal(next_logs(server, &may), "o4 ");
	assert_false(may);
}

static void test_logs_of_no_lease_or_with_names_that_are_too_long_are_none(void **state)
{
	_cleanup_free_ char *name = alloc_zero(2000);
	struct server *server = *state;
	bool may = false;

	tell_logs(server, "o0", "e0", true);
	(void)answer(server, lease(server, "a", BOTS__LEASE_STATE__ACTIVE, ACTION_TYPE),
		     NULL);
	memset(name, 'x', 1999);
	tell_logs(server, name, "e1", true);
	tell_logs(server, "o1", name, true);
	assert_string_equal(next_logs(server, &may), "none");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_job_starts_only_after_active_was_acknowledged),
		TEST(test_results_that_fit_into_no_message_together_go_one_by_one),
		TEST(test_job_is_assigned_once),
		TEST(test_completed_is_told_until_the_server_lets_go),
		TEST(test_completed_is_not_forgotten_by_an_older_answer),
		TEST(test_cancelled_lease_is_killed_and_told_once),
		TEST(test_lease_the_server_forgot_is_killed_and_not_told_of),
		TEST(test_foreign_payload_is_refused),
		TEST(test_new_session_voids_offers_and_keeps_what_runs),
		TEST(test_job_that_comes_as_active_starts_at_once),
		TEST(test_leases_that_are_over_are_not_taken),
		TEST(test_unknown_results_are_ignored),
		TEST(test_logs_go_to_the_lease_of_their_action),
		TEST(test_logs_of_no_lease_or_with_names_that_are_too_long_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
