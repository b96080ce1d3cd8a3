/* worker/action/foresee_queue: whose turn it is, and what is refused where too much
 * waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base/alloc.h"
#include "lib/base/buf.h"
#include "worker/action/foresee_queue.h"

struct one { /* a job */
	struct foresee_queue queue;
	const char *name;
};

static void one_init(struct one *one, const char *name)
{
	foresee_queue_init(&one->queue);
	one->name = name;
}

static void one_deinit(struct one *one)
{
	for (struct foresee_note *note; (note = foresee_queue_pop(&one->queue));)
		free(note);
}

static bool tell(struct foresee_desk *desk, struct one *one, enum foresee_worth worth,
		 size_t bytes)
{
	struct foresee_note *note = alloc_new(struct foresee_note);

	*note = (struct foresee_note){.worth = worth, .bytes = bytes};
	list_init(&note->link);
	if (foresee_queue_push(desk, &one->queue, note))
		return true;
	free(note);
	return false;
}

/* A turn of one note each; the names of those that had one, until nothing is left. */
static char *turns(struct foresee_desk *desk, size_t n_rounds)
{
	struct buf said = BUF_INIT;

	while (n_rounds--) {
		struct list row = LIST_INIT(row);
		struct foresee_queue *queue;

		foresee_desk_round(desk, &row);
		while ((queue = foresee_desk_next(&row))) {
			buf_printf(&said, "%s",
				   container_of(queue, struct one, queue)->name);
			free(foresee_queue_pop(queue));
			foresee_desk_again(desk, queue, false);
		}
		buf_printf(&said, " ");
	}
	return buf_steal_string(&said);
}

static void test_foresee_queue_gives_turns(void **state)
{
	_cleanup_(one_deinit) struct one bad;
	_cleanup_(one_deinit) struct one good;
	_cleanup_free_ char *first = NULL;
	_cleanup_free_ char *then = NULL;
	struct foresee_desk desk;

	(void)state;
	foresee_desk_init(&desk);
	one_init(&bad, "B");
	one_init(&good, "g");
	for (size_t i = 0; i < 1000; i++)
		assert_true(tell(&desk, &bad, FORESEE_MISSED, 100));
	assert_true(tell(&desk, &good, FORESEE_KEPT, 100));
	assert_true(tell(&desk, &good, FORESEE_MISSED, 100));
	first = turns(&desk, 3);
	assert_string_equal(first, "Bg Bg B ");
	/* who comes late has a turn in the next round */
	assert_true(tell(&desk, &good, FORESEE_MISSED, 100));
	then = turns(&desk, 2);
	assert_string_equal(then, "Bg B ");
	assert_false(list_is_empty(&bad.queue.notes));
}

/* One that has more to think stands in the row without a note. */
static void test_foresee_queue_has_them_again(void **state)
{
	struct list row = LIST_INIT(row);
	struct foresee_desk desk;
	struct one one;

	(void)state;
	foresee_desk_init(&desk);
	one_init(&one, "1");
	foresee_desk_again(&desk, &one.queue, true);
	foresee_desk_again(&desk, &one.queue, true);
	foresee_desk_round(&desk, &row);
	assert_ptr_equal(foresee_desk_next(&row), &one.queue);
	assert_null(foresee_desk_next(&row));
	assert_null(foresee_queue_pop(&one.queue));
	foresee_desk_again(&desk, &one.queue, false);
	assert_true(list_is_empty(&desk.row));
}

static void test_foresee_queue_refuses_what_is_worth_least(void **state)
{
	enum { BYTES = 4096, MOST = FORESEE_QUEUE_MAX / BYTES };
	_cleanup_(one_deinit) struct one one;
	struct foresee_desk desk;
	size_t n_had = 0;
	size_t n_missed = 0;

	(void)state;
	foresee_desk_init(&desk);
	one_init(&one, "1");
	assert_true(tell(&desk, &one, FORESEE_KEPT, BYTES));
	for (size_t i = 0; i < 2 * MOST; i++)
		n_had += tell(&desk, &one, FORESEE_HAD, BYTES);
	assert_int_equal(n_had, MOST / 2);
	for (size_t i = 0; i < 2 * MOST; i++)
		n_missed += tell(&desk, &one, FORESEE_MISSED, BYTES);
	assert_int_equal(n_missed, MOST / 2);
	assert_int_equal(one.queue.n_refused, 3 * MOST);
	/* an end, and what was asked for, are told in any case */
	for (size_t i = 0; i < MOST; i++)
		assert_true(tell(&desk, &one, FORESEE_KEPT, BYTES));
	/* and there is room again once it was heard */
	for (size_t i = 0; i < 1 + MOST; i++)
		free(foresee_queue_pop(&one.queue));
	assert_true(tell(&desk, &one, FORESEE_HAD, BYTES));
	assert_int_equal(one.queue.n_refused, 3 * MOST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_foresee_queue_gives_turns),
		cmocka_unit_test(test_foresee_queue_has_them_again),
		cmocka_unit_test(test_foresee_queue_refuses_what_is_worth_least),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
