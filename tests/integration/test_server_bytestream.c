/* Conformance of the server's ByteStream: docs/protocol.md, 20 to 32. */
#include "lib/base/zstd.h"
#include "tests/integration/server_fixture.h"

#define SIZE ((size_t)3 << 20)

static uint8_t content[SIZE];

/* Fills content with bytes nobody had before; its digest as text. */
static void new_content(char text[static DIGEST_STRING_MAX])
{
	static uint32_t n;
	pid_t pid = getpid();
	struct digest digest;

	memset(content, (int)(++n & 0xff), sizeof(content));
	memcpy(content, &n, sizeof(n));
	memcpy(content + sizeof(n), &pid, sizeof(pid));
	digest = digest_of(content, sizeof(content));
	(void)digest_format(&digest, text);
}

static struct rpc_stream *write_open(struct fixture *fixture,
				     const struct rpc_options *options)
{
	const struct rpc_method method = {BYTES_SERVICE, "Write"};
	struct rpc_stream *stream = NULL;

	assert_no_error(rpc_stream_open(fixture->chan, &method, options, &stream));
	return stream;
}

static void write_piece(struct rpc_stream *stream, const char *name, size_t from,
			size_t to, bool is_last)
{
	Bytestream__WriteRequest request = BYTESTREAM__WRITE_REQUEST__INIT;
	bool is_broken;

	request.resource_name = name;
	request.write_offset = (int64_t)from;
	request.data.data = content + from;
	request.data.len = to - from;
	request.finish_write = is_last;
	assert_no_error(rpc_stream_send_message(stream, &request.base, &is_broken));
}

/* Ends the write; committed_size where it went well. */
static struct error *write_end(struct fixture *fixture, struct rpc_stream *stream,
			       int64_t *committed)
{
	Bytestream__WriteResponse *response;
	bool has_message = false;
	struct slice bytes;

	assert_no_error(rpc_stream_close_send(stream));
	assert_no_error(rpc_stream_receive(stream, &has_message, &bytes));
	*committed = -2;
	if (has_message) {
		response = (void *)rpc_decode(&bytestream__write_response__descriptor,
					      bytes, &fixture->arena);
		*committed = response->committed_size;
	}
	return rpc_stream_finish(stream);
}

static struct error *write_whole(struct fixture *fixture, const char *name, size_t len,
				 int64_t *committed)
{
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = write_open(fixture, NULL);

	for (size_t at = 0; at < len; at += 1 << 20)
		write_piece(stream, at == 0 ? name : "", at,
			    at + (1 << 20) < len ? at + (1 << 20) : len,
			    at + (1 << 20) >= len);
	return write_end(fixture, stream, committed);
}

static struct error *query(struct fixture *fixture, const char *name,
			   Bytestream__QueryWriteStatusResponse **out)
{
	Bytestream__QueryWriteStatusRequest request =
		BYTESTREAM__QUERY_WRITE_STATUS_REQUEST__INIT;

	request.resource_name = name;
	return call(fixture, BYTES_SERVICE, "QueryWriteStatus", &request.base,
		    (ProtobufCMessage **)(void *)out);
}

static void assert_stored(struct fixture *fixture, const char *digest, bool is_stored)
{
	char *name = arena_printf(&fixture->arena, "blobs/%s", digest);
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct error *err = read_resource(fixture, name, 0, 0, &out);

	if (!is_stored) {
		assert_error(err, ERROR_NOT_FOUND, digest);
		return;
	}
	assert_no_error(err);
	assert_int_equal(out.len, SIZE);
	assert_memory_equal(out.data, content, SIZE);
}

static void test_write_then_read(void **state)
{
	struct fixture *fixture = *state;
	char digest[DIGEST_STRING_MAX];
	int64_t committed;

	new_content(digest);
	assert_no_error(write_whole(
		fixture, arena_printf(&fixture->arena, "uploads/u1/blobs/%s", digest),
		SIZE, &committed));
	assert_int_equal(committed, SIZE);
	assert_stored(fixture, digest, true);
}

