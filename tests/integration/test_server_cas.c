/* Conformance of the server's storage: docs/protocol.md, 1 to 18. */
#include "tests/integration/server_fixture.h"

static Reapi__FindMissingBlobsResponse *find(struct fixture *fixture,
					     Reapi__Digest **digests, size_t n)
{
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	ProtobufCMessage *message = NULL;

	request.n_blob_digests = n;
	request.blob_digests = digests;
	assert_no_error(
		call(fixture, CAS_SERVICE, "FindMissingBlobs", &request.base, &message));
	return (void *)message;
}

static struct error *find_bad(struct fixture *fixture, const char *hash, int64_t size)
{
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	Reapi__Digest digest = REAPI__DIGEST__INIT, *list = &digest;

	digest.hash = hash;
	digest.size_bytes = size;
	request.n_blob_digests = 1;
	request.blob_digests = &list;
	return call(fixture, CAS_SERVICE, "FindMissingBlobs", &request.base, NULL);
}

static void test_1_find_missing_returns_the_absent_subset(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *there = put_text(fixture, unique_text(fixture, "there"));
	Reapi__Digest *gone = absent_blob(fixture);
	Reapi__Digest *list[] = {there, gone, there};
	Reapi__FindMissingBlobsResponse *response = find(fixture, list, 3);

	assert_int_equal(response->n_missing_blob_digests, 1);
	assert_string_equal(response->missing_blob_digests[0]->hash, gone->hash);
	assert_int_equal(find(fixture, list, 0)->n_missing_blob_digests, 0);
}

static void test_2_empty_blob_is_always_there(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *empty = wire_of_digest(fixture, &digest_of_empty);
	_cleanup_buf_ struct buf out = BUF_INIT;
	char text[DIGEST_STRING_MAX + 8];

	assert_int_equal(find(fixture, &empty, 1)->n_missing_blob_digests, 0);
	(void)snprintf(text, sizeof(text), "blobs/%s/0", empty->hash);
	assert_no_error(read_resource(fixture, text, 0, 0, &out));
	assert_int_equal(out.len, 0);
	(void)put_text(fixture, "");
	assert_int_equal(find(fixture, &empty, 1)->n_missing_blob_digests, 0);
}

static void test_4_right_hash_with_wrong_size_is_absent(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *digest = put_text(fixture, unique_text(fixture, "sized"));
	_cleanup_buf_ struct buf out = BUF_INIT;
	char text[DIGEST_STRING_MAX + 8];

	digest->size_bytes++;
	assert_int_equal(find(fixture, &digest, 1)->n_missing_blob_digests, 1);
	(void)snprintf(text, sizeof(text), "blobs/%s/%lld", digest->hash,
		       (long long)digest->size_bytes);
	assert_error(read_resource(fixture, text, 0, 0, &out), ERROR_NOT_FOUND,
		     digest->hash);
}

