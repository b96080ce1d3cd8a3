/*
 * Owns its threads and the queue. Invariant: a queued task is in exactly one list, and a
 * thread that runs a task holds no lock of ours.
 */
#include "lib/base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "lib/base/alloc.h"
#include "lib/base/latch.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"

struct pool {
	struct sync_mutex mutex;
	struct sync_cond cond;
	struct list queue SYNC_GUARDED_BY(&mutex);
	bool is_stopping SYNC_GUARDED_BY(&mutex);
	unsigned int n_threads;
	int more_nice;
	pthread_t *threads;
};

static void *pool_thread(void *arg)
{
	struct pool *pool = arg;

	/* on Linux, of this thread alone */
	if (pool->more_nice > 0)
		(void)setpriority(PRIO_PROCESS, 0,
				  getpriority(PRIO_PROCESS, 0) + pool->more_nice);
	for (;;) {
		struct list *node;

		sync_lock(&pool->mutex);
		while (!(node = list_pop(&pool->queue)) && !pool->is_stopping)
			sync_wait(&pool->cond, &pool->mutex);
		sync_unlock(&pool->mutex);
		if (!node)
			return NULL;
		struct pool_task *task = container_of(node, struct pool_task, link);

		task->run(task);
	}
}

static struct error *pool_start(struct pool *pool, const char *name)
{
	for (unsigned int i = 0; i < pool->n_threads; i++) {
		struct error *err =
			thread_start(name, pool_thread, pool, &pool->threads[i]);

		if (err) {
			pool->n_threads = i;
			return err;
		}
	}
	return NULL;
}

struct error *pool_new(const char *name, unsigned int n_threads, struct pool **pool_out)
{
	return pool_new_low(name, n_threads, 0, pool_out);
}

struct error *pool_new_low(const char *name, unsigned int n_threads, int more_nice,
			   struct pool **pool_out)
{
	_cleanup_(pool_freep) struct pool *pool = alloc_new(struct pool);
	struct error *err;

	sync_mutex_init(&pool->mutex);
	sync_mutex_rank(&pool->mutex, 7);
	sync_cond_init(&pool->cond);
	sync_alone(&pool->mutex);
	list_init(&pool->queue);
	pool->n_threads = n_threads;
	pool->more_nice = more_nice;
	pool->threads = alloc_array(n_threads, sizeof(pthread_t));
	err = pool_start(pool, name);
	if (err)
		return err;
	*pool_out = take(pool);
	return NULL;
}

void *pool_free(struct pool *pool)
{
	if (!pool)
		return NULL;
	sync_lock(&pool->mutex);
	pool->is_stopping = true;
	sync_broadcast(&pool->cond);
	sync_unlock(&pool->mutex);
	for (unsigned int i = 0; i < pool->n_threads; i++)
		(void)pthread_join(pool->threads[i], NULL);
	sync_cond_deinit(&pool->cond);
	sync_mutex_deinit(&pool->mutex);
	free(pool->threads);
	free(pool);
	return NULL;
}

void pool_push(struct pool *pool, struct pool_task *task)
{
	sync_lock(&pool->mutex);
	list_push(&pool->queue, &task->link);
	sync_signal(&pool->cond);
	sync_unlock(&pool->mutex);
}

struct pool_loop {
	void (*fn)(void *ctx, size_t i);
	void *ctx;
	size_t n;
	atomic_size_t next;
	struct latch helpers;
};

struct pool_helper {
	struct pool_task task;
	struct pool_loop *loop;
};

static void pool_loop_run(struct pool_loop *loop)
{
	size_t i;

	while ((i = atomic_fetch_add(&loop->next, 1)) < loop->n)
		loop->fn(loop->ctx, i);
}

static void pool_helper_run(struct pool_task *task)
{
	struct pool_loop *loop = container_of(task, struct pool_helper, task)->loop;

	pool_loop_run(loop);
	latch_down(&loop->helpers);
}

void pool_for_each(struct pool *pool, size_t n, void (*fn)(void *ctx, size_t i),
		   void *ctx)
{
	struct pool_loop loop = {.fn = fn, .ctx = ctx, .n = n};
	size_t n_others = n ? n - 1 : 0; /* the caller takes one */
	unsigned int n_helpers =
		n_others < pool->n_threads ? (unsigned int)n_others : pool->n_threads;
	_cleanup_free_ struct pool_helper *helpers =
		alloc_array(n_helpers, sizeof(struct pool_helper));

	latch_init(&loop.helpers, n_helpers);
	for (unsigned int i = 0; i < n_helpers; i++) {
		helpers[i] = (struct pool_helper){.task = {.run = pool_helper_run},
						  .loop = &loop};
		pool_push(pool, &helpers[i].task);
	}
	pool_loop_run(&loop);
	latch_wait(&loop.helpers);
	latch_deinit(&loop.helpers);
}
