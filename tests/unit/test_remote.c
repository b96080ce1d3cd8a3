/*
 * The remote store's calls: how often they are made, where they go on after a break, and
 * what becomes of answers that are late, wrong or none.
 */
#include "lib/base/wire.h"
#include "lib/tree/tree.h"
#include "tests/unit/net_fixture.h"

#define MIB ((size_t)1 << 20)

/* Faults that tell the client to come again at once. */
#define AT_ONCE .has_retry_info = true, .retry_ms = 0

/* ---- capabilities --------------------------------------------------------------- */

static void test_remote_asks_for_capabilities_once(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.batch_max = 1000});
	const Reapi__ServerCapabilities *caps = NULL;
	size_t n_before = fake_n_calls(net->fake, FAKE_CAPABILITIES);

	(void)state;
	expect_ok(remote_capabilities(net->remote, &caps));
	assert_int_equal(caps->cache_capabilities->max_batch_total_size_bytes, 1000);
	assert_int_equal(fake_n_calls(net->fake, FAKE_CAPABILITIES), n_before);
	assert_int_equal(remote_batch_max(net->remote), 1000);
}

/* A remote of its own over the fixture's channel, which knows nothing yet. */
static struct remote *fresh_remote(struct net *net)
{
	struct remote *remote = NULL;

	expect_ok(remote_new(&(struct remote_config){.chan = net->chan}, &remote));
	return remote;
}

static void test_remote_learns_the_limit_on_the_way(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.batch_max = 1000});
	_cleanup_(remote_freep) struct remote *remote = fresh_remote(net);
	struct digest digest = net_blob(net, 1, 10, false);
	bool is_missing;

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_DELAY,
						    .method = FAKE_CAPABILITIES,
						    .at = 100});
	assert_int_equal(remote_batch_max(remote), RPC_BATCH_MAX);
	expect_ok(remote_find_missing(remote, &digest, 1, &is_missing));
	assert_int_equal(remote_batch_max(remote), 1000);
}

static void test_remote_works_without_knowing_the_limit(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.batch_max = 1000});
	_cleanup_(remote_freep) struct remote *remote = fresh_remote(net);
	struct digest digest = net_blob(net, 1, 10, false);
	size_t n_before;
	bool is_missing = false;

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_CAPABILITIES,
						    .code = ERROR_UNIMPLEMENTED,
						    .n_times = 1});
	expect_ok(remote_find_missing(remote, &digest, 1, &is_missing));
	assert_true(is_missing);
	assert_int_equal(remote_batch_max(remote), RPC_BATCH_MAX);
	/* and asks another time, but not once more than that */
	expect_ok(remote_find_missing(remote, &digest, 1, &is_missing));
	assert_int_equal(remote_batch_max(remote), 1000);
	n_before = fake_n_calls(net->fake, FAKE_CAPABILITIES);
	expect_ok(remote_find_missing(remote, &digest, 1, &is_missing));
	assert_int_equal(fake_n_calls(net->fake, FAKE_CAPABILITIES), n_before);
}

static void test_remote_can_end_while_it_learns(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct remote *remote = fresh_remote(net);

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_STALL,
						    .method = FAKE_CAPABILITIES});
	remote_learn(remote);
	remote_free(remote);
}

static void test_remote_names_an_address_that_does_not_answer(void **state)
{
	_cleanup_(rpc_chan_freep) struct rpc_chan *chan = NULL;
	_cleanup_(remote_freep) struct remote *remote = NULL;
	const Reapi__ServerCapabilities *caps;

	(void)state;
	expect_ok(rpc_init(0));
	expect_ok(rpc_chan_new(
		&(struct rpc_chan_config){.address = "unix:/nowhere/lazyroot"}, &chan));
	expect_ok(remote_new(&(struct remote_config){.chan = chan, .n_retries = 1},
			     &remote));
	expect_error(remote_capabilities(remote, &caps), ERROR_UNAVAILABLE,
		     "/nowhere/lazyroot");
}

/* ---- FindMissingBlobs ----------------------------------------------------------- */

static void test_remote_splits_a_long_question(void **state)
{
	enum { N = 30000, CALLS = 3 };
	_cleanup_net_ struct net *net = net_new(NULL);
	_cleanup_free_ struct digest *digests = alloc_array(N, sizeof(*digests));
	_cleanup_free_ bool *is_missing = alloc_array(N, sizeof(bool));

	(void)state;
	for (unsigned int i = 0; i < N; i++)
		digests[i] = net_blob(net, i, 12, i % 3 == 0);
	expect_ok(remote_find_missing(net->remote, digests, N, is_missing));
	for (unsigned int i = 0; i < N; i++)
		assert_int_equal(is_missing[i], i % 3 != 0);
	assert_int_equal(fake_n_calls(net->fake, FAKE_FIND), CALLS);
	assert_int_equal(fake_n_blobs(net->fake, FAKE_FIND), N);
}

