/* Unary calls: blocking and with a callback, over a real server in this process. */
#include <unistd.h>

#include "tests/unit/rpc_fixture.h"
#include "tests/unit/threads_fixture.h"

struct latch {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	int n_done;
	int n_failed;
	enum error_code code;
};

static void latch_init(struct latch *latch)
{
	*latch = (struct latch){0};
	assert_int_equal(pthread_mutex_init(&latch->mutex, NULL), 0);
	assert_int_equal(pthread_cond_init(&latch->cond, NULL), 0);
}

static void latch_done(void *ctx, struct error *err, struct rpc_reply *reply)
{
	struct latch *latch = ctx;

	(void)pthread_mutex_lock(&latch->mutex);
	latch->n_done++;
	latch->n_failed += err || reply->bytes.len == 0;
	latch->code = error_code(err);
	(void)pthread_cond_signal(&latch->cond);
	(void)pthread_mutex_unlock(&latch->mutex);
	error_free(err);
}

static void latch_wait(struct latch *latch, int n)
{
	(void)pthread_mutex_lock(&latch->mutex);
	while (latch->n_done < n)
		(void)pthread_cond_wait(&latch->cond, &latch->mutex);
	(void)pthread_mutex_unlock(&latch->mutex);
	(void)pthread_mutex_destroy(&latch->mutex);
	(void)pthread_cond_destroy(&latch->cond);
}

static Reapi__FindMissingBlobsRequest find_request(Reapi__Digest *digest,
						   Reapi__Digest **list)
{
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;

	reapi__digest__init(digest);
	digest->hash = "abc";
	digest->size_bytes = 7;
	*list = digest;
	request.n_blob_digests = 1;
	request.blob_digests = list;
	return request;
}

static void test_rpc_call_brings_the_reply(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_arena_ struct arena arena = ARENA_INIT(1 << 20);
	Reapi__Digest digest, *list;
	Reapi__FindMissingBlobsRequest request = find_request(&digest, &list);
	ProtobufCMessage *message = NULL;
	Reapi__FindMissingBlobsResponse *response;

	assert_no_error(rpc_call_message(fixture->chan, &method_find, &request.base, NULL,
					 &arena, &message));
	response = (void *)message;
	assert_int_equal(response->n_missing_blob_digests, 1);
	assert_string_equal(response->missing_blob_digests[0]->hash, "abc");
	assert_int_equal(response->missing_blob_digests[0]->size_bytes, 7);
}

static void test_rpc_call_sends_the_tools_name(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_rpc_reply_ struct rpc_reply reply = {0};
	Reapi__Digest digest, *list;
	Reapi__FindMissingBlobsRequest request = find_request(&digest, &list);
	_cleanup_arena_ struct arena arena = ARENA_INIT(1 << 20);
	Reapi__RequestMetadata *metadata;

	assert_no_error(
		rpc_call(fixture->chan, &method_find, &request.base, NULL, &reply));
	(void)pthread_mutex_lock(&fixture->mutex);
	metadata = (void *)rpc_decode(&reapi__request_metadata__descriptor,
				      slice_of(fixture->header), &arena);
	(void)pthread_mutex_unlock(&fixture->mutex);
	assert_non_null(metadata);
	assert_string_equal(metadata->tool_details->tool_name, "testtool");
	assert_string_equal(metadata->tool_details->tool_version, LAZYROOT_VERSION);
}

static void test_rpc_headers_go_there_and_trailers_come_back(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_rpc_reply_ struct rpc_reply reply = {0};
	static const uint8_t bytes[] = {0, 1, 255, 0, '\n'};
	const struct rpc_header header = {"x-echo-bin", {bytes, sizeof(bytes)}};
	const struct rpc_options options = {.headers = &header, .n_headers = 1};
	Reapi__Digest digest, *list;
	Reapi__FindMissingBlobsRequest request = find_request(&digest, &list);

	assert_no_error(
		rpc_call(fixture->chan, &method_find, &request.base, &options, &reply));
	assert_int_equal(reply.n_trailers, 1);
	assert_string_equal(reply.trailers[0].name, "x-echoed-bin");
	assert_true(slice_equal(reply.trailers[0].value, header.value));
}

