/*
 * Chunks of blobs at the real server: SplitBlob and GetChunkMapping take blobs apart,
 * SpliceBlob and RegisterChunkMapping put them together (docs/protocol.md, "Chunks").
 */
#include <dirent.h>
#include <sys/stat.h>

#include "lib/cas/remote.h"
#include "lib/tree/chunker.h"
#include "tests/integration/server_fixture.h"

#define MIB  ((size_t)1 << 20)
#define SIZE (12 * MIB)

static void noise_of(uint64_t state, uint8_t *data, size_t len)
{
	for (size_t i = 0; i + 8 <= len; i += 8) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		memcpy(data + i, &(uint64_t){state ^ state >> 29}, 8);
	}
}

/* Bytes nobody had before, which the caller frees. */
static uint8_t *new_noise(size_t len)
{
	static uint64_t n;
	uint8_t *data = alloc_array(len + 8, 1);

	noise_of(0x1234567 * ++n, data, len);
	return data;
}

static struct digest put_large(struct fixture *fixture, const uint8_t *data, size_t len)
{
	struct remote_config config = {.chan = fixture->chan};
	_cleanup_(remote_freep) struct remote *remote = NULL;
	struct digest digest = digest_of(data, len);

	assert_no_error(remote_new(&config, &remote));
	assert_no_error(remote_put_bytes(remote, &digest, (struct slice){data, len}));
	return digest;
}

static struct chunk_list cut(const uint8_t *data, size_t len)
{
	struct chunk_list list = CHUNK_LIST_INIT;
	struct chunker chunker;
	struct digest digest;

	assert_true(chunker_init(&chunker, 512 << 10, 0));
	for (size_t at = 0; at < len; at += (size_t)digest.size) {
		digest = digest_of(data + at, chunker_cut(&chunker, data + at, len - at));
		chunk_list_add(&list, &digest);
	}
	return list;
}

static struct error *take_apart(struct fixture *fixture, const struct digest *blob,
				Reapi__SplitBlobResponse **out)
{
	Reapi__SplitBlobRequest request = REAPI__SPLIT_BLOB_REQUEST__INIT;

	request.blob_digest = wire_of_digest(fixture, blob);
	return call(fixture, CAS_SERVICE, "SplitBlob", &request.base,
		    (ProtobufCMessage **)(void *)out);
}

static void assert_list(Reapi__Digest **digests, size_t n, const struct chunk_list *want)
{
	assert_int_equal(n, want->n);
	for (size_t i = 0; i < n; i++) {
		struct digest digest;

		assert_no_error(digest_from_wire(digests[i], &digest));
		assert_true(digest_equal(&digest, &want->items[i].digest));
	}
}

/* What GetChunkMapping answers, in however many messages. */
static struct error *get_mapping(struct fixture *fixture, const struct digest *blob,
				 struct chunk_list *out)
{
	const struct rpc_method method = {CAS_SERVICE, "GetChunkMapping"};
	Reapi__GetChunkMappingRequest request = REAPI__GET_CHUNK_MAPPING_REQUEST__INIT;
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	bool has_message = true, is_broken;
	struct slice bytes;

	request.blob_digest = wire_of_digest(fixture, blob);
	request.digest_function = REAPI__DIGEST_FUNCTION__VALUE__SHA256;
	assert_no_error(rpc_stream_open(fixture->chan, &method, NULL, &stream));
	assert_no_error(rpc_stream_send_message(stream, &request.base, &is_broken));
	assert_no_error(rpc_stream_close_send(stream));
	while (has_message) {
		Reapi__GetChunkMappingResponse *response;
		struct digest digest;

		assert_no_error(rpc_stream_receive(stream, &has_message, &bytes));
		if (!has_message)
			break;
		response =
			(void *)rpc_decode(&reapi__get_chunk_mapping_response__descriptor,
					   bytes, &fixture->arena);
		assert_non_null(response);
		if (out->n == 0)
			assert_int_equal(response->chunking_function,
					 REAPI__CHUNKING_FUNCTION__VALUE__FAST_CDC_2020);
		for (size_t i = 0; i < response->n_chunk_digests; i++) {
			assert_no_error(
				digest_from_wire(response->chunk_digests[i], &digest));
			chunk_list_add(out, &digest);
		}
	}
	return rpc_stream_finish(stream);
}

