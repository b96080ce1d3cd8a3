/*
 * Uploads: what is sent and what is not, in how many calls, and what is said of files
 * that are not what they were.
 */
#include "tests/unit/net_fixture.h"

#define MIB     ((size_t)1 << 20)
#define AT_ONCE .has_retry_info = true, .retry_ms = 0

/* A file of these bytes below the scratch directory, as an item. */
static struct blob_source put_file(struct net *net, const char *path, unsigned int seed,
				   size_t size)
{
	struct blob_source item = {.from = BLOB_PATH, .path = path};
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_fd_ int fd = openat(net->scratch->fd, path,
				     O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	net_bytes(seed, size, &bytes);
	expect_ok(file_write_all(fd, bytes.data, bytes.len));
	hasher_digest(bytes.data, bytes.len, &item.digest);
	return item;
}

static struct error *upload(struct net *net, const struct blob_source *items, size_t n,
			    struct upload_stats *stats_out)
{
	struct upload_config config = {
		.remote = net->remote, .store = net->store, .dir_fd = net->scratch->fd};

	return upload_run(&config, items, n, stats_out);
}

/* ---- what is sent --------------------------------------------------------------- */

static void test_upload_sends_only_what_is_missing(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source items[] = {put_file(net, "a", 1, 100),
				      put_file(net, "b", 2, 200),
				      put_file(net, "c", 3, 300)};
	struct upload_stats stats = {0};

	(void)state;
	(void)net_blob(net, 2, 200, true);
	expect_ok(upload(net, items, ARRAY_SIZE(items), &stats));
	for (size_t i = 0; i < ARRAY_SIZE(items); i++)
		assert_true(fake_has(net->fake, &items[i].digest));
	assert_int_equal(stats.n_sent, 2);
	assert_int_equal(stats.bytes_sent, 400);
	assert_int_equal(stats.n_calls, 1);
	assert_int_equal(fake_n_calls(net->fake, FAKE_FIND), 1);
	assert_int_equal(fake_n_blobs(net->fake, FAKE_BATCH_UPDATE), 2);
	assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_UPDATE, &items[1].digest), 0);
}

static void test_upload_of_what_is_there_is_one_call(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source item = put_file(net, "a", 1, 100);
	struct upload_stats stats = {.n_sent = 9};

	(void)state;
	(void)net_blob(net, 1, 100, true);
	assert_int_equal(unlinkat(net->scratch->fd, "a", 0), 0); /* not even opened */
	expect_ok(upload(net, &item, 1, &stats));
	assert_int_equal(stats.n_sent, 0);
	assert_int_equal(fake_n_calls(net->fake, FAKE_FIND), 1);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_UPDATE), 0);
	assert_int_equal(fake_n_calls(net->fake, FAKE_WRITE), 0);
}

struct canceller {
	struct upload_progress progress;
	atomic_bool is_cancelled;
};

static void cancel_at_the_first_byte(void *ctx, int64_t n_done, int64_t n_total,
				     int64_t bytes_done, int64_t bytes_total)
{
	struct canceller *canceller = ctx;

	(void)n_done, (void)n_total, (void)bytes_total;
	if (bytes_done)
		atomic_store(&canceller->is_cancelled, true);
}

static void test_upload_ends_when_it_is_cancelled(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source items[] = {put_file(net, "large", 1, 5 * MIB),
				      put_file(net, "small", 2, 100)};
	struct canceller canceller = {.progress = {cancel_at_the_first_byte, &canceller}};
	struct upload_config config = {.remote = net->remote,
				       .store = net->store,
				       .dir_fd = net->scratch->fd,
				       .progress = &canceller.progress,
				       .is_cancelled = &canceller.is_cancelled};

	(void)state;
	/* in the middle of a stream */
	expect_error(upload_run(&config, items, 1, NULL), ERROR_CANCELLED, "given up");
	assert_false(fake_has(net->fake, &items[0].digest));
	/* before anything is sent */
	expect_error(upload_run(&config, items, 2, NULL), ERROR_CANCELLED, "cancelled");
	assert_false(fake_has(net->fake, &items[0].digest));
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_UPDATE), 0);
	atomic_store(&canceller.is_cancelled, false);
	config.progress = NULL;
	expect_ok(upload_run(&config, items, 2, NULL));
	assert_true(fake_has(net->fake, &items[0].digest));
	assert_true(fake_has(net->fake, &items[1].digest));
}

static void test_upload_of_nothing_asks_nobody(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);

	(void)state;
	expect_ok(upload(net, NULL, 0, NULL));
	assert_int_equal(fake_n_calls(net->fake, FAKE_FIND), 0);
}

