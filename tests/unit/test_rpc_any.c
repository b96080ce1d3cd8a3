/*
 * A message of ours as a Struct, which everybody can print, and back.
 */
#include "tests/unit/rpc_fixture.h"

#include "lib/base/wire.h"
#include "lib/rpc/any.h"

struct sample {
	Lazyroot__ReadReport report;
	Lazyroot__ReadReport__Input input;
	Lazyroot__ReadReport__SlowFile slow[2];
	Lazyroot__ReadReport__SlowFile *slowest[2];
	const char *notes[3];
};

static void sample_fill(struct sample *sample)
{
	lazyroot__read_report__init(&sample->report);
	lazyroot__read_report__input__init(&sample->input);
	sample->input.known = 1;
	sample->input.files = 1LL << 52;
	sample->input.directories = -7;
	sample->report.input = &sample->input;
	for (size_t i = 0; i < 2; i++) {
		lazyroot__read_report__slow_file__init(&sample->slow[i]);
		sample->slow[i].path = i ? "b" : "a\xff";
		sample->slow[i].bytes = (int64_t)i + 5;
		sample->slowest[i] = &sample->slow[i];
	}
	sample->report.slowest = sample->slowest;
	sample->report.n_slowest = 2;
	sample->notes[0] = "one";
	sample->notes[1] = "";
	sample->notes[2] = "caf\303\251";
	sample->report.notes = sample->notes;
	sample->report.n_notes = 3;
}

static const Lazyroot__ReadReport *read_back(const Pb__Any *any, struct arena *arena)
{
	return (const Lazyroot__ReadReport *)rpc_any_message(
		any, &lazyroot__read_report__descriptor, arena);
}

static void test_any_of_a_report_is_that_report(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(1 << 20);
	const Lazyroot__ReadReport *got;
	struct sample sample;
	Pb__Any *any;

	(void)state;
	sample_fill(&sample);
	any = rpc_any_of(&sample.report.base, &arena);
	assert_string_equal(any->type_url, "type.googleapis.com/google.protobuf.Struct");
	got = read_back(any, &arena);
	assert_non_null(got);
	assert_true(got->input->known);
	assert_int_equal(got->input->files, 1LL << 52);
	assert_int_equal(got->input->directories, -7);
	assert_int_equal(got->input->bytes, 0);
	assert_null(got->times);
	assert_int_equal(got->n_slowest, 2);
	assert_string_equal(got->slowest[0]->path, "a\\xff"); /* no string otherwise */
	assert_int_equal(got->slowest[1]->bytes, 6);
	assert_int_equal(got->n_notes, 3);
	assert_string_equal(got->notes[1], "");
	assert_string_equal(got->notes[2], "caf\303\251");
}

/* As workers of former versions sent it. */
static void test_any_of_old_is_read(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(1 << 20);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	Pb__Any any = PB__ANY__INIT;
	struct sample sample;

	(void)state;
	sample_fill(&sample);
	rpc_encode(&sample.report.base, &bytes);
	any.type_url = "type.googleapis.com/lazyroot.v1.ReadReport";
	any.value.data = bytes.data;
	any.value.len = bytes.len;
	assert_int_equal(read_back(&any, &arena)->input->directories, -7);
	any.type_url = "type.googleapis.com/other.Message";
	assert_null(read_back(&any, &arena));
	any.type_url = "nothing";
	assert_null(read_back(&any, &arena));
}

/* Structs of others, and bytes that are none: never more than nothing. */
static void test_any_of_others_is_not_ours(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(64 << 20);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct sample sample;
	Pb__Any *any;

	(void)state;
	sample_fill(&sample);
	any = rpc_any_of(&sample.report.base, &arena);
	buf_add(&bytes, any->value.data, any->value.len);
	any->value.data = bytes.data;
	for (size_t len = 0; len < bytes.len; len++) {
		any->value.len = len;
		(void)read_back(any, &arena);
	}
	any->value.len = bytes.len;
	for (size_t at = 0; at < bytes.len; at++)
		for (size_t bit = 0; bit < 8; bit++) {
			bytes.data[at] ^= (uint8_t)(1u << bit);
			(void)read_back(any, &arena);
			bytes.data[at] ^= (uint8_t)(1u << bit);
		}
	assert_non_null(read_back(any, &arena));
	bytes.data[5] = 'L'; /* another name */
	assert_null(read_back(any, &arena));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_of_a_report_is_that_report),
		cmocka_unit_test(test_any_of_old_is_read),
		cmocka_unit_test(test_any_of_others_is_not_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
