/*
 * What the index is told, in batches. All of these wait for the disk where to_disk says
 * so, and for the database. Threads: any.
 */
#pragma once

#include "lib/store/store_impl.h"

/* Writes what the table has to tell; to_disk: its files are brought to the disk first. On
 * failure the table believes that the index knows: the next start takes stock again. */
struct error *store_batch_sync(struct store *store, bool to_disk)
	SYNC_EXCLUDES(&store->batch_mutex, &store->mutex);
struct error *store_batch_sync_locked(struct store *store, bool to_disk)
	SYNC_REQUIRES(&store->batch_mutex) SYNC_EXCLUDES(&store->mutex);
/* A shared store's totals become what all its processes told the index; failures are
 * logged. The store has an index. */
void store_batch_learn_totals(struct store *store) SYNC_EXCLUDES(&store->mutex);
/* Lists the files; those without a row get one, as state. The store has an index. */
struct error *store_batch_scan(struct store *store, enum store_state state)
	SYNC_EXCLUDES(&store->mutex);
/* As store_batch_scan(), within a transaction. */
struct error *store_batch_scan_locked(struct store *store, enum store_state state)
	SYNC_REQUIRES(&store->index->write_mutex);
