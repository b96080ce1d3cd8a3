/*
 * The store's thread, which writes batches and holds the limit. Called by who opens and
 * closes the store.
 */
#pragma once

#include "lib/store/store_impl.h"

struct error *store_thread_start(struct store *store);
/* Tells both of the store's threads to stop (is_stopping), and waits for this one;
 * harmless where it was not started. */
void store_thread_stop(struct store *store) SYNC_EXCLUDES(&store->mutex);
