/* Threads of libraries: a signal to the process is never theirs. */
#include "tests/unit/cas_fixture.h"

#include <signal.h>

#include "lib/base/thread.h"

struct thread_seen {
	char name[16];
	bool takes_term;
};

static void *thread_look(void *arg)
{
	struct thread_seen *seen = arg;
	sigset_t mask;

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
	assert_null(thread_start("a-name-of-more-bytes", thread_look, &seen, &thread));
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_string_equal(seen.name, "a-name-of-more-");
	assert_false(seen.takes_term);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
	assert_false(sigismember(&mask, SIGTERM)); /* who started it keeps its own */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thread_has_a_name_and_leaves_signals_to_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