static void test_20_21_instances_and_trailing_metadata(void **state)
{
	struct fixture *fixture = *state;
	char digest[DIGEST_STRING_MAX];
	_cleanup_buf_ struct buf out = BUF_INIT;
	int64_t committed;

	new_content(digest);
	assert_no_error(
		write_whole(fixture,
			    arena_printf(&fixture->arena,
					 "some/where/uploads/u/blobs/%s/f.o", digest),
			    SIZE, &committed));
	assert_no_error(read_resource(
		fixture, arena_printf(&fixture->arena, "some/where/blobs/%s", digest), 0,
		0, &out));
	assert_error(
		read_resource(fixture,
			      arena_printf(&fixture->arena, "nobody/blobs/%s", digest), 0,
			      0, &out),
		ERROR_INVALID_ARGUMENT, "\"nobody\"");
	assert_error(write_whole(fixture, "uploads/u/blobs/nonsense/1", 10, &committed),
		     ERROR_INVALID_ARGUMENT, "nonsense");
	assert_error(write_whole(fixture,
				 arena_printf(&fixture->arena, "blobs/%s", digest), 10,
				 &committed),
		     ERROR_INVALID_ARGUMENT, "uploads");
}

static void test_22_name_may_repeat_but_not_change(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_(rpc_stream_freep) struct rpc_stream *same = NULL, *other = NULL;
	char digest[DIGEST_STRING_MAX];
	int64_t committed;
	const char *name;

	new_content(digest);
	name = arena_printf(&fixture->arena, "uploads/u/blobs/%s", digest);
	other = write_open(fixture, NULL);
	write_piece(other, name, 0, 100, false);
	write_piece(other, "uploads/v/blobs/x", 100, 200, false);
	assert_error(write_end(fixture, other, &committed), ERROR_INVALID_ARGUMENT,
		     "changed");
	same = write_open(fixture, NULL);
	write_piece(same, name, 0, 1000, false);
	write_piece(same, name, 1000, SIZE, true);
	assert_no_error(write_end(fixture, same, &committed));
	assert_stored(fixture, digest, true);
}

static void test_23_wrong_offset_is_invalid(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = write_open(fixture, NULL);
	char digest[DIGEST_STRING_MAX];
	int64_t committed;

	new_content(digest);
	write_piece(stream, arena_printf(&fixture->arena, "uploads/u/blobs/%s", digest),
		    0, 100, false);
	write_piece(stream, "", 99, 200, false);
	assert_error(write_end(fixture, stream, &committed), ERROR_INVALID_ARGUMENT,
		     "99");
	assert_stored(fixture, digest, false);
}

static void test_23_data_after_finish_is_invalid(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = write_open(fixture, NULL);
	char digest[DIGEST_STRING_MAX];
	int64_t committed;

	new_content(digest);
	write_piece(stream, arena_printf(&fixture->arena, "uploads/u/blobs/%s", digest),
		    0, SIZE - 1, true);
	write_piece(stream, "", SIZE - 1, SIZE, true);
	assert_error(write_end(fixture, stream, &committed), ERROR_INVALID_ARGUMENT,
		     "finish");
	assert_stored(fixture, digest, false);
}

static void test_24_wrong_bytes_store_nothing(void **state)
{
	struct fixture *fixture = *state;
	char digest[DIGEST_STRING_MAX];
	int64_t committed;
	const char *name;

	new_content(digest);
	name = arena_printf(&fixture->arena, "uploads/u/blobs/%s", digest);
	assert_error(write_whole(fixture, name, SIZE - 1, &committed),
		     ERROR_INVALID_ARGUMENT, "");
	content[5] ^= 1;
	assert_error(write_whole(fixture, name, SIZE, &committed), ERROR_INVALID_ARGUMENT,
		     "");
	content[5] ^= 1;
	assert_stored(fixture, digest, false);
	name = arena_printf(&fixture->arena, "uploads/u/blobs/%.64s/100", digest);
	assert_error(write_whole(fixture, name, SIZE, &committed), ERROR_INVALID_ARGUMENT,
		     "");
}

