/*
 * lib/tree/chunker: the cuts are those of the published implementation that the protocol
 * names (fastcdc 3.2.1, which made the numbers below), however a file is read.
 */
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/tree/chunker.h"
#include "tests/unit/cas_fixture.h"

#define CHUNKS_MAX 32

/* The same bytes from the same seed, everywhere: splitmix64, low byte first. */
static uint8_t *noise_of(uint64_t state, size_t len)
{
	uint8_t *data = alloc_array(len, 1);

	for (size_t i = 0; i < len; i += 8) {
		uint64_t z = state += 0x9e3779b97f4a7c15;

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
		z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
		z ^= z >> 31;
		for (size_t k = i; k < len && k < i + 8; k++)
			data[k] = (uint8_t)(z >> (k - i) * 8);
	}
	return data;
}

struct vector {
	uint64_t noise; /* 0: zeros */
	size_t len;
	uint64_t average;
	uint32_t seed;
	size_t cuts[CHUNKS_MAX];
};

static const struct vector vectors[] = {
	{1,
	 300001,
	 16384,
	 0,
	 {16594, 11534, 16852, 17194, 19591, 26473, 7440, 16946, 19436, 20507, 8036,
	  17012, 29972, 19946, 17264, 13958, 17056, 4190}},
	{1,
	 300001,
	 16384,
	 666,
	 {26685, 27436, 13873, 23721, 13589, 16699, 22068, 10960, 24902, 21579, 23504,
	  17810, 29798, 17106, 10271}},
	{2,
	 20000,
	 1024,
	 0,
	 {1130, 1554, 1026, 1103, 1048, 1205, 1226, 394, 1034, 1093, 1496, 1105, 1301,
	  1184, 1405, 2696}},
	{2,
	 20000,
	 1024,
	 666,
	 {1614, 2057, 1250, 1128, 908, 1193, 1163, 1088, 1206, 525, 1027, 1103, 1245,
	  1260, 1577, 1561, 95}},
	{3, 12 << 20, 524288, 0, {475159, 552277, 556470, 598957, 660251, 674880,
				  533822, 649135, 416036, 612280, 207647, 747967,
				  839528, 832541, 809642, 570552, 531875, 649153,
				  533313, 914649, 216778}},
	{0, 300001, 16384, 0, {65536, 65536, 65536, 65536, 37857}},
	{4, 2049, 1024, 0, {1267, 782}},
	{5, 255, 1024, 0, {255}},
	{5, 256, 1024, 0, {256}},
	{5, 257, 1024, 0, {257}},
	{5, 1025, 1024, 0, {1025}},
};

static uint8_t *vector_bytes(const struct vector *v)
{
	return v->noise ? noise_of(v->noise, v->len) : alloc_array(v->len, 1);
}

static void test_cuts_are_the_published_ones(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		const struct vector *v = &vectors[i];
		_cleanup_free_ uint8_t *data = vector_bytes(v);
		struct chunker chunker;
		size_t at = 0;

		assert_true(chunker_init(&chunker, v->average, v->seed));
		for (size_t k = 0; at < v->len; k++) {
			size_t cut = chunker_cut(&chunker, data + at, v->len - at);

			assert_int_equal(cut, v->cuts[k]);
			at += cut;
		}
	}
}

/* Whatever is read at once, the chunks are the same, and together they are the file. */
static void test_cuts_do_not_depend_on_how_a_file_is_read(void **state)
{
	static const size_t budgets[] = {0, 1, 4096, 100000, 1 << 20};
	const struct scratch *scratch = *state;

	for (size_t i = 0; i < ARRAY_SIZE(vectors) * ARRAY_SIZE(budgets); i++) {
		const struct vector *v = &vectors[i / ARRAY_SIZE(budgets)];
		_cleanup_free_ uint8_t *data = vector_bytes(v);
		struct chunk_list list = CHUNK_LIST_INIT;
		struct chunker chunker;
		struct digest digest;
		_cleanup_fd_ int fd = -1;
		int64_t at = 0;

		fd = openat(scratch->fd, ".", O_TMPFILE | O_RDWR, 0600);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, data, v->len), v->len);
		assert_true(chunker_init(&chunker, v->average, v->seed));
		while (at < (int64_t)v->len)
			expect_ok(chunker_read(&chunker, fd, (int64_t)v->len,
					       budgets[i % ARRAY_SIZE(budgets)], &at,
					       &list));
		assert_int_equal(chunk_list_size(&list), v->len);
		for (size_t k = 0; k < list.n; k++) {
			const struct chunk *chunk = &list.items[k];

			assert_int_equal(chunk->digest.size, v->cuts[k]);
			hasher_digest(data + chunk->at, (size_t)chunk->digest.size,
				      &digest);
			assert_true(digest_equal(&digest, &chunk->digest));
		}
		chunk_list_deinit(&list);
	}
}

static void test_a_file_that_became_shorter_is_said(void **state)
{
	const struct scratch *scratch = *state;
	struct chunk_list list = CHUNK_LIST_INIT;
	struct chunker chunker;
	_cleanup_fd_ int fd = -1;
	int64_t at = 0;

	fd = openat(scratch->fd, ".", O_TMPFILE | O_RDWR, 0600);
	assert_int_equal(write(fd, "four", 4), 4);
	assert_true(chunker_init(&chunker, 1024, 0));
	expect_error(chunker_read(&chunker, fd, 5, 0, &at, &list),
		     ERROR_FAILED_PRECONDITION, "shorter");
	assert_int_equal(list.n, 0);
	chunk_list_deinit(&list);
}

static void test_averages_out_of_range_are_refused(void **state)
{
	static const uint64_t bad[] = {0,      1,        512,        1000,
				       524287, 16 << 20, UINT64_MAX, (uint64_t)1 << 63};
	struct chunker chunker;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(chunker_init(&chunker, bad[i], 0));
	assert_true(chunker_init(&chunker, 512 << 10, 0));
	assert_int_equal(chunker.min, 128 << 10);
	assert_int_equal(chunker.max, 2 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuts_are_the_published_ones),
		cmocka_unit_test_setup_teardown(
			test_cuts_do_not_depend_on_how_a_file_is_read, scratch_make,
			scratch_drop),
		cmocka_unit_test_setup_teardown(test_a_file_that_became_shorter_is_said,
						scratch_make, scratch_drop),
		cmocka_unit_test(test_averages_out_of_range_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
