/*
 * What goes to a remote store that knows zstd, and comes from it: compressed as far as it
 * shrinks, and going on after breaks.
 */
#include "lib/base/wire.h"
#include "lib/base/zstd.h"
#include "lib/tree/tree.h"
#include "tests/unit/net_fixture.h"

#define MIB     ((size_t)1 << 20)
#define AT_ONCE .has_retry_info = true, .retry_ms = 0

static struct net *zstd_net(void)
{
	return net_new(&(struct net_config){.has_zstd = true});
}

/* Text of which each MiB is another one and shrinks. */
static void text_of(size_t size, struct buf *out)
{
	uint64_t state = 5;

	buf_reserve(out, size + 64);
	while (out->len < size) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		buf_printf(out, "%zu and %u more\n", out->len,
			   (unsigned int)(state >> 44));
	}
	out->len = size;
}

/* A file of text, or of noise. */
static int file_of(struct net *net, size_t size, bool is_noise, struct digest *digest)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_free_ char *path = alloc_printf("%s/file", net->scratch->path);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (is_noise)
		net_bytes(1, size, &bytes);
	else
		text_of(size, &bytes);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes.data, bytes.len), (ssize_t)bytes.len);
	hasher_digest(bytes.data, bytes.len, digest);
	return fd;
}

static bool add_up(void *ctx, int64_t n_more)
{
	*(int64_t *)ctx += n_more;
	return true;
}

static void put_file(struct net *net, size_t size, bool is_noise)
{
	struct digest digest;
	_cleanup_fd_ int fd = file_of(net, size, is_noise, &digest);
	int64_t sum = 0;

	expect_ok(remote_put_fd(net->remote, &digest, fd, add_up, &sum));
	assert_int_equal(sum, size);
	assert_true(fake_has(net->fake, &digest));
}

static void test_write_sends_frames_of_what_shrinks(void **state)
{
	_cleanup_net_ struct net *net = zstd_net();
	struct fake_call call;

	(void)state;
	put_file(net, 3 * MIB + 17, false);
	assert_int_equal(fake_n_calls(net->fake, FAKE_WRITE), 1);
	call = fake_call(net->fake, FAKE_WRITE, 0);
	assert_true(call.is_zstd);
	assert_true(call.bytes > 0 && call.bytes < (int64_t)(3 * MIB / 2));
}

static void test_write_sends_as_it_is_what_does_not_shrink(void **state)
{
	_cleanup_net_ struct net *net = zstd_net();
	struct fake_call call;

	(void)state;
	put_file(net, 3 * MIB, true);
	call = fake_call(net->fake, FAKE_WRITE, 0);
	assert_false(call.is_zstd);
	assert_int_equal(call.bytes, 3 * MIB);
}

static void test_write_sends_as_it_is_what_nobody_announced(void **state)
{
	_cleanup_net_ struct net *net = net_new(NULL);
	struct fake_call call;

	(void)state;
	put_file(net, 3 * MIB, false);
	call = fake_call(net->fake, FAKE_WRITE, 0);
	assert_false(call.is_zstd);
	assert_int_equal(call.bytes, 3 * MIB);
}

/* At any byte of the frames, ends of frames among them. */
static void test_write_goes_on_within_a_frame(void **state)
{
	static const int64_t breaks[] = {1, 100000, 300000, 500000, 700000};
	int64_t whole;

	(void)state;
	{
		_cleanup_net_ struct net *net = zstd_net();

		put_file(net, 3 * MIB, false);
		whole = fake_call(net->fake, FAKE_WRITE, 0).bytes;
	}
	for (size_t i = 0; i < ARRAY_SIZE(breaks); i++) {
		_cleanup_net_ struct net *net = zstd_net();
		struct fake_call second;

		assert_true(breaks[i] < whole);
		fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
							    .method = FAKE_WRITE,
							    .at = breaks[i],
							    .n_times = 1,
							    AT_ONCE});
		put_file(net, 3 * MIB, false);
		assert_int_equal(fake_n_calls(net->fake, FAKE_WRITE), 2);
		second = fake_call(net->fake, FAKE_WRITE, 1);
		assert_int_equal(second.offset, breaks[i]);
		assert_int_equal(second.bytes, whole - breaks[i]);
	}
}

static void test_write_begins_anew_where_no_frame_is_there(void **state)
{
	static const int64_t answers[] = {-1, 100 * (int64_t)MIB};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		_cleanup_net_ struct net *net = zstd_net();

		fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
							    .method = FAKE_WRITE,
							    .at = 100000,
							    .n_times = 1,
							    AT_ONCE});
		fake_script(net->fake, &(struct fake_fault){.kind = FAKE_OFFSET,
							    .method = FAKE_QUERY,
							    .at = answers[i]});
		put_file(net, 3 * MIB, false);
		assert_int_equal(fake_call(net->fake, FAKE_WRITE, 1).offset, 0);
	}
}

