/* The client's modules by themselves: what is asked of the service, what is kept on this
 * machine, what a signal tells. */
#include "tests/unit/cas_fixture.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/declared.h"
#include "client/interrupt.h"
#include "client/local.h"
#include "client/request.h"

/* ---- requests --------------------------------------------------------------------- */

static char *command[] = {(char[]){"true"}};

static void request_begin(struct request *request, const char *workdir,
			  const char *output)
{
	*request = (struct request)REQUEST_INIT;
	request->arguments = command;
	request->n_arguments = 1;
	request->workdir = alloc_string(workdir);
	option_list_add(&request->outputs, output);
}

/* What the Action is called that it becomes. */
static struct digest request_end(struct request *request)
{
	struct digest digest;

	expect_ok(request_clean(request));
	expect_ok(request_make(request));
	request_encode(request, &digest_of_empty, false);
	digest = request->action_digest;
	request_deinit(request);
	return digest;
}

static void test_request_is_one_action_however_its_paths_are_written(void **state)
{
	struct request request;
	struct digest plain;
	struct digest other;

	(void)state;
	request_begin(&request, "a/b", "out");
	plain = request_end(&request);
	request_begin(&request, "./a//b/", "./x/../out/");
	other = request_end(&request);
	assert_true(digest_equal(&plain, &other));
	request_begin(&request, "a/b", "out2");
	other = request_end(&request);
	assert_false(digest_equal(&plain, &other));
}

static void test_request_knows_outputs_above_the_working_directory(void **state)
{
	struct request request;

	(void)state;
	request_begin(&request, "a", "../out");
	expect_ok(request_clean(&request));
	assert_true(request.is_from_root);
	request_deinit(&request);
	request_begin(&request, "a", "../../out");
	expect_error(request_clean(&request), ERROR_INVALID_ARGUMENT, "--output");
	request_deinit(&request);
}

static void test_request_orders_variables_and_properties(void **state)
{
	struct request request;
	struct digest one;
	struct digest other;

	(void)state;
	request_begin(&request, "", "out");
	option_list_add(&request.env, "B=2");
	option_list_add(&request.env, "A=0");
	option_list_add(&request.env, "A=1"); /* the last one counts */
	option_list_add(&request.platform, "os=b");
	option_list_add(&request.platform, "os=a");
	one = request_end(&request);
	request_begin(&request, "", "out");
	option_list_add(&request.env, "A=1");
	option_list_add(&request.env, "B=2");
	option_list_add(&request.platform, "os=a");
	option_list_add(&request.platform, "os=b");
	other = request_end(&request);
	assert_true(digest_equal(&one, &other));
	request_begin(&request, "", "out");
	option_list_add(&request.env, "=A");
	expect_error(request_make(&request), ERROR_INVALID_ARGUMENT, "--env =A");
	request_deinit(&request);
}

static void test_request_has_two_blobs_and_the_action_names_the_command(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	struct blob_source blobs[REQUEST_N_BLOBS];
	struct request request;
	const Reapi__Action *action;
	struct digest digest;

	(void)state;
	request_begin(&request, "", "out");
	request.timeout_ns = 1500000000;
	expect_ok(request_clean(&request));
	expect_ok(request_make(&request));
	request_encode(&request, &digest_of_empty, true);
	request_blobs(&request, blobs);
	for (size_t i = 0; i < REQUEST_N_BLOBS; i++) {
		hasher_digest(blobs[i].bytes.data, blobs[i].bytes.len, &digest);
		assert_true(digest_equal(&digest, &blobs[i].digest));
	}
	action = (const Reapi__Action *)rpc_decode(&reapi__action__descriptor,
						   blobs[1].bytes, &arena);
	assert_non_null(action);
	expect_ok(digest_from_wire(action->command_digest, &digest));
	assert_true(digest_equal(&digest, &blobs[0].digest));
	assert_int_equal(action->timeout->seconds, 1);
	assert_int_equal(action->timeout->nanos, 500000000);
	request_deinit(&request);
}

