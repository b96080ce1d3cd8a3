/* What threads_fixture.h declares: no thread has room for the stack that all get. */
#include "tests/unit/threads_fixture.h"

#include <pthread.h>

#include "lib/base/cleanup.h"

#define THREADS_STACK_NORMAL ((size_t)8 << 20)
#define THREADS_STACK_DENIED ((size_t)1 << 47)

static void threads_set_stack(size_t size)
{
	pthread_attr_t attr;

	require(pthread_attr_init(&attr) == 0);
	require(pthread_attr_setstacksize(&attr, size) == 0);
	require(pthread_setattr_default_np(&attr) == 0);
	(void)pthread_attr_destroy(&attr);
}

void threads_deny(void)
{
	threads_set_stack(THREADS_STACK_DENIED);
}

void threads_allow(void)
{
	threads_set_stack(THREADS_STACK_NORMAL);
}
