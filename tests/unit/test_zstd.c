/* lib/base/zstd: frames there and back, and what is none. */
#include <pthread.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/zstd.h"
#include "tests/unit/cas_fixture.h"

#define MIB ((size_t)1 << 20)

/* Text that shrinks, another one for each seed. */
static void text_of(unsigned int seed, size_t size, struct buf *out)
{
	while (out->len < size)
		buf_printf(out, "%u line %zu of a text\n", seed, out->len / 64);
	out->len = size;
	out->data[size] = '\0';
}

static void noise_of(size_t size, struct buf *out)
{
	uint64_t state = 7;

	buf_reserve(out, size);
	while (out->len < size) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		buf_add_byte(out, (uint8_t)(state >> 56));
	}
}

/* All that comes of frames, given in steps of so many bytes. */
static struct error *decode(struct slice frames, size_t step, int64_t size,
			    struct buf *out)
{
	_cleanup_(zstd_decoder_freep) struct zstd_decoder *decoder = NULL;
	struct error *err = zstd_decoder_new(size, &decoder);

	while (!err && frames.len) {
		struct slice in = {frames.data, step < frames.len ? step : frames.len};
		struct slice piece = {0};

		frames.data += in.len;
		frames.len -= in.len;
		do {
			err = zstd_decode(decoder, &in, &piece);
			if (!err)
				buf_add(out, piece.data, piece.len);
		} while (!err && piece.len);
		if (!err)
			assert_int_equal(in.len, 0);
	}
	return err ? err : zstd_decoder_end(decoder);
}

static void expect_same(struct slice a, struct slice b)
{
	assert_int_equal(a.len, b.len);
	if (a.len)
		assert_memory_equal(a.data, b.data, a.len);
}

static void test_zstd_there_and_back(void **state)
{
	static const size_t sizes[] = {
		0, 1, 1023, 1024, 128 << 10, (128 << 10) + 1, 3 * MIB + 5};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		_cleanup_buf_ struct buf text = BUF_INIT;
		_cleanup_buf_ struct buf frame = BUF_INIT;
		_cleanup_buf_ struct buf back = BUF_INIT;
		_cleanup_free_ uint8_t *plain = alloc_zero(sizes[i] + 1);

		buf_reserve(&text, 1);
		text_of(1, sizes[i], &text);
		expect_ok(zstd_compress(buf_slice(&text), &frame));
		assert_true(frame.len > 0);
		expect_ok(zstd_decompress(buf_slice(&frame), plain, sizes[i]));
		expect_same((struct slice){plain, sizes[i]}, buf_slice(&text));
		expect_ok(decode(buf_slice(&frame), 7, (int64_t)sizes[i], &back));
		expect_same(buf_slice(&back), buf_slice(&text));
	}
}

static void test_zstd_several_frames_are_as_one(void **state)
{
	static const uint8_t skipped[] = {0x53, 0x2a, 0x4d, 0x18, 3,  0,
					  0,    0,    'a',  'b',  'c'};
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_buf_ struct buf frames = BUF_INIT;
	_cleanup_free_ uint8_t *plain = alloc_zero(300000);

	(void)state;
	text_of(2, 300000, &text);
	for (size_t i = 0; i < 3; i++) {
		expect_ok(zstd_compress((struct slice){text.data + i * 100000, 100000},
					&frames));
		expect_ok(zstd_compress((struct slice){NULL, 0}, &frames));
		buf_add(&frames, skipped, sizeof(skipped));
	}
	expect_ok(zstd_decompress(buf_slice(&frames), plain, 300000));
	expect_same((struct slice){plain, 300000}, buf_slice(&text));
	for (size_t step = 1; step < 20; step++) {
		_cleanup_buf_ struct buf back = BUF_INIT;

		expect_ok(decode(buf_slice(&frames), step, 300000, &back));
		expect_same(buf_slice(&back), buf_slice(&text));
	}
}