static void test_rpc_rich_status_arrives_whole(void **state)
{
	struct fixture *fixture = *state;
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	_cleanup_error_ struct error *err = NULL;
	struct rpc_reply reply;

	request.instance_name = "fail";
	err = rpc_call(fixture->chan, &method_find, &request.base, NULL, &reply);
	assert_int_equal(error_code(err), ERROR_FAILED_PRECONDITION);
	assert_non_null(strstr(error_text(err), "lost things ? in caf\xc3\xa9"));
	/* where it came from is for whoever debugs, not for whoever reads */
	assert_null(strstr(error_text(err), rpc_chan_address(fixture->chan)));
	assert_null(strstr(error_text(err), "FindMissing"));
	assert_non_null(strstr(error_trace(err), rpc_chan_address(fixture->chan)));
	assert_non_null(strstr(error_trace(err), "/FindMissingBlobs at "));
	assert_int_equal(error_n_missing(err), 2);
	assert_string_equal(error_missing(err, 0), "blobs/abc/1");
	assert_string_equal(error_missing(err, 1), "blobs/def/2");
	assert_int_equal(error_retry_delay_ms(err), 1500);
}

static void test_rpc_unknown_method_is_unimplemented(void **state)
{
	struct fixture *fixture = *state;
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	struct rpc_reply reply;

	assert_error(
		rpc_call(fixture->chan, &method_unknown, &request.base, NULL, &reply),
		ERROR_UNIMPLEMENTED, "BatchReadBlobs");
}

static void test_rpc_block_moves_a_step_to_a_worker(void **state)
{
	struct fixture *fixture = *state;
	Reapi__BatchUpdateBlobsRequest request = REAPI__BATCH_UPDATE_BLOBS_REQUEST__INIT;
	_cleanup_rpc_reply_ struct rpc_reply reply = {0};

	assert_no_error(
		rpc_call(fixture->chan, &method_update, &request.base, NULL, &reply));
	assert_true(fixture->saw_worker);
}

static void test_rpc_malformed_request_is_invalid(void **state)
{
	struct fixture *fixture = *state;
	/* A GetOperation request's field 1 is a string as FindMissing's; field 2 is not.
	 */
	Longrunning__ListOperationsRequest request =
		LONGRUNNING__LIST_OPERATIONS_REQUEST__INIT;
	struct rpc_reply reply;

	request.page_size = 5;
	assert_error(rpc_call(fixture->chan, &method_find, &request.base, NULL, &reply),
		     ERROR_INVALID_ARGUMENT, "malformed");
}

static void test_rpc_deadline_ends_a_hanging_call(void **state)
{
	struct fixture *fixture = *state;
	const struct rpc_options options = {.timeout_ms = 50};
	Longrunning__GetOperationRequest request =
		LONGRUNNING__GET_OPERATION_REQUEST__INIT;
	struct rpc_reply reply;

	assert_error(
		rpc_call(fixture->chan, &method_get, &request.base, &options, &reply),
		ERROR_DEADLINE_EXCEEDED, "does not answer");
}

static void test_rpc_cancel_ends_a_hanging_call(void **state)
{
	struct fixture *fixture = *state;
	Longrunning__GetOperationRequest request =
		LONGRUNNING__GET_OPERATION_REQUEST__INIT;
	struct latch latch;
	uint64_t id;

	latch_init(&latch);
	id = rpc_start(fixture->chan, &method_get, &request.base, NULL, latch_done,
		       &latch);
	fixture_wait(fixture);
	rpc_cancel(fixture->chan, id + 1);
	rpc_cancel(fixture->chan, id);
	latch_wait(&latch, 1);
	assert_int_equal(latch.code, ERROR_CANCELLED);
	rpc_cancel(fixture->chan, id);
}

