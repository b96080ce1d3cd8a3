/*
 * What goes to the remote store, and how an upload goes on after a break; and GetTree.
 */
#include "lib/tree/tree.h"
#include "tests/unit/net_fixture.h"

#define MIB     ((size_t)1 << 20)
#define AT_ONCE .has_retry_info = true, .retry_ms = 0

/* ---- BatchUpdateBlobs ----------------------------------------------------------- */

enum { PUTS = 4 };

struct batch {
	struct buf bytes[PUTS];
	struct remote_put puts[PUTS];
	struct error *errs[PUTS];
};

static void batch_init(struct batch *batch)
{
	*batch = (struct batch){0};
	for (unsigned int i = 0; i < PUTS; i++) {
		net_bytes(i, 100 + i, &batch->bytes[i]);
		batch->puts[i].bytes = buf_slice(&batch->bytes[i]);
		hasher_digest(batch->bytes[i].data, batch->bytes[i].len,
			      &batch->puts[i].digest);
	}
}

static void batch_deinit(struct batch *batch)
{
	for (size_t i = 0; i < PUTS; i++) {
		buf_deinit(&batch->bytes[i]);
		error_free(batch->errs[i]);
	}
}

/* Puts four blobs while something is wrong with the third. */
static void batch_put(struct net *net, struct batch *batch, struct fake_fault fault)
{
	batch_init(batch);
	fault.method = FAKE_BATCH_UPDATE;
	fault.digest = &batch->puts[2].digest;
	fake_script(net->fake, &fault);
	expect_ok(remote_put_batch(net->remote, batch->puts, PUTS, batch->errs));
	for (size_t i = 0; i < PUTS; i++) {
		assert_true(i == 2 || !batch->errs[i]);
		assert_true(i == 2 || fake_has(net->fake, &batch->puts[i].digest));
	}
}

static void test_put_says_which_blob_was_refused(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_(batch_deinit) struct batch batch;

	(void)state;
	batch_put(
		net, &batch,
		(struct fake_fault){.kind = FAKE_REFUSE, .code = ERROR_INVALID_ARGUMENT});
	assert_int_equal(error_code(batch.errs[2]), ERROR_INVALID_ARGUMENT);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_UPDATE), 1);
}

static void test_put_sends_again_only_what_was_put_off(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_(batch_deinit) struct batch batch;
	struct fake_call again;

	(void)state;
	batch_put(net, &batch,
		  (struct fake_fault){.kind = FAKE_REFUSE, .n_times = 1, AT_ONCE});
	assert_null(batch.errs[2]);
	assert_true(fake_has(net->fake, &batch.puts[2].digest));
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_UPDATE), 2);
	again = fake_call(net->fake, FAKE_BATCH_UPDATE, 1);
	assert_int_equal(again.n_blobs, 1);
	assert_true(digest_equal(&again.first, &batch.puts[2].digest));
}

static void test_put_gives_a_blob_up_in_the_end(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_(batch_deinit) struct batch batch;

	(void)state;
	batch_put(net, &batch, (struct fake_fault){.kind = FAKE_REFUSE, AT_ONCE});
	assert_int_equal(error_code(batch.errs[2]), ERROR_UNAVAILABLE);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_UPDATE), NET_RETRIES + 1);
}

static void test_put_notices_what_the_answer_leaves_out(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_(batch_deinit) struct batch batch;
	char name[DIGEST_STRING_MAX];

	(void)state;
	batch_put(net, &batch, (struct fake_fault){.kind = FAKE_OMIT});
	assert_int_equal(error_code(batch.errs[2]), ERROR_DATA_LOSS);
	assert_non_null(strstr(error_text(batch.errs[2]),
			       digest_format(&batch.puts[2].digest, name)));
}

static void test_put_takes_an_answer_given_twice(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_(batch_deinit) struct batch batch;

	(void)state;
	batch_put(net, &batch, (struct fake_fault){.kind = FAKE_TWICE});
	assert_null(batch.errs[2]);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_UPDATE), 1);
}

static void test_put_fails_whole_where_the_call_fails(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_(batch_deinit) struct batch batch;

	(void)state;
	batch_init(&batch);
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_BATCH_UPDATE,
						    .code = ERROR_PERMISSION_DENIED});
	expect_error(remote_put_batch(net->remote, batch.puts, PUTS, batch.errs),
		     ERROR_PERMISSION_DENIED, NULL);
	for (size_t i = 0; i < PUTS; i++)
		assert_null(batch.errs[i]);
}

/* ---- ByteStream.Write ----------------------------------------------------------- */

enum { SEED = 7 };