/* Both ways of decoding refuse it. */
static void expect_refused(struct slice frames, int64_t size, const char *why)
{
	_cleanup_free_ uint8_t *plain = alloc_zero((size_t)size + 1);

	for (size_t step = 1; step <= 1 << 20; step *= 8) {
		_cleanup_buf_ struct buf out = BUF_INIT;

		expect_error(decode(frames, step, size, &out), ERROR_INVALID_ARGUMENT,
			     why);
		assert_true(out.len <= (size_t)size);
	}
	expect_error(zstd_decompress(frames, plain, (size_t)size), ERROR_INVALID_ARGUMENT,
		     why);
	assert_int_equal(plain[size], 0);
}

static void test_zstd_refuses_one_byte_more_and_one_fewer(void **state)
{
	static const int64_t sizes[] = {1, 1000, 128 << 10, 200000};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		_cleanup_buf_ struct buf text = BUF_INIT;
		_cleanup_buf_ struct buf frame = BUF_INIT;

		text_of(3, (size_t)sizes[i], &text);
		expect_ok(zstd_compress(buf_slice(&text), &frame));
		expect_refused(buf_slice(&frame), sizes[i] - 1, "more than");
		expect_refused(buf_slice(&frame), sizes[i] + 1, "bytes, not");
	}
	expect_refused((struct slice){(const uint8_t *)"", 0}, 1, "bytes, not");
}

static void test_zstd_refuses_what_is_cut_short(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_buf_ struct buf frame = BUF_INIT;

	(void)state;
	text_of(4, 5000, &text);
	expect_ok(zstd_compress(buf_slice(&text), &frame));
	for (size_t len = 1; len < frame.len; len++)
		expect_refused((struct slice){frame.data, len}, 5000, NULL);
}

static void test_zstd_refuses_what_comes_after(void **state)
{
	static const char *const garbage[] = {"x", "(", "(\xb5/\xfd", "\x27\xb5/\xfd....",
					      "and more of it"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		_cleanup_buf_ struct buf text = BUF_INIT;
		_cleanup_buf_ struct buf frame = BUF_INIT;

		text_of(5, 5000, &text);
		expect_ok(zstd_compress(buf_slice(&text), &frame));
		buf_add_string(&frame, garbage[i]);
		expect_refused(buf_slice(&frame), 5000, NULL);
	}
}

/* A frame without a size, of blocks that repeat a byte 128 Ki times; its window is told.
 */
static void bomb_of(unsigned int window_log, size_t n_blocks, struct buf *out)
{
	static const uint8_t magic[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00};

	buf_add(out, magic, sizeof(magic));
	buf_add_byte(out, (uint8_t)((window_log - 10) << 3));
	for (size_t i = 0; i < n_blocks; i++) {
		uint32_t head = (uint32_t)(128 << 10) << 3 | 1 << 1 | (i + 1 == n_blocks);

		buf_add_byte(out, (uint8_t)head);
		buf_add_byte(out, (uint8_t)(head >> 8));
		buf_add_byte(out, (uint8_t)(head >> 16));
		buf_add_byte(out, 'b');
	}
}

static void test_zstd_stops_a_bomb_at_what_was_told(void **state)
{
	_cleanup_buf_ struct buf bomb = BUF_INIT;

	(void)state;
	bomb_of(20, 40000, &bomb); /* 160 KB for 5 GB */
	expect_refused(buf_slice(&bomb), 1000, "more than");
	expect_refused(buf_slice(&bomb), 1 << 20, "more than");
}

