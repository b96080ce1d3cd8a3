/*
 * Uploads by chunks: what is sent of a file that a server has much of, and what happens
 * where it cannot make use of that.
 */
#include "tests/unit/net_fixture.h"

#define AVERAGE   1024
#define SIZE      ((size_t)200000)
#define BATCH_MAX 8192

static struct net *chunk_net(bool has_mappings)
{
	return net_new(&(struct net_config){.batch_max = BATCH_MAX,
					    .chunk_average = AVERAGE,
					    .has_mappings = has_mappings});
}

/* A version of one file, as a file: the bytes of another seed stand in the middle. */
static struct blob_source version(struct net *net, const char *path, unsigned int seed,
				  struct buf *out)
{
	struct blob_source item = {.from = BLOB_PATH, .path = path};
	_cleanup_buf_ struct buf other = BUF_INIT;
	_cleanup_fd_ int fd = openat(net->scratch->fd, path,
				     O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	net_bytes(1, SIZE, out);
	net_bytes(seed, 100, &other);
	if (seed != 1)
		memcpy(out->data + SIZE / 2, other.data, other.len);
	assert_true(fd >= 0);
	expect_ok(file_write_all(fd, out->data, out->len));
	hasher_digest(out->data, out->len, &item.digest);
	return item;
}

/* The server has the first version, and its chunks. */
static void have_first(struct net *net)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct chunker chunker;
	size_t n;

	net_bytes(1, SIZE, &bytes);
	(void)fake_put(net->fake, bytes.data, bytes.len);
	assert_true(chunker_init(&chunker, AVERAGE, 0));
	for (size_t at = 0; at < bytes.len; at += n) {
		n = chunker_cut(&chunker, bytes.data + at, bytes.len - at);
		(void)fake_put(net->fake, bytes.data + at, n);
	}
}

static struct error *upload(struct net *net, const struct blob_source *item,
			    struct upload_stats *stats_out)
{
	struct upload_config config = {
		.remote = net->remote, .store = net->store, .dir_fd = net->scratch->fd};

	return upload_run(&config, item, 1, stats_out);
}

static void check_only_the_new(bool has_mappings)
{
	_cleanup_net_ struct net *net = chunk_net(has_mappings);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct blob_source item = version(net, "f", 2, &bytes);
	struct upload_stats stats = {0};

	have_first(net);
	expect_ok(upload(net, &item, &stats));
	assert_true(fake_has(net->fake, &item.digest));
	assert_int_equal(stats.n_sent, 1);
	assert_int_equal(stats.bytes_sent + stats.bytes_saved, SIZE);
	assert_in_range(stats.bytes_sent, 1, SIZE / 10);
	/* which are missing; of some, of all chunks */
	assert_int_equal(fake_n_calls(net->fake, FAKE_FIND), 3);
	assert_int_equal(fake_n_calls(net->fake, FAKE_SPLICE), 1);
	assert_int_equal(fake_n_calls(net->fake, FAKE_WRITE), 0);
	assert_int_equal(stats.n_calls, 3 + fake_n_calls(net->fake, FAKE_BATCH_UPDATE));
}

static void test_upload_sends_only_chunks_that_are_new(void **state)
{
	(void)state;
	check_only_the_new(true);
}

static void test_upload_speaks_to_a_server_of_2_12(void **state)
{
	(void)state;
	check_only_the_new(false);
}

static void test_upload_of_what_is_all_new_costs_one_question(void **state)
{
	_cleanup_net_ struct net *net = chunk_net(true);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct blob_source item = version(net, "f", 2, &bytes);
	struct upload_stats stats = {0};

	(void)state;
	expect_ok(upload(net, &item, &stats));
	assert_int_equal(stats.bytes_sent, SIZE);
	assert_int_equal(stats.bytes_saved, 0);
	assert_int_equal(fake_n_calls(net->fake, FAKE_FIND), 2);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_UPDATE), 0);
	assert_int_equal(fake_n_calls(net->fake, FAKE_WRITE), 1);
}

/* Whatever the server makes of it, the blob is there afterwards. */
static void test_upload_goes_whole_where_chunks_fail(void **state)
{
	static const struct fake_fault faults[] = {
		{.kind = FAKE_FAIL, .method = FAKE_SPLICE},
		{.kind = FAKE_FAIL, .method = FAKE_SPLICE, .code = ERROR_UNIMPLEMENTED},
		{.kind = FAKE_FAIL, .method = FAKE_SPLICE, .code = ERROR_NOT_FOUND},
		{.kind = FAKE_FAIL,
		 .method = FAKE_SPLICE,
		 .code = ERROR_INVALID_ARGUMENT},
		{.kind = FAKE_REFUSE,
		 .method = FAKE_BATCH_UPDATE,
		 .code = ERROR_PERMISSION_DENIED},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		_cleanup_net_ struct net *net = chunk_net(i % 2);
		_cleanup_buf_ struct buf bytes = BUF_INIT;
		struct blob_source item = version(net, "f", 2, &bytes);
		struct upload_stats stats = {0};

		have_first(net);
		fake_script(net->fake, &faults[i]);
		expect_ok(upload(net, &item, &stats));
		assert_true(fake_has(net->fake, &item.digest));
		assert_int_equal(fake_n_calls(net->fake, FAKE_WRITE), 1);
		assert_int_equal(stats.bytes_saved, 0);
	}
}

static void test_upload_says_that_a_file_changed(void **state)
{
	_cleanup_net_ struct net *net = chunk_net(true);
	_cleanup_buf_ struct buf bytes = BUF_INIT, changed = BUF_INIT;
	struct blob_source item = version(net, "f", 2, &bytes);
	struct upload_stats stats = {0};

	(void)state;
	have_first(net);
	(void)version(net, "f", 3, &changed);
	expect_error(upload(net, &item, &stats), ERROR_FAILED_PRECONDITION, "f changed");
	assert_false(fake_has(net->fake, &item.digest));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_upload_sends_only_chunks_that_are_new),
		cmocka_unit_test(test_upload_speaks_to_a_server_of_2_12),
		cmocka_unit_test(test_upload_of_what_is_all_new_costs_one_question),
		cmocka_unit_test(test_upload_goes_whole_where_chunks_fail),
		cmocka_unit_test(test_upload_says_that_a_file_changed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
