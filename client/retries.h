/*
 * What this program tried again: all of it counts, and each is a line on stderr, as far
 * as a person wants to read that.
 *
 * Threads: any.
 */
#pragma once

#include <stdint.h>

#include "lib/base/error.h"

/* Of a call, or of the rest of a stream: as rpc_chan_config.retried wants it; ctx is the
 * service's address. */
void retries_say(void *ctx, const struct error *err, int64_t delay_ms);
/* Of something larger, for which its caller has words. */
void retries_add(void);
uint64_t retries_count(void);
