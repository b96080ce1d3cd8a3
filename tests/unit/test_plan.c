/*
 * worker/action/plan: what an action may ask for, and what it may not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/wire.h"
#include "lib/rpc/rpc.h"
#include "lib/tree/hasher.h"
#include "worker/action/plan.h"
#include "worker/sandbox/accounts.h"
#include "worker/sandbox/layout.h"

/* An Action and a Command that are right; tests spoil them. */
struct fixture {
	Reapi__Command command;
	Reapi__Action action;
	Pb__Duration timeout;
	Reapi__Platform platform;
	Reapi__Platform__Property property;
	Reapi__Platform__Property *properties[1];
	Reapi__Digest command_digest;
	Reapi__Digest root_digest;
	char hex[DIGEST_HEX_MAX];
	char root_hex[DIGEST_HEX_MAX];
	const char *arguments[2];
};

static void fixture_init(struct fixture *f)
{
	reapi__command__init(&f->command);
	reapi__action__init(&f->action);
	pb__duration__init(&f->timeout);
	reapi__platform__init(&f->platform);
	reapi__platform__property__init(&f->property);
	reapi__digest__init(&f->command_digest);
	reapi__digest__init(&f->root_digest);
	digest_to_wire(&digest_of_empty, f->hex, &f->command_digest);
	digest_to_wire(&digest_of_empty, f->root_hex, &f->root_digest);
	f->arguments[0] = "true";
	f->command.arguments = f->arguments;
	f->command.n_arguments = 1;
	f->properties[0] = &f->property;
	f->platform.properties = f->properties;
	f->action.command_digest = &f->command_digest;
	f->action.input_root_digest = &f->root_digest;
}

static struct error *fixture_plan(const struct fixture *f, struct plan **plan_out)
{
	_cleanup_buf_ struct buf action = BUF_INIT;
	_cleanup_buf_ struct buf command = BUF_INIT;
	_cleanup_(plan_freep) struct plan *plan = NULL;
	struct digest digest;
	struct error *err;

	rpc_encode(&f->action.base, &action);
	rpc_encode(&f->command.base, &command);
	hasher_digest(action.data, action.len, &digest);
	err = plan_new(buf_slice(&action), &digest, "/build", &plan);
	if (!err)
		err = plan_set_command(plan, buf_slice(&command));
	if (!err)
		*plan_out = take(plan);
	return err;
}

static void assert_refused(const struct fixture *f, const char *part)
{
	_cleanup_(plan_freep) struct plan *plan = NULL;
	_cleanup_error_ struct error *err = fixture_plan(f, &plan);

	assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
	assert_null(plan);
	if (!strstr(error_text(err), part))
		fail_msg("\"%s\" does not name %s", error_text(err), part);
}

static void test_plan_has_defaults(void **state)
{
	_cleanup_(plan_freep) struct plan *plan = NULL;
	struct fixture f;

	(void)state;
	fixture_init(&f);
	assert_null(fixture_plan(&f, &plan));
	assert_string_equal(plan->root_path, "/build");
	assert_string_equal(plan->workdir, "");
	assert_int_equal(plan->timeout_ns, 0);
	assert_int_equal(plan->uid, ACCOUNTS_UID);
	assert_false(plan->with_network);
	assert_false(plan->is_legacy);
}