static void test_upload_sends_duplicates_once(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source items[] = {
		put_file(net, "a", 1, 100), put_file(net, "copy", 1, 100),
		put_file(net, "big", 2, 3 * MIB), put_file(net, "big-copy", 2, 3 * MIB)};
	struct upload_stats stats;

	(void)state;
	expect_ok(upload(net, items, ARRAY_SIZE(items), &stats));
	assert_int_equal(stats.n_sent, 2);
	assert_int_equal(fake_n_blobs(net->fake, FAKE_FIND), 2);
	assert_int_equal(fake_n_blobs(net->fake, FAKE_BATCH_UPDATE), 1);
	assert_int_equal(fake_n_calls(net->fake, FAKE_WRITE), 1);
}

static void test_upload_takes_bytes_and_the_store_too(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct blob_source items[2] = {{.from = BLOB_BYTES}, {.from = BLOB_STORE}};

	(void)state;
	net_bytes(1, 3 * MIB, &bytes);
	items[0].bytes = buf_slice(&bytes);
	hasher_digest(bytes.data, bytes.len, &items[0].digest);
	items[1].digest = digest_of("in the store");
	expect_ok(store_put(net->store, &items[1].digest, "in the store", 12));
	expect_ok(upload(net, items, ARRAY_SIZE(items), NULL));
	assert_true(fake_has(net->fake, &items[0].digest));
	assert_true(fake_has(net->fake, &items[1].digest));
}

static void test_upload_packs_small_files_into_few_calls(void **state)
{
	enum { N = 2000, CALLS = 4 };
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_free_ struct blob_source *items = alloc_array(N, sizeof(*items));
	_cleanup_free_ uint32_t *numbers = alloc_array(N, sizeof(*numbers));
	struct upload_stats stats;

	(void)state;
	for (uint32_t i = 0; i < N; i++) {
		numbers[i] = i;
		items[i] = (struct blob_source){
			.from = BLOB_BYTES,
			.bytes = {(const uint8_t *)&numbers[i], sizeof(*numbers)}};
		hasher_digest(&numbers[i], sizeof(*numbers), &items[i].digest);
	}
	expect_ok(upload(net, items, N, &stats));
	assert_int_equal(stats.n_sent, N);
	assert_int_equal(stats.n_calls, CALLS);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_UPDATE), CALLS);
	assert_int_equal(fake_n_blobs(net->fake, FAKE_BATCH_UPDATE), N);
}

/* The limit is not known before: it comes with the question what is missing. */
static void test_upload_keeps_to_the_servers_limit(void **state)
{
	enum { N = 20, LIMIT = 5000 };
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.batch_max = LIMIT});
	_cleanup_(remote_freep) struct remote *remote = NULL;
	struct upload_config config = {.dir_fd = net->scratch->fd};
	struct blob_source items[N];
	char names[N][8];

	(void)state;
	for (unsigned int i = 0; i < N; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "%u", i);
		items[i] = put_file(net, names[i], i, i < N - 1 ? 900 : LIMIT + 1);
	}
	expect_ok(remote_new(&(struct remote_config){.chan = net->chan, .n_retries = 1},
			     &remote));
	config.remote = remote;
	expect_ok(upload_run(&config, items, N, NULL));
	for (size_t i = 0; i < N; i++)
		assert_true(fake_has(net->fake, &items[i].digest));
	for (size_t i = 0; i < fake_n_calls(net->fake, FAKE_BATCH_UPDATE); i++)
		assert_true(fake_call(net->fake, FAKE_BATCH_UPDATE, i).bytes <= LIMIT);
	assert_int_equal(fake_n_calls(net->fake, FAKE_WRITE), 1);
}

/* ---- breaks --------------------------------------------------------------------- */

static void test_upload_goes_on_where_a_stream_broke(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source item = put_file(net, "big", 1, 3 * MIB);
	struct upload_stats stats;

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_WRITE,
						    .at = 2500000,
						    .n_times = 1,
						    AT_ONCE});
	expect_ok(upload(net, &item, 1, &stats));
	assert_int_equal(fake_call(net->fake, FAKE_WRITE, 1).offset, 2500000);
	assert_int_equal(stats.bytes_sent, 3 * MIB);
}

static void test_upload_sends_again_what_was_put_off(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source items[] = {put_file(net, "a", 1, 100),
				      put_file(net, "b", 2, 100)};

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_REFUSE,
						    .method = FAKE_BATCH_UPDATE,
						    .digest = &items[1].digest,
						    .n_times = 2,
						    AT_ONCE});
	expect_ok(upload(net, items, ARRAY_SIZE(items), NULL));
	assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_UPDATE, &items[0].digest), 1);
	assert_int_equal(fake_n_asked(net->fake, FAKE_BATCH_UPDATE, &items[1].digest), 3);
}