static struct error *put_together(struct fixture *fixture, const struct digest *blob,
				  const struct digest *chunks, size_t n, int function)
{
	Reapi__SpliceBlobRequest request = REAPI__SPLICE_BLOB_REQUEST__INIT;
	Reapi__SpliceBlobResponse *response = NULL;
	struct digest made;
	struct error *err;

	request.blob_digest = wire_of_digest(fixture, blob);
	request.chunk_digests = arena_array(&fixture->arena, n, sizeof(void *));
	request.n_chunk_digests = n;
	request.chunking_function = (Reapi__ChunkingFunction__Value)function;
	for (size_t i = 0; i < n; i++)
		request.chunk_digests[i] = wire_of_digest(fixture, &chunks[i]);
	err = call(fixture, CAS_SERVICE, "SpliceBlob", &request.base,
		   (ProtobufCMessage **)(void *)&response);
	if (err)
		return err;
	assert_no_error(digest_from_wire(response->blob_digest, &made));
	assert_true(digest_equal(&made, blob));
	return NULL;
}

static bool is_missing(struct fixture *fixture, const struct digest *digest)
{
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	Reapi__Digest *wire = wire_of_digest(fixture, digest);
	Reapi__FindMissingBlobsResponse *response;
	ProtobufCMessage *message = NULL;

	request.n_blob_digests = 1;
	request.blob_digests = &wire;
	assert_no_error(
		call(fixture, CAS_SERVICE, "FindMissingBlobs", &request.base, &message));
	response = (void *)message;
	return response->n_missing_blob_digests > 0;
}

static void assert_bytes(struct fixture *fixture, const struct digest *digest,
			 const uint8_t *want, int64_t offset)
{
	char text[DIGEST_STRING_MAX];
	char *name =
		arena_printf(&fixture->arena, "blobs/%s", digest_format(digest, text));
	_cleanup_buf_ struct buf out = BUF_INIT;

	assert_no_error(read_resource(fixture, name, offset, 0, &out));
	assert_int_equal(out.len, digest->size - offset);
	assert_memory_equal(out.data, want + offset, out.len);
}

static void assert_batch(struct fixture *fixture, const struct digest *digest,
			 const uint8_t *want)
{
	Reapi__BatchReadBlobsRequest request = REAPI__BATCH_READ_BLOBS_REQUEST__INIT;
	Reapi__Digest *wire = wire_of_digest(fixture, digest);
	Reapi__BatchReadBlobsResponse *response;
	ProtobufCMessage *message = NULL;

	request.n_digests = 1;
	request.digests = &wire;
	assert_no_error(
		call(fixture, CAS_SERVICE, "BatchReadBlobs", &request.base, &message));
	response = (void *)message;
	assert_int_equal(response->n_responses, 1);
	assert_int_equal(response->responses[0]->status->code, 0);
	assert_int_equal(response->responses[0]->data.len, digest->size);
	assert_memory_equal(response->responses[0]->data.data, want,
			    (size_t)digest->size);
}

static char *blob_path(struct fixture *fixture, const struct digest *digest)
{
	char hex[DIGEST_HEX_MAX];

	(void)digest_hex(digest, hex);
	return arena_printf(&fixture->arena, "%s/blobs/%.2s/%s", fixture->dir, hex, hex);
}

static bool is_file(struct fixture *fixture, const struct digest *digest)
{
	return access(blob_path(fixture, digest), F_OK) == 0;
}

static void start_again(struct fixture *fixture)
{
	server_start(fixture);
}

/* ---- apart ---------------------------------------------------------------------- */

static void test_a_large_blob_is_taken_apart_without_a_second_copy(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ uint8_t *data = new_noise(SIZE);
	struct digest blob = put_large(fixture, data, SIZE);
	struct chunk_list want = cut(data, SIZE), streamed = CHUNK_LIST_INIT;
	Reapi__SplitBlobResponse *response;

	assert_true(want.n > 10);
	assert_no_error(take_apart(fixture, &blob, &response));
	assert_int_equal(response->chunking_function,
			 REAPI__CHUNKING_FUNCTION__VALUE__FAST_CDC_2020);
	assert_list(response->chunk_digests, response->n_chunk_digests, &want);
	assert_no_error(get_mapping(fixture, &blob, &streamed));
	assert_int_equal(streamed.n, want.n);
	for (size_t i = 0; i < want.n; i++) {
		const struct chunk *chunk = &want.items[i];

		assert_true(digest_equal(&chunk->digest, &streamed.items[i].digest));
		assert_false(is_missing(fixture, &chunk->digest));
		assert_bytes(fixture, &chunk->digest, data + chunk->at, 0);
		assert_bytes(fixture, &chunk->digest, data + chunk->at, 100);
		assert_batch(fixture, &chunk->digest, data + chunk->at);
		/* only a small last one is a blob, too */
		assert_int_equal(is_file(fixture, &chunk->digest),
				 chunk->digest.size < 128 << 10);
	}
	chunk_list_deinit(&streamed);
	chunk_list_deinit(&want);
}

