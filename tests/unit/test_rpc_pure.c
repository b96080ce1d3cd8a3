/* What needs no connection: addresses, statuses, the retry policy. */
#include "lib/base/wire.h"
#include "lib/rpc/count.h"
#include "tests/unit/rpc_fixture.h"
#include "tests/unit/threads_fixture.h"

static void assert_address(const char *text, const char *target, bool is_tls,
			   bool is_unix)
{
	_cleanup_(rpc_address_deinit) struct rpc_address address = {0};

	assert_no_error(rpc_address_parse(text, &address));
	assert_string_equal(address.target, target);
	assert_int_equal(address.is_tls, is_tls);
	assert_int_equal(address.is_unix, is_unix);
}

static void test_address_forms(void **state)
{
	(void)state;
	assert_address("grpc://host:1", "host:1", false, false);
	assert_address("http://host:1", "host:1", false, false);
	assert_address("http://host:1/", "host:1", false, false);
	assert_address("grpcs://host:1", "host:1", true, false);
	assert_address("https://host:65535", "host:65535", true, false);
	assert_address("host:0", "host:0", false, false);
	assert_address("grpc://[::1]:50051", "[::1]:50051", false, false);
	assert_address("unix:/run/a b%.sock", "unix:/run/a%20b%25.sock", false, true);
	assert_address("unix:///run/x.sock", "unix:/run/x.sock", false, true);
	assert_address("unix:x.sock", "unix:x.sock", false, true);
}

static void test_address_errors_name_the_address(void **state)
{
	static const char *const bad[] = {
		"grpc://host",   "grpc://:1",     "grpc://host:65536", "grpc://host:x",
		"ftp://host:1",  "grpc://[::1]",  "grpc://::1:1",      "grpc://a/b:1",
		"grpc://host:",  "unix:",         "grpc://host:-1",    "",
		"grpc://a b:12", "grpc://u@ho:1",
	};
	char text[300];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct rpc_address address = {0};

		assert_error(rpc_address_parse(bad[i], &address), ERROR_INVALID_ARGUMENT,
			     bad[i]);
		assert_null(address.target);
	}
	memset(text, 'x', sizeof(text) - 1);
	memcpy(text, "unix:", 5);
	text[sizeof(text) - 1] = '\0';
	assert_error(rpc_address_parse(text, &(struct rpc_address){0}),
		     ERROR_INVALID_ARGUMENT, "bytes");
}

static void test_status_round_trip(void **state)
{
	_cleanup_error_ struct error *err = error_new(ERROR_NOT_FOUND, "no %s", "such");
	_cleanup_error_ struct error *back = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		_cleanup_free_ char *subject = alloc_printf("blobs/%064d/%d", i, i);

		error_add_missing(err, subject);
	}
	error_set_retry_delay_ms(err, 12345);
	rpc_status_encode(err, &bytes);
	back = rpc_status_decode(buf_slice(&bytes));
	assert_int_equal(error_code(back), ERROR_NOT_FOUND);
	assert_string_equal(error_text(back), "no such");
	assert_int_equal(error_n_missing(back), 1000);
	assert_non_null(strstr(error_missing(back, 999), "/999"));
	assert_int_equal(error_retry_delay_ms(back), 12345);
}

/* A Duration on the wire may be less than no time, or more than any. */
/* Elements are counted in messages within messages, and as many as allowed are allowed.
 */
static void test_elements_are_counted(void **state)
{
	enum { N = 100 };
	const ProtobufCMessageDescriptor *type =
		&reapi__find_missing_blobs_request__descriptor;
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	(void)state;
	for (int i = 0; i < N; i++)
		wire_put_bytes(&bytes, 2, (struct slice){(const uint8_t *)"\x10\x01", 2});
	/* each digest, and its size */
	assert_int_equal(count_elements(type, buf_slice(&bytes), 2 * N), COUNT_FITS);
	assert_int_equal(count_elements(type, buf_slice(&bytes), 2 * N - 1), COUNT_OVER);
	assert_int_equal(count_elements(type, buf_slice(&bytes), 1), COUNT_OVER);
	bytes.len--;
	assert_int_equal(count_elements(type, buf_slice(&bytes), 2 * N), COUNT_MALFORMED);
}

static int64_t read_delay(int64_t seconds, int32_t nanos)
{
	static char url[] = "type.googleapis.com/google.rpc.RetryInfo";
	Pb__Duration delay = PB__DURATION__INIT;
	Rpcstatus__RetryInfo info = RPCSTATUS__RETRY_INFO__INIT;
	Rpcstatus__Status status = RPCSTATUS__STATUS__INIT;
	Pb__Any any = PB__ANY__INIT, *details = &any;
	_cleanup_error_ struct error *err = NULL;
	uint8_t bytes[64];

	delay.seconds = seconds;
	delay.nanos = nanos;
	info.retry_delay = &delay;
	any.type_url = url;
	any.value.data = bytes;
	any.value.len = protobuf_c_message_pack(&info.base, bytes);
	status.code = ERROR_UNAVAILABLE;
	status.details = &details;
	status.n_details = 1;
	err = rpc_status_error(&status);
	assert_int_equal(error_code(err), ERROR_UNAVAILABLE);
	return error_retry_delay_ms(err);
}