static void test_5_6_7_malformed_digests_are_invalid(void **state)
{
	static const char good[] =
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	static const char *const bad[] = {
		"E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
		"e3b0",
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855aa",
		"x3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"../../../../../../../../../../../../../../../../../../etc/passwd",
		"e3/0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_error(find_bad(*state, bad[i], 1), ERROR_INVALID_ARGUMENT, "");
	assert_error(find_bad(*state, good, -1), ERROR_INVALID_ARGUMENT, "");
}

/* The status of the one blob of a BatchUpdateBlobs; digest may be NULL. */
static struct error *update_one(struct fixture *fixture, Reapi__Digest *digest)
{
	Reapi__BatchUpdateBlobsRequest request = REAPI__BATCH_UPDATE_BLOBS_REQUEST__INIT;
	Reapi__BatchUpdateBlobsRequest__Request one =
		REAPI__BATCH_UPDATE_BLOBS_REQUEST__REQUEST__INIT;
	Reapi__BatchUpdateBlobsRequest__Request *list = &one;
	Reapi__BatchUpdateBlobsResponse *response;
	ProtobufCMessage *message = NULL;
	struct error *err;

	one.digest = digest;
	one.data.data = (uint8_t *)(uintptr_t) "x";
	one.data.len = 1;
	request.n_requests = 1;
	request.requests = &list;
	err = call(fixture, CAS_SERVICE, "BatchUpdateBlobs", &request.base, &message);
	if (err)
		return err;
	response = (void *)message;
	assert_int_equal(response->n_responses, 1);
	return error_new((enum error_code)response->responses[0]->status->code, "%s",
			 response->responses[0]->status->message);
}

/* The status of the one blob of a BatchReadBlobs. */
static struct error *read_one(struct fixture *fixture, Reapi__Digest *digest)
{
	Reapi__BatchReadBlobsRequest request = REAPI__BATCH_READ_BLOBS_REQUEST__INIT;
	Reapi__BatchReadBlobsResponse *response;
	ProtobufCMessage *message = NULL;
	struct error *err;

	request.n_digests = 1;
	request.digests = &digest;
	err = call(fixture, CAS_SERVICE, "BatchReadBlobs", &request.base, &message);
	if (err)
		return err;
	response = (void *)message;
	assert_int_equal(response->n_responses, 1);
	assert_int_equal(response->responses[0]->data.len, 0);
	return error_new((enum error_code)response->responses[0]->status->code, "%s",
			 response->responses[0]->status->message);
}

/* Wherever a digest is taken: a name is made of it for the disk. */
static void test_7_a_hash_that_is_a_path_is_invalid_everywhere(void **state)
{
	static const char *const bad[] = {
		"../../../../../../../../../../../../../../../../../../etc/passwd",
		"..//../../../../../../../../../../../../../../../../../../etc/hosts",
		"/////////////////////////////////////////////////////etc/passwd",
		"e3/0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"e3/..4298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8555",
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		Reapi__GetTreeRequest tree = REAPI__GET_TREE_REQUEST__INIT;
		Reapi__GetActionResultRequest get =
			REAPI__GET_ACTION_RESULT_REQUEST__INIT;
		Reapi__UpdateActionResultRequest put =
			REAPI__UPDATE_ACTION_RESULT_REQUEST__INIT;
		Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;
		Reapi__Digest digest = REAPI__DIGEST__INIT;
		_cleanup_buf_ struct buf bytes = BUF_INIT;

		digest.hash = bad[i];
		digest.size_bytes = 1;
		tree.root_digest = get.action_digest = put.action_digest = &digest;
		put.action_result = &result;
		assert_error(find_bad(fixture, bad[i], 1), ERROR_INVALID_ARGUMENT, "");
		assert_error(read_one(fixture, &digest), ERROR_INVALID_ARGUMENT, "");
		assert_error(update_one(fixture, &digest), ERROR_INVALID_ARGUMENT, "");
		assert_error(call(fixture, CAS_SERVICE, "GetTree", &tree.base, NULL),
			     ERROR_INVALID_ARGUMENT, "");
		assert_error(
			call(fixture, ACTION_SERVICE, "GetActionResult", &get.base, NULL),
			ERROR_INVALID_ARGUMENT, "");
		assert_error(call(fixture, ACTION_SERVICE, "UpdateActionResult",
				  &put.base, NULL),
			     ERROR_INVALID_ARGUMENT, "");
		assert_error(
			read_resource(fixture,
				      arena_printf(&fixture->arena, "blobs/%s/1", bad[i]),
				      0, 0, &bytes),
			ERROR_INVALID_ARGUMENT, "");
		assert_int_equal(bytes.len, 0);
	}
}

static void test_8_missing_digest_field_is_invalid(void **state)
{
	Reapi__GetTreeRequest tree = REAPI__GET_TREE_REQUEST__INIT;
	Reapi__GetActionResultRequest action = REAPI__GET_ACTION_RESULT_REQUEST__INIT;
	Reapi__UpdateActionResultRequest update =
		REAPI__UPDATE_ACTION_RESULT_REQUEST__INIT;
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;

	assert_error(call(*state, CAS_SERVICE, "GetTree", &tree.base, NULL),
		     ERROR_INVALID_ARGUMENT, "");
	assert_error(call(*state, ACTION_SERVICE, "GetActionResult", &action.base, NULL),
		     ERROR_INVALID_ARGUMENT, "");
	update.action_result = &result;
	assert_error(
		call(*state, ACTION_SERVICE, "UpdateActionResult", &update.base, NULL),
		ERROR_INVALID_ARGUMENT, "");
	assert_error(update_one(*state, NULL), ERROR_INVALID_ARGUMENT, "");
}

static void test_9_other_digest_functions_are_refused(void **state)
{
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;

	request.digest_function = REAPI__DIGEST_FUNCTION__VALUE__BLAKE3;
	assert_error(call(*state, CAS_SERVICE, "FindMissingBlobs", &request.base, NULL),
		     ERROR_INVALID_ARGUMENT, "SHA256");
	request.digest_function = REAPI__DIGEST_FUNCTION__VALUE__SHA256;
	assert_no_error(
		call(*state, CAS_SERVICE, "FindMissingBlobs", &request.base, NULL));
}

static void test_10_11_15_batch_update_judges_each_blob(void **state)
{
	struct fixture *fixture = *state;
	Reapi__BatchUpdateBlobsRequest request = REAPI__BATCH_UPDATE_BLOBS_REQUEST__INIT;
	Reapi__BatchUpdateBlobsRequest__Request one[4], *list[4];
	static const int want[] = {3, 0, 3, 3};
	const char *text = unique_text(fixture, "batch");
	struct digest digest = digest_of(text, strlen(text));
	Reapi__BatchUpdateBlobsResponse *response;
	ProtobufCMessage *message = NULL;

	for (int i = 0; i < 4; i++) {
		reapi__batch_update_blobs_request__request__init(&one[i]);
		one[i].digest = wire_of_digest(fixture, &digest);
		one[i].data.data = (uint8_t *)(uintptr_t)text;
		one[i].data.len = strlen(text);
		list[i] = &one[i];
	}
	one[0].data.len--;           /* other bytes */
	one[2].digest->size_bytes++; /* stored by now, but not with this size */
	one[3].compressor = REAPI__COMPRESSOR__VALUE__BROTLI;
	request.n_requests = 4;
	request.requests = list;
	assert_no_error(
		call(fixture, CAS_SERVICE, "BatchUpdateBlobs", &request.base, &message));
	response = (void *)message;
	assert_int_equal(response->n_responses, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(response->responses[i]->status->code, want[i]);
	assert_int_equal(find(fixture, &one[1].digest, 1)->n_missing_blob_digests, 0);
}

static void test_12_batch_over_the_limit_is_invalid(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ uint8_t *data = alloc_zero(RPC_BATCH_MAX + 1);
	struct digest digest = digest_of(data, RPC_BATCH_MAX + 1);
	Reapi__BatchUpdateBlobsRequest update = REAPI__BATCH_UPDATE_BLOBS_REQUEST__INIT;
	Reapi__BatchUpdateBlobsRequest__Request one =
		REAPI__BATCH_UPDATE_BLOBS_REQUEST__REQUEST__INIT;
	Reapi__BatchUpdateBlobsRequest__Request *list = &one;
	Reapi__BatchReadBlobsRequest read = REAPI__BATCH_READ_BLOBS_REQUEST__INIT;

	one.digest = wire_of_digest(fixture, &digest);
	one.data.data = data;
	one.data.len = RPC_BATCH_MAX + 1;
	update.n_requests = 1;
	update.requests = &list;
	assert_error(call(fixture, CAS_SERVICE, "BatchUpdateBlobs", &update.base, NULL),
		     ERROR_INVALID_ARGUMENT, "limit");
	read.n_digests = 1;
	read.digests = &one.digest;
	assert_error(call(fixture, CAS_SERVICE, "BatchReadBlobs", &read.base, NULL),
		     ERROR_INVALID_ARGUMENT, "limit");
}

static void test_12_batch_at_the_limit_is_taken(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ uint8_t *data = alloc_zero(RPC_BATCH_MAX);
	Reapi__BatchReadBlobsRequest read = REAPI__BATCH_READ_BLOBS_REQUEST__INIT;
	Reapi__BatchReadBlobsResponse *response;
	ProtobufCMessage *message = NULL;
	Reapi__Digest *digest;

	memset(data, 7, RPC_BATCH_MAX);
	digest = put_blob(fixture, data, RPC_BATCH_MAX);
	read.n_digests = 1;
	read.digests = &digest;
	assert_no_error(
		call(fixture, CAS_SERVICE, "BatchReadBlobs", &read.base, &message));
	response = (void *)message;
	assert_int_equal(response->responses[0]->data.len, RPC_BATCH_MAX);
	assert_memory_equal(response->responses[0]->data.data, data, RPC_BATCH_MAX);
}

static void test_13_batch_read_of_a_missing_blob_spares_the_others(void **state)
{
	struct fixture *fixture = *state;
	const char *text = unique_text(fixture, "read");
	Reapi__Digest *digests[] = {absent_blob(fixture), put_text(fixture, text),
				    wire_of_digest(fixture, &digest_of_empty)};
	Reapi__BatchReadBlobsRequest request = REAPI__BATCH_READ_BLOBS_REQUEST__INIT;
	Reapi__BatchReadBlobsResponse *response;
	ProtobufCMessage *message = NULL;

	request.n_digests = 3;
	request.digests = digests;
	assert_no_error(
		call(fixture, CAS_SERVICE, "BatchReadBlobs", &request.base, &message));
	response = (void *)message;
	assert_int_equal(response->n_responses, 3);
	assert_int_equal(response->responses[0]->status->code, ERROR_NOT_FOUND);
	assert_string_equal(response->responses[0]->digest->hash, digests[0]->hash);
	assert_int_equal(response->responses[1]->status->code, 0);
	assert_int_equal(response->responses[1]->data.len, strlen(text));
	assert_memory_equal(response->responses[1]->data.data, text, strlen(text));
	assert_int_equal(response->responses[2]->status->code, 0);
}

static void test_14_blob_over_the_servers_limit_is_invalid(void **state)
{
	Bytestream__QueryWriteStatusRequest request =
		BYTESTREAM__QUERY_WRITE_STATUS_REQUEST__INIT;

	request.resource_name = "uploads/u/blobs/"
				"e3b0c44298fc1c149afbf4c8996fb92427ae"
				"41e4649b934ca495991b7852b855"
				"/99999999999999999999";
	assert_error(call(*state, BYTES_SERVICE, "QueryWriteStatus", &request.base, NULL),
		     ERROR_INVALID_ARGUMENT, "");
}

/* ---- GetTree -------------------------------------------------------------------- */

/* A directory with these children by name "a", "b", ... */
static Reapi__Digest *put_dir(struct fixture *fixture, Reapi__Digest *const *children,
			      size_t n)
{
	static const char *const names[] = {"a", "b", "c", "d"};
	Reapi__Directory dir = REAPI__DIRECTORY__INIT;
	Reapi__DirectoryNode nodes[4], *list[4];

	for (size_t i = 0; i < n; i++) {
		reapi__directory_node__init(&nodes[i]);
		nodes[i].name = names[i];
		nodes[i].digest = children[i];
		list[i] = &nodes[i];
	}
	dir.n_directories = n;
	dir.directories = list;
	return put_message(fixture, &dir.base);
}

/* Counts directories of a stream of pages; token: where to begin, and of the last page
 * but one where max_pages ends it. */
static struct error *get_tree(struct fixture *fixture, Reapi__Digest *root, int page_size,
			      char *token, int max_pages, int *n_dirs)
{
	const struct rpc_method method = {CAS_SERVICE, "GetTree"};
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	Reapi__GetTreeRequest request = REAPI__GET_TREE_REQUEST__INIT;
	bool is_broken, has_message = true;
	struct slice bytes;

	request.root_digest = root;
	request.page_size = page_size;
	request.page_token = token;
	*n_dirs = 0;
	assert_no_error(rpc_stream_open(fixture->chan, &method, NULL, &stream));
	assert_no_error(rpc_stream_send_message(stream, &request.base, &is_broken));
	for (int page = 0; page < max_pages; page++) {
		Reapi__GetTreeResponse *response;

		assert_no_error(rpc_stream_receive(stream, &has_message, &bytes));
		if (!has_message)
			return rpc_stream_finish(stream);
		response = (void *)rpc_decode(&reapi__get_tree_response__descriptor,
					      bytes, &fixture->arena);
		*n_dirs += (int)response->n_directories;
		if (page_size > 0)
			assert_true((int)response->n_directories <= page_size);
		(void)snprintf(token, 32, "%s", response->next_page_token);
	}
	return NULL;
}

static void test_17_get_tree_shared_subtree_does_not_explode(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *level = put_dir(fixture, NULL, 0);
	char token[32] = "";
	int n = 0;

	for (int i = 0; i < 40; i++) { /* 2^40 paths, 41 directories */
		Reapi__Digest *both[] = {level, level};

		level = put_dir(fixture, both, 2);
	}
	assert_no_error(get_tree(fixture, level, 0, token, 1000, &n));
	assert_int_equal(n, 41);
	assert_string_equal(token, "");
}

static void test_17_get_tree_pages_go_on_by_token(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *level = put_dir(fixture, NULL, 0);
	char token[32] = "";
	int first = 0, rest = 0;

	for (int i = 0; i < 9; i++)
		level = put_dir(fixture, &level, 1);
	assert_no_error(get_tree(fixture, level, 3, token, 2, &first));
	assert_int_equal(first, 6);
	assert_no_error(get_tree(fixture, level, 3, token, 1000, &rest));
	assert_int_equal(rest, 4);
	(void)snprintf(token, sizeof(token), "nonsense");
	assert_error(get_tree(fixture, level, 3, token, 1000, &rest),
		     ERROR_INVALID_ARGUMENT, "nonsense");
}

static void test_17_get_tree_of_what_is_missing(void **state)
{
	struct fixture *fixture = *state;
	Reapi__Digest *children[] = {put_dir(fixture, NULL, 0), absent_blob(fixture)};
	char token[32] = "";
	int n = 0;

	assert_no_error(
		get_tree(fixture, put_dir(fixture, children, 2), 0, token, 1000, &n));
	assert_int_equal(n, 2);
	assert_error(get_tree(fixture, absent_blob(fixture), 0, token, 1000, &n),
		     ERROR_NOT_FOUND, "root");
	assert_error(
		get_tree(fixture, put_text(fixture, "no directory"), 0, token, 1000, &n),
		ERROR_INVALID_ARGUMENT, "directory");
}

static void test_18_unknown_instance_is_named(void **state)
{
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;

	request.instance_name = "nobody";
	assert_error(call(*state, CAS_SERVICE, "FindMissingBlobs", &request.base, NULL),
		     ERROR_INVALID_ARGUMENT, "\"nobody\"");
	request.instance_name = "some/where";
	assert_no_error(
		call(*state, CAS_SERVICE, "FindMissingBlobs", &request.base, NULL));
}

static void test_19_methods_without_support_are_unimplemented(void **state)
{
	Longrunning__DeleteOperationRequest request =
		LONGRUNNING__DELETE_OPERATION_REQUEST__INIT;

	assert_error(call(*state, OPS_SERVICE, "DeleteOperation", &request.base, NULL),
		     ERROR_UNIMPLEMENTED, "DeleteOperation");
}

static void test_capabilities_say_what_is_offered(void **state)
{
	Reapi__GetCapabilitiesRequest request = REAPI__GET_CAPABILITIES_REQUEST__INIT;
	Reapi__ServerCapabilities *caps;
	ProtobufCMessage *message = NULL;

	assert_no_error(
		call(*state, CAPS_SERVICE, "GetCapabilities", &request.base, &message));
	caps = (void *)message;
	assert_int_equal(caps->cache_capabilities->n_digest_functions, 1);
	assert_int_equal(caps->cache_capabilities->digest_functions[0],
			 REAPI__DIGEST_FUNCTION__VALUE__SHA256);
	assert_int_equal(caps->cache_capabilities->max_batch_total_size_bytes,
			 RPC_BATCH_MAX);
	assert_true(caps->cache_capabilities->action_cache_update_capabilities
			    ->update_enabled);
	assert_true(caps->execution_capabilities->exec_enabled);
	assert_int_equal(caps->high_api_version->major, 2);
	request.instance_name = "nobody";
	assert_error(call(*state, CAPS_SERVICE, "GetCapabilities", &request.base, NULL),
		     ERROR_INVALID_ARGUMENT, "\"nobody\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_1_find_missing_returns_the_absent_subset),
		cmocka_unit_test(test_2_empty_blob_is_always_there),
		cmocka_unit_test(test_4_right_hash_with_wrong_size_is_absent),
		cmocka_unit_test(test_5_6_7_malformed_digests_are_invalid),
		cmocka_unit_test(test_7_a_hash_that_is_a_path_is_invalid_everywhere),
		cmocka_unit_test(test_8_missing_digest_field_is_invalid),
		cmocka_unit_test(test_9_other_digest_functions_are_refused),
		cmocka_unit_test(test_10_11_15_batch_update_judges_each_blob),
		cmocka_unit_test(test_12_batch_over_the_limit_is_invalid),
		cmocka_unit_test(test_12_batch_at_the_limit_is_taken),
		cmocka_unit_test(test_13_batch_read_of_a_missing_blob_spares_the_others),
		cmocka_unit_test(test_14_blob_over_the_servers_limit_is_invalid),
		cmocka_unit_test(test_17_get_tree_shared_subtree_does_not_explode),
		cmocka_unit_test(test_17_get_tree_pages_go_on_by_token),
		cmocka_unit_test(test_17_get_tree_of_what_is_missing),
		cmocka_unit_test(test_18_unknown_instance_is_named),
		cmocka_unit_test(test_19_methods_without_support_are_unimplemented),
		cmocka_unit_test(test_capabilities_say_what_is_offered),
	};

	return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