static void test_a_small_last_chunk_is_there_too(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ uint8_t *data = new_noise(6 * MIB);
	struct chunk_list list = cut(data, 6 * MIB);
	/* ends a little after a cut */
	size_t size = (size_t)list.items[list.n - 2].at + 1000;
	struct digest blob = put_large(fixture, data, size);
	Reapi__SplitBlobResponse *response;
	struct digest last;

	assert_no_error(take_apart(fixture, &blob, &response));
	assert_no_error(digest_from_wire(
		response->chunk_digests[response->n_chunk_digests - 1], &last));
	assert_int_equal(last.size, 1000);
	assert_false(is_missing(fixture, &last));
	assert_true(is_file(fixture, &last));
	assert_bytes(fixture, &last, data + size - 1000, 0);
	/* evicted: it comes back with the next question */
	assert_int_equal(server_stop(fixture, SIGTERM), 0);
	assert_int_equal(unlink(blob_path(fixture, &last)), 0);
	start_again(fixture);
	assert_true(is_missing(fixture, &last));
	assert_no_error(take_apart(fixture, &blob, &response));
	assert_bytes(fixture, &last, data + size - 1000, 0);
	chunk_list_deinit(&list);
}

static void test_small_blobs_are_one_chunk_and_absent_ones_none(void **state)
{
	struct fixture *fixture = *state;
	Reapi__SplitBlobRequest request = REAPI__SPLIT_BLOB_REQUEST__INIT;
	struct digest small = digest_of("small", 5), absent = digest_of("absent", 6);
	struct chunk_list mapped = CHUNK_LIST_INIT;
	Reapi__SplitBlobResponse *response;

	(void)put_blob(fixture, "small", 5);
	assert_no_error(take_apart(fixture, &small, &response));
	assert_int_equal(response->n_chunk_digests, 1);
	assert_int_equal(response->chunk_digests[0]->size_bytes, 5);
	assert_no_error(take_apart(fixture, &digest_of_empty, &response));
	assert_int_equal(response->n_chunk_digests, 0);
	assert_no_error(get_mapping(fixture, &digest_of_empty, &mapped));
	assert_int_equal(mapped.n, 0);
	assert_error(take_apart(fixture, &absent, &response), ERROR_NOT_FOUND, "not in");
	absent.size = 1 << 30;
	assert_error(take_apart(fixture, &absent, &response), ERROR_NOT_FOUND, "not in");
	assert_error(get_mapping(fixture, &absent, &mapped), ERROR_NOT_FOUND, "not in");
	assert_error(call(fixture, CAS_SERVICE, "SplitBlob", &request.base, NULL),
		     ERROR_INVALID_ARGUMENT, "digest is missing");
	request.blob_digest = wire_of_digest(fixture, &small);
	request.instance_name = "nobody";
	assert_error(call(fixture, CAS_SERVICE, "SplitBlob", &request.base, NULL),
		     ERROR_INVALID_ARGUMENT, "\"nobody\"");
	request.instance_name = "some/where";
	request.digest_function = REAPI__DIGEST_FUNCTION__VALUE__MD5;
	assert_error(call(fixture, CAS_SERVICE, "SplitBlob", &request.base, NULL),
		     ERROR_INVALID_ARGUMENT, "digest function");
}

/* ---- together ------------------------------------------------------------------- */

/* A version with a byte changed, of which the server is sent the one chunk that is new.
 */