static void test_write_believes_no_other_commit(void **state)
{
	static const struct fake_fault faults[] = {
		{.kind = FAKE_SHORT, .method = FAKE_WRITE, .at = 1000, .n_times = 1},
		{.kind = FAKE_GARBAGE, .method = FAKE_WRITE, .n_times = 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		_cleanup_net_ struct net *net = zstd_net();

		fake_script(net->fake, &faults[i]);
		put_file(net, 3 * MIB, false);
		assert_int_equal(fake_n_calls(net->fake, FAKE_WRITE), 2);
	}
}

static void test_write_of_a_blob_that_is_there_is_short(void **state)
{
	_cleanup_net_ struct net *net = zstd_net();
	_cleanup_buf_ struct buf text = BUF_INIT;

	(void)state;
	text_of(3 * MIB, &text);
	(void)fake_put(net->fake, text.data, text.len);
	put_file(net, 3 * MIB, false);
	assert_int_equal(fake_n_calls(net->fake, FAKE_WRITE), 1);
	assert_int_equal(fake_call(net->fake, FAKE_WRITE, 0).bytes, 0);
}

static void test_write_notices_that_a_file_changed(void **state)
{
	_cleanup_net_ struct net *net = zstd_net();
	struct digest digest;
	_cleanup_fd_ int fd = file_of(net, 3 * MIB, false, &digest);

	(void)state;
	assert_int_equal(pwrite(fd, "!", 1, 2 * (off_t)MIB), 1);
	expect_error(remote_put_fd(net->remote, &digest, fd, NULL, NULL),
		     ERROR_INVALID_ARGUMENT, "digest");
	assert_false(fake_has(net->fake, &digest));
}

static void test_batch_sends_frames_of_what_shrinks(void **state)
{
	_cleanup_net_ struct net *net = zstd_net();
	_cleanup_buf_ struct buf text = BUF_INIT, noise = BUF_INIT;
	struct remote_put puts[3];
	struct error *errs[3] = {0};
	int64_t bytes;

	(void)state;
	text_of(100000, &text);
	net_bytes(1, 50000, &noise);
	puts[0].bytes = buf_slice(&text);
	puts[1].bytes = buf_slice(&noise);
	puts[2].bytes = (struct slice){text.data, 100}; /* not worth it */
	for (size_t i = 0; i < 3; i++)
		hasher_digest(puts[i].bytes.data, puts[i].bytes.len, &puts[i].digest);
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_REFUSE,
						    .method = FAKE_BATCH_UPDATE,
						    .digest = &puts[0].digest,
						    .n_times = 1,
						    AT_ONCE});
	expect_ok(remote_put_batch(net->remote, puts, 3, errs));
	for (size_t i = 0; i < 3; i++) {
		expect_ok(errs[i]);
		assert_true(fake_has(net->fake, &puts[i].digest));
	}
	bytes = fake_call(net->fake, FAKE_BATCH_UPDATE, 0).bytes;
	assert_in_range(bytes, 50100, 100000);
	/* the second attempt is the same frame */
	assert_int_equal(fake_call(net->fake, FAKE_BATCH_UPDATE, 1).bytes, bytes - 50100);
}

static struct digest put_text(struct net *net, size_t size)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	text_of(size, &text);
	return fake_put(net->fake, text.data, text.len);
}

static void refuse_once(struct net *net, enum fake_kind kind, enum fake_method method)
{
	fake_script(net->fake, &(struct fake_fault){.kind = kind,
						    .method = method,
						    .n_times = 1,
						    .code = ERROR_INVALID_ARGUMENT});
}

/* What the server knows is asked again. */
static void await_question(struct net *net, size_t n_before)
{
	while (fake_n_calls(net->fake, FAKE_CAPABILITIES) == n_before)
		(void)sched_yield();
}

/* A server may be started anew as one that knows no frames any more. */
static void test_frames_that_are_refused_go_as_they_are(void **state)
{
	_cleanup_net_ struct net *net = zstd_net();
	_cleanup_buf_ struct buf text = BUF_INIT;
	size_t n_asked = fake_n_calls(net->fake, FAKE_CAPABILITIES);
	struct error *errs[1] = {0};
	struct remote_put put;

	(void)state;
	refuse_once(net, FAKE_FAIL, FAKE_WRITE);
	put_file(net, 3 * MIB, false);
	assert_int_equal(fake_n_calls(net->fake, FAKE_WRITE), 2);
	assert_false(fake_call(net->fake, FAKE_WRITE, 1).is_zstd);
	await_question(net, n_asked);
	refuse_once(net, FAKE_REFUSE, FAKE_BATCH_UPDATE);
	text_of(100000, &text);
	put.bytes = buf_slice(&text);
	hasher_digest(text.data, text.len, &put.digest);
	expect_ok(remote_put_batch(net->remote, &put, 1, errs));
	expect_ok(errs[0]);
	assert_true(fake_has(net->fake, &put.digest));
	assert_int_equal(fake_n_calls(net->fake, FAKE_BATCH_UPDATE), 2);
	assert_int_equal(fake_call(net->fake, FAKE_BATCH_UPDATE, 1).bytes, 100000);
}

