/* ListOperations: the words of its filter, and what they let through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/tree/hasher.h"
#include "server/operations_filter.h"

static struct queue_spec spec_of(const char *text)
{
	struct queue_spec spec = {
		.instance = "", .action = slice_of(text), .limit_ns = NS_PER_S};

	hasher_digest(text, strlen(text), &spec.action_digest);
	return spec;
}

static void test_operations_list_filters_by_stage_and_action(void **state)
{
	_cleanup_(queue_freep) struct queue *queue = queue_new(NULL);
	_cleanup_arena_ struct arena arena = ARENA_INIT(1 << 20);
	struct queue_spec a = spec_of("a"), b = spec_of("b");
	struct queue_filter filter = {.instance = "", .stages = 1u << QUEUE_QUEUED};
	char queued[QUEUE_NAME_MAX], done[QUEUE_NAME_MAX];
	struct queue_state *list;
	bool has_more;

	(void)state;
	assert_null(queue_submit(queue, &a, 0, queued));
	assert_null(queue_submit_done(queue, &b, slice_of(""), 0, done));
	assert_int_equal(queue_list(queue, &filter, 0, 9, &arena, &list, &has_more), 1);
	assert_string_equal(list[0].name, queued);
	filter.action = &b.action_digest;
	assert_int_equal(queue_list(queue, &filter, 0, 9, &arena, &list, &has_more), 0);
	filter.stages = 1u << QUEUE_COMPLETED;
	assert_int_equal(queue_list(queue, &filter, 0, 9, &arena, &list, &has_more), 1);
	assert_string_equal(list[0].name, done);
	filter.stages = 0;
	assert_int_equal(queue_list(queue, &filter, 0, 9, &arena, &list, &has_more), 0);
}

/* ---- names ----------------------------------------------------------------------- */

static void test_operations_names_tell_their_action(void **state)
{
	static const char *const others[] = {
		"",
		"a",
		"00000000-0000-4000-8000-000000000000",
		"00000000-0000-4000-8000-000000000000-",
		"00000000-0000-4000-8000-000000000000-no-7",
		"00000000-0000-4000-8000-000000000000-00-7",
	};
	_cleanup_(queue_freep) struct queue *queue = queue_new(NULL);
	char name[QUEUE_NAME_MAX], instance[QUEUE_INSTANCE_MAX + 1];
	struct queue_spec spec = spec_of("a");
	struct digest action;

	(void)state;
	spec.instance = "some/where";
	assert_null(queue_submit(queue, &spec, 0, name));
	assert_true(queue_name_parse(name, instance, &action));
	assert_string_equal(instance, spec.instance);
	assert_true(digest_equal(&action, &spec.action_digest));
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		assert_false(queue_name_parse(others[i], instance, &action));
}

/* ---- the words of a filter ------------------------------------------------------ */

static void assert_filter(const char *text, unsigned int stages, bool has_action)
{
	struct operations_filter filter;
	_cleanup_error_ struct error *err = operations_filter_parse(text, &filter);

	if (err)
		fail_msg("%s: %s", text, error_text(err));
	assert_int_equal(filter.stages, stages);
	assert_int_equal(filter.has_action, has_action);
}

static void test_operations_filter_is_read(void **state)
{
	static const char *const bad[] = {
		"stage",
		"stage=",
		"stage=running",
		"=queued",
		"name=x",
		"AND stage",
		"done=no",
		"action=0123/4",
		"stage=queued done",
		"a b",
		"\"",
		"stage=\"queued",
		"action=\"",
		"done = \"",
		"done==true",
		"target_id=",
		"tool_invocation_id=\"\"",
		"action_id=x",
	};
	const unsigned int queued = 1u << QUEUE_QUEUED, running = 1u << QUEUE_EXECUTING,
			   completed = 1u << QUEUE_COMPLETED;
	_cleanup_free_ char *action =
		alloc_printf("action = \"%064d/12\" AND done=true", 7);

	(void)state;
	assert_filter("", queued | running | completed, false);
	assert_filter("  ", queued | running | completed, false);
	assert_filter("stage=queued", queued, false);
	assert_filter("stage = \"EXECUTING\"", running, false);
	assert_filter("done=false", queued | running, false);
	assert_filter("done=false&stage=executing", running, false);
	assert_filter("done=false stage=completed", 0, false);
	assert_filter(action, completed, true);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct operations_filter filter;
		struct error *err = operations_filter_parse(bad[i], &filter);

		if (error_code(err) != ERROR_INVALID_ARGUMENT)
			fail_msg("\"%s\" was understood", bad[i]);
		error_free(err);
	}
}

static void test_operations_filter_by_request_is_read(void **state)
{
	struct operations_filter filter;

	(void)state;
	assert_null(operations_filter_parse(
		"tool_invocation_id=7 AND target_id=\"//a b\" done=true", &filter));
	assert_true(slice_is(filter.request[QUEUE_REQUEST_INVOCATION], "7"));
	assert_true(slice_is(filter.request[QUEUE_REQUEST_TARGET], "//a b"));
	assert_int_equal(filter.request[QUEUE_REQUEST_CORRELATED].len, 0);
	assert_int_equal(filter.stages, 1u << QUEUE_COMPLETED);
	assert_null(operations_filter_parse(
		"correlated_invocations_id=7 correlated_invocations_id=8", &filter));
	assert_int_equal(filter.stages, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operations_list_filters_by_stage_and_action),
		cmocka_unit_test(test_operations_names_tell_their_action),
		cmocka_unit_test(test_operations_filter_is_read),
		cmocka_unit_test(test_operations_filter_by_request_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