static void test_upload_names_the_file_that_is_refused(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source items[] = {put_file(net, "small-file", 1, 100),
				      put_file(net, "big-file", 2, 3 * MIB)};
	struct upload_stats stats = {.n_sent = -1};

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_REFUSE,
						    .method = FAKE_BATCH_UPDATE,
						    .code = ERROR_INVALID_ARGUMENT});
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_WRITE,
						    .code = ERROR_INVALID_ARGUMENT});
	expect_error(upload(net, &items[0], 1, &stats), ERROR_INVALID_ARGUMENT,
		     "small-file: so the script wants it");
	expect_error(upload(net, &items[1], 1, &stats), ERROR_INVALID_ARGUMENT,
		     "big-file");
	assert_int_equal(stats.n_sent, -1); /* only written on success */
}

static void test_upload_fails_where_the_question_fails(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source item = put_file(net, "a", 1, 100);

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_FIND,
						    .code = ERROR_PERMISSION_DENIED});
	expect_error(upload(net, &item, 1, NULL), ERROR_PERMISSION_DENIED, NULL);
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_UPDATE), 0);
}

/* ---- files that are not what they were ------------------------------------------ */

static void changed(size_t size, size_t new_size)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source items[] = {put_file(net, "other", 1, 10),
				      put_file(net, "some-file", 2, size)};

	(void)put_file(net, "some-file", 3, new_size);
	expect_error(upload(net, items, ARRAY_SIZE(items), NULL),
		     ERROR_FAILED_PRECONDITION, "some-file changed");
	assert_false(fake_has(net->fake, &items[1].digest));
}

static void test_upload_names_a_file_that_changed(void **state)
{
	(void)state;
	changed(100, 100);
	changed(100, 99);
	changed(100, 0);
	changed(100, 101);
	changed(3 * MIB, 3 * MIB);
	changed(3 * MIB, 3 * MIB - 1);
	changed(3 * MIB, 0);
	changed(3 * MIB, 3 * MIB + 1);
}

static void test_upload_names_a_file_that_is_gone(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source items[] = {put_file(net, "small-file", 1, 100),
				      put_file(net, "big-file", 2, 3 * MIB)};

	(void)state;
	assert_int_equal(unlinkat(net->scratch->fd, "small-file", 0), 0);
	assert_int_equal(unlinkat(net->scratch->fd, "big-file", 0), 0);
	expect_error(upload(net, &items[0], 1, NULL), ERROR_FAILED_PRECONDITION,
		     "small-file");
	expect_error(upload(net, &items[1], 1, NULL), ERROR_FAILED_PRECONDITION,
		     "big-file");
}

static void test_upload_does_not_follow_a_link_in_its_place(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source item = put_file(net, "file", 1, 100);

	(void)state;
	(void)put_file(net, "elsewhere", 1, 100);
	assert_int_equal(unlinkat(net->scratch->fd, "file", 0), 0);
	assert_int_equal(symlinkat("elsewhere", net->scratch->fd, "file"), 0);
	expect_error(upload(net, &item, 1, NULL), ERROR_FAILED_PRECONDITION, "file");
	assert_false(fake_has(net->fake, &item.digest));
}

static void note_change(void *ctx, const struct blob_source *item)
{
	_Atomic size_t *n_changed = ctx;

	assert_true(strcmp(item->path, "gone") == 0 || strcmp(item->path, "other") == 0);
	atomic_fetch_add(n_changed, 1);
}

static void test_upload_sends_all_else_where_files_changed(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source items[] = {
		put_file(net, "gone", 1, 100), put_file(net, "other", 2, 3 * MIB),
		put_file(net, "small", 3, 100), put_file(net, "big", 4, 3 * MIB)};
	_Atomic size_t n_changed = 0;
	struct upload_config config = {.remote = net->remote,
				       .dir_fd = net->scratch->fd,
				       .changed = note_change,
				       .changed_ctx = &n_changed};

	(void)state;
	assert_int_equal(unlinkat(net->scratch->fd, "gone", 0), 0);
	(void)put_file(net, "other", 5, 3 * MIB);
	expect_error(upload_run(&config, items, ARRAY_SIZE(items), NULL),
		     ERROR_FAILED_PRECONDITION, "changed before");
	assert_int_equal(n_changed, 2);
	assert_false(fake_has(net->fake, &items[0].digest));
	assert_false(fake_has(net->fake, &items[1].digest));
	assert_true(fake_has(net->fake, &items[2].digest));
	assert_true(fake_has(net->fake, &items[3].digest));
}