static void test_25_existing_blob_ends_early(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	char digest[DIGEST_STRING_MAX];
	int64_t committed;
	const char *name;

	new_content(digest);
	name = arena_printf(&fixture->arena, "uploads/u/blobs/%s", digest);
	assert_no_error(write_whole(fixture, name, SIZE, &committed));
	stream = write_open(fixture, NULL);
	write_piece(stream, name, 0, 10, false);
	assert_no_error(write_end(fixture, stream, &committed));
	assert_int_equal(committed, SIZE);
}

struct uploader {
	struct fixture *fixture;
	const char *name;
	bool is_ok;
};

static void *upload(void *arg)
{
	struct uploader *uploader = arg;
	const struct rpc_method method = {BYTES_SERVICE, "Write"};
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	bool is_broken = false;

	if (rpc_stream_open(uploader->fixture->chan, &method, NULL, &stream))
		return NULL;
	for (size_t at = 0; at < SIZE && !is_broken; at += 65536) {
		Bytestream__WriteRequest request = BYTESTREAM__WRITE_REQUEST__INIT;

		request.resource_name = uploader->name;
		request.write_offset = (int64_t)at;
		request.data.data = content + at;
		request.data.len = 65536;
		request.finish_write = at + 65536 == SIZE;
		(void)rpc_stream_send_message(stream, &request.base, &is_broken);
	}
	uploader->is_ok = rpc_stream_finish(stream) == NULL;
	return NULL;
}

static void test_26_concurrent_uploads_of_one_blob_all_succeed(void **state)
{
	struct fixture *fixture = *state;
	struct uploader uploaders[6];
	char digest[DIGEST_STRING_MAX];
	pthread_t threads[6];

	new_content(digest);
	for (size_t i = 0; i < ARRAY_SIZE(uploaders); i++) {
		uploaders[i] = (struct uploader){fixture, NULL, false};
		uploaders[i].name =
			arena_printf(&fixture->arena, "uploads/c%zu/blobs/%s", i, digest);
	}
	for (size_t i = 0; i < ARRAY_SIZE(uploaders); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, upload, &uploaders[i]),
				 0);
	for (size_t i = 0; i < ARRAY_SIZE(uploaders); i++)
		(void)pthread_join(threads[i], NULL);
	for (size_t i = 0; i < ARRAY_SIZE(uploaders); i++)
		assert_true(uploaders[i].is_ok);
	assert_stored(fixture, digest, true);
}

/* Writes two pieces of the upload and goes away, until the server has seen some of it. */
static Bytestream__QueryWriteStatusResponse *interrupt(struct fixture *fixture,
						       const char *name)
{
	Bytestream__QueryWriteStatusResponse *status = NULL;
	struct error *err;

	do {
		_cleanup_(rpc_stream_freep) struct rpc_stream *stream =
			write_open(fixture, NULL);

		write_piece(stream, name, 0, 1 << 20, false);
		write_piece(stream, name, 1 << 20, 2 << 20, false);
		(void)usleep(20000);
		stream = rpc_stream_free(stream);
		(void)usleep(20000);
		err = query(fixture, name, &status);
		error_free(err);
	} while (err || status->committed_size == 0); /* or still being written */
	return status;
}

static void test_27_interrupted_upload_is_invisible_and_resumes(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	Bytestream__QueryWriteStatusResponse *status = NULL;
	char digest[DIGEST_STRING_MAX];
	int64_t committed;
	const char *name;

	new_content(digest);
	name = arena_printf(&fixture->arena, "uploads/r/blobs/%s", digest);
	assert_no_error(query(fixture, name, &status)); /* it never was */
	assert_false(status->complete);
	assert_int_equal(status->committed_size, 0);
	status = interrupt(fixture, name);
	assert_false(status->complete);
	assert_true(status->committed_size >= 0 && status->committed_size <= 2 << 20);
	assert_stored(fixture, digest, false);
	stream = write_open(fixture, NULL);
	write_piece(stream, name, (size_t)status->committed_size, SIZE, true);
	assert_no_error(write_end(fixture, stream, &committed));
	assert_int_equal(committed, SIZE);
	assert_stored(fixture, digest, true);
	assert_no_error(query(fixture, name, &status));
	assert_true(status->complete);
	assert_int_equal(status->committed_size, SIZE);
}