static void test_rpc_many_calls_are_in_flight_at_once(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest digest, *list;
	Reapi__FindMissingBlobsRequest request = find_request(&digest, &list);
	struct latch latch;

	latch_init(&latch);
	for (int i = 0; i < 2000; i++)
		(void)rpc_start(fixture->chan, &method_find, &request.base, NULL,
				latch_done, &latch);
	latch_wait(&latch, 2000);
	assert_int_equal(latch.n_failed, 0);
}

/* Each connection sends more than it may have at once, so that some wait for their turn;
 * their ends and their turns come from several threads. A call that was lost between them
 * would never let the server end.
 */
static void test_rpc_server_ends_after_large_calls_were_broken_off(void **state)
{
	struct rpc_server *server = fixture_server("grpc://127.0.0.1:0", *state);
	_cleanup_free_ char *large = alloc_zero((4 << 20) + 1);
	Reapi__BatchUpdateBlobsRequest request = REAPI__BATCH_UPDATE_BLOBS_REQUEST__INIT;
	struct rpc_chan *chans[3];
	uint64_t ids[ARRAY_SIZE(chans)][24];
	struct latch latch;

	memset(large, 'x', 4 << 20);
	request.instance_name = large;
	latch_init(&latch);
	for (size_t c = 0; c < ARRAY_SIZE(chans); c++)
		chans[c] = fixture_chan(rpc_server_address(server, 0));
	for (size_t round = 0; round < 6; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(ids[0]); i++) {
			for (size_t c = 0; c < ARRAY_SIZE(chans); c++)
				ids[c][i] =
					rpc_start(chans[c], &method_update, &request.base,
						  NULL, latch_done, &latch);
		}
		(void)usleep((useconds_t)(10000 * round));
		for (size_t i = 0; i < ARRAY_SIZE(ids[0]); i++) {
			for (size_t c = 0; c < ARRAY_SIZE(chans); c++)
				rpc_cancel(chans[c], ids[c][i]);
		}
	}
	latch_wait(&latch, 6 * (int)ARRAY_SIZE(ids[0]) * (int)ARRAY_SIZE(chans));
	assert_true(latch.n_failed > 0);
	for (size_t c = 0; c < ARRAY_SIZE(chans); c++)
		rpc_chan_free(chans[c]);
	rpc_server_stop(server, 20);
	rpc_server_free(server);
}

struct counted {
	const char *path;
	uint64_t n;
};

static void count_one(void *ctx, const char *path, uint64_t n)
{
	struct counted *counted = ctx;

	if (strcmp(path, counted->path) == 0)
		counted->n = n;
}

static uint64_t n_calls_of(const struct rpc_chan *chan, const char *path)
{
	struct counted counted = {.path = path};

	rpc_chan_each_count(chan, count_one, &counted);
	return counted.n;
}

static void test_rpc_calls_are_counted(void **state)
{
	static const char path[] = "/build.bazel.remote.execution.v2."
				   "ContentAddressableStorage/FindMissingBlobs";
	struct fixture *fixture = *state;
	uint64_t before = n_calls_of(fixture->chan, path);
	Reapi__Digest digest, *list;
	Reapi__FindMissingBlobsRequest request = find_request(&digest, &list);

	for (int i = 0; i < 3; i++) {
		_cleanup_rpc_reply_ struct rpc_reply reply = {0};

		assert_no_error(rpc_call(fixture->chan, &method_find, &request.base, NULL,
					 &reply));
	}
	assert_int_equal(n_calls_of(fixture->chan, path), before + 3);
	assert_int_equal(n_calls_of(fixture->chan, "/no/Such"), 0);
}

static void test_rpc_message_too_large_is_refused(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *long_name = alloc_zero(RPC_MESSAGE_MAX + 1);
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	struct rpc_reply reply;

	memset(long_name, 'a', RPC_MESSAGE_MAX);
	request.instance_name = long_name;
	assert_error(rpc_call(fixture->chan, &method_find, &request.base, NULL, &reply),
		     ERROR_RESOURCE_EXHAUSTED, "arge");
}

