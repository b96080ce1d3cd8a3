/* Conformance of the server's action cache: docs/protocol.md, 33 to 38. */
#include "tests/integration/bot_fixture.h"

static struct error *get_result(struct fixture *fixture, Reapi__Digest *action,
				const char *instance, bool inlines,
				Reapi__ActionResult **out)
{
	Reapi__GetActionResultRequest request = REAPI__GET_ACTION_RESULT_REQUEST__INIT;
	const char *file[] = {"f"};

	request.instance_name = instance;
	request.action_digest = action;
	request.inline_stdout = inlines;
	request.n_inline_output_files = inlines ? 1 : 0;
	request.inline_output_files = file;
	return call(fixture, ACTION_SERVICE, "GetActionResult", &request.base,
		    (ProtobufCMessage **)(void *)out);
}

static struct error *put_result(struct fixture *fixture, Reapi__Digest *action,
				Reapi__ActionResult *result)
{
	Reapi__UpdateActionResultRequest request =
		REAPI__UPDATE_ACTION_RESULT_REQUEST__INIT;

	request.action_digest = action;
	request.action_result = result;
	return call(fixture, ACTION_SERVICE, "UpdateActionResult", &request.base, NULL);
}

static void assert_served(struct fixture *fixture, Reapi__ActionResult *result,
			  bool is_served)
{
	Reapi__Digest *action = put_action(fixture, NULL);
	Reapi__ActionResult *got = NULL;
	struct error *err;

	assert_no_error(put_result(fixture, action, result));
	err = get_result(fixture, action, "", false, &got);
	if (is_served)
		assert_no_error(err);
	else
		assert_error(err, ERROR_NOT_FOUND, action->hash);
}

static void test_33_absent_is_not_found(void **state)
{
	Reapi__Digest *action = absent_blob(*state);
	Reapi__ActionResult *got;

	assert_error(get_result(*state, action, "", false, &got), ERROR_NOT_FOUND,
		     action->hash);
}

static void test_34_result_with_a_missing_file_is_not_served(void **state)
{
	struct fixture *fixture = *state;
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;
	Reapi__OutputFile file = REAPI__OUTPUT_FILE__INIT, *files = &file;

	file.path = "f";
	result.n_output_files = 1;
	result.output_files = &files;
	file.digest = put_text(fixture, unique_text(fixture, "file"));
	assert_served(fixture, &result, true);
	file.digest = absent_blob(fixture);
	assert_served(fixture, &result, false);
	file.digest = NULL;
	assert_served(fixture, &result, false);
}

static void test_34_result_with_a_missing_log_is_not_served(void **state)
{
	struct fixture *fixture = *state;
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;

	result.stdout_digest = put_text(fixture, "log");
	assert_served(fixture, &result, true);
	result.stderr_digest = absent_blob(fixture);
	assert_served(fixture, &result, false);
}

/* Two levels, one file in the lower one. */
struct two_levels {
	Reapi__FileNode file, *files;
	Reapi__DirectoryNode node, *nodes;
	Reapi__Directory root, child, *children;
	Reapi__Tree tree;
};

static void two_levels_init(struct two_levels *t, struct fixture *fixture,
			    Reapi__Digest *file)
{
	reapi__file_node__init(&t->file);
	reapi__directory_node__init(&t->node);
	reapi__directory__init(&t->root);
	reapi__directory__init(&t->child);
	reapi__tree__init(&t->tree);
	t->file.name = "f";
	t->file.digest = file;
	t->files = &t->file;
	t->child.n_files = 1;
	t->child.files = &t->files;
	t->node.name = "d";
	t->node.digest = put_message(fixture, &t->child.base);
	t->nodes = &t->node;
	t->root.n_directories = 1;
	t->root.directories = &t->nodes;
	t->children = &t->child;
	t->tree.root = &t->root;
	t->tree.n_children = 1;
	t->tree.children = &t->children;
}

static void test_34_result_with_a_missing_tree_child_is_not_served(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *present = put_text(fixture, unique_text(fixture, "file"));
	Reapi__Digest *absent = absent_blob(fixture);
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;
	Reapi__OutputDirectory dir = REAPI__OUTPUT_DIRECTORY__INIT, *dirs = &dir;
	struct two_levels t;

	dir.path = "out";
	result.n_output_directories = 1;
	result.output_directories = &dirs;
	two_levels_init(&t, fixture, present);
	dir.tree_digest = put_message(fixture, &t.tree.base);
	assert_served(fixture, &result, true);
	dir.root_directory_digest = put_message(fixture, &t.root.base);
	assert_served(fixture, &result, true);
	dir.root_directory_digest = absent;
	assert_served(fixture, &result, false);
	dir.root_directory_digest = NULL;
	dir.tree_digest = absent;
	assert_served(fixture, &result, false);
	two_levels_init(&t, fixture, absent);
	dir.tree_digest = put_message(fixture, &t.tree.base);
	assert_served(fixture, &result, false);
	dir.tree_digest = NULL;
	dir.root_directory_digest = put_message(fixture, &t.root.base);
	assert_served(fixture, &result, false);
}