static void test_a_version_is_made_of_old_chunks_and_a_new_one(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ uint8_t *data = new_noise(SIZE);
	struct digest first = put_large(fixture, data, SIZE), second;
	Reapi__SplitBlobResponse *response;
	struct digest digests[64];
	struct chunk_list list;
	size_t n_new = 0;

	assert_no_error(take_apart(fixture, &first, &response));
	data[SIZE / 2] ^= 1;
	second = digest_of(data, SIZE);
	list = cut(data, SIZE);
	for (size_t i = 0; i < list.n; i++) {
		digests[i] = list.items[i].digest;
		if (!is_missing(fixture, &digests[i]))
			continue;
		(void)put_blob(fixture, data + list.items[i].at, (size_t)digests[i].size);
		n_new++;
	}
	assert_in_range(n_new, 1, 2);
	assert_true(is_missing(fixture, &second));
	assert_no_error(put_together(fixture, &second, digests, list.n,
				     REAPI__CHUNKING_FUNCTION__VALUE__FAST_CDC_2020));
	assert_false(is_missing(fixture, &second));
	assert_bytes(fixture, &second, data, 0);
	/* again: it is there */
	assert_no_error(put_together(fixture, &second, digests, list.n, 0));
	/* and its own chunks are known */
	assert_no_error(take_apart(fixture, &second, &response));
	assert_list(response->chunk_digests, response->n_chunk_digests, &list);
	chunk_list_deinit(&list);
}

static void test_what_does_not_come_to_the_blob_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct digest a = digest_of("one ", 4), b = digest_of("two", 3);
	struct digest both = digest_of("one two", 7), other = digest_of("twoone ", 7);
	struct digest absent = digest_of("abc", 3), longer = both;
	struct digest parts[] = {a, b}, swapped[] = {b, a};
	struct digest holed[] = {a, absent}, self[] = {both};
	struct digest padded[] = {digest_of_empty, a, digest_of_empty, b};

	(void)put_blob(fixture, "one ", 4);
	(void)put_blob(fixture, "two", 3);
	longer.size = 8;
	assert_error(put_together(fixture, &both, swapped, 2, 0), ERROR_INVALID_ARGUMENT,
		     "the bytes sent as");
	assert_error(put_together(fixture, &both, parts, 1, 0), ERROR_INVALID_ARGUMENT,
		     "4 bytes, the blob 7");
	assert_error(put_together(fixture, &longer, parts, 2, 0), ERROR_INVALID_ARGUMENT,
		     "7 bytes, the blob 8");
	assert_error(put_together(fixture, &a, parts, 2, 99), ERROR_INVALID_ARGUMENT,
		     "chunking function 99");
	assert_error(put_together(fixture, &both, holed, 2, 0), ERROR_NOT_FOUND, "chunk");
	assert_error(put_together(fixture, &both, self, 1, 0), ERROR_NOT_FOUND, "chunk");
	assert_error(put_together(fixture, &both, NULL, 0, 0), ERROR_INVALID_ARGUMENT,
		     "0 bytes, the blob 7");
	assert_true(is_missing(fixture, &both));
	assert_true(is_missing(fixture, &longer));
	assert_no_error(put_together(fixture, &both, padded, 4, 0));
	assert_no_error(put_together(fixture, &other, swapped, 2,
				     REAPI__CHUNKING_FUNCTION__VALUE__REP_MAX_CDC));
	assert_bytes(fixture, &both, (const uint8_t *)"one two", 0);
	assert_bytes(fixture, &other, (const uint8_t *)"twoone ", 0);
	assert_no_error(put_together(fixture, &digest_of_empty, NULL, 0, 0));
}

/* As 2.13 has it: several messages, of which only the first says what it is about. */
static struct error *register_mapping(struct fixture *fixture, const struct digest *blob,
				      const struct digest *chunks, size_t n, size_t page)
{
	const struct rpc_method method = {CAS_SERVICE, "RegisterChunkMapping"};
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	bool has_message, is_broken = false;
	struct slice bytes;

	assert_no_error(rpc_stream_open(fixture->chan, &method, NULL, &stream));
	for (size_t i = 0; i < n && !is_broken; i += page) {
		Reapi__RegisterChunkMappingRequest request =
			REAPI__REGISTER_CHUNK_MAPPING_REQUEST__INIT;

		request.n_chunk_digests = n - i < page ? n - i : page;
		request.chunk_digests =
			arena_array(&fixture->arena, page, sizeof(void *));
		for (size_t k = 0; k < request.n_chunk_digests; k++)
			request.chunk_digests[k] =
				wire_of_digest(fixture, &chunks[i + k]);
		if (i == 0)
			request.blob_digest = wire_of_digest(fixture, blob);
		else /* is not looked at */
			request.instance_name = "nobody";
		assert_no_error(
			rpc_stream_send_message(stream, &request.base, &is_broken));
	}
	assert_no_error(rpc_stream_close_send(stream));
	assert_no_error(rpc_stream_receive(stream, &has_message, &bytes));
	return rpc_stream_finish(stream);
}

