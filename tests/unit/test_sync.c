/*
 * The order of locks, which builds with sanitizers check: a thread that takes them in
 * another ends its process, at once and not only where two threads meet.
 */
#include "tests/unit/cas_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/sync.h"

struct locks {
	struct sync_mutex low, high, leaf, other_leaf;
	struct sync_cond cond;
};

static void locks_init(struct locks *locks)
{
	sync_mutex_init(&locks->low);
	sync_mutex_rank(&locks->low, 1);
	sync_mutex_init(&locks->high);
	sync_mutex_rank(&locks->high, 7);
	sync_mutex_init(&locks->leaf);
	sync_mutex_init(&locks->other_leaf);
	sync_cond_init(&locks->cond);
}

static void locks_deinit(struct locks *locks)
{
	sync_mutex_deinit(&locks->low);
	sync_mutex_deinit(&locks->high);
	sync_mutex_deinit(&locks->leaf);
	sync_mutex_deinit(&locks->other_leaf);
	sync_cond_deinit(&locks->cond);
}

static void test_sync_right_order_is_taken(void **state)
{
	struct locks locks;

	(void)state;
	locks_init(&locks);
	for (int i = 0; i < 20; i++) { /* what was given back is not held */
		sync_lock(&locks.low);
		sync_lock(&locks.high);
		sync_lock(&locks.leaf);
		sync_unlock(&locks.low); /* in any order */
		sync_unlock(&locks.leaf);
		sync_unlock(&locks.high);
		sync_lock(&locks.low);
		sync_lock(&locks.leaf);
		(void)sync_wait_until(&locks.cond, &locks.leaf, 1);
		sync_unlock(&locks.leaf);
		sync_unlock(&locks.low);
	}
	locks_deinit(&locks);
}

#ifdef LAZYROOT_CHECK_ORDER
/* Whether a process that takes one, then the other, ends by its own hand. */
static bool dies(struct sync_mutex *one, struct sync_mutex *other)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)signal(SIGABRT, SIG_DFL);
		sync_lock(one);
		sync_lock(other);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void test_sync_wrong_order_ends_the_process(void **state)
{
	struct locks locks;

	(void)state;
	locks_init(&locks);
	assert_false(dies(&locks.low, &locks.high));
	assert_false(dies(&locks.high, &locks.leaf));
	assert_true(dies(&locks.high, &locks.low));
	assert_true(dies(&locks.leaf, &locks.high));
	assert_true(dies(&locks.leaf, &locks.other_leaf));
	assert_true(dies(&locks.low, &locks.low)); /* nor two of one rank */
	locks_deinit(&locks);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sync_right_order_is_taken),
#ifdef LAZYROOT_CHECK_ORDER
		cmocka_unit_test(test_sync_wrong_order_ends_the_process),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