static void test_upload_sends_an_open_file_that_lost_its_name(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source items[] = {put_file(net, "s", 1, 100),
				      put_file(net, "b", 2, 3 * MIB)};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
		items[i].from = BLOB_FD;
		items[i].fd =
			openat(net->scratch->fd, items[i].path, O_RDONLY | O_CLOEXEC);
		(void)unlinkat(net->scratch->fd, items[i].path, 0);
	}
	expect_ok(upload(net, items, ARRAY_SIZE(items), NULL));
	for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
		assert_true(fake_has(net->fake, &items[i].digest));
		(void)close(items[i].fd);
	}
}

static void test_upload_names_a_blob_that_left_the_store(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct blob_source item = {.from = BLOB_STORE, .digest = digest_of("gone")};
	char name[DIGEST_STRING_MAX];

	(void)state;
	expect_error(upload(net, &item, 1, NULL), ERROR_FAILED_PRECONDITION,
		     digest_format(&item.digest, name));
}

/* ---- progress ------------------------------------------------------------------- */

struct watch {
	pthread_mutex_t mutex;
	size_t n_calls;
	int64_t n_done, bytes_done; /* the most that was said */
	int64_t n_total, bytes_total;
	bool has_changed_totals;
};

static void look(void *ctx, int64_t n_done, int64_t n_total, int64_t bytes_done,
		 int64_t bytes_total)
{
	struct watch *watch = ctx;

	(void)pthread_mutex_lock(&watch->mutex);
	if (watch->n_calls++ == 0) {
		watch->n_total = n_total;
		watch->bytes_total = bytes_total;
	}
	watch->has_changed_totals |=
		watch->n_total != n_total || watch->bytes_total != bytes_total;
	watch->n_done = n_done > watch->n_done ? n_done : watch->n_done;
	watch->bytes_done =
		bytes_done > watch->bytes_done ? bytes_done : watch->bytes_done;
	(void)pthread_mutex_unlock(&watch->mutex);
}

static void test_upload_tells_how_far_it_is(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct watch watch = {.mutex = PTHREAD_MUTEX_INITIALIZER};
	struct upload_progress progress = {look, &watch};
	struct blob_source items[] = {put_file(net, "a", 1, 100),
				      put_file(net, "b", 2, 200),
				      put_file(net, "big", 3, 3 * MIB),
				      {.from = BLOB_BYTES}};
	struct upload_config config = {
		.remote = net->remote, .dir_fd = net->scratch->fd, .progress = &progress};

	(void)state;
	net_bytes(4, 3 * MIB, &bytes);
	items[3].bytes = buf_slice(&bytes);
	hasher_digest(bytes.data, bytes.len, &items[3].digest);
	(void)net_blob(net, 2, 200, true); /* no part of it */
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_WRITE,
						    .digest = &items[2].digest,
						    .at = 2000000,
						    .n_times = 1,
						    AT_ONCE});
	expect_ok(upload_run(&config, items, ARRAY_SIZE(items), NULL));
	assert_false(watch.has_changed_totals);
	assert_int_equal(watch.n_total, 3);
	assert_int_equal(watch.n_done, 3);
	assert_int_equal(watch.bytes_total, 6 * MIB + 100);
	assert_int_equal(watch.bytes_done, 6 * MIB + 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_upload_sends_only_what_is_missing),
		cmocka_unit_test(test_upload_of_what_is_there_is_one_call),
		cmocka_unit_test(test_upload_ends_when_it_is_cancelled),
		cmocka_unit_test(test_upload_of_nothing_asks_nobody),
		cmocka_unit_test(test_upload_sends_duplicates_once),
		cmocka_unit_test(test_upload_takes_bytes_and_the_store_too),
		cmocka_unit_test(test_upload_packs_small_files_into_few_calls),
		cmocka_unit_test(test_upload_keeps_to_the_servers_limit),
		cmocka_unit_test(test_upload_goes_on_where_a_stream_broke),
		cmocka_unit_test(test_upload_sends_again_what_was_put_off),
		cmocka_unit_test(test_upload_names_the_file_that_is_refused),
		cmocka_unit_test(test_upload_fails_where_the_question_fails),
		cmocka_unit_test(test_upload_names_a_file_that_changed),
		cmocka_unit_test(test_upload_names_a_file_that_is_gone),
		cmocka_unit_test(test_upload_does_not_follow_a_link_in_its_place),
		cmocka_unit_test(test_upload_sends_all_else_where_files_changed),
		cmocka_unit_test(test_upload_sends_an_open_file_that_lost_its_name),
		cmocka_unit_test(test_upload_names_a_blob_that_left_the_store),
		cmocka_unit_test(test_upload_tells_how_far_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