static void test_a_mapping_comes_in_several_messages(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ uint8_t *data = new_noise(SIZE);
	struct chunk_list list = cut(data, SIZE), mapped = CHUNK_LIST_INIT;
	struct digest blob = digest_of(data, SIZE), digests[64];

	for (size_t i = 0; i < list.n; i++) {
		digests[i] = list.items[i].digest;
		(void)put_blob(fixture, data + list.items[i].at, (size_t)digests[i].size);
	}
	assert_error(register_mapping(fixture, &blob, digests, list.n - 1, 7),
		     ERROR_INVALID_ARGUMENT, "the blob");
	assert_error(register_mapping(fixture, &blob, digests, 0, 7),
		     ERROR_INVALID_ARGUMENT, "no request");
	assert_true(is_missing(fixture, &blob));
	assert_no_error(register_mapping(fixture, &blob, digests, list.n, 7));
	assert_bytes(fixture, &blob, data, 0);
	assert_no_error(get_mapping(fixture, &blob, &mapped));
	assert_int_equal(mapped.n, list.n);
	chunk_list_deinit(&mapped);
	chunk_list_deinit(&list);
}

/* ---- on the disk ---------------------------------------------------------------- */

static void damage(struct fixture *fixture, const char *file, off_t at, size_t n)
{
	char path[128];
	_cleanup_fd_ int fd = -1;

	(void)snprintf(path, sizeof(path), "%s/%s", fixture->dir, file);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(pwrite(fd, "~", 1, at + (off_t)i), 1);
}

static void test_what_is_known_is_known_after_a_restart(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ uint8_t *data = new_noise(SIZE);
	struct digest blob = put_large(fixture, data, SIZE);
	struct chunk_list list = cut(data, SIZE);
	Reapi__SplitBlobResponse *response;

	assert_no_error(take_apart(fixture, &blob, &response));
	assert_int_equal(server_stop(fixture, SIGTERM), 0);
	start_again(fixture);
	/* without a further question about the blob */
	assert_false(is_missing(fixture, &list.items[1].digest));
	assert_bytes(fixture, &list.items[1].digest, data + list.items[1].at, 0);
	/* no database any more: the same answers, found out anew */
	assert_int_equal(server_stop(fixture, SIGTERM), 0);
	damage(fixture, "chunks.sqlite", 0, 4096);
	start_again(fixture);
	assert_true(is_missing(fixture, &list.items[1].digest));
	assert_no_error(take_apart(fixture, &blob, &response));
	assert_list(response->chunk_digests, response->n_chunk_digests, &list);
	assert_bytes(fixture, &list.items[1].digest, data + list.items[1].at, 0);
	chunk_list_deinit(&list);
}

/* A blob's file was written to: none of its chunks is served as what it was. */
static void test_a_chunk_of_a_damaged_blob_is_not_served(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ uint8_t *data = new_noise(SIZE);
	struct digest blob = put_large(fixture, data, SIZE);
	struct chunk_list list = cut(data, SIZE);
	char *name, text[DIGEST_STRING_MAX];
	_cleanup_buf_ struct buf out = BUF_INIT;
	Reapi__SplitBlobResponse *response;

	assert_no_error(take_apart(fixture, &blob, &response));
	name = arena_printf(&fixture->arena, "blobs/%s",
			    digest_format(&list.items[1].digest, text));
	assert_no_error(read_resource(fixture, name, 0, 0, &out));
	damage(fixture, blob_path(fixture, &blob) + strlen(fixture->dir) + 1,
	       (off_t)list.items[1].at, 1);
	assert_error(read_resource(fixture, name, 0, 0, &out), ERROR_NOT_FOUND, "store");
	assert_true(is_missing(fixture, &list.items[1].digest));
	chunk_list_deinit(&list);
}

