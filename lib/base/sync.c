/* Owns, in builds that check the order of locks, which of them each thread holds. */
#include "lib/base/sync.h"

#include "lib/base/cleanup.h"
#include "lib/base/clock.h"

/* The analysis looks at callers; these two are what it believes. */
#ifdef LAZYROOT_CHECK_LOCKS
#define SYNC_UNCHECKED __attribute__((no_thread_safety_analysis))
#else
#define SYNC_UNCHECKED
#endif

/* The order of locks */

#ifdef LAZYROOT_CHECK_ORDER
#define SYNC_HELD_MAX 8 /* ranks, and a leaf */

static _Thread_local const struct sync_mutex *sync_held_now[SYNC_HELD_MAX];
static _Thread_local size_t sync_n_held;

/* Before it is waited for: what would wait for ever is the mistake that is looked for. */
static void sync_check_order(const struct sync_mutex *mutex)
{
	for (size_t i = 0; i < sync_n_held; i++) {
		const struct sync_mutex *held = sync_held_now[i];
		bool is_before = held->rank != SYNC_LEAF &&
				 (mutex->rank == SYNC_LEAF || mutex->rank > held->rank);

		require(is_before); /* locks are taken in the order of docs/design.md */
	}
	require(sync_n_held < SYNC_HELD_MAX);
	sync_held_now[sync_n_held++] = mutex;
}

static void sync_forget(const struct sync_mutex *mutex)
{
	size_t i = sync_n_held;

	do
		require(i > 0); /* this thread holds it */
	while (sync_held_now[--i] != mutex);
	sync_held_now[i] = sync_held_now[--sync_n_held];
}
#else
static void sync_check_order(const struct sync_mutex *mutex)
{
	(void)mutex;
}

static void sync_forget(const struct sync_mutex *mutex)
{
	(void)mutex;
}
#endif

void sync_mutex_init(struct sync_mutex *mutex)
{
	mutex->rank = SYNC_LEAF;
	require(pthread_mutex_init(&mutex->core, NULL) == 0);
}

void sync_mutex_rank(struct sync_mutex *mutex, int rank)
{
	mutex->rank = rank;
}

void sync_mutex_deinit(struct sync_mutex *mutex)
{
	(void)pthread_mutex_destroy(&mutex->core);
}

SYNC_UNCHECKED void sync_lock(struct sync_mutex *mutex)
{
	sync_check_order(mutex);
	(void)pthread_mutex_lock(&mutex->core);
}

SYNC_UNCHECKED void sync_unlock(struct sync_mutex *mutex)
{
	sync_forget(mutex);
	(void)pthread_mutex_unlock(&mutex->core);
}

void sync_cond_init(struct sync_cond *cond)
{
	pthread_condattr_t attr;

	require(pthread_condattr_init(&attr) == 0);
	require(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	require(pthread_cond_init(&cond->core, &attr) == 0);
	(void)pthread_condattr_destroy(&attr);
}

void sync_cond_deinit(struct sync_cond *cond)
{
	(void)pthread_cond_destroy(&cond->core);
}

void sync_signal(struct sync_cond *cond)
{
	(void)pthread_cond_signal(&cond->core);
}

void sync_broadcast(struct sync_cond *cond)
{
	(void)pthread_cond_broadcast(&cond->core);
}

void sync_wait(struct sync_cond *cond, struct sync_mutex *mutex)
{
	(void)pthread_cond_wait(&cond->core, &mutex->core);
}

bool sync_wait_until(struct sync_cond *cond, struct sync_mutex *mutex, int64_t mono_ns)
{
	struct timespec until = {.tv_sec = mono_ns / NS_PER_S,
				 .tv_nsec = mono_ns % NS_PER_S};

	if (mono_ns == CLOCK_NEVER) {
		sync_wait(cond, mutex);
		return true;
	}
	return pthread_cond_timedwait(&cond->core, &mutex->core, &until) == 0;
}

void sync_once(struct sync_once *once, void (*fn)(void))
{
	require(pthread_once(&once->core, fn) == 0);
}