static void test_status_retry_is_bounded(void **state)
{
	const int64_t day_ms = 24 * 3600 * 1000;

	(void)state;
	assert_int_equal(read_delay(1, 500000000), 1500);
	assert_int_equal(read_delay(0, -5000000), 0);
	assert_int_equal(read_delay(-1, 5000000), -1); /* none */
	assert_int_equal(read_delay(24 * 3600, 5000000), day_ms);
	assert_int_equal(read_delay(24 * 3600 - 1, 2000000000), day_ms);
	assert_int_equal(read_delay(INT64_MAX, INT32_MAX), day_ms);
}

static void test_status_ok_is_no_error(void **state)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	(void)state;
	rpc_status_encode(NULL, &bytes);
	assert_null(rpc_status_decode(buf_slice(&bytes)));
}

static void test_status_malformed_is_an_error(void **state)
{
	(void)state;
	assert_error(rpc_status_decode(slice_of("\xff\xff\xff")), ERROR_INTERNAL,
		     "malformed");
}

static void test_decode_stops_at_the_arenas_cap(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(64 << 10);
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	(void)state;
	for (int i = 0; i < 10000; i++)
		buf_add(&bytes, "\x0a\x00", 2); /* an empty FileNode */
	assert_null(rpc_decode(&reapi__directory__descriptor, buf_slice(&bytes), &arena));
	assert_true(arena.total <= 64 << 10);
}

static int64_t delay_of(enum error_code code, unsigned int attempt, unsigned int max)
{
	_cleanup_error_ struct error *err = error_new(code, "x");

	return rpc_retry_delay_ms(err, attempt, max);
}

static void test_retry_grows_and_ends(void **state)
{
	int64_t last = 0;

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		assert_true(delay_of(ERROR_UNAVAILABLE, i, 5) > last);
		last = delay_of(ERROR_UNAVAILABLE, i, 5);
	}
	assert_int_equal(delay_of(ERROR_UNAVAILABLE, 4, 5), -1);
	assert_int_equal(delay_of(ERROR_UNAVAILABLE, 1000, 2000),
			 delay_of(ERROR_UNAVAILABLE, 1999, 2001));
	assert_int_equal(delay_of(ERROR_UNAVAILABLE, 0, 0), -1);
}

static void test_retry_leaves_final_answers_alone(void **state)
{
	(void)state;
	assert_int_equal(delay_of(ERROR_INVALID_ARGUMENT, 0, 5), -1);
	assert_int_equal(delay_of(ERROR_NOT_FOUND, 0, 5), -1);
	assert_int_equal(delay_of(ERROR_FAILED_PRECONDITION, 0, 5), -1);
	assert_int_equal(delay_of(ERROR_CANCELLED, 0, 5), -1);
	assert_int_equal(delay_of(ERROR_UNIMPLEMENTED, 0, 5), -1);
	assert_true(delay_of(ERROR_ABORTED, 0, 5) >= 0);
	assert_true(delay_of(ERROR_INTERNAL, 0, 5) >= 0);
	assert_true(delay_of(ERROR_RESOURCE_EXHAUSTED, 0, 5) >= 0);
}

static void test_retry_info_replaces_the_delay(void **state)
{
	_cleanup_error_ struct error *err = error_new(ERROR_UNAVAILABLE, "x");

	(void)state;
	error_set_retry_delay_ms(err, 7);
	assert_int_equal(rpc_retry_delay_ms(err, 3, 5), 7);
	error_set_retry_delay_ms(err, INT64_MAX);
	assert_int_equal(rpc_retry_delay_ms(err, 3, 5), 5 * 60 * 1000);
}

/* The first of this program: core is started once. */
static void test_core_is_not_started_without_its_threads(void **state)
{
	(void)state;
	threads_deny();
	assert_error(rpc_init(0), ERROR_RESOURCE_EXHAUSTED,
		     "gRPC and this program want ");
	threads_allow();
	assert_no_error(rpc_init(0));
	threads_deny();
	assert_no_error(rpc_init(0)); /* it is there */
	threads_allow();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_core_is_not_started_without_its_threads),
		cmocka_unit_test(test_address_forms),
		cmocka_unit_test(test_address_errors_name_the_address),
		cmocka_unit_test(test_status_round_trip),
		cmocka_unit_test(test_elements_are_counted),
		cmocka_unit_test(test_status_retry_is_bounded),
		cmocka_unit_test(test_status_ok_is_no_error),
		cmocka_unit_test(test_status_malformed_is_an_error),
		cmocka_unit_test(test_decode_stops_at_the_arenas_cap),
		cmocka_unit_test(test_retry_grows_and_ends),
		cmocka_unit_test(test_retry_leaves_final_answers_alone),
		cmocka_unit_test(test_retry_info_replaces_the_delay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
