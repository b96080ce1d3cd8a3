/*
 * The worker under another source than Bots: each lease has an instance of its own, and
 * the source hears how far each is. The worker's own instance is one that the server has
 * not, so whatever went by that one would fail.
 */
#include "tests/integration/worker_fixture.h"

#include <stdlib.h>

#include "tests/integration/source_fixture.h"

struct stage {
	struct fixture *fixture;
	struct play *play;
};

static int setup(void **state)
{
	struct stage *stage = alloc_new(struct stage);

	skip_without_fuse();
	(void)fixture_setup((void **)&stage->fixture);
	stage->play = play_new(stage->fixture->address, "nowhere");
	*state = stage;
	return 0;
}

static int teardown(void **state)
{
	struct stage *stage = *state;
	int status;

	play_free(stage->play);
	status = fixture_teardown((void **)&stage->fixture);
	free(stage);
	return status;
}

/* An action that reads a file of its input root, and makes another. */
static Reapi__Digest *put_act(struct stage *stage, const char *what)
{
	struct fixture *fixture = stage->fixture;
	_cleanup_buf_ struct buf root = BUF_INIT;
	struct act act = {.script = "cat in && cp in out", .outputs = LIST("out")};

	dir_add_file(&root, "in", put_text(fixture, what));
	act.root = dir_put(fixture, &root);
	return act_put(fixture, &act);
}

static void offer(struct stage *stage, const char *id, const char *instance,
		  const Reapi__Digest *action)
{
	struct play_lease lease = {.id = id, .instance = instance};

	assert_no_error(digest_from_wire(action, &lease.action));
	play_offer(stage->play, &lease);
}

static const Reapi__ActionResult *result_of(struct stage *stage, const char *id)
{
	const Reapi__ActionResult *result = (const Reapi__ActionResult *)rpc_decode(
		&reapi__action_result__descriptor, play_result(stage->play, id),
		&stage->fixture->arena);

	assert_non_null(result);
	return result;
}

static void assert_made(struct stage *stage, const char *id, const char *what)
{
	const Reapi__ActionResult *result = result_of(stage, id);

	assert_string_equal(play_story(stage->play, id), "fetching running uploading OK");
	assert_int_equal(result->exit_code, 0);
	assert_int_equal(result->n_output_files, 1);
	assert_string_equal(
		get_blob(stage->fixture, result->output_files[0]->digest, NULL), what);
	assert_string_equal(get_blob(stage->fixture, result->stdout_digest, NULL), what);
}

static void test_each_lease_has_its_instance(void **state)
{
	struct stage *stage = *state;
	const char *one = unique_text(stage->fixture, "one");
	const char *two = unique_text(stage->fixture, "two");
	const char *three = unique_text(stage->fixture, "three");

	offer(stage, "one", "", put_act(stage, one));
	offer(stage, "two", "some/where", put_act(stage, two));
	assert_made(stage, "one", one);
	assert_made(stage, "two", two);
	offer(stage, "three", "", put_act(stage, three));
	assert_made(stage, "three", three);
}

static void test_an_instance_that_the_server_has_not_fails_its_lease_alone(void **state)
{
	struct stage *stage = *state;
	const char *what = unique_text(stage->fixture, "what");

	offer(stage, "lost", "nowhere", put_act(stage, unique_text(stage->fixture, "x")));
	offer(stage, "found", "some/where", put_act(stage, what));
	assert_string_equal(play_story(stage->play, "lost"), "fetching INVALID_ARGUMENT");
	assert_non_null(strstr(play_message(stage->play, "lost"), "nowhere"));
	assert_made(stage, "found", what);
}

static void test_a_digest_function_that_we_have_not_is_refused(void **state)
{
	struct stage *stage = *state;
	struct play_lease lease = {.id = "md5",
				   .instance = "",
				   .digest_function = REAPI__DIGEST_FUNCTION__VALUE__MD5};

	assert_no_error(digest_from_wire(put_act(stage, "md5"), &lease.action));
	play_offer(stage->play, &lease);
	assert_string_equal(play_story(stage->play, "md5"), "INVALID_ARGUMENT");
	assert_non_null(strstr(play_message(stage->play, "md5"), "SHA256"));
}

static void test_stages_end_where_a_command_is_cancelled(void **state)
{
	struct stage *stage = *state;
	struct act act = {.script = "sleep 1000"};

	offer(stage, "long", "some/where", act_put(stage->fixture, &act));
	play_await(stage->play, "long", "running");
	play_cancel(stage->play, "long");
	assert_string_equal(play_story(stage->play, "long"),
			    "fetching running CANCELLED");
}

/* Its mount is not there yet, and no job either: the end is not forgotten meanwhile. */
static void test_a_lease_may_be_cancelled_while_its_mount_is_made(void **state)
{
	struct stage *stage = *state;
	struct act act = {.script = "sleep 1000"};
	struct play_lease lease = {.id = "early", .instance = "some/where"};

	assert_no_error(digest_from_wire(act_put(stage->fixture, &act), &lease.action));
	play_offer_and_cancel(stage->play, &lease);
	assert_non_null(strstr(play_story(stage->play, "early"), "CANCELLED"));
	assert_null(strstr(play_story(stage->play, "early"), "running"));
}

static uint64_t metric(struct stage *stage, const char *name)
{
	_cleanup_free_ char *page = play_metrics(stage->play);
	_cleanup_free_ char *line = alloc_printf("\n%s ", name);
	const char *at = strstr(page, line);

	assert_non_null(at);
	return strtoull(at + strlen(line), NULL, 10);
}

static void test_metrics_are_of_all_instances(void **state)
{
	static const char lookups[] = "lazyroot_fuse_requests_total{opcode=\"LOOKUP\"}";
	struct stage *stage = *state;
	uint64_t n_blobs = metric(stage, "lazyroot_fetch_blobs_total");
	uint64_t n_lookups = metric(stage, lookups);
	const char *what = unique_text(stage->fixture, "counted");

	offer(stage, "counted", "some/where", put_act(stage, what));
	assert_made(stage, "counted", what);
	/* Action, root, file; the Command may be there */
	assert_true(metric(stage, "lazyroot_fetch_blobs_total") >= n_blobs + 3);
	assert_true(metric(stage, lookups) > n_lookups);
}

/* The worker has its own and the two of the server: five more fit. */
static void test_instances_are_bounded(void **state)
{
	struct stage *stage = *state;
	const char *what = unique_text(stage->fixture, "still");

	for (int i = 0; i < 6; i++) {
		const char *name = arena_printf(&stage->fixture->arena, "instance%d", i);
		const char *text = unique_text(stage->fixture, "many");

		offer(stage, name, name, put_act(stage, text));
		assert_string_equal(play_story(stage->play, name),
				    i < 5 ? "fetching INVALID_ARGUMENT"
					  : "RESOURCE_EXHAUSTED");
	}
	assert_non_null(strstr(play_message(stage->play, "instance5"),
			       "this worker serves 8 instances"));
	offer(stage, "still", "some/where", put_act(stage, what));
	assert_made(stage, "still", what);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_lease_may_be_cancelled_while_its_mount_is_made),
		cmocka_unit_test(test_each_lease_has_its_instance),
		cmocka_unit_test(
			test_an_instance_that_the_server_has_not_fails_its_lease_alone),
		cmocka_unit_test(test_a_digest_function_that_we_have_not_is_refused),
		cmocka_unit_test(test_stages_end_where_a_command_is_cancelled),
		cmocka_unit_test(test_metrics_are_of_all_instances),
		cmocka_unit_test(test_instances_are_bounded),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
