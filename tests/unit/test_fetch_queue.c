/*
 * What the fetcher asks for next, decision by decision: the queue knows no clock, no lock
 * and no network.
 */
#include "tests/unit/net_fixture.h"

#include "lib/base/clock.h"
#include "lib/cas/fetch_queue.h"

enum { MAX = 1000, NOW = 5000000 }; /* of a batch, in bytes; a moment, in ns */

static struct fetch_item *add(struct fetch_queue *queue, struct fetch_item *item,
			      enum fetch_priority priority, int64_t size)
{
	*item = (struct fetch_item){.priority = priority, .size = size};
	list_init(&item->link);
	fetch_queue_add(queue, item, MAX, NOW);
	return item;
}

static size_t take_batch(struct fetch_queue *queue, enum fetch_priority priority,
			 struct fetch_item **first_out)
{
	struct fetch_item *items[FETCH_BATCH_BLOBS];
	size_t n = fetch_queue_take_batch(queue, priority, MAX, items);

	*first_out = n ? items[0] : NULL;
	return n;
}

static void test_a_miss_waits_for_company_only_behind_others(void **state)
{
	struct fetch_queue queue;
	struct fetch_item items[2], *first;

	(void)state;
	fetch_queue_init(&queue);
	assert_int_equal(fetch_queue_due(&queue, FETCH_DEMAND), CLOCK_NEVER);
	add(&queue, &items[0], FETCH_DEMAND, 10);
	assert_int_equal(fetch_queue_due(&queue, FETCH_DEMAND), 0);
	assert_int_equal(take_batch(&queue, FETCH_DEMAND, &first), 1);
	assert_ptr_equal(first, &items[0]);
	add(&queue, &items[1], FETCH_DEMAND, 10);
	assert_int_equal(fetch_queue_due(&queue, FETCH_DEMAND), NOW + FETCH_GATHER_NS);
	assert_int_equal(fetch_queue_next_due(&queue), NOW + FETCH_GATHER_NS);
	fetch_queue_landed(&queue, false, FETCH_DEMAND);
	assert_int_equal(fetch_queue_due(&queue, FETCH_DEMAND), 0);
}

static void test_a_batch_holds_what_fits(void **state)
{
	struct fetch_queue queue;
	struct fetch_item items[4], *first;

	(void)state;
	fetch_queue_init(&queue);
	for (size_t i = 0; i < ARRAY_SIZE(items); i++)
		add(&queue, &items[i], FETCH_DEMAND, 100);
	/* each takes 100 bytes and its place in the reply */
	assert_int_equal(take_batch(&queue, FETCH_DEMAND, &first), 2);
	assert_ptr_equal(first, &items[0]);
	assert_int_equal(take_batch(&queue, FETCH_DEMAND, &first), 2);
	assert_ptr_equal(first, &items[2]);
	assert_int_equal(take_batch(&queue, FETCH_DEMAND, &first), 0);
}

static void test_a_demand_goes_before_a_prefetch(void **state)
{
	struct fetch_queue queue;
	struct fetch_item wanted, ahead, *first;

	(void)state;
	fetch_queue_init(&queue);
	add(&queue, &ahead, FETCH_PREFETCH, 10);
	add(&queue, &wanted, FETCH_DEMAND, 10);
	/* the demand may still wait for company: its place is not taken */
	assert_int_equal(fetch_queue_due(&queue, FETCH_PREFETCH), CLOCK_NEVER);
	assert_int_equal(take_batch(&queue, FETCH_DEMAND, &first), 1);
	assert_ptr_equal(first, &wanted);
	assert_int_equal(fetch_queue_due(&queue, FETCH_PREFETCH), NOW + FETCH_GATHER_NS);
}

static void test_a_demand_raises_what_was_to_be_at_hand(void **state)
{
	struct fetch_queue queue;
	struct fetch_item small, large, *first;

	(void)state;
	fetch_queue_init(&queue);
	add(&queue, &small, FETCH_PREFETCH, 10);
	add(&queue, &large, FETCH_PREFETCH, MAX + 1);
	fetch_queue_raise(&queue, &small, MAX, NOW + 1);
	fetch_queue_raise(&queue, &large, MAX, NOW + 1);
	assert_int_equal(take_batch(&queue, FETCH_DEMAND, &first), 1);
	assert_ptr_equal(first, &small);
	assert_ptr_equal(fetch_queue_take_large(&queue), &large);
	assert_int_equal(large.sent_as, FETCH_DEMAND);
	/* what is in flight already stays what it was sent as */
	fetch_queue_landed(&queue, true, large.sent_as);
	assert_null(fetch_queue_take_large(&queue));
}

