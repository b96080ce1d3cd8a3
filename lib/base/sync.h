/*
 * Mutexes and conditions whose rules the compiler checks: what a mutex guards, what a
 * function needs held, takes, gives back or must not find held is said in attributes, and
 * tools/check-locks compiles the product's code with clang's thread safety analysis
 * (Clang documentation, "Thread Safety Analysis"). For other compilers they are nothing.
 *
 * All times are of CLOCK_MONOTONIC. Nothing here fails: what pthreads could refuse would
 * be a mistake of ours.
 *
 * The order of locks stands in docs/design.md, "Locks".
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef LAZYROOT_CHECK_LOCKS
#define SYNC_ATTRIBUTE(x) __attribute__((x))
#else
#define SYNC_ATTRIBUTE(x)
#endif

/* Of a field: only to be touched with the mutex (its address) held; of a pointer, what it
 * points to. */
#define SYNC_GUARDED_BY(mutex)    SYNC_ATTRIBUTE(guarded_by(mutex))
#define SYNC_PT_GUARDED_BY(mutex) SYNC_ATTRIBUTE(pt_guarded_by(mutex))
/* Of a function: the caller holds it, before and after. */
#define SYNC_REQUIRES(...) SYNC_ATTRIBUTE(requires_capability(__VA_ARGS__))
/* The caller does not hold it: the function takes it for a while. */
#define SYNC_EXCLUDES(...) SYNC_ATTRIBUTE(locks_excluded(__VA_ARGS__))
/* It returns with the mutex held, or given back. */
#define SYNC_ACQUIRES(...) SYNC_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define SYNC_RELEASES(...) SYNC_ATTRIBUTE(release_capability(__VA_ARGS__))

struct SYNC_ATTRIBUTE(capability("mutex")) sync_mutex {
	pthread_mutex_t core;
	int rank; /* SYNC_LEAF, or sync_mutex_rank()'s */
};
#define SYNC_LEAF       0
#define SYNC_MUTEX_INIT ((struct sync_mutex){.core = PTHREAD_MUTEX_INITIALIZER})

void sync_mutex_init(struct sync_mutex *mutex); /* a leaf */
/* Its place in the order, before its first use: with it held, a thread takes only mutexes
 * of a higher rank, and leaves; with a leaf held, none. Builds with sanitizers end the
 * process where it is not so (LAZYROOT_CHECK_ORDER). */
void sync_mutex_rank(struct sync_mutex *mutex, int rank);
void sync_mutex_deinit(struct sync_mutex *mutex);
void sync_lock(struct sync_mutex *mutex) SYNC_ACQUIRES(mutex);
void sync_unlock(struct sync_mutex *mutex) SYNC_RELEASES(mutex);

/* For the analysis only, where it cannot see what is so. The mutex is held: in a callback
 * whose caller took it. */
static inline void sync_held(const struct sync_mutex *mutex)
	SYNC_ATTRIBUTE(assert_capability(mutex));
static inline void sync_held(const struct sync_mutex *mutex)
{
	(void)mutex;
}

/* Nobody else knows what the mutex guards, not yet or not any more: in what makes and
 * frees it. */
static inline void sync_alone(const struct sync_mutex *mutex)
	SYNC_ATTRIBUTE(assert_capability(mutex));
static inline void sync_alone(const struct sync_mutex *mutex)
{
	(void)mutex;
}

struct sync_cond {
	pthread_cond_t core;
};

void sync_cond_init(struct sync_cond *cond);
void sync_cond_deinit(struct sync_cond *cond);
void sync_signal(struct sync_cond *cond);
void sync_broadcast(struct sync_cond *cond);
/* May return for no reason, as pthread_cond_wait() may: the caller asks again. */
void sync_wait(struct sync_cond *cond, struct sync_mutex *mutex) SYNC_REQUIRES(mutex);
/* CLOCK_NEVER: as sync_wait(). False: that time has come. */
bool sync_wait_until(struct sync_cond *cond, struct sync_mutex *mutex, int64_t mono_ns)
	SYNC_REQUIRES(mutex);

/* Has fn run once in this process, and returns after it has. */
struct sync_once {
	pthread_once_t core;
};
#define SYNC_ONCE_INIT                                                                   \
	{                                                                                \
		.core = PTHREAD_ONCE_INIT                                                \
	}
void sync_once(struct sync_once *once, void (*fn)(void));
