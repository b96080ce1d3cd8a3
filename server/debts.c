/*
 * Owns a table of fixed size, in which hosts share places by chance, so that no number of
 * hosts makes it grow: together they owe DEBTS_PLACES times what one may.
 */
#include "server/debts.h"

#include "lib/base/alloc.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/sync.h"

#define DEBTS_PLACES 256

struct debt {
	int64_t bytes;
	int64_t seen_ns; /* when that was so */
};

struct debts {
	struct sync_mutex mutex; /* a leaf */
	struct debt places[DEBTS_PLACES] SYNC_GUARDED_BY(&mutex);
};

struct debts *debts_new(void)
{
	struct debts *debts = alloc_new(struct debts);

	sync_mutex_init(&debts->mutex);
	return debts;
}

void *debts_free(struct debts *debts)
{
	if (!debts)
		return NULL;
	sync_mutex_deinit(&debts->mutex);
	free(debts);
	return NULL;
}

/* The host's, as it is now. */
static struct debt *debts_find(struct debts *debts, const char *host, int64_t now_ns)
	SYNC_REQUIRES(&debts->mutex)
{
	struct debt *debt = &debts->places[slice_hash(slice_of(host)) % DEBTS_PLACES];
	int64_t ms = (now_ns - debt->seen_ns) / NS_PER_MS;
	int64_t all_ms = DEBTS_CAP / (DEBTS_PER_S / 1000);

	if (ms <= 0) /* less than counts, or another thread's clock is ahead */
		return debt;
	debt->bytes -= ms < all_ms ? ms * (DEBTS_PER_S / 1000) : debt->bytes;
	if (debt->bytes < 0)
		debt->bytes = 0;
	debt->seen_ns = now_ns;
	return debt;
}

struct error *debts_check(struct debts *debts, const char *host, int64_t now_ns)
{
	int64_t bytes;

	sync_lock(&debts->mutex);
	bytes = debts_find(debts, host, now_ns)->bytes;
	sync_unlock(&debts->mutex);
	return bytes <= DEBTS_MAX
		       ? NULL
		       : error_new(ERROR_RESOURCE_EXHAUSTED,
				   "too much of what %s claimed lately was not so: send "
				   "the bytes themselves",
				   host);
}

void debts_add(struct debts *debts, const char *host, int64_t bytes, int64_t now_ns)
{
	struct debt *debt;

	sync_lock(&debts->mutex);
	debt = debts_find(debts, host, now_ns);
	debt->bytes = bytes < DEBTS_CAP - debt->bytes ? debt->bytes + bytes : DEBTS_CAP;
	sync_unlock(&debts->mutex);
}