static void test_zstd_refuses_windows_that_take_too_much(void **state)
{
	(void)state;
	for (unsigned int log = 20; log <= 31; log++) {
		_cleanup_(zstd_decoder_freep) struct zstd_decoder *decoder = NULL;
		_cleanup_buf_ struct buf frame = BUF_INIT;
		_cleanup_buf_ struct buf out = BUF_INIT;
		struct slice in, piece;
		struct error *err;

		bomb_of(log, 1, &frame);
		in = buf_slice(&frame);
		expect_ok(zstd_decoder_new(128 << 10, &decoder));
		err = zstd_decode(decoder, &in, &piece);
		if (log <= 23) {
			expect_ok(err);
			expect_ok(zstd_decoder_end(decoder));
		} else {
			expect_error(err, ERROR_INVALID_ARGUMENT, "more than 8 MiB");
		}
		assert_true(zstd_decoder_memory(decoder) < 9 * MIB);
	}
}

static void test_zstd_compresses_where_it_is_worth_it(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_buf_ struct buf noise = BUF_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;

	(void)state;
	buf_add_string(&out, "before");
	text_of(6, 100000, &text);
	noise_of(100000, &noise);
	assert_false(zstd_shrink(buf_slice(&noise), &out));
	assert_false(zstd_shrink((struct slice){text.data, ZSTD_WORTHWHILE - 1}, &out));
	assert_string_equal(buf_string(&out), "before");
	assert_true(zstd_shrink((struct slice){text.data, ZSTD_WORTHWHILE}, &out));
	buf_clear(&out);
	assert_true(zstd_shrink(buf_slice(&text), &out));
	assert_true(out.len < text.len / 3);
}

/* Fails every allocation in turn, in a thread's first use: true where one was reached. */
static bool fails_at(unsigned int n, struct slice frame, size_t size)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	_cleanup_free_ uint8_t *plain = alloc_zero(size);
	struct error *errs[3];
	bool has_failed = false;

	alloc_fail_after(n);
	errs[0] = zstd_compress((struct slice){frame.data, frame.len}, &out);
	errs[1] = zstd_decompress(frame, plain, size);
	buf_clear(&out);
	errs[2] = decode(frame, 100, (int64_t)size, &out);
	alloc_fail_after(0);
	for (size_t i = 0; i < ARRAY_SIZE(errs); i++) {
		if (!errs[i])
			continue;
		has_failed = true;
		expect_error(errs[i], ERROR_RESOURCE_EXHAUSTED, "memory");
	}
	/* and nothing is broken by it */
	expect_ok(zstd_decompress(frame, plain, size));
	return has_failed;
}

struct sweep {
	struct slice frame;
	size_t size;
	unsigned int n;
	bool has_failed;
};

static void *sweep_once(void *arg)
{
	struct sweep *sweep = arg;

	sweep->has_failed = fails_at(sweep->n, sweep->frame, sweep->size);
	return NULL;
}

static void test_zstd_bears_every_want_of_memory(void **state)
{
	_cleanup_buf_ struct buf bomb = BUF_INIT;
	struct sweep sweep = {.size = 4 * (128 << 10)};
	unsigned int n_failed = 0;

	(void)state;
	bomb_of(20, 4, &bomb);
	sweep.frame = buf_slice(&bomb);
	do { /* a thread of its own has no contexts yet */
		pthread_t thread;

		sweep.n++;
		assert_int_equal(pthread_create(&thread, NULL, sweep_once, &sweep), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		n_failed += sweep.has_failed;
	} while (sweep.has_failed);
	assert_true(n_failed >= 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zstd_there_and_back),
		cmocka_unit_test(test_zstd_several_frames_are_as_one),
		cmocka_unit_test(test_zstd_refuses_one_byte_more_and_one_fewer),
		cmocka_unit_test(test_zstd_refuses_what_is_cut_short),
		cmocka_unit_test(test_zstd_refuses_what_comes_after),
		cmocka_unit_test(test_zstd_stops_a_bomb_at_what_was_told),
		cmocka_unit_test(test_zstd_refuses_windows_that_take_too_much),
		cmocka_unit_test(test_zstd_compresses_where_it_is_worth_it),
		cmocka_unit_test(test_zstd_bears_every_want_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
