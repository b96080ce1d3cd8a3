/*
 * The profiles that this worker keeps: an SQLite file, bounded by count, which is opened
 * once for all that use it. A file that is damaged is set aside with one warning, and a
 * new one begun: profiles are only hints.
 *
 * Threads: any. All calls block on the disk, none for long.
 */
#pragma once

#include "lib/tree/digest.h"
#include "predict/profile.h"

struct profile_db;

#define PROFILE_DB_MAX 20000 /* profiles; those used longest ago go */

/* Fails only where even a new file cannot be made. */
struct error *profile_db_open(const char *path, struct profile_db **out);
void *profile_db_close(struct profile_db *db);
CLEANUP_DEFINE(struct profile_db, profile_db_close)

/* All profiles of n keys in one query: those that are there are put at their key's place,
 * the others left empty. The caller's to deinit, in any case. */
void profile_db_get(struct profile_db *db, const struct digest *keys, size_t n,
		    struct profile *profiles);
void profile_db_put(struct profile_db *db, const struct digest *key,
		    const struct profile *profile);