static void test_batches_that_are_refused_go_as_they_are(void **state)
{
	_cleanup_net_ struct net *net = zstd_net();
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct error *errs[1] = {0};
	struct remote_put put;

	(void)state;
	refuse_once(net, FAKE_FAIL, FAKE_BATCH_UPDATE);
	text_of(100000, &text);
	put.bytes = buf_slice(&text);
	hasher_digest(text.data, text.len, &put.digest);
	expect_ok(remote_put_batch(net->remote, &put, 1, errs));
	expect_ok(errs[0]);
	assert_int_equal(fake_call(net->fake, FAKE_BATCH_UPDATE, 1).bytes, 100000);
}

static void test_reads_of_frames_that_are_refused_are_read_as_they_are(void **state)
{
	_cleanup_net_ struct net *net = zstd_net();
	struct digest digest = put_text(net, 5 * MIB);
	size_t n_asked = fake_n_calls(net->fake, FAKE_CAPABILITIES);
	int fd = -1;

	(void)state;
	refuse_once(net, FAKE_FAIL, FAKE_READ);
	expect_ok(remote_read_blob(net->remote, &digest, net->store, &fd));
	net_expect_fd(fd, &digest);
	assert_int_equal(fake_n_calls(net->fake, FAKE_READ), 2);
	assert_false(fake_call(net->fake, FAKE_READ, 1).is_zstd);
	await_question(net, n_asked);
}

/* ---- reading -------------------------------------------------------------------- */

static void test_read_takes_frames(void **state)
{
	_cleanup_net_ struct net *net = zstd_net();
	struct digest digest = put_text(net, 5 * MIB);
	int fd = -1;

	(void)state;
	expect_ok(remote_read_blob(net->remote, &digest, net->store, &fd));
	net_expect_fd(fd, &digest);
	assert_true(fake_call(net->fake, FAKE_READ, 0).is_zstd);
	assert_true(remote_saved(net->remote) > 5 * MIB / 2);
}

static void test_read_goes_on_in_bytes_of_the_blob(void **state)
{
	_cleanup_net_ struct net *net = zstd_net();
	struct digest digest = put_text(net, 5 * MIB);
	struct fake_call second;
	int fd = -1;

	(void)state;
	fake_script(net->fake, &(struct fake_fault){.kind = FAKE_FAIL,
						    .method = FAKE_READ,
						    .at = 500000,
						    .n_times = 1,
						    AT_ONCE});
	expect_ok(remote_read_blob(net->remote, &digest, net->store, &fd));
	net_expect_fd(fd, &digest);
	second = fake_call(net->fake, FAKE_READ, 1);
	assert_true(second.offset > 500000 && second.offset < 5 * (int64_t)MIB);
}