static void test_rpc_unreachable_server_is_named(void **state)
{
	const struct rpc_chan_config config = {.address = "grpc://127.0.0.1:1"};
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	_cleanup_(rpc_chan_freep) struct rpc_chan *chan = NULL;
	struct rpc_reply reply;

	(void)state;
	assert_no_error(rpc_chan_new(&config, &chan));
	assert_error(rpc_call(chan, &method_find, &request.base, NULL, &reply),
		     ERROR_UNAVAILABLE, "grpc://127.0.0.1:1");
}

static void test_rpc_token_is_not_sent_in_the_clear(void **state)
{
	const struct rpc_chan_config config = {.address = "grpc://192.0.2.1:1",
					       .token_file = "/dev/null"};
	struct rpc_chan *chan = NULL;

	(void)state;
	assert_error(rpc_chan_new(&config, &chan), ERROR_INVALID_ARGUMENT, "grpcs://");
	assert_null(chan);
}

static void test_rpc_call_that_gets_no_poller_is_told_so(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_(rpc_chan_freep) struct rpc_chan *chan =
		fixture_chan(rpc_server_address(fixture->server, 0));
	Reapi__Digest digest, *list;
	Reapi__FindMissingBlobsRequest request = find_request(&digest, &list);
	struct latch latch;
	uint64_t id;

	latch_init(&latch);
	threads_deny();
	id = rpc_start(chan, &method_find, &request.base, NULL, latch_done, &latch);
	threads_allow();
	assert_int_equal(latch.n_done, 1); /* there is no thread that could tell later */
	assert_int_equal(latch.code, ERROR_RESOURCE_EXHAUSTED);
	rpc_cancel(chan, id);
	assert_true(rpc_start(chan, &method_find, &request.base, NULL, latch_done,
			      &latch) > id);
	latch_wait(&latch, 2);
	assert_int_equal(latch.n_failed, 1);
}

static void test_rpc_server_that_gets_no_threads_does_not_start(void **state)
{
	const char *address = "grpc://127.0.0.1:0";
	const struct rpc_server_config config = {
		.addresses = &address, .n_addresses = 1, .n_pollers = 2, .n_workers = 2};
	struct rpc_server *server = NULL;
	struct error *err;

	assert_no_error(rpc_server_new(&config, &server));
	fixture_offer(server, *state);
	threads_deny();
	err = rpc_server_start(server);
	threads_allow();
	assert_error(err, ERROR_RESOURCE_EXHAUSTED, "start the thread");
	rpc_server_free(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rpc_call_brings_the_reply),
		cmocka_unit_test(test_rpc_call_sends_the_tools_name),
		cmocka_unit_test(test_rpc_headers_go_there_and_trailers_come_back),
		cmocka_unit_test(test_rpc_rich_status_arrives_whole),
		cmocka_unit_test(test_rpc_unknown_method_is_unimplemented),
		cmocka_unit_test(test_rpc_block_moves_a_step_to_a_worker),
		cmocka_unit_test(test_rpc_malformed_request_is_invalid),
		cmocka_unit_test(test_rpc_deadline_ends_a_hanging_call),
		cmocka_unit_test(test_rpc_cancel_ends_a_hanging_call),
		cmocka_unit_test(test_rpc_many_calls_are_in_flight_at_once),
		cmocka_unit_test(test_rpc_server_ends_after_large_calls_were_broken_off),
		cmocka_unit_test(test_rpc_calls_are_counted),
		cmocka_unit_test(test_rpc_message_too_large_is_refused),
		cmocka_unit_test(test_rpc_unreachable_server_is_named),
		cmocka_unit_test(test_rpc_token_is_not_sent_in_the_clear),
		cmocka_unit_test(test_rpc_call_that_gets_no_poller_is_told_so),
		cmocka_unit_test(test_rpc_server_that_gets_no_threads_does_not_start),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
