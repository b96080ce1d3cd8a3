/*
 * The smaller services of the server (docs/services.md), one call at a time: here they
 * run under the thread sanitizer, too. What hostile callers do is in tests/attack.
 */
#include "tests/integration/server_fixture.h"

#define FETCH_SERVICE  &asset__fetch__descriptor
#define PUSH_SERVICE   &asset__push__descriptor
#define LOG_SERVICE    &logstream__log_stream_service__descriptor
#define HEALTH_SERVICE &health__health__descriptor
#define HEALTH(word)   HEALTH__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##word

static struct rpc_stream *open_stream(struct fixture *fixture,
				      const ProtobufCServiceDescriptor *service,
				      const char *name)
{
	const struct rpc_method method = {service, name};
	struct rpc_stream *stream = NULL;

	assert_no_error(rpc_stream_open(fixture->chan, &method, NULL, &stream));
	return stream;
}

static void send_one(struct rpc_stream *stream, const ProtobufCMessage *message)
{
	bool is_broken = false;

	assert_no_error(rpc_stream_send_message(stream, message, &is_broken));
	assert_false(is_broken);
}

/* The next message; NULL at the end. */
static ProtobufCMessage *receive_one(struct fixture *fixture, struct rpc_stream *stream,
				     const ProtobufCMessageDescriptor *type)
{
	struct slice bytes;
	bool has_message = false;

	assert_no_error(rpc_stream_receive(stream, &has_message, &bytes));
	return has_message ? rpc_decode(type, bytes, &fixture->arena) : NULL;
}

/* ---- health --------------------------------------------------------------------- */

static int receive_health(struct fixture *fixture, struct rpc_stream *stream)
{
	Health__HealthCheckResponse *response = (void *)receive_one(
		fixture, stream, &health__health_check_response__descriptor);

	return response ? (int)response->status : -1;
}

static void test_health_says_that_the_server_ends(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_(rpc_stream_freep) struct rpc_stream *watch =
		open_stream(fixture, HEALTH_SERVICE, "Watch");
	Health__HealthCheckRequest request = HEALTH__HEALTH_CHECK_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	int status;

	request.service = "google.bytestream.ByteStream";
	assert_no_error(call(fixture, HEALTH_SERVICE, "Check", &request.base, &message));
	assert_int_equal(((Health__HealthCheckResponse *)message)->status,
			 HEALTH(SERVING));
	send_one(watch, &request.base);
	assert_no_error(rpc_stream_close_send(watch));
	assert_int_equal(receive_health(fixture, watch), HEALTH(SERVING));
	(void)kill(fixture->pid, SIGTERM);
	assert_int_equal(receive_health(fixture, watch), HEALTH(NOT_SERVING));
	assert_int_equal(receive_health(fixture, watch), -1);
	assert_no_error(rpc_stream_finish(watch));
	watch = rpc_stream_free(watch);
	status = server_stop(fixture, SIGTERM);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	server_start(fixture);
}

/* ---- assets --------------------------------------------------------------------- */

static struct error *push(struct fixture *fixture, const char *uri, Reapi__Digest *digest)
{
	Asset__PushBlobRequest request = ASSET__PUSH_BLOB_REQUEST__INIT;

	request.uris = &uri;
	request.n_uris = 1;
	request.blob_digest = digest;
	return call(fixture, PUSH_SERVICE, "PushBlob", &request.base, NULL);
}

static void assert_fetched(struct fixture *fixture, const char *uri,
			   const Reapi__Digest *want)
{
	Asset__FetchBlobRequest request = ASSET__FETCH_BLOB_REQUEST__INIT;
	ProtobufCMessage *message = NULL;
	struct error *err;

	request.uris = &uri;
	request.n_uris = 1;
	err = call(fixture, FETCH_SERVICE, "FetchBlob", &request.base, &message);
	if (!want) {
		assert_error(err, ERROR_NOT_FOUND, uri);
		return;
	}
	assert_no_error(err);
	assert_string_equal(((Asset__FetchBlobResponse *)message)->blob_digest->hash,
			    want->hash);
}

static void test_assets_outlive_the_server(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *digest = put_text(fixture, "an asset");

	assert_fetched(fixture, "urn:x", NULL);
	assert_no_error(push(fixture, "urn:x", digest));
	assert_fetched(fixture, "urn:x", digest);
	(void)server_stop(fixture, SIGKILL);
	server_start(fixture);
	assert_fetched(fixture, "urn:x", digest);
	assert_fetched(fixture, "urn:y", NULL);
}

/* ---- log streams ---------------------------------------------------------------- */

static void write_log(struct rpc_stream *stream, const char *name, int64_t offset,
		      const char *text, bool is_last)
{
	Bytestream__WriteRequest request = BYTESTREAM__WRITE_REQUEST__INIT;

	request.resource_name = name;
	request.write_offset = offset;
	request.data.data = (uint8_t *)(uintptr_t)text;
	request.data.len = strlen(text);
	request.finish_write = is_last;
	send_one(stream, &request.base);
}

static void assert_piece(struct fixture *fixture, struct rpc_stream *stream,
			 const char *want)
{
	Bytestream__ReadResponse *piece = (void *)receive_one(
		fixture, stream, &bytestream__read_response__descriptor);

	assert_non_null(piece);
	assert_int_equal(piece->data.len, strlen(want));
	assert_memory_equal(piece->data.data, want, strlen(want));
}

static void test_58_log_is_read_while_it_is_written(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_(rpc_stream_freep) struct rpc_stream *reader =
		open_stream(fixture, BYTES_SERVICE, "Read");
	_cleanup_(rpc_stream_freep) struct rpc_stream *writer =
		open_stream(fixture, BYTES_SERVICE, "Write");
	Logstream__CreateLogStreamRequest create =
		LOGSTREAM__CREATE_LOG_STREAM_REQUEST__INIT;
	Bytestream__ReadRequest read = BYTESTREAM__READ_REQUEST__INIT;
	_cleanup_buf_ struct buf late = BUF_INIT;
	ProtobufCMessage *message = NULL;
	Logstream__LogStream *log;

	create.parent = "some/where";
	assert_no_error(
		call(fixture, LOG_SERVICE, "CreateLogStream", &create.base, &message));
	log = (void *)message;
	read.resource_name = log->name;
	send_one(reader, &read.base);
	assert_no_error(rpc_stream_close_send(reader));
	write_log(writer, log->write_resource_name, 0, "one", false);
	assert_piece(fixture, reader, "one");
	write_log(writer, "", 3, "two", false);
	assert_piece(fixture, reader, "two");
	write_log(writer, "", 6, "", true);
	assert_null(receive_one(fixture, reader, &bytestream__read_response__descriptor));
	assert_no_error(rpc_stream_finish(reader));
	assert_no_error(rpc_stream_close_send(writer));
	message = receive_one(fixture, writer, &bytestream__write_response__descriptor);
	assert_int_equal(((Bytestream__WriteResponse *)message)->committed_size, 6);
	assert_no_error(rpc_stream_finish(writer));
	assert_no_error(read_resource(fixture, log->name, 1, 0, &late));
	assert_string_equal(buf_string(&late), "netwo");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_health_says_that_the_server_ends),
		cmocka_unit_test(test_assets_outlive_the_server),
		cmocka_unit_test(test_58_log_is_read_while_it_is_written),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