/* A file of the scratch directory with these bytes. */
static int big_file(struct net *net, size_t size, struct digest *digest_out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	int fd = openat(net->scratch->fd, "big", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC,
			0644);

	assert_true(fd >= 0);
	net_bytes(SEED, size, &bytes);
	expect_ok(file_write_all(fd, bytes.data, bytes.len));
	hasher_digest(bytes.data, bytes.len, digest_out);
	return fd;
}

static bool add_up(void *ctx, int64_t n_more)
{
	*(int64_t *)ctx += n_more;
	return true;
}

/* Uploads 3 MiB past a fault of the first Write; gives the number of Writes. */
static size_t write_past(struct net *net, const struct fake_fault *fault,
			 struct error **err_out)
{
	struct digest digest;
	_cleanup_fd_ int fd = big_file(net, 3 * MIB, &digest);
	int64_t sum = 0;

	if (fault)
		fake_script(net->fake, fault);
	*err_out = remote_put_fd(net->remote, &digest, fd, add_up, &sum);
	assert_int_equal(fake_has(net->fake, &digest), !*err_out);
	if (!*err_out)
		assert_int_equal(sum, digest.size);
	return fake_n_calls(net->fake, FAKE_WRITE);
}

static void test_write_sends_a_file_once(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct error *err;

	(void)state;
	assert_int_equal(write_past(net, NULL, &err), 1);
	expect_ok(err);
	assert_int_equal(fake_call(net->fake, FAKE_WRITE, 0).bytes, 3 * MIB);
	assert_int_equal(fake_n_calls(net->fake, FAKE_QUERY), 0);
}

static void test_write_goes_on_where_it_broke(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fake_fault fault = {.kind = FAKE_FAIL,
				   .method = FAKE_WRITE,
				   .at = 1500000,
				   .n_times = 1,
				   AT_ONCE};
	struct fake_call second;
	struct error *err;

	(void)state;
	assert_int_equal(write_past(net, &fault, &err), 2);
	expect_ok(err);
	second = fake_call(net->fake, FAKE_WRITE, 1);
	assert_int_equal(second.offset, 1500000);
	assert_int_equal(second.bytes, 3 * (int64_t)MIB - 1500000);
	assert_int_equal(fake_n_calls(net->fake, FAKE_QUERY), 1);
}

static void write_anew_after(const struct fake_fault *query)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fake_fault fault = {.kind = FAKE_FAIL,
				   .method = FAKE_WRITE,
				   .at = 1500000,
				   .n_times = 1,
				   AT_ONCE};
	struct error *err;

	fake_script(net->fake, query);
	assert_int_equal(write_past(net, &fault, &err), 2);
	expect_ok(err);
	assert_int_equal(fake_call(net->fake, FAKE_WRITE, 1).offset, 0);
	assert_int_equal(fake_call(net->fake, FAKE_WRITE, 1).bytes, 3 * MIB);
}

static void test_write_begins_anew_where_nobody_knows_how_far_it_came(void **state)
{
	static const struct fake_fault answers[] = {
		{.kind = FAKE_FAIL, .method = FAKE_QUERY, .code = ERROR_NOT_FOUND},
		{.kind = FAKE_FAIL, .method = FAKE_QUERY, .code = ERROR_UNIMPLEMENTED},
		{.kind = FAKE_GARBAGE, .method = FAKE_QUERY},
		{.kind = FAKE_OFFSET, .method = FAKE_QUERY, .at = -1},
		{.kind = FAKE_OFFSET, .method = FAKE_QUERY, .at = 3 * MIB + 1},
		/* all of it, but not complete */
		{.kind = FAKE_OFFSET, .method = FAKE_QUERY, .at = 3 * MIB},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		write_anew_after(&answers[i]);
}

struct overtaking {
	struct net *net;
	int64_t n_sent;
};

/* Somebody else uploads the same blob while our stream runs: not before the server has
 * some of ours, since one that has the blob when a stream begins ends that at once; nor
 * at its end, which the server may have broken by then. */
static bool overtake(void *ctx, int64_t n_more)
{
	struct overtaking *overtaking = ctx;
	struct fake *fake = overtaking->net->fake;

	overtaking->n_sent += n_more;
	if (overtaking->n_sent != MIB)
		return true;
	while (!fake_n_calls(fake, FAKE_WRITE) || !fake_call(fake, FAKE_WRITE, 0).bytes)
		(void)usleep(1000);
	(void)net_blob(overtaking->net, SEED, 3 * MIB, true);
	return true;
}

static void test_write_ends_where_the_server_has_it_all_by_now(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct overtaking overtaking = {.net = net};
	struct digest digest;
	_cleanup_fd_ int fd = big_file(net, 3 * MIB, &digest);

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_WRITE,
						    .at = 3 * MIB,
						    AT_ONCE});
	expect_ok(remote_put_fd(net->remote, &digest, fd, overtake, &overtaking));
	assert_int_equal(fake_n_calls(net->fake, FAKE_WRITE), 1);
	assert_int_equal(fake_n_calls(net->fake, FAKE_QUERY), 1);
}

