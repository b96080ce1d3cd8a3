/*
 * store_durable, as the rest of the store needs to know it. Each does nothing in a store
 * that makes no promises.
 */
#pragma once

#include "lib/store/store_entry.h"
#include "lib/store/store_impl.h"

/* A commit made the entry: numbers it, and the next round will cover it. */
void store_durable_note(struct store *store, struct store_entry *entry)
	SYNC_REQUIRES(&store->mutex);
struct error *store_durable_start(struct store *store);
/* After store_thread_stop(), which set is_stopping: waits for the last round. */
void store_durable_stop(struct store *store) SYNC_EXCLUDES(&store->mutex);