/* Counted on the wire: 16 MiB of them are refused without memory for any. */
static void test_plan_counts_before_it_decodes(void **state)
{
	static const struct {
		uint8_t field;
		const char *what;
	} cases[] = {{1, "more than 500000 arguments"},
		     {2, "more than 100000 environment variables"},
		     {3, "more than 100000 outputs"},
		     {4, "more than 100000 outputs"},
		     {7, "more than 100000 outputs"},
		     {8, "more than 1000 output node properties"}};
	_cleanup_buf_ struct buf action = BUF_INIT;
	struct fixture f;

	(void)state;
	fixture_init(&f);
	rpc_encode(&f.action.base, &action);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(plan_freep) struct plan *plan = NULL;
		_cleanup_buf_ struct buf command = BUF_INIT;
		_cleanup_error_ struct error *err = NULL;
		size_t before;

		assert_null(plan_new(buf_slice(&action), &digest_of_empty, "/b", &plan));
		before = plan->arena.total;
		while (command.len < (size_t)16 << 20)
			wire_put_bytes(&command, cases[i].field, slice_of(""));
		err = plan_set_command(plan, buf_slice(&command));
		assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
		if (!strstr(error_text(err), cases[i].what))
			fail_msg("\"%s\" does not say %s", error_text(err),
				 cases[i].what);
		assert_int_equal(plan->arena.total, before);
	}
}

/* A long working directory before each of many outputs: 400 MB out of 700 kB. */
static void test_plan_that_needs_too_much_memory_is_refused(void **state)
{
	_cleanup_free_ char *dir = alloc_zero(4000);
	_cleanup_free_ const char **paths = alloc_array(99999, sizeof(char *));
	_cleanup_(plan_freep) struct plan *plan = NULL;
	_cleanup_error_ struct error *err = NULL;
	struct fixture f;

	(void)state;
	fixture_init(&f);
	memset(dir, 'w', 3999);
	for (size_t i = 0; i < 99999; i++)
		paths[i] = "x";
	f.command.working_directory = dir;
	f.command.output_paths = paths;
	f.command.n_output_paths = 99999;
	err = fixture_plan(&f, &plan);
	assert_int_equal(error_code(err), ERROR_RESOURCE_EXHAUSTED);
}

static void test_plan_resolves_paths_within_the_root(void **state)
{
	static const char *const cases[][3] = {
		{"", "a/b", "a/b"},
		{"w/x", "o", "w/x/o"},
		{"w/x", "../o", "w/o"},
		{"w/x", "../../../o", NULL},
		{"w", ".", "w"},
		{"w", "", "w"},
		{"", ".", ""},
		{"w", "a//b/", "w/a/b"},
		{"", "./a/./b/../c", "a/c"},
		{"", "/abs", NULL},
		{"", "..", NULL},
		{"w", "..", ""},
	};
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)1 << 20);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *resolved = NULL;
		_cleanup_error_ struct error *err =
			plan_resolve(&arena, cases[i][0], cases[i][1], &resolved);

		if (cases[i][2]) {
			assert_null(err);
			assert_string_equal(resolved, cases[i][2]);
		} else {
			assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
		}
	}
}

static void test_plan_takes_buildstreams_outputs(void **state)
{
	const char *outputs[] = {".", "../../../buildstream-install"};
	_cleanup_(plan_freep) struct plan *plan = NULL;
	struct fixture f;

	(void)state;
	fixture_init(&f);
	f.command.working_directory = "buildstream/demo/hello.bst";
	f.command.output_paths = outputs;
	f.command.n_output_paths = 2;
	assert_null(fixture_plan(&f, &plan));
	assert_string_equal(plan->outputs[0].path, "buildstream/demo/hello.bst");
	assert_string_equal(plan->outputs[1].path, "buildstream-install");
	assert_string_equal(plan->outputs[1].spelt, outputs[1]);
}

static void test_plan_prefers_output_paths_to_the_legacy_fields(void **state)
{
	const char *paths[] = {"p"};
	const char *files[] = {"f"};
	_cleanup_(plan_freep) struct plan *plan = NULL;
	_cleanup_(plan_freep) struct plan *legacy = NULL;
	struct fixture f;

	(void)state;
	fixture_init(&f);
	f.command.output_files = files;
	f.command.n_output_files = 1;
	f.command.output_paths = paths;
	f.command.n_output_paths = 1;
	assert_null(fixture_plan(&f, &plan));
	assert_int_equal(plan->n_outputs, 1);
	assert_string_equal(plan->outputs[0].path, "p");
	f.command.n_output_paths = 0;
	assert_null(fixture_plan(&f, &legacy));
	assert_true(legacy->is_legacy);
	assert_int_equal(legacy->outputs[0].want, PLAN_FILE);
}