static void test_27_half_closed_upload_tells_how_far_it_came(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_(rpc_stream_freep) struct rpc_stream *first = write_open(fixture, NULL);
	_cleanup_(rpc_stream_freep) struct rpc_stream *second = write_open(fixture, NULL);
	char digest[DIGEST_STRING_MAX];
	int64_t committed;
	const char *name;

	new_content(digest);
	name = arena_printf(&fixture->arena, "uploads/h/blobs/%s", digest);
	write_piece(first, name, 0, 1000, false);
	assert_no_error(write_end(fixture, first, &committed));
	assert_int_equal(committed, 1000);
	write_piece(second, name, 1000, SIZE, true);
	assert_no_error(write_end(fixture, second, &committed));
	assert_stored(fixture, digest, true);
}

static void test_28_29_offsets_and_limits(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_buf_ struct buf out = BUF_INIT;
	char digest[DIGEST_STRING_MAX];
	int64_t committed;
	const char *name;

	new_content(digest);
	assert_no_error(write_whole(
		fixture, arena_printf(&fixture->arena, "uploads/u/blobs/%s", digest),
		SIZE, &committed));
	name = arena_printf(&fixture->arena, "blobs/%s", digest);
	assert_error(read_resource(fixture, name, SIZE + 1, 0, &out), ERROR_OUT_OF_RANGE,
		     "");
	assert_error(read_resource(fixture, name, -1, 0, &out), ERROR_OUT_OF_RANGE, "");
	assert_no_error(read_resource(fixture, name, SIZE, 0, &out));
	assert_int_equal(out.len, 0);
	assert_no_error(read_resource(fixture, name, 1000, 1500000, &out));
	assert_int_equal(out.len, 1500000);
	assert_memory_equal(out.data, content + 1000, out.len);
	assert_no_error(read_resource(fixture, name, SIZE - 5, 1 << 30, &out));
	assert_int_equal(out.len, 1500005);
}

/* Writes what content is now, as one frame in one message. */
static struct error *write_frame(struct fixture *fixture, const char *digest,
				 struct slice frame, int64_t *committed)
{
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = write_open(fixture, NULL);
	Bytestream__WriteRequest request = BYTESTREAM__WRITE_REQUEST__INIT;
	bool is_broken;

	request.resource_name = arena_printf(
		&fixture->arena, "uploads/z/compressed-blobs/zstd/%s/more", digest);
	request.data.data = (uint8_t *)(uintptr_t)frame.data;
	request.data.len = frame.len;
	request.finish_write = true;
	assert_no_error(rpc_stream_send_message(stream, &request.base, &is_broken));
	return write_end(fixture, stream, committed);
}

static void test_25_30_compressed_uploads_are_verified(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_buf_ struct buf frame = BUF_INIT;
	char digest[DIGEST_STRING_MAX];
	int64_t committed;

	new_content(digest);
	content[5]++;
	assert_no_error(zstd_compress((struct slice){content, SIZE}, &frame));
	assert_error(write_frame(fixture, digest, buf_slice(&frame), &committed),
		     ERROR_INVALID_ARGUMENT, digest);
	content[5]--;
	assert_stored(fixture, digest, false);
	buf_clear(&frame);
	assert_no_error(zstd_compress((struct slice){content, SIZE}, &frame));
	assert_no_error(write_frame(fixture, digest, buf_slice(&frame), &committed));
	assert_int_equal(committed, frame.len);
	assert_stored(fixture, digest, true);
	assert_no_error(write_frame(fixture, digest, buf_slice(&frame), &committed));
	assert_int_equal(committed, -1);
}