static void test_remote_marks_every_mention(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest gone = net_blob(net, 1, 10, false);
	struct digest here = net_blob(net, 2, 10, true);
	struct digest digests[] = {gone, here, gone, here, gone};
	bool is_missing[ARRAY_SIZE(digests)];

	(void)state;
	expect_ok(remote_find_missing(net->remote, digests, ARRAY_SIZE(digests),
				      is_missing));
	for (size_t i = 0; i < ARRAY_SIZE(digests); i++)
		assert_int_equal(is_missing[i], i % 2 == 0);
}

static void test_remote_asks_nothing_about_nothing(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);

	(void)state;
	expect_ok(remote_find_missing(net->remote, NULL, 0, NULL));
	assert_int_equal(fake_n_calls(net->fake, FAKE_FIND), 0);
}

/* Asks about one blob while a fault is in force; says how many calls that took. */
static size_t find_with(struct net *net, const struct fake_fault *fault,
			struct error **err_out)
{
	struct digest digest = net_blob(net, 1, 10, false);
	bool is_missing = false;

	fake_script(net->fake, fault);
	*err_out = remote_find_missing(net->remote, &digest, 1, &is_missing);
	assert_true(*err_out || is_missing);
	return fake_n_calls(net->fake, FAKE_FIND);
}

static void test_remote_asks_again_when_told_to(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fake_fault fault = {
		.kind = FAKE_FAIL, .method = FAKE_FIND, .n_times = 2, AT_ONCE};
	struct error *err;

	(void)state;
	assert_int_equal(find_with(net, &fault, &err), 3);
	expect_ok(err);
}

static void test_remote_gives_up_in_the_end(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fake_fault fault = {.kind = FAKE_FAIL, .method = FAKE_FIND, AT_ONCE};
	struct error *err;

	(void)state;
	assert_int_equal(find_with(net, &fault, &err), NET_RETRIES + 1);
	expect_error(err, ERROR_UNAVAILABLE, "so the script wants it");
}

static void test_remote_takes_no_for_an_answer(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fake_fault fault = {
		.kind = FAKE_FAIL, .method = FAKE_FIND, .code = ERROR_PERMISSION_DENIED};
	struct error *err;

	(void)state;
	assert_int_equal(find_with(net, &fault, &err), 1);
	expect_error(err, ERROR_PERMISSION_DENIED, NULL);
}

static void test_remote_refuses_an_answer_that_is_none(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fake_fault fault = {.kind = FAKE_GARBAGE, .method = FAKE_FIND};
	struct error *err;

	(void)state;
	assert_int_equal(find_with(net, &fault, &err), 1);
	expect_error(err, ERROR_DATA_LOSS, "FindMissingBlobs");
}

static void test_remote_does_not_wait_for_ever(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.timeout_ms = 200});
	struct fake_fault fault = {.kind = FAKE_STALL, .method = FAKE_FIND};
	struct error *err;

	(void)state;
	assert_int_equal(find_with(net, &fault, &err), NET_RETRIES + 1);
	expect_error(err, ERROR_DEADLINE_EXCEEDED, NULL);
}

static void test_remote_waits_for_a_slow_answer(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fake_fault fault = {.kind = FAKE_DELAY, .method = FAKE_FIND, .at = 50};
	struct error *err;

	(void)state;
	assert_int_equal(find_with(net, &fault, &err), 1);
	expect_ok(err);
}

/* ---- the parts of a BatchReadBlobs reply ---------------------------------------- */

struct heard {
	size_t n;
	struct digest digest;
	enum error_code code;
	size_t n_missing;
	size_t len;
};

static void hear(void *ctx, const struct digest *digest, struct error *err,
		 struct slice bytes)
{
	struct heard *heard = ctx;

	heard->n++;
	heard->digest = *digest;
	heard->code = error_code(err);
	heard->n_missing = error_n_missing(err);
	heard->len = bytes.len;
	error_free(err);
}

