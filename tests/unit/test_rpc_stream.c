/* Streams both ways, their early ends, and the server's end under load. */
#include <unistd.h>

#include "tests/unit/rpc_fixture.h"

static struct rpc_stream *open_read(struct fixture *fixture, int64_t n_chunks)
{
	Bytestream__ReadRequest request = BYTESTREAM__READ_REQUEST__INIT;
	struct rpc_stream *stream = NULL;
	bool is_broken = true;

	request.read_limit = n_chunks;
	assert_no_error(rpc_stream_open(fixture->chan, &method_read, NULL, &stream));
	assert_no_error(rpc_stream_send_message(stream, &request.base, &is_broken));
	assert_false(is_broken);
	assert_no_error(rpc_stream_close_send(stream));
	return stream;
}

static void test_stream_read_brings_every_message(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = open_read(fixture, 300);
	int released = atomic_load(&fixture->n_released);
	bool has_message = false;
	struct slice bytes;
	int n = 0;

	for (;;) {
		assert_no_error(rpc_stream_receive(stream, &has_message, &bytes));
		if (!has_message)
			break;
		assert_int_equal(bytes.len, 4 + sizeof(read_chunk));
		assert_memory_equal(bytes.data + 4, read_chunk, sizeof(read_chunk));
		n++;
	}
	assert_int_equal(n, 300);
	assert_no_error(rpc_stream_finish(stream));
	assert_true(atomic_load(&fixture->n_released) >= released);
}

static void test_stream_finish_reads_away_what_nobody_asked_for(void **state)
{
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = open_read(*state, 200);

	assert_no_error(rpc_stream_finish(stream));
}

static void test_stream_freed_early_cancels_and_drops_the_state(void **state)
{
	struct fixture *fixture = *state;
	int before = atomic_load(&fixture->n_dropped);
	struct rpc_stream *stream = open_read(fixture, 1000000);
	bool has_message = false;
	struct slice bytes;

	assert_no_error(rpc_stream_receive(stream, &has_message, &bytes));
	assert_true(has_message);
	rpc_stream_free(stream);
	while (atomic_load(&fixture->n_dropped) == before)
		(void)usleep(1000);
}

static void test_stream_write_arrives_whole(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	_cleanup_arena_ struct arena arena = ARENA_INIT(1 << 20);
	static const uint8_t head[] = {0x52, 0x80, 0x80, 0x04};
	Bytestream__WriteResponse *response;
	bool is_broken = false, has_message = false;
	struct slice bytes;

	assert_no_error(rpc_stream_open(fixture->chan, &method_write, NULL, &stream));
	for (int i = 0; i < 100; i++) {
		assert_no_error(rpc_stream_send(
			stream, (struct slice){head, sizeof(head)},
			(struct slice){read_chunk, sizeof(read_chunk)}, &is_broken));
		assert_false(is_broken);
	}
	assert_no_error(rpc_stream_close_send(stream));
	assert_no_error(rpc_stream_receive(stream, &has_message, &bytes));
	assert_true(has_message);
	response = (void *)rpc_decode(&bytestream__write_response__descriptor, bytes,
				      &arena);
	assert_int_equal(response->committed_size, 100 * sizeof(read_chunk));
	assert_no_error(rpc_stream_finish(stream));
}

/* Writes with this resource name until the peer ends the call. */
static struct rpc_stream *write_until_broken(struct fixture *fixture, const char *name)
{
	Bytestream__WriteRequest request = BYTESTREAM__WRITE_REQUEST__INIT;
	struct rpc_stream *stream = NULL;
	bool is_broken = false;

	request.resource_name = name;
	request.data.data = (uint8_t *)(uintptr_t)read_chunk;
	request.data.len = sizeof(read_chunk);
	assert_no_error(rpc_stream_open(fixture->chan, &method_write, NULL, &stream));
	while (!is_broken)
		assert_no_error(
			rpc_stream_send_message(stream, &request.base, &is_broken));
	return stream;
}

static void test_stream_peer_that_fails_early_says_why(void **state)
{
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream =
		write_until_broken(*state, "bad");

	assert_error(rpc_stream_finish(stream), ERROR_INVALID_ARGUMENT, "bad write");
}

static void test_stream_peer_that_answers_early_is_heard(void **state)
{
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream =
		write_until_broken(*state, "stop");
	bool has_message = false;
	struct slice bytes;

	assert_no_error(rpc_stream_receive(stream, &has_message, &bytes));
	assert_true(has_message);
	assert_no_error(rpc_stream_finish(stream));
}

static void tell(struct fixture *fixture, bool is_last)
{
	(void)pthread_mutex_lock(&fixture->mutex);
	fixture->n_updates++;
	fixture->is_last = is_last;
	if (fixture->waiting)
		rpc_wake(fixture->waiting);
	(void)pthread_mutex_unlock(&fixture->mutex);
}

static void test_stream_wake_from_another_thread_sends_updates(void **state)
{
	struct fixture *fixture = *state;
	Reapi__WaitExecutionRequest request = REAPI__WAIT_EXECUTION_REQUEST__INIT;
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	bool is_broken = false, has_message = false;
	struct slice bytes;

	assert_no_error(rpc_stream_open(fixture->chan, &method_wait, NULL, &stream));
	assert_no_error(rpc_stream_send_message(stream, &request.base, &is_broken));
	fixture_wait(fixture);
	for (int i = 1; i <= 50; i++) {
		tell(fixture, i == 50);
		assert_no_error(rpc_stream_receive(stream, &has_message, &bytes));
		assert_true(has_message);
	}
	assert_no_error(rpc_stream_finish(stream));
	(void)pthread_mutex_lock(&fixture->mutex);
	assert_null(fixture->waiting);
	(void)pthread_mutex_unlock(&fixture->mutex);
}