static void test_declared_compares_where_outputs_lie(void **state)
{
	struct option_list outputs = {0};
	struct declared declared = {.outputs = &outputs, .workdir = "a"};
	Reapi__OutputFile file = REAPI__OUTPUT_FILE__INIT;
	Reapi__OutputFile *files[] = {&file};
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;
	char *place;

	(void)state;
	option_list_add(&outputs, "../b/out");
	file.path = "../b/./out";
	result.output_files = files;
	result.n_output_files = 1;
	assert_true(declared_has(&declared, file.path));
	assert_false(declared_has(&declared, "b/out"));
	assert_true(declared_is_in(&declared, &result, "../b/out"));
	assert_false(declared_is_in(&declared, &result, "../b"));
	expect_ok(declared_place(&declared, "x", &place));
	assert_string_equal(place, "x");
	free(place);
	declared.is_from_root = true;
	expect_ok(declared_place(&declared, "../b/out", &place));
	assert_string_equal(place, "b/out");
	free(place);
	option_list_deinit(&outputs);
}

/* ---- this machine ----------------------------------------------------------------- */

static void test_local_store_needs_no_server(void **state)
{
	const struct scratch *scratch = *state;
	struct digest digest = digest_of("kept");
	struct local local = {0};
	int fd = -1;

	(void)setenv("XDG_CACHE_HOME", scratch->path, 1);
	(void)unsetenv("LAZYROOT_SERVER");
	expect_ok(local_open_store(&local));
	expect_ok(store_put(local.store, &digest, "kept", 4));
	local_deinit(&local);
	local = (struct local){0};
	expect_ok(local_open_store(&local));
	expect_ok(store_get(local.store, &digest, &fd));
	assert_true(fd >= 0);
	(void)close(fd);
	local_deinit(&local);
}

static void test_local_directory_of_its_own_goes_with_it(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_free_ char *dir = NULL;
	struct local local = {0};

	(void)unsetenv("XDG_CACHE_HOME");
	(void)unsetenv("HOME");
	(void)setenv("TMPDIR", scratch->path, 1);
	expect_ok(local_open_store(&local));
	assert_non_null(local.private_dir);
	assert_int_equal(strncmp(local.private_dir, scratch->path, strlen(scratch->path)),
			 0);
	dir = alloc_string(local.private_dir);
	assert_int_equal(access(dir, F_OK), 0);
	local_deinit(&local);
	assert_int_equal(access(dir, F_OK), -1);
}

/* ---- signals ---------------------------------------------------------------------- */

static void tell(const void *ctx, const char *what)
{
	const int *fd = ctx;

	(void)!write(*fd, what, strlen(what));
}

/* A program that a signal ends while it runs what, or after. */
static void interrupted(int to_fd, bool is_over)
{
	struct error *err = interrupt_start();

	if (err)
		_exit(1);
	interrupt_set(tell, &to_fd, "operations/1");
	if (is_over)
		interrupt_set(NULL, NULL, NULL);
	(void)kill(getpid(), SIGTERM);
	for (;;)
		(void)pause();
}

static void expect_told(bool is_over, const char *expected)
{
	char told[64] = "";
	int status = 0;
	int fds[2];
	pid_t child;
	ssize_t n;

	assert_int_equal(pipe(fds), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		interrupted(fds[1], is_over);
	(void)close(fds[1]);
	n = read(fds[0], told, sizeof(told) - 1);
	assert_int_equal(n, strlen(expected));
	assert_string_equal(told, expected);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 128 + SIGTERM);
	(void)close(fds[0]);
}

static void test_interrupt_tells_what_runs_and_ends_the_program(void **state)
{
	(void)state;
	expect_told(false, "operations/1");
}

static void test_interrupt_tells_nothing_once_it_is_over(void **state)
{
	(void)state;
	expect_told(true, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* first: they fork, which needs a process without threads */
		cmocka_unit_test(test_interrupt_tells_what_runs_and_ends_the_program),
		cmocka_unit_test(test_interrupt_tells_nothing_once_it_is_over),
		cmocka_unit_test(
			test_request_is_one_action_however_its_paths_are_written),
		cmocka_unit_test(test_request_knows_outputs_above_the_working_directory),
		cmocka_unit_test(test_request_orders_variables_and_properties),
		cmocka_unit_test(
			test_request_has_two_blobs_and_the_action_names_the_command),
		cmocka_unit_test(test_declared_compares_where_outputs_lie),
		cmocka_unit_test_setup_teardown(test_local_store_needs_no_server,
						scratch_make, scratch_drop),
		cmocka_unit_test_setup_teardown(
			test_local_directory_of_its_own_goes_with_it, scratch_make,
			scratch_drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
