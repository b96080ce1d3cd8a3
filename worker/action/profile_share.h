/*
 * Profiles between workers, by the storage that is there: in the action cache, under the
 * digest of the profile's key, stands an ActionResult whose standard output is the
 * profile (docs/design.md, "Foresight"). They are hints: what comes is bounded and
 * checked, what does not come is not waited for, and where the cache is not ours to read
 * or write nothing is asked or told for a while, which doubles each time.
 *
 * Threads: any; no call blocks but free, which waits for what was begun: five seconds at
 * most. got runs on the share's own threads.
 */
#pragma once

#include "lib/cas/fetch.h"
#include "predict/profile.h"

struct profile_share;

/* fetch is borrowed; it has a remote. */
struct error *profile_share_new(struct fetch *fetch, struct profile_share **out);
void *profile_share_free(struct profile_share *share);
CLEANUP_DEFINE(struct profile_share, profile_share_free)

/* What was not begun is dropped, and from now on nothing is shared. */
void profile_share_stop(struct profile_share *share);

/* got owns the profile, empty where there is none: once, perhaps before this returns. */
typedef void profile_share_fn(void *ctx, struct profile *profile);
void profile_share_get(struct profile_share *share, const struct digest *key,
		       profile_share_fn *got, void *ctx);
/* Sooner or later, or never. */
void profile_share_put(struct profile_share *share, const struct digest *key,
		       const struct profile *profile);