static void test_write_is_short_where_the_blob_is_there(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct error *err;

	(void)state;
	(void)net_blob(net, SEED, 3 * MIB, true);
	assert_int_equal(write_past(net, NULL, &err), 1);
	expect_ok(err);
	assert_int_equal(fake_call(net->fake, FAKE_WRITE, 0).bytes, 0);
}

static void test_write_does_not_believe_a_short_commit(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fake_fault fault = {
		.kind = FAKE_SHORT, .method = FAKE_WRITE, .at = 1000, .n_times = 1};
	struct error *err;

	(void)state;
	assert_int_equal(write_past(net, &fault, &err), 2);
	expect_ok(err);
}

static void test_write_fails_where_commits_stay_short(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fake_fault fault = {.kind = FAKE_SHORT, .method = FAKE_WRITE, .at = 1000};
	struct error *err;

	(void)state;
	assert_int_equal(write_past(net, &fault, &err), NET_RETRIES + 1);
	expect_error(err, ERROR_UNAVAILABLE, "1000 bytes of 3145728");
}

static void test_write_takes_garbage_for_no_answer(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fake_fault fault = {
		.kind = FAKE_GARBAGE, .method = FAKE_WRITE, .n_times = 1};
	struct error *err;

	(void)state;
	assert_int_equal(write_past(net, &fault, &err), 2);
	expect_ok(err);
}

static void test_write_ends_where_the_server_takes_nothing(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.timeout_ms = 300});
	struct fake_fault fault = {.kind = FAKE_STALL, .method = FAKE_WRITE};
	struct error *err;

	(void)state;
	assert_int_equal(write_past(net, &fault, &err), NET_RETRIES + 1);
	expect_error(err, ERROR_DEADLINE_EXCEEDED, NULL);
}

static void test_write_does_not_insist_on_what_is_refused(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fake_fault fault = {
		.kind = FAKE_FAIL, .method = FAKE_WRITE, .code = ERROR_PERMISSION_DENIED};
	struct error *err;

	(void)state;
	assert_int_equal(write_past(net, &fault, &err), 1);
	expect_error(err, ERROR_PERMISSION_DENIED, NULL);
	assert_int_equal(fake_n_calls(net->fake, FAKE_QUERY), 0);
}

static void test_write_notices_that_a_file_became_shorter(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest;
	_cleanup_fd_ int fd = big_file(net, 3 * MIB, &digest);

	(void)state;
	assert_int_equal(ftruncate(fd, 2 * MIB + 1), 0);
	expect_error(remote_put_fd(net->remote, &digest, fd, NULL, NULL),
		     ERROR_FAILED_PRECONDITION, "shorter");
	assert_false(fake_has(net->fake, &digest));
}

static void test_write_takes_bytes_too(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct digest digest;

	(void)state;
	net_bytes(SEED, 2 * MIB + 3, &bytes);
	hasher_digest(bytes.data, bytes.len, &digest);
	expect_ok(remote_put_bytes(net->remote, &digest, buf_slice(&bytes)));
	assert_true(fake_has(net->fake, &digest));
}

/* ---- GetTree -------------------------------------------------------------------- */

enum { TREE_DIRS = 5 };

/* A chain of Directories, each with the next as its only entry; the root is the first. */
static void put_chain(struct net *net, struct digest chain[TREE_DIRS])
{
	for (size_t i = TREE_DIRS; i-- > 0;) {
		_cleanup_buf_ struct buf bytes = BUF_INIT;
		struct tree_node node = {.name = slice_of("next"), .kind = TREE_DIR};

		if (i + 1 < TREE_DIRS)
			node.digest = chain[i + 1];
		else
			node = (struct tree_node){.name = slice_of("end"),
						  .kind = TREE_FILE,
						  .digest = digest_of_empty};
		expect_ok(tree_encode(&node, 1, NULL, &bytes));
		chain[i] = fake_put(net->fake, bytes.data, bytes.len);
	}
}

struct seen {
	size_t n;
	struct digest digests[4 * TREE_DIRS];
	size_t refuse_at; /* 0: never */
};

static struct error *see(void *ctx, struct slice directory)
{
	struct seen *seen = ctx;

	assert_true(seen->n < ARRAY_SIZE(seen->digests));
	hasher_digest(directory.data, directory.len, &seen->digests[seen->n++]);
	if (seen->n == seen->refuse_at)
		return error_new(ERROR_UNAVAILABLE, "no more of this");
	return NULL;
}