static void test_plan_understands_platform_properties(void **state)
{
	_cleanup_(plan_freep) struct plan *plan = NULL;
	struct fixture f;

	(void)state;
	fixture_init(&f);
	f.action.platform = &f.platform;
	f.platform.n_properties = 1;
	f.property.name = "InputRootAbsolutePath";
	f.property.value = "//work//./root/";
	assert_null(fixture_plan(&f, &plan));
	assert_string_equal(plan->root_path, "/work/root");
}

static void test_plan_falls_back_to_the_commands_platform(void **state)
{
	_cleanup_(plan_freep) struct plan *plan = NULL;
	struct fixture f;

	(void)state;
	fixture_init(&f);
	f.command.platform = &f.platform;
	f.platform.n_properties = 1;
	f.property.name = "unixUID";
	f.property.value = "0";
	assert_null(fixture_plan(&f, &plan));
	assert_int_equal(plan->uid, 0);
}

static void test_plan_refuses_bad_properties(void **state)
{
	static const char *const bad[][2] = {{"unixUID", "-1"},
					     {"unixGID", "root"},
					     {"network", "maybe"},
					     {"InputRootAbsolutePath", "relative"},
					     {"InputRootAbsolutePath", "/a/../.."}};
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		fixture_init(&f);
		f.action.platform = &f.platform;
		f.platform.n_properties = 1;
		f.property.name = bad[i][0];
		f.property.value = bad[i][1];
		assert_refused(&f, bad[i][0]);
	}
}

static void test_plan_refuses_bad_commands(void **state)
{
	Reapi__Command__EnvironmentVariable variable =
		REAPI__COMMAND__ENVIRONMENT_VARIABLE__INIT;
	Reapi__Command__EnvironmentVariable *variables[] = {&variable};
	struct fixture f;

	(void)state;
	fixture_init(&f);
	f.command.n_arguments = 0;
	assert_refused(&f, "arguments");
	fixture_init(&f);
	f.command.working_directory = "../out";
	assert_refused(&f, "working_directory");
	fixture_init(&f);
	f.command.environment_variables = variables;
	f.command.n_environment_variables = 1;
	variable.name = "A=B";
	assert_refused(&f, "A=B");
}

static void test_plan_refuses_bad_actions(void **state)
{
	struct fixture f;

	(void)state;
	fixture_init(&f);
	f.action.command_digest = NULL;
	assert_refused(&f, "command_digest");
	fixture_init(&f);
	f.root_digest.hash = "ABC";
	assert_refused(&f, "input_root_digest");
	fixture_init(&f);
	f.timeout.seconds = -1;
	f.action.timeout = &f.timeout;
	assert_refused(&f, "timeout");
	fixture_init(&f);
	f.timeout.seconds = INT64_MAX / 2;
	f.action.timeout = &f.timeout;
	assert_refused(&f, "timeout");
}

static void test_plan_refuses_bytes_that_are_no_message(void **state)
{
	_cleanup_(plan_freep) struct plan *plan = NULL;
	_cleanup_error_ struct error *err = NULL;

	(void)state;
	err = plan_new(slice_of("\xff\xff no action"), &digest_of_empty, "/build", &plan);
	assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
	assert_null(plan);
}

static void assert_says(struct error *err, const char *part)
{
	_cleanup_error_ struct error *owned = err;

	assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
	if (!strstr(error_text(err), part))
		fail_msg("\"%s\" does not say %s", error_text(err), part);
}

/* "a", NUL, "b" in the field that path leads to: innermost last. */
static void put_nul(struct buf *out, const uint8_t *path)
{
	_cleanup_buf_ struct buf inner = BUF_INIT;

	if (path[1])
		put_nul(&inner, path + 1);
	else
		buf_add(&inner, "a\0b", 3);
	wire_put_bytes(out, path[0], buf_slice(&inner));
}

