/* lazyroot-server as a program: its options, its data directory, its ends. */
#include "tests/integration/bot_fixture.h"

/* Runs the program to its end; its exit code, and what it says on stderr. */
static int run_program(const char *const *args, struct buf *said)
{
	int out_fd, err_fd, status;
	pid_t pid = server_spawn(args, &out_fd, &err_fd);
	char piece[512];
	ssize_t n;

	while ((n = read(err_fd, piece, sizeof(piece))) > 0)
		buf_add(said, piece, (size_t)n);
	status = wait_exit(pid);
	(void)close(out_fd);
	(void)close(err_fd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void assert_says(const char *const *args, int exit_code, const char *part)
{
	_cleanup_buf_ struct buf said = BUF_INIT;
	int code = run_program(args, &said);

	if (code != exit_code || !strstr(buf_string(&said), part))
		fail_msg("exit %d, \"%s\" instead of exit %d with \"%s\"", code,
			 buf_string(&said), exit_code, part);
}

static void test_wrong_options_are_named(void **state)
{
	struct fixture *fixture = *state;
	const char *const none[] = {NULL};
	const char *const unknown[] = {"--nonsense", NULL};
	const char *const operand[] = {"--listen", "grpc://127.0.0.1:0",
				       "--data",   "/nonexistent",
				       "operand",  NULL};
	const char *const address[] = {"--listen", "ftp://x:1", "--data",
				       "/tmp/lazyroot-never", NULL};

	(void)fixture;
	assert_says(none, 2, "--data");
	assert_says(unknown, 2, "nonsense");
	assert_says(operand, 2, "operand");
	assert_says(address, 2, "ftp://x:1");
	assert_null(file_remove_tree(AT_FDCWD, "/tmp/lazyroot-never"));
}

static void test_second_server_on_the_data_is_told_who_holds_it(void **state)
{
	struct fixture *fixture = *state;
	const char *const args[] = {"--listen", "grpc://127.0.0.1:0", "--data",
				    fixture->dir, NULL};
	char pid[16];

	(void)snprintf(pid, sizeof(pid), "%d", (int)fixture->pid);
	assert_says(args, 1, pid);
}

static void test_address_in_use_is_named(void **state)
{
	struct fixture *fixture = *state;
	const char *const args[] = {"--listen", fixture->address, "--data",
				    "/tmp/lazyroot-test-second", NULL};

	assert_says(args, 1, fixture->address);
	assert_null(file_remove_tree(AT_FDCWD, "/tmp/lazyroot-test-second"));
}

static void test_signals_end_it_cleanly_while_calls_wait(void **state)
{
	struct fixture *fixture = *state;
	struct run run = run_execute(fixture, put_action(fixture, NULL), false, 0);
	Longrunning__CancelOperationRequest cancel =
		LONGRUNNING__CANCEL_OPERATION_REQUEST__INIT;
	int status;

	run_until(&run, REAPI__EXECUTION_STAGE__VALUE__QUEUED);
	cancel.name = run.operation->name;
	(void)kill(fixture->pid, SIGINT);
	assert_false(run_next(&run));
	assert_error(rpc_stream_finish(run.stream), ERROR_UNAVAILABLE, "stopping");
	run_close(&run);
	status = server_stop(fixture, 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	server_start(fixture);
	/* what waited is there, and would wait on */
	assert_no_error(
		call(fixture, OPS_SERVICE, "CancelOperation", &cancel.base, NULL));
}

static void test_57_after_a_kill_blobs_and_results_are_there(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *action = put_action(fixture, NULL);
	struct bot bot = bot_open(fixture, "b1", NULL);
	struct run run = run_execute(fixture, action, false, 0);
	const char *text = unique_text(fixture, "kept");
	_cleanup_buf_ struct buf out = BUF_INIT;
	Reapi__Digest *blob = put_text(fixture, text);
	char name[DIGEST_STRING_MAX + 8];
	const char *operation;

	bot_complete_exit(&bot, bot_take(&bot), 0);
	assert_int_equal(run_finish(&run), 0);
	operation = run.operation->name;
	(void)server_stop(fixture, SIGKILL);
	server_start(fixture);
	(void)snprintf(name, sizeof(name), "blobs/%s/%lld", blob->hash,
		       (long long)blob->size_bytes);
	assert_no_error(read_resource(fixture, name, 0, 0, &out));
	assert_string_equal(buf_string(&out), text);
	run = run_execute(fixture, action, false, 0);
	assert_int_equal(run_finish(&run), 0);
	assert_true(run.response->cached_result);
	/* it is known still, or what it came to is in the cache */
	run = run_wait(fixture, operation);
	assert_int_equal(run_finish(&run), 0);
	/* as its session is, or it is too young to have been written */
	error_free(bot_update_status(&bot, NULL, BOTS__BOT_STATUS__BOT_TERMINATING, 0));
}

static void test_unix_socket_and_several_addresses(void **state)
{
	_cleanup_free_ char *dir = alloc_string("/tmp/lazyroot-test-XXXXXX");
	_cleanup_free_ char *socket = NULL, *address = NULL, *data = NULL;
	Reapi__GetCapabilitiesRequest request = REAPI__GET_CAPABILITIES_REQUEST__INIT;
	struct rpc_chan_config config = {0};
	struct fixture other = {.arena = ARENA_INIT(1 << 20)};
	char first[160], second[160];
	int status;

	(void)state;
	assert_non_null(mkdtemp(dir));
	socket = alloc_printf("%s/s", dir);
	address = alloc_printf("unix:%s", socket);
	data = alloc_printf("%s/data", dir);
	{
		const char *const args[] = {
			"--listen", address, "--listen", "grpc://127.0.0.1:0",
			"--data",   data,    NULL};

		other.pid = server_spawn(args, &other.out_fd, NULL);
	}
	read_line(other.out_fd, first, sizeof(first));
	read_line(other.out_fd, second, sizeof(second));
	assert_string_equal(first + strlen("listening on "), address);
	assert_non_null(strstr(second, "listening on grpc://127.0.0.1:"));
	assert_string_not_equal(second, "listening on grpc://127.0.0.1:0");
	config.address = address;
	assert_no_error(rpc_chan_new(&config, &other.chan));
	assert_no_error(
		call(&other, CAPS_SERVICE, "GetCapabilities", &request.base, NULL));
	status = server_stop(&other, SIGTERM);
	assert_true(WIFEXITED(status));
	assert_int_not_equal(access(socket, F_OK), 0);
	arena_deinit(&other.arena);
	assert_null(file_remove_tree(AT_FDCWD, dir));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong_options_are_named),
		cmocka_unit_test(test_second_server_on_the_data_is_told_who_holds_it),
		cmocka_unit_test(test_address_in_use_is_named),
		cmocka_unit_test(test_signals_end_it_cleanly_while_calls_wait),
		cmocka_unit_test(test_57_after_a_kill_blobs_and_results_are_there),
		cmocka_unit_test(test_unix_socket_and_several_addresses),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
