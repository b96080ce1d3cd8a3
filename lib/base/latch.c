/* Owns the count. Any thread; a waiter may free the latch as soon as it has waited. */
#include "lib/base/latch.h"

#include "lib/base/clock.h"

void latch_init(struct latch *latch, size_t n)
{
	sync_mutex_init(&latch->mutex);
	sync_cond_init(&latch->cond);
	sync_alone(&latch->mutex);
	latch->n_left = n;
}

void latch_deinit(struct latch *latch)
{
	sync_cond_deinit(&latch->cond);
	sync_mutex_deinit(&latch->mutex);
}

void latch_down(struct latch *latch)
{
	sync_lock(&latch->mutex);
	if (--latch->n_left == 0)
		sync_broadcast(
			&latch->cond); /* with the mutex: the waiter may free both */
	sync_unlock(&latch->mutex);
}

void latch_wait(struct latch *latch)
{
	(void)latch_wait_until(latch, CLOCK_NEVER);
}

bool latch_wait_until(struct latch *latch, int64_t mono_ns)
{
	bool is_open;

	sync_lock(&latch->mutex);
	while (latch->n_left && sync_wait_until(&latch->cond, &latch->mutex, mono_ns))
		;
	is_open = latch->n_left == 0;
	sync_unlock(&latch->mutex);
	return is_open;
}
