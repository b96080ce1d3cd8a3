/* Staging, as the rest of the store needs to know it; for its users see store.h. */
#pragma once

#include "lib/store/store_impl.h"

/* Whether the file system and /proc let a file get its name when it is whole. Tries it,
 * in the store's staging directory. */
bool store_staged_can_be_nameless(struct store *store);