/* Decoding would cut the string there: several digests of one command. */
static void test_plan_refuses_nul_bytes(void **state)
{
	static const struct {
		uint8_t path[4];
		const char *what;
	} cases[] =
		{
			{{1}, "an argument holds a NUL byte"},
			{{2, 1}, "the name of an environment variable holds"},
			{{2, 2}, "the value of an environment variable holds"},
			{{3}, "output_files holds"},
			{{4}, "output_directories holds"},
			{{5, 1, 1}, "the name of a platform property holds"},
			{{5, 1, 2}, "the value of a platform property holds"},
			{{6}, "working_directory holds"},
			{{7}, "output_paths holds"},
			{{8}, "an output node property holds"},
		},
	  of_action[] = {
		  {{1, 1}, "command_digest holds"},
		  {{2, 1}, "input_root_digest holds"},
		  {{10, 1, 1}, "the name of a platform property holds"},
		  {{10, 1, 2}, "the value of a platform property holds"},
	  };
	_cleanup_buf_ struct buf action = BUF_INIT;
	_cleanup_(plan_freep) struct plan *plan = NULL;
	struct fixture f;
	size_t len;

	(void)state;
	fixture_init(&f);
	rpc_encode(&f.action.base, &action);
	assert_null(plan_new(buf_slice(&action), &digest_of_empty, "/b", &plan));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf command = BUF_INIT;

		rpc_encode(&f.command.base, &command);
		put_nul(&command, cases[i].path);
		assert_says(plan_set_command(plan, buf_slice(&command)), cases[i].what);
	}
	len = action.len;
	for (size_t i = 0; i < ARRAY_SIZE(of_action); i++) {
		_cleanup_(plan_freep) struct plan *other = NULL;

		action.len = len;
		put_nul(&action, of_action[i].path);
		assert_says(plan_new(buf_slice(&action), &digest_of_empty, "/b", &other),
			    of_action[i].what);
	}
}

/* A field of number 2^29 + 1, which protobuf-c skips, before an argument with a NUL. */
static void test_plan_refuses_what_only_decoding_reads(void **state)
{
	static const uint8_t bytes[] = {0x8a, 0x80, 0x80, 0x80, 0x10, 1,
					'x',  0x0a, 3,    'a',  0,    'b'};
	_cleanup_buf_ struct buf action = BUF_INIT;
	_cleanup_buf_ struct buf command = BUF_INIT;
	_cleanup_(plan_freep) struct plan *plan = NULL;
	struct fixture f;

	(void)state;
	fixture_init(&f);
	rpc_encode(&f.action.base, &action);
	assert_null(plan_new(buf_slice(&action), &digest_of_empty, "/b", &plan));
	rpc_encode(&f.command.base, &command);
	buf_add(&command, bytes, sizeof(bytes));
	assert_says(plan_set_command(plan, buf_slice(&command)), "no message");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plan_has_defaults),
		cmocka_unit_test(test_plan_counts_before_it_decodes),
		cmocka_unit_test(test_plan_that_needs_too_much_memory_is_refused),
		cmocka_unit_test(test_plan_resolves_paths_within_the_root),
		cmocka_unit_test(test_plan_takes_buildstreams_outputs),
		cmocka_unit_test(test_plan_prefers_output_paths_to_the_legacy_fields),
		cmocka_unit_test(test_plan_understands_platform_properties),
		cmocka_unit_test(test_plan_falls_back_to_the_commands_platform),
		cmocka_unit_test(test_plan_refuses_bad_properties),
		cmocka_unit_test(test_plan_refuses_bad_commands),
		cmocka_unit_test(test_plan_refuses_bad_actions),
		cmocka_unit_test(test_plan_refuses_bytes_that_are_no_message),
		cmocka_unit_test(test_plan_refuses_nul_bytes),
		cmocka_unit_test(test_plan_refuses_what_only_decoding_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