static void test_tree_comes_page_by_page(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.tree_page = 2});
	struct digest chain[TREE_DIRS];
	struct seen seen = {0};

	(void)state;
	put_chain(net, chain);
	expect_ok(remote_get_tree(net->remote, &chain[0], see, &seen));
	assert_int_equal(seen.n, TREE_DIRS);
	for (size_t i = 0; i < TREE_DIRS; i++)
		assert_true(digest_equal(&seen.digests[i], &chain[i]));
	assert_int_equal(fake_n_calls(net->fake, FAKE_GET_TREE), 3);
}

static void test_tree_goes_on_with_the_page_that_broke(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.tree_page = 2});
	struct digest chain[TREE_DIRS];
	struct seen seen = {0};

	(void)state;
	put_chain(net, chain);
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_GET_TREE,
						    .n_skip = 1,
						    .n_times = 2,
						    AT_ONCE});
	expect_ok(remote_get_tree(net->remote, &chain[0], see, &seen));
	assert_int_equal(seen.n, TREE_DIRS);
	assert_int_equal(fake_n_calls(net->fake, FAKE_GET_TREE), 3 + 2);
}

static void tree_fails(enum fake_kind kind, enum error_code code, enum error_code want,
		       size_t n_calls)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest chain[TREE_DIRS];
	struct seen seen = {0};

	put_chain(net, chain);
	fake_script(net->fake, &(struct fake_fault){.kind = kind,
						    .method = FAKE_GET_TREE,
						    .code = code});
	expect_error(remote_get_tree(net->remote, &chain[0], see, &seen), want, NULL);
	assert_int_equal(fake_n_calls(net->fake, FAKE_GET_TREE), n_calls);
}

static void test_tree_says_that_a_server_has_none(void **state)
{
	(void)state;
	tree_fails(FAKE_FAIL, ERROR_UNIMPLEMENTED, ERROR_UNIMPLEMENTED, 1);
}

static void test_tree_refuses_garbage(void **state)
{
	(void)state;
	tree_fails(FAKE_GARBAGE, ERROR_OK, ERROR_DATA_LOSS, 1);
}

static void test_tree_refuses_a_page_that_follows_itself(void **state)
{
	(void)state;
	tree_fails(FAKE_STUCK, ERROR_OK, ERROR_DATA_LOSS, 2);
}

static void test_tree_ends_where_the_caller_wants_it(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest chain[TREE_DIRS];
	struct seen seen = {.refuse_at = 2};

	(void)state;
	put_chain(net, chain);
	expect_error(remote_get_tree(net->remote, &chain[0], see, &seen),
		     ERROR_UNAVAILABLE, "no more of this");
	assert_int_equal(seen.n, 2);
	assert_int_equal(fake_n_calls(net->fake, FAKE_GET_TREE), 1);
}

static void test_tree_says_that_its_root_is_lost(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest root = net_blob(net, 1, 80, false);
	struct seen seen = {0};

	(void)state;
	net_expect_missing(remote_get_tree(net->remote, &root, see, &seen), &root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_says_which_blob_was_refused),
		cmocka_unit_test(test_put_sends_again_only_what_was_put_off),
		cmocka_unit_test(test_put_gives_a_blob_up_in_the_end),
		cmocka_unit_test(test_put_notices_what_the_answer_leaves_out),
		cmocka_unit_test(test_put_takes_an_answer_given_twice),
		cmocka_unit_test(test_put_fails_whole_where_the_call_fails),
		cmocka_unit_test(test_write_sends_a_file_once),
		cmocka_unit_test(test_write_goes_on_where_it_broke),
		cmocka_unit_test(
			test_write_begins_anew_where_nobody_knows_how_far_it_came),
		cmocka_unit_test(test_write_ends_where_the_server_has_it_all_by_now),
		cmocka_unit_test(test_write_is_short_where_the_blob_is_there),
		cmocka_unit_test(test_write_does_not_believe_a_short_commit),
		cmocka_unit_test(test_write_fails_where_commits_stay_short),
		cmocka_unit_test(test_write_takes_garbage_for_no_answer),
		cmocka_unit_test(test_write_ends_where_the_server_takes_nothing),
		cmocka_unit_test(test_write_does_not_insist_on_what_is_refused),
		cmocka_unit_test(test_write_notices_that_a_file_became_shorter),
		cmocka_unit_test(test_write_takes_bytes_too),
		cmocka_unit_test(test_tree_comes_page_by_page),
		cmocka_unit_test(test_tree_goes_on_with_the_page_that_broke),
		cmocka_unit_test(test_tree_says_that_a_server_has_none),
		cmocka_unit_test(test_tree_refuses_garbage),
		cmocka_unit_test(test_tree_refuses_a_page_that_follows_itself),
		cmocka_unit_test(test_tree_ends_where_the_caller_wants_it),
		cmocka_unit_test(test_tree_says_that_its_root_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
