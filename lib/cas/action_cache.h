/*
 * The action cache's memory: serialised ActionResults by instance and digest of the
 * action, in an SQLite file of their own. It says nothing about whether their blobs are
 * there.
 *
 * Threads: any; one lock. Blocks on the disk, not on fsync.
 */
#pragma once

#include "lib/tree/digest.h"

#define ACTION_CACHE_MAX 1000000 /* entries; a tenth of them, the oldest, make room */
#define ACTION_CACHE_BYTES_MIN                                                           \
	((int64_t)64 << 20) /* a few results of the largest size                         \
			     */

struct action_cache;

/* DIR/actions.sqlite, made where it is missing; a file that is no database is replaced.
 * max_bytes: of its pages in use, about; the oldest entries make room. */
struct error *action_cache_open(const char *dir, int64_t max_bytes,
				struct action_cache **cache_out);
void *action_cache_close(struct action_cache *cache);
CLEANUP_DEFINE(struct action_cache, action_cache_close)
/* Appends to out; *found_out false: no entry. */
struct error *action_cache_get(struct action_cache *cache, const char *instance,
			       const struct digest *action, struct buf *out,
			       bool *found_out);
struct error *action_cache_put(struct action_cache *cache, const char *instance,
			       const struct digest *action, struct slice result);
