/* lib/base/wire: what it reads is what it wrote, and it never reads past its bytes. */
#include "lib/base/wire.h"
#include "tests/unit/cas_fixture.h"

/* Lengths and numbers that go on past the last byte, and what is no field. */
static void test_wire_ends_with_its_bytes(void **state)
{
	static const struct {
		uint8_t bytes[8];
		size_t len;
	} bad[] = {
		{{0x0a, 3, 'a', 'b'}, 4},                       /* a byte is missing */
		{{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 'a'}, 7}, /* four gigabytes are */
		{{0x08, 0x80}, 2},                              /* half a number */
		{{0x0d, 1, 2, 3}, 4},                           /* three bytes of four */
		{{0x02, 1, 'a'}, 3},                            /* field 0 */
		{{0x0b, 0x0c}, 2},                              /* a group */
	};
	static const uint8_t good[] = {0x0a, 2, 'a', 'b', 0x10, 0x05};
	struct wire_field field;
	struct wire wire = wire_of((struct slice){good, sizeof(good)});

	(void)state;
	assert_true(wire_next(&wire, &field));
	assert_int_equal(field.bytes.len, 2);
	assert_true(wire_next(&wire, &field));
	assert_int_equal(field.value, 5);
	assert_false(wire_next(&wire, &field));
	assert_false(wire.is_bad);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		wire = wire_of((struct slice){bad[i].bytes, bad[i].len});
		assert_false(wire_next(&wire, &field));
		assert_true(wire.is_bad);
	}
}

static void test_wire_reads_what_it_writes(void **state)
{
	_cleanup_buf_ struct buf buf = BUF_INIT;
	struct wire_field field;
	struct wire wire;

	(void)state;
	wire_put_int(&buf, 1, 300);
	wire_put_int(&buf, 2, 0);
	wire_put_bytes(&buf, 15, slice_of("bytes"));
	wire_put_int(&buf, 16, UINT64_MAX);
	wire = wire_of(buf_slice(&buf));
	assert_true(wire_next(&wire, &field));
	assert_int_equal(field.number, 1);
	assert_int_equal(field.value, 300);
	assert_true(wire_next(&wire, &field));
	assert_int_equal(field.number, 15);
	assert_true(slice_is(field.bytes, "bytes"));
	assert_true(wire_next(&wire, &field));
	assert_true(field.value == UINT64_MAX);
	assert_false(wire_next(&wire, &field));
	assert_false(wire.is_bad);
}

static void test_wire_never_reads_past_its_end(void **state)
{
	static const uint8_t bad[][6] = {
		{0x0a, 0x05, 'x'},                    /* five bytes said, one there */
		{0x08, 0xff, 0xff, 0xff, 0xff, 0xff}, /* a number without end */
		{0x09, 1, 2},                         /* fixed64 cut short */
		{0x0b},                               /* a group */
		{0x00, 0x01},                         /* field number 0 */
		{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}, /* 4 GiB */
	};
	static const size_t lens[] = {3, 6, 3, 1, 2, 6};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		/* on the heap and exact, so that a sanitizer sees a byte too far */
		_cleanup_free_ uint8_t *copy = alloc_memdup(bad[i], lens[i]);
		struct wire wire = wire_of((struct slice){copy, lens[i]});
		struct wire_field field;

		while (wire_next(&wire, &field))
			;
		assert_true(wire.is_bad);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wire_ends_with_its_bytes),
		cmocka_unit_test(test_wire_reads_what_it_writes),
		cmocka_unit_test(test_wire_never_reads_past_its_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