/* ---- the server's end ----------------------------------------------------------- */

struct loader {
	pthread_t thread;
	const char *address;
	atomic_bool *is_over;
	int n_calls;
};

static void *load(void *arg)
{
	struct loader *loader = arg;
	_cleanup_(rpc_chan_freep) struct rpc_chan *chan = fixture_chan(loader->address);
	Bytestream__ReadRequest request = BYTESTREAM__READ_REQUEST__INIT;

	request.read_limit = 1 << 20;
	while (!atomic_load(loader->is_over)) {
		_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
		bool is_broken = false, has_message = false;
		struct slice bytes;

		if (rpc_stream_open(chan, &method_read, NULL, &stream))
			abort();
		(void)rpc_stream_send_message(stream, &request.base, &is_broken);
		(void)rpc_stream_receive(stream, &has_message, &bytes);
		loader->n_calls += has_message;
		if (loader->n_calls % 2 == 0) /* the first leaves in the middle */
			error_free(rpc_stream_finish(stream));
	}
	return NULL;
}

static void test_server_stops_under_load(void **state)
{
	struct fixture *fixture = *state;
	struct rpc_server *server = fixture_server("grpc://127.0.0.1:0", fixture);
	struct loader loaders[8] = {0};
	atomic_bool is_over = false;
	int dropped = atomic_load(&fixture->n_dropped);

	for (size_t i = 0; i < ARRAY_SIZE(loaders); i++) {
		loaders[i].address = rpc_server_address(server, 0);
		loaders[i].is_over = &is_over;
		assert_int_equal(
			pthread_create(&loaders[i].thread, NULL, load, &loaders[i]), 0);
	}
	while (atomic_load(&fixture->n_dropped) < dropped + 8)
		(void)usleep(1000);
	rpc_server_stop(server, 20);
	atomic_store(&is_over, true);
	for (size_t i = 0; i < ARRAY_SIZE(loaders); i++)
		assert_int_equal(pthread_join(loaders[i].thread, NULL), 0);
	rpc_server_free(server);
}

static void test_server_stop_ends_hanging_calls(void **state)
{
	struct fixture *fixture = *state;
	struct rpc_server *server = fixture_server("grpc://127.0.0.1:0", fixture);
	_cleanup_(rpc_chan_freep) struct rpc_chan *chan =
		fixture_chan(rpc_server_address(server, 0));
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	Longrunning__GetOperationRequest request =
		LONGRUNNING__GET_OPERATION_REQUEST__INIT;
	bool is_broken = false;
	int dropped = atomic_load(&fixture->n_dropped);

	assert_no_error(rpc_stream_open(chan, &method_get, NULL, &stream));
	assert_no_error(rpc_stream_send_message(stream, &request.base, &is_broken));
	assert_no_error(rpc_stream_close_send(stream));
	fixture_wait(fixture);
	rpc_server_stop(server, 10);
	assert_int_equal(atomic_load(&fixture->n_dropped), dropped + 1);
	assert_error(rpc_stream_finish(stream), ERROR_UNAVAILABLE, "does not answer");
	rpc_server_free(server);
}

static void test_server_address_in_use_is_named(void **state)
{
	struct fixture *fixture = *state;
	const char *address = rpc_server_address(fixture->server, 0);
	const struct rpc_server_config config = {
		.addresses = &address, .n_addresses = 1, .n_pollers = 1, .n_workers = 1};
	struct rpc_server *second = NULL;
	struct error *err = rpc_server_new(&config, &second);

	assert_non_null(strstr(error_text(err), "in use"));
	assert_error(err, ERROR_UNAVAILABLE, address);
}

static void test_server_unix_socket_has_one_owner(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *address =
		alloc_printf("unix:/tmp/test rpc%%%d.sock", getpid());
	const char *list = address;
	const struct rpc_server_config config = {
		.addresses = &list, .n_addresses = 1, .n_pollers = 1, .n_workers = 1};
	struct rpc_server *server = fixture_server(address, fixture);
	struct rpc_server *second = NULL;
	struct rpc_chan *chan = fixture_chan(address);
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	_cleanup_rpc_reply_ struct rpc_reply reply = {0};

	assert_error(rpc_server_new(&config, &second), ERROR_UNAVAILABLE,
		     "another process");
	assert_no_error(rpc_call(chan, &method_find, &request.base, NULL, &reply));
	rpc_chan_free(chan);
	rpc_server_free(server);
	assert_int_not_equal(access(address + 5, F_OK), 0);
	server = fixture_server(address, fixture);
	rpc_server_free(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream_read_brings_every_message),
		cmocka_unit_test(test_stream_finish_reads_away_what_nobody_asked_for),
		cmocka_unit_test(test_stream_freed_early_cancels_and_drops_the_state),
		cmocka_unit_test(test_stream_write_arrives_whole),
		cmocka_unit_test(test_stream_peer_that_fails_early_says_why),
		cmocka_unit_test(test_stream_peer_that_answers_early_is_heard),
		cmocka_unit_test(test_stream_wake_from_another_thread_sends_updates),
		cmocka_unit_test(test_server_stops_under_load),
		cmocka_unit_test(test_server_stop_ends_hanging_calls),
		cmocka_unit_test(test_server_address_in_use_is_named),
		cmocka_unit_test(test_server_unix_socket_has_one_owner),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
