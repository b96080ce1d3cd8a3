/*
 * Owns the store's thread: when a batch is written, and what is over the limit evicted.
 *
 * A batch waits for a quiet second, so that a burst of commits is not slowed by its own
 * writeback, but for no more than five.
 */

#include "lib/store/store_thread.h"

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/thread.h"
#include "lib/store/store_batch.h"
#include "lib/store/store_evict.h"
#include "lib/store/store_impl.h"

#define LOG_MODULE "store"
#include "lib/base/log.h"

#define THREAD_QUIET_NS  (1 * NS_PER_S)
#define THREAD_LATEST_NS (5 * NS_PER_S)
#define THREAD_TICK_NS   (NS_PER_S / 4)

static bool thread_is_due(const struct store *store) SYNC_REQUIRES(&store->mutex)
{
	int64_t now = clock_mono_ns();

	return store->n_dirty && (now - store->dirty_last_ns >= THREAD_QUIET_NS ||
				  now - store->dirty_first_ns >= THREAD_LATEST_NS);
}

/* Sleeps until there may be something to do. */
static void thread_wait(struct store *store) SYNC_REQUIRES(&store->mutex)
{
	(void)sync_wait_until(&store->cond, &store->mutex,
			      store->n_dirty ? clock_mono_ns() + THREAD_TICK_NS
					     : CLOCK_NEVER);
}

static void thread_step(struct store *store, bool is_due, bool must_evict, bool must_scan)
{
	struct error *err = NULL;

	if (must_scan && store->index) {
		err = store_batch_scan(store, STORE_WHOLE);
		if (err)
			log_drop(LOG_WARN, err, "take stock of %s", store->dir);
		else
			store_batch_learn_totals(store);
	}
	if (must_evict)
		store_evict_below_limit(store);
	err = is_due ? store_batch_sync(store, !store->is_shared) : NULL;
	if (err)
		log_drop(LOG_WARN, err, "a later start will take stock again");
}

static void *thread_main(void *arg)
{
	struct store *store = arg;

	store_lock(store);
	while (!store->is_stopping) {
		bool is_due = thread_is_due(store);
		bool must_evict = store->must_evict;
		bool must_scan = store->must_scan;

		if (!is_due && !must_evict && !must_scan) {
			thread_wait(store);
			continue;
		}
		store->must_evict = false;
		store->must_scan = false;
		store_unlock(store);
		thread_step(store, is_due, must_evict, must_scan);
		store_lock(store);
	}
	store_unlock(store);
	return NULL;
}

struct error *store_thread_start(struct store *store)
{
	struct error *err = thread_start("store", thread_main, store, &store->thread);

	store->has_thread = !err;
	return error_wrap(err, "%s", store->dir);
}

void store_thread_stop(struct store *store)
{
	if (!store->has_thread)
		return;
	store_lock(store);
	store->is_stopping = true;
	sync_signal(&store->cond);
	store_unlock(store);
	(void)pthread_join(store->thread, NULL);
	store->has_thread = false;
}