/* One Response with this digest's bytes, a payload and a status code, as wire bytes. */
static void batch_reply(const char *hash, int64_t size, int code, struct buf *out)
{
	_cleanup_buf_ struct buf digest = BUF_INIT;
	_cleanup_buf_ struct buf status = BUF_INIT;
	_cleanup_buf_ struct buf one = BUF_INIT;

	wire_put_bytes(&digest, 1, slice_of(hash));
	wire_put_int(&digest, 2, (uint64_t)size);
	wire_put_int(&status, 1, (uint64_t)code);
	wire_put_bytes(&one, 1, buf_slice(&digest));
	wire_put_bytes(&one, 2, slice_of("four"));
	wire_put_bytes(&one, 3, buf_slice(&status));
	wire_put_bytes(out, 1, buf_slice(&one));
}

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_remote_takes_a_batch_apart(void **state)
{
	_cleanup_buf_ struct buf reply = BUF_INIT;
	struct heard heard = {0};

	(void)state;
	batch_reply(HASH, 4, ERROR_OK, &reply);
	expect_ok(remote_batch_each(buf_slice(&reply), hear, &heard));
	assert_int_equal(heard.n, 1);
	assert_int_equal(heard.code, ERROR_OK);
	assert_int_equal(heard.digest.size, 4);
	assert_int_equal(heard.len, 4);
	batch_reply(HASH, 4, ERROR_NOT_FOUND, &reply);
	expect_ok(remote_batch_each(buf_slice(&reply), hear, &heard));
	assert_int_equal(heard.n, 3);
	assert_int_equal(heard.code, ERROR_NOT_FOUND);
	assert_int_equal(heard.n_missing, 1);
}

static void test_remote_refuses_batches_with_bad_digests(void **state)
{
	static const struct {
		const char *hash;
		int64_t size;
	} bad[] = {
		{"", 4},
		{"abc", 4},
		{HASH "0", 4},
		{HASH, -1},
		{"0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", 4}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_buf_ struct buf reply = BUF_INIT;
		struct heard heard = {0};

		batch_reply(bad[i].hash, bad[i].size, ERROR_OK, &reply);
		expect_error(remote_batch_each(buf_slice(&reply), hear, &heard),
			     ERROR_DATA_LOSS, NULL);
		assert_int_equal(heard.n, 0);
	}
}

static void test_remote_refuses_batches_cut_short(void **state)
{
	_cleanup_buf_ struct buf reply = BUF_INIT;

	(void)state;
	batch_reply(HASH, 4, ERROR_OK, &reply);
	for (size_t len = 1; len < reply.len; len++) {
		struct heard heard = {0};

		expect_error(
			remote_batch_each((struct slice){reply.data, len}, hear, &heard),
			ERROR_DATA_LOSS, NULL);
		assert_int_equal(heard.n, 0);
	}
}

/* ---- ByteStream.Read ------------------------------------------------------------ */

static void test_remote_reads_a_blob_in_one_call(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, 3 * MIB + 17, true);
	int fd = -1;

	(void)state;
	expect_ok(remote_read_blob(net->remote, &digest, net->store, &fd));
	net_expect_fd(fd, &digest);
	assert_true(store_has(net->store, &digest));
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 1);
}

static void test_remote_goes_on_where_a_read_broke(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, 3 * MIB, true);
	int fd = -1;

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_READ,
						    .at = 1000001,
						    .n_times = 1,
						    AT_ONCE});
	expect_ok(remote_read_blob(net->remote, &digest, net->store, &fd));
	net_expect_fd(fd, &digest);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 2);
	assert_int_equal(fake_call(net->fake, FAKE_READ, 0).offset, 0);
	assert_int_equal(fake_call(net->fake, FAKE_READ, 1).offset, 1000001);
}

static void test_remote_counts_only_attempts_without_progress(void **state)
{
	enum { BREAKS = 2 * (NET_RETRIES + 1) };
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, MIB, true);
	int fd = -1;

	(void)state;
	for (int i = 1; i <= BREAKS; i++)
		fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
							    .method = FAKE_READ,
							    .at = i * 100000,
							    .n_times = 1,
							    AT_ONCE});
	expect_ok(remote_read_blob(net->remote, &digest, net->store, &fd));
	net_expect_fd(fd, &digest);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), BREAKS + 1);
	assert_int_equal(fake_call(net->fake, FAKE_READ, BREAKS).offset, BREAKS * 100000);
}

static void test_remote_ends_a_read_that_gets_nowhere(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, MIB, true);
	int fd = -1;

	(void)state;
	fake_script(net->fake,
		    &(struct fake_fault){
			    .kind = FAKE_FAIL, .method = FAKE_READ, .at = 1000, AT_ONCE});
	expect_error(remote_read_blob(net->remote, &digest, net->store, &fd),
		     ERROR_UNAVAILABLE, NULL);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), NET_RETRIES + 1);
	net_expect_not_stored(net, &digest);
}