/* Gone, but all that it was made of is here as blobs: it can be put together again. */
static void test_a_blob_that_went_is_known_by_its_chunks(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ uint8_t *data = new_noise(SIZE);
	struct digest blob = put_large(fixture, data, SIZE);
	struct chunk_list list = cut(data, SIZE);
	Reapi__SplitBlobResponse *response;

	assert_no_error(take_apart(fixture, &blob, &response));
	assert_int_equal(server_stop(fixture, SIGTERM), 0);
	assert_int_equal(unlink(blob_path(fixture, &blob)), 0);
	start_again(fixture);
	assert_true(is_missing(fixture, &blob));
	assert_error(take_apart(fixture, &blob, &response), ERROR_NOT_FOUND,
		     "not all chunks");
	for (size_t i = 0; i < list.n; i++)
		(void)put_blob(fixture, data + list.items[i].at,
			       (size_t)list.items[i].digest.size);
	assert_no_error(take_apart(fixture, &blob, &response));
	assert_list(response->chunk_digests, response->n_chunk_digests, &list);
	assert_true(is_missing(fixture, &blob));
	chunk_list_deinit(&list);
}

/* ---- whether at all ------------------------------------------------------------- */

static Reapi__CacheCapabilities *capabilities(struct fixture *fixture)
{
	Reapi__GetCapabilitiesRequest request = REAPI__GET_CAPABILITIES_REQUEST__INIT;
	ProtobufCMessage *message = NULL;

	assert_no_error(
		call(fixture, CAPS_SERVICE, "GetCapabilities", &request.base, &message));
	assert_int_equal(((Reapi__ServerCapabilities *)message)->high_api_version->minor,
			 13);
	return ((Reapi__ServerCapabilities *)message)->cache_capabilities;
}

static void test_chunks_are_announced_unless_told_otherwise(void **state)
{
	static const char *const never[] = {"--chunks", "never", NULL};
	static const char *const always[] = {"--chunks", "always", NULL};
	struct fixture *fixture = *state;
	struct digest blob = digest_of("small", 5);
	Reapi__SplitBlobResponse *response;

	/* we are on its machine, where there is nothing to gain */
	assert_false(capabilities(fixture)->split_blob_support);
	assert_int_equal(server_stop(fixture, SIGTERM), 0);
	fixture->more = always;
	start_again(fixture);
	assert_true(capabilities(fixture)->split_blob_support);
	assert_true(capabilities(fixture)->splice_blob_support);
	assert_int_equal(
		capabilities(fixture)->fast_cdc_2020_params->avg_chunk_size_bytes,
		512 << 10);
	assert_int_equal(capabilities(fixture)->fast_cdc_2020_params->seed, 0);
	assert_int_equal(server_stop(fixture, SIGTERM), 0);
	fixture->more = never;
	start_again(fixture);
	assert_false(capabilities(fixture)->split_blob_support);
	assert_false(capabilities(fixture)->splice_blob_support);
	assert_null(capabilities(fixture)->fast_cdc_2020_params);
	(void)put_blob(fixture, "small", 5);
	assert_error(take_apart(fixture, &blob, &response), ERROR_UNIMPLEMENTED,
		     "splits");
	assert_error(put_together(fixture, &blob, &blob, 1, 0), ERROR_UNIMPLEMENTED,
		     "splices");
	assert_int_equal(server_stop(fixture, SIGTERM), 0);
	fixture->more = NULL;
	start_again(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_large_blob_is_taken_apart_without_a_second_copy),
		cmocka_unit_test(test_a_small_last_chunk_is_there_too),
		cmocka_unit_test(test_small_blobs_are_one_chunk_and_absent_ones_none),
		cmocka_unit_test(test_a_version_is_made_of_old_chunks_and_a_new_one),
		cmocka_unit_test(test_what_does_not_come_to_the_blob_is_refused),
		cmocka_unit_test(test_a_mapping_comes_in_several_messages),
		cmocka_unit_test(test_what_is_known_is_known_after_a_restart),
		cmocka_unit_test(test_a_chunk_of_a_damaged_blob_is_not_served),
		cmocka_unit_test(test_a_blob_that_went_is_known_by_its_chunks),
		cmocka_unit_test(test_chunks_are_announced_unless_told_otherwise),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
