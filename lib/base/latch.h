/*
 * One wait for something that others bring about: whoever waits makes a latch, and each
 * of n callbacks counts it down with its last touch of what they share. At none it is
 * open, and stays so.
 */
#pragma once

#include <stddef.h>

#include "lib/base/sync.h"

struct latch {
	struct sync_mutex mutex;
	struct sync_cond cond;
	size_t n_left SYNC_GUARDED_BY(&mutex);
};

void latch_init(struct latch *latch, size_t n);
void latch_deinit(struct latch *latch);
void latch_down(struct latch *latch);
void latch_wait(struct latch *latch);
/* False: that time (monotonic) came first, and it may be opened at any moment. */
bool latch_wait_until(struct latch *latch, int64_t mono_ns);