static void read_harmed(enum fake_kind kind, int64_t at)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, MIB, true);
	int fd = -1;

	fake_script(net->fake,
		    &(struct fake_fault){.kind = kind, .method = FAKE_READ, .at = at});
	expect_error(remote_read_blob(net->remote, &digest, net->store, &fd),
		     ERROR_DATA_LOSS, NULL);
	assert_int_equal(fd, -1);
	net_expect_not_stored(net, &digest);
}

static void test_remote_hands_out_no_wrong_byte(void **state)
{
	(void)state;
	read_harmed(FAKE_CORRUPT, 0);
	read_harmed(FAKE_CORRUPT, MIB - 1);
}

static void test_remote_hands_out_no_wrong_length(void **state)
{
	(void)state;
	read_harmed(FAKE_TRUNCATE, 0);
	read_harmed(FAKE_TRUNCATE, MIB - 1);
	read_harmed(FAKE_EXTEND, 1);
}

static void test_remote_says_which_blob_is_lost(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, MIB, false);
	int fd = -1;

	(void)state;
	net_expect_missing(remote_read_blob(net->remote, &digest, net->store, &fd),
			   &digest);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 1);
}

/* However large the blob is: a deadline by its size alone would be an hour here. */
static void test_remote_ends_a_read_that_stalls(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.timeout_ms = 200});
	struct digest digest = net_blob(net, 1, 10, false);
	int fd = -1;

	(void)state;
	digest.size = (int64_t)1 << 30;
	fake_script(net->fake,
		    &(struct fake_fault){.kind = FAKE_STALL, .method = FAKE_READ});
	expect_error(remote_read_blob(net->remote, &digest, net->store, &fd),
		     ERROR_DEADLINE_EXCEEDED, NULL);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), NET_RETRIES + 1);
}

static void test_remote_goes_on_where_a_read_stalled(void **state)
{
	_cleanup_net_ struct net *net = net_new(&(struct net_config){.timeout_ms = 2000});
	struct digest digest = net_blob(net, 1, MIB, true);
	int fd = -1;

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_STALL,
						    .method = FAKE_READ,
						    .at = 777777,
						    .n_times = 1});
	expect_ok(remote_read_blob(net->remote, &digest, net->store, &fd));
	net_expect_fd(fd, &digest);
	assert_int_equal(fake_call(net->fake, FAKE_READ, 1).offset, 777777);
}

static void test_remote_refuses_a_read_that_is_garbage(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct digest digest = net_blob(net, 1, 1000, true);
	int fd = -1;

	(void)state;
	fake_script(net->fake,
		    &(struct fake_fault){.kind = FAKE_GARBAGE, .method = FAKE_READ});
	expect_error(remote_read_blob(net->remote, &digest, net->store, &fd),
		     ERROR_DATA_LOSS, NULL);
	net_expect_not_stored(net, &digest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_remote_asks_for_capabilities_once),
		cmocka_unit_test(test_remote_learns_the_limit_on_the_way),
		cmocka_unit_test(test_remote_works_without_knowing_the_limit),
		cmocka_unit_test(test_remote_can_end_while_it_learns),
		cmocka_unit_test(test_remote_names_an_address_that_does_not_answer),
		cmocka_unit_test(test_remote_splits_a_long_question),
		cmocka_unit_test(test_remote_marks_every_mention),
		cmocka_unit_test(test_remote_asks_nothing_about_nothing),
		cmocka_unit_test(test_remote_asks_again_when_told_to),
		cmocka_unit_test(test_remote_gives_up_in_the_end),
		cmocka_unit_test(test_remote_takes_no_for_an_answer),
		cmocka_unit_test(test_remote_refuses_an_answer_that_is_none),
		cmocka_unit_test(test_remote_does_not_wait_for_ever),
		cmocka_unit_test(test_remote_waits_for_a_slow_answer),
		cmocka_unit_test(test_remote_takes_a_batch_apart),
		cmocka_unit_test(test_remote_refuses_batches_with_bad_digests),
		cmocka_unit_test(test_remote_refuses_batches_cut_short),
		cmocka_unit_test(test_remote_reads_a_blob_in_one_call),
		cmocka_unit_test(test_remote_goes_on_where_a_read_broke),
		cmocka_unit_test(test_remote_counts_only_attempts_without_progress),
		cmocka_unit_test(test_remote_ends_a_read_that_gets_nowhere),
		cmocka_unit_test(test_remote_hands_out_no_wrong_byte),
		cmocka_unit_test(test_remote_hands_out_no_wrong_length),
		cmocka_unit_test(test_remote_says_which_blob_is_lost),
		cmocka_unit_test(test_remote_ends_a_read_that_stalls),
		cmocka_unit_test(test_remote_goes_on_where_a_read_stalled),
		cmocka_unit_test(test_remote_refuses_a_read_that_is_garbage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
