/* How far and how wide the way is, call by call: pure arithmetic. */
#include "tests/unit/net_fixture.h"

#include "lib/base/clock.h"
#include "lib/cas/fetch_pace.h"

enum { MS = 1000000 };

/* One call of bytes that takes so long; it begins at *now_ns, and the next after it. */
static void call(struct fetch_pace *pace, int64_t bytes, int64_t took_ns, int64_t *now_ns)
{
	struct fetch_pace_mark mark = fetch_pace_sent(pace, *now_ns);

	*now_ns += took_ns;
	fetch_pace_landed(pace, &mark, bytes, *now_ns);
}

static void test_the_round_trip_is_the_least(void **state)
{
	struct fetch_pace pace = {0};
	int64_t now = 1;

	(void)state;
	call(&pace, 100, 30 * MS, &now);
	assert_int_equal(pace.rtt_ns, 30 * MS);
	call(&pace, 100, 10 * MS, &now);
	assert_int_equal(pace.rtt_ns, 10 * MS);
	call(&pace, 100, 40 * MS, &now); /* one slow call moves it a little … */
	assert_true(pace.rtt_ns > 10 * MS && pace.rtt_ns < 11 * MS);
	for (int i = 0; i < 1000; i++) /* … many are the truth */
		call(&pace, 100, 40 * MS, &now);
	assert_true(pace.rtt_ns > 39 * MS);
}

static void test_calls_side_by_side_show_the_width(void **state)
{
	struct fetch_pace pace = {0};
	struct fetch_pace_mark marks[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		marks[i] = fetch_pace_sent(&pace, 0);
	for (int i = 0; i < 4; i++) /* a mebibyte each, all within ten milliseconds */
		fetch_pace_landed(&pace, &marks[i], 1 << 20, 10 * MS);
	assert_int_equal(pace.rate, (4 << 20) * INT64_C(100));
	assert_int_equal(fetch_pace_window(&pace), 4 << 20);
}

static void test_the_window_has_bounds(void **state)
{
	struct fetch_pace pace = {0};
	int64_t now = 1;

	(void)state;
	assert_int_equal(fetch_pace_window(&pace), 1 << 20); /* nothing is known */
	call(&pace, 1, 1, &now);
	assert_int_equal(fetch_pace_window(&pace), FETCH_PACE_WINDOW_MIN);
	call(&pace, INT64_C(1) << 40, 1, &now); /* no clock is as fine as that */
	assert_int_equal(pace.rate, INT64_C(1000000000000));
	pace.rtt_ns = INT64_C(1000) * 1000 * MS;
	assert_int_equal(fetch_pace_window(&pace), FETCH_PACE_WINDOW_MAX);
}

static void test_a_way_that_narrows_is_seen(void **state)
{
	struct fetch_pace pace = {0};
	int64_t now = 1;
	int64_t before;

	(void)state;
	call(&pace, 10 << 20, 10 * MS, &now);
	before = pace.rate;
	for (int i = 0; i < 500; i++)
		call(&pace, 1 << 20, 10 * MS, &now);
	assert_true(pace.rate < before / 5);
	before = pace.rate;
	for (int i = 0; i < 500; i++) /* small answers are no sign of it */
		call(&pace, 100, 10 * MS, &now);
	assert_int_equal(pace.rate, before);
}

static void test_little_says_nothing_of_the_width(void **state)
{
	struct fetch_pace pace = {0};
	int64_t now = 1;

	(void)state;
	call(&pace, 300, 60 * MS, &now);
	assert_int_equal(pace.rate, 0);
	assert_int_equal(fetch_pace_rate(&pace), 125000000);
	assert_int_equal(fetch_pace_window(&pace), 7500000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_round_trip_is_the_least),
		cmocka_unit_test(test_calls_side_by_side_show_the_width),
		cmocka_unit_test(test_the_window_has_bounds),
		cmocka_unit_test(test_a_way_that_narrows_is_seen),
		cmocka_unit_test(test_little_says_nothing_of_the_width),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