static void test_30_compressed_bombs_are_stopped(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ uint8_t *zeros = alloc_zero(4 * SIZE);
	_cleanup_buf_ struct buf frame = BUF_INIT;
	char digest[DIGEST_STRING_MAX];
	int64_t committed;

	new_content(digest);
	assert_no_error(zstd_compress((struct slice){zeros, 4 * SIZE}, &frame));
	assert_error(write_frame(fixture, digest, buf_slice(&frame), &committed),
		     ERROR_INVALID_ARGUMENT, "more than");
	assert_stored(fixture, digest, false);
}

static void test_29_compressed_reads_have_offsets_and_no_limit(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ uint8_t *plain = alloc_zero(SIZE);
	_cleanup_buf_ struct buf out = BUF_INIT;
	char digest[DIGEST_STRING_MAX];
	int64_t committed;
	char *name;

	new_content(digest);
	assert_no_error(write_whole(
		fixture, arena_printf(&fixture->arena, "uploads/u29/blobs/%s", digest),
		SIZE, &committed));
	name = arena_printf(&fixture->arena, "compressed-blobs/zstd/%s", digest);
	assert_no_error(read_resource(fixture, name, 1000, 0, &out));
	assert_true(out.len < SIZE / 3);
	assert_no_error(zstd_decompress(buf_slice(&out), plain, SIZE - 1000));
	assert_memory_equal(plain, content + 1000, SIZE - 1000);
	assert_error(read_resource(fixture, name, 0, 1, &out), ERROR_INVALID_ARGUMENT,
		     "limit");
	assert_error(read_resource(fixture, name, SIZE + 1, 0, &out), ERROR_OUT_OF_RANGE,
		     "");
}

static void test_15_other_compressors_are_refused(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	assert_error(read_resource(
			     *state,
			     "compressed-blobs/brotli/e3b0c44298fc1c149afbf4c8996fb92427a"
			     "e41e4649b934ca495991b7852b855/0",
			     0, 0, &out),
		     ERROR_INVALID_ARGUMENT, "compressor");
}

static void test_32_header_that_differs_is_invalid(void **state)
{
	struct fixture *fixture = *state;
	const struct rpc_header header = {"resource-name", slice_of("uploads/x/blobs/y")};
	const struct rpc_options options = {.headers = &header, .n_headers = 1};
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream =
		write_open(fixture, &options);
	char digest[DIGEST_STRING_MAX];
	int64_t committed;

	new_content(digest);
	write_piece(stream, arena_printf(&fixture->arena, "uploads/u/blobs/%s", digest),
		    0, SIZE, true);
	assert_error(write_end(fixture, stream, &committed), ERROR_INVALID_ARGUMENT,
		     "resource-name");
	assert_stored(fixture, digest, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_then_read),
		cmocka_unit_test(test_20_21_instances_and_trailing_metadata),
		cmocka_unit_test(test_22_name_may_repeat_but_not_change),
		cmocka_unit_test(test_23_wrong_offset_is_invalid),
		cmocka_unit_test(test_23_data_after_finish_is_invalid),
		cmocka_unit_test(test_24_wrong_bytes_store_nothing),
		cmocka_unit_test(test_25_existing_blob_ends_early),
		cmocka_unit_test(test_26_concurrent_uploads_of_one_blob_all_succeed),
		cmocka_unit_test(test_27_interrupted_upload_is_invisible_and_resumes),
		cmocka_unit_test(test_27_half_closed_upload_tells_how_far_it_came),
		cmocka_unit_test(test_28_29_offsets_and_limits),
		cmocka_unit_test(test_29_compressed_reads_have_offsets_and_no_limit),
		cmocka_unit_test(test_25_30_compressed_uploads_are_verified),
		cmocka_unit_test(test_30_compressed_bombs_are_stopped),
		cmocka_unit_test(test_15_other_compressors_are_refused),
		cmocka_unit_test(test_32_header_that_differs_is_invalid),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
