/*
 * Time in nanoseconds. Monotonic time (since some moment of this boot) is for measuring
 * and waiting, wall time for what others read. Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define NS_PER_MS   1000000LL
#define NS_PER_S    1000000000LL
#define CLOCK_NEVER INT64_MAX /* as a time: it does not come */

int64_t clock_mono_ns(void);
int64_t clock_wall_ns(void); /* since 1970-01-01 UTC */
void clock_sleep_ms(int64_t ms);