static void test_one_stream_is_kept_for_demand(void **state)
{
	struct fetch_queue queue;
	struct fetch_item ahead[FETCH_STREAMS_MAX], wanted[2];

	(void)state;
	fetch_queue_init(&queue);
	for (size_t i = 0; i < FETCH_STREAMS_MAX; i++)
		add(&queue, &ahead[i], FETCH_PREFETCH, MAX + 1);
	for (size_t i = 0; i + 1 < FETCH_STREAMS_MAX; i++)
		assert_ptr_equal(fetch_queue_take_large(&queue), &ahead[i]);
	assert_null(fetch_queue_take_large(&queue));
	add(&queue, &wanted[0], FETCH_DEMAND, MAX + 1);
	add(&queue, &wanted[1], FETCH_DEMAND, MAX + 1);
	assert_ptr_equal(fetch_queue_take_large(&queue), &wanted[0]);
	assert_null(fetch_queue_take_large(&queue));
	fetch_queue_landed(&queue, true, FETCH_PREFETCH);
	assert_ptr_equal(fetch_queue_take_large(&queue), &wanted[1]);
}

static void test_so_many_calls_at_once(void **state)
{
	struct fetch_queue queue;
	struct fetch_item items[FETCH_IN_FLIGHT_MAX + 1], *first;

	(void)state;
	fetch_queue_init(&queue);
	for (size_t i = 0; i < FETCH_IN_FLIGHT_MAX; i++) {
		add(&queue, &items[i], FETCH_DEMAND, 10);
		assert_int_equal(take_batch(&queue, FETCH_DEMAND, &first), 1);
	}
	add(&queue, &items[FETCH_IN_FLIGHT_MAX], FETCH_DEMAND, 10);
	assert_int_equal(fetch_queue_due(&queue, FETCH_DEMAND), CLOCK_NEVER);
	fetch_queue_landed(&queue, false, FETCH_DEMAND);
	assert_int_equal(fetch_queue_due(&queue, FETCH_DEMAND), NOW + FETCH_GATHER_NS);
}

static void test_a_retry_waits_for_its_time(void **state)
{
	struct fetch_queue queue;
	struct list dropped = LIST_INIT(dropped);
	struct fetch_item item, other, *first;

	(void)state;
	fetch_queue_init(&queue);
	add(&queue, &item, FETCH_DEMAND, 10);
	assert_int_equal(take_batch(&queue, FETCH_DEMAND, &first), 1);
	fetch_queue_landed(&queue, false, FETCH_DEMAND);
	fetch_queue_put_off(&queue, &item, NOW + 100);
	assert_int_equal(fetch_queue_next_due(&queue), NOW + 100);
	fetch_queue_wake(&queue, MAX, NOW + 99);
	assert_int_equal(take_batch(&queue, FETCH_DEMAND, &first), 0);
	fetch_queue_wake(&queue, MAX, NOW + 100);
	assert_int_equal(take_batch(&queue, FETCH_DEMAND, &first), 1);
	add(&queue, &other, FETCH_DEMAND, 10);
	fetch_queue_put_off(&queue, &item, NOW + 200);
	fetch_queue_drop_retries(&queue, &dropped);
	assert_ptr_equal(list_pop(&dropped), &item.link);
	assert_null(list_pop(&dropped));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_miss_waits_for_company_only_behind_others),
		cmocka_unit_test(test_a_batch_holds_what_fits),
		cmocka_unit_test(test_a_demand_goes_before_a_prefetch),
		cmocka_unit_test(test_a_demand_raises_what_was_to_be_at_hand),
		cmocka_unit_test(test_one_stream_is_kept_for_demand),
		cmocka_unit_test(test_so_many_calls_at_once),
		cmocka_unit_test(test_a_retry_waits_for_its_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
