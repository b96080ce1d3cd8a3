/*
 * A bounded pool of worker threads for disk and hashing. A task is embedded in its owner;
 * the queue is a list and takes no memory, so pushing never fails and never waits: what
 * bounds it is that every producer bounds its own tasks.
 */
#pragma once

#include <stdbool.h>

#include "lib/base/error.h"
#include "lib/base/list.h"

struct pool;

struct pool_task {
	struct list link;
	void (*run)(struct pool_task *task);
};

struct error *pool_new(const char *name, unsigned int n_threads, struct pool **pool_out);
/* The same with threads of a lower priority than the caller's: so much is added to their
 * nice value, which only a privileged process could take back. */
struct error *pool_new_low(const char *name, unsigned int n_threads, int more_nice,
			   struct pool **pool_out);
/* Runs what is queued, then joins the threads. No task may be pushed any more. */
void *pool_free(struct pool *pool);
CLEANUP_DEFINE(struct pool, pool_free)

/* task must stay until its run() has begun; any thread, may hold locks. */
void pool_push(struct pool *pool, struct pool_task *task);

/*
 * Runs fn(ctx, i) for each i below n on the pool's threads and the caller's, and returns
 * when all are done. Not from a task of the same pool.
 */
void pool_for_each(struct pool *pool, size_t n, void (*fn)(void *ctx, size_t i),
		   void *ctx);