static void test_read_refuses_frames_of_other_bytes(void **state)
{
	static const struct fake_fault faults[] = {
		{.kind = FAKE_CORRUPT, .method = FAKE_READ, .at = 4321},
		{.kind = FAKE_TRUNCATE, .method = FAKE_READ, .at = 4321},
		{.kind = FAKE_EXTEND, .method = FAKE_READ, .at = 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		_cleanup_net_ struct net *net = zstd_net();
		struct digest digest = put_text(net, 5 * MIB);
		int fd = -1;

		fake_script(net->fake, &faults[i]);
		expect_error(remote_read_blob(net->remote, &digest, net->store, &fd),
			     ERROR_DATA_LOSS, NULL);
		net_expect_not_stored(net, &digest);
	}
}

static void test_fetch_counts_what_crossed_the_wire(void **state)
{
	_cleanup_net_ struct net *net = zstd_net();
	struct digest digests[2] = {put_text(net, 200000), put_text(net, 5 * MIB)};
	struct net_answers answers = NET_ANSWERS(2);
	struct fetch_stats stats;

	(void)state;
	net_start(net, digests, 2, FETCH_DEMAND, &answers);
	assert_int_equal(net_await(&answers), 2);
	fetch_stats(net->fetch, &stats);
	assert_int_equal(stats.bytes, 200000 + 5 * MIB);
	assert_true(stats.wire_bytes > 0 && stats.wire_bytes < stats.bytes / 2);
}

/* ---- batches that were read ----------------------------------------------------- */

struct heard {
	size_t n;
	enum error_code code; /* of the last */
	size_t n_bytes;
};

static void hear(void *ctx, const struct digest *digest, struct error *err,
		 struct slice bytes)
{
	struct heard *heard = ctx;

	heard->n++;
	heard->code = error_code(err);
	heard->n_bytes += err ? 0 : bytes.len;
	if (!err)
		assert_int_equal(bytes.len, digest->size);
	error_free(err);
}

static void answer_add(struct buf *out, size_t size, struct slice data,
		       uint64_t compressor)
{
	static const char hash[] =
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	_cleanup_buf_ struct buf digest = BUF_INIT;
	_cleanup_buf_ struct buf one = BUF_INIT;

	wire_put_bytes(&digest, 1, slice_of(hash));
	wire_put_int(&digest, 2, size);
	wire_put_bytes(&one, 1, buf_slice(&digest));
	wire_put_bytes(&one, 2, data);
	wire_put_int(&one, 4, compressor);
	wire_put_bytes(out, 1, buf_slice(&one));
}

static void test_batch_answers_come_as_frames(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT, frame = BUF_INIT, reply = BUF_INIT;
	struct heard heard = {0};

	(void)state;
	text_of(5000, &text);
	expect_ok(zstd_compress(buf_slice(&text), &frame));
	answer_add(&reply, 5000, buf_slice(&frame), 1);
	expect_ok(remote_batch_each(buf_slice(&reply), hear, &heard));
	assert_int_equal(heard.n, 1);
	assert_int_equal(heard.n_bytes, 5000);
}

static void test_batch_answers_that_are_wrong_are_data_loss(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT, frame = BUF_INIT;
	struct {
		size_t size, len;
		uint64_t compressor;
	} bad[] = {{4999, 0, 1}, {5001, 0, 1},  {5000, 1, 1},
		   {5000, 0, 2}, {5000, 0, 99}, {1 << 30, 0, 1}};

	(void)state;
	text_of(5000, &text);
	expect_ok(zstd_compress(buf_slice(&text), &frame));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_buf_ struct buf reply = BUF_INIT;
		struct heard heard = {0};

		answer_add(&reply, bad[i].size,
			   (struct slice){frame.data, frame.len - bad[i].len},
			   bad[i].compressor);
		expect_ok(remote_batch_each(buf_slice(&reply), hear, &heard));
		assert_int_equal(heard.n, 1);
		assert_int_equal(heard.code, ERROR_DATA_LOSS);
	}
}

static void test_batch_answers_become_no_more_than_a_batch(void **state)
{
	_cleanup_buf_ struct buf zeros = BUF_INIT, frame = BUF_INIT, reply = BUF_INIT;
	struct heard heard = {0};

	(void)state;
	buf_reserve(&zeros, MIB);
	memset(zeros.data, 0, MIB);
	zeros.len = MIB;
	expect_ok(zstd_compress(buf_slice(&zeros), &frame));
	for (size_t i = 0; i < 1000; i++)
		answer_add(&reply, MIB, buf_slice(&frame), 1);
	expect_ok(remote_batch_each(buf_slice(&reply), hear, &heard));
	assert_int_equal(heard.n, 1000);
	assert_int_equal(heard.n_bytes, RPC_BATCH_MAX / MIB * MIB);
	assert_int_equal(heard.code, ERROR_DATA_LOSS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_sends_frames_of_what_shrinks),
		cmocka_unit_test(test_write_sends_as_it_is_what_does_not_shrink),
		cmocka_unit_test(test_write_sends_as_it_is_what_nobody_announced),
		cmocka_unit_test(test_write_goes_on_within_a_frame),
		cmocka_unit_test(test_write_begins_anew_where_no_frame_is_there),
		cmocka_unit_test(test_write_believes_no_other_commit),
		cmocka_unit_test(test_write_of_a_blob_that_is_there_is_short),
		cmocka_unit_test(test_write_notices_that_a_file_changed),
		cmocka_unit_test(test_batch_sends_frames_of_what_shrinks),
		cmocka_unit_test(test_frames_that_are_refused_go_as_they_are),
		cmocka_unit_test(test_batches_that_are_refused_go_as_they_are),
		cmocka_unit_test(
			test_reads_of_frames_that_are_refused_are_read_as_they_are),
		cmocka_unit_test(test_read_takes_frames),
		cmocka_unit_test(test_read_goes_on_in_bytes_of_the_blob),
		cmocka_unit_test(test_read_refuses_frames_of_other_bytes),
		cmocka_unit_test(test_fetch_counts_what_crossed_the_wire),
		cmocka_unit_test(test_batch_answers_come_as_frames),
		cmocka_unit_test(test_batch_answers_that_are_wrong_are_data_loss),
		cmocka_unit_test(test_batch_answers_become_no_more_than_a_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