static void test_36_inlined_only_on_request(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *action = put_action(fixture, NULL);
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT, *got = NULL;
	Reapi__OutputFile file = REAPI__OUTPUT_FILE__INIT, *files = &file;
	size_t big = (size_t)2 << 20;
	_cleanup_free_ uint8_t *data = alloc_zero(big);

	file.path = "f";
	file.digest = put_text(fixture, "contents");
	result.n_output_files = 1;
	result.output_files = &files;
	result.stdout_digest = put_text(fixture, "hello");
	result.stderr_raw.data = (uint8_t *)(uintptr_t) "err";
	result.stderr_raw.len = 3;
	assert_no_error(put_result(fixture, action, &result));
	assert_no_error(get_result(fixture, action, "", false, &got));
	assert_int_equal(got->stdout_raw.len, 0);
	assert_int_equal(got->stderr_raw.len, 3); /* its only copy */
	assert_int_equal(got->output_files[0]->contents.len, 0);
	assert_no_error(get_result(fixture, action, "", true, &got));
	assert_int_equal(got->stdout_raw.len, 5);
	assert_memory_equal(got->stdout_raw.data, "hello", 5);
	assert_int_equal(got->output_files[0]->contents.len, 8);
	result.stdout_digest = put_blob(fixture, data, big); /* too large to be inlined */
	assert_no_error(put_result(fixture, action, &result));
	assert_no_error(get_result(fixture, action, "", true, &got));
	assert_int_equal(got->stdout_raw.len, 0);
}

static void test_37_paths_that_leave_the_root_are_invalid(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *action = put_action(fixture, NULL);
	static const char *const bad[] = {"/abs", "..", "../x", "a/../../x", "./../x"};
	static const char *const good[] = {"a", "a/../b", "./a", ""};
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;
	Reapi__OutputSymlink link = REAPI__OUTPUT_SYMLINK__INIT, *links = &link;

	result.n_output_symlinks = 1;
	result.output_symlinks = &links;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		link.path = bad[i];
		assert_error(put_result(fixture, action, &result), ERROR_INVALID_ARGUMENT,
			     bad[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		link.path = good[i];
		assert_no_error(put_result(fixture, action, &result));
	}
}

static void test_37_paths_may_climb_to_the_root(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Action action = REAPI__ACTION__INIT;
	Reapi__Command command = REAPI__COMMAND__INIT;
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;
	Reapi__OutputSymlink link = REAPI__OUTPUT_SYMLINK__INIT, *links = &link;
	Reapi__Digest *digest;

	command.working_directory = "buildstream/project/element";
	action.command_digest = put_message(fixture, &command.base);
	digest = put_message(fixture, &action.base);
	result.n_output_symlinks = 1;
	result.output_symlinks = &links;
	link.path = "../../../buildstream-install";
	assert_no_error(put_result(fixture, digest, &result));
	link.path = "../../../../x";
	assert_error(put_result(fixture, digest, &result), ERROR_INVALID_ARGUMENT,
		     "leaves");
}

static void test_38_instances_do_not_share_entries(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *action = put_action(fixture, NULL);
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT, *got = NULL;

	assert_no_error(put_result(fixture, action, &result));
	assert_no_error(get_result(fixture, action, "", false, &got));
	assert_error(get_result(fixture, action, "some/where", false, &got),
		     ERROR_NOT_FOUND, "");
	assert_error(get_result(fixture, action, "nobody", false, &got),
		     ERROR_INVALID_ARGUMENT, "\"nobody\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_33_absent_is_not_found),
		cmocka_unit_test(test_34_result_with_a_missing_file_is_not_served),
		cmocka_unit_test(test_34_result_with_a_missing_log_is_not_served),
		cmocka_unit_test(test_34_result_with_a_missing_tree_child_is_not_served),
		cmocka_unit_test(test_36_inlined_only_on_request),
		cmocka_unit_test(test_37_paths_that_leave_the_root_are_invalid),
		cmocka_unit_test(test_37_paths_may_climb_to_the_root),
		cmocka_unit_test(test_38_instances_do_not_share_entries),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
