/* Threads of libraries: a signal to the process is never theirs. */
#include "tests/unit/cas_fixture.h"

#include <signal.h>

#include "lib/base/latch.h"
#include "lib/base/thread.h"
#include "tests/unit/threads_fixture.h"

struct thread_seen {
	struct latch started; /* a thread gets its name just after its start */
	char name[16];
	bool takes_term;
};

static void *thread_look(void *arg)
{
	struct thread_seen *seen = arg;
	sigset_t mask;

	latch_wait(&seen->started);
	(void)pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
	(void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
	seen->takes_term = !sigismember(&mask, SIGTERM);
	return NULL;
}

static void test_thread_has_a_name_and_leaves_signals_to_others(void **state)
{
	struct thread_seen seen = {.takes_term = true};
	pthread_t thread;
	sigset_t mask;

	(void)state;
	latch_init(&seen.started, 1);
	assert_null(thread_start("a-name-of-more-bytes", thread_look, &seen, &thread));
	latch_down(&seen.started);
	assert_int_equal(pthread_join(thread, NULL), 0);
	latch_deinit(&seen.started);
	assert_string_equal(seen.name, "a-name-of-more-");
	assert_false(seen.takes_term);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_false(sigismember(&mask, SIGTERM)); /* who started it keeps its own */
}

static void test_thread_that_the_system_denies_is_an_error(void **state)
{
	_cleanup_error_ struct error *err = NULL;
	pthread_t thread;

	(void)state;
	threads_deny();
	err = thread_start("denied", thread_look, NULL, &thread);
	threads_allow();
	assert_int_equal(error_code(err), ERROR_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(error_text(err), "start the thread denied (limits: "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thread_has_a_name_and_leaves_signals_to_others),
		cmocka_unit_test(test_thread_that_the_system_denies_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
