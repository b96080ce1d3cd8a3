/* Owns nothing; any thread. */
#include "lib/base/clock.h"

#include <errno.h>
#include <time.h>

static int64_t clock_read(clockid_t id)
{
	struct timespec now;

	(void)clock_gettime(id, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t clock_mono_ns(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

int64_t clock_wall_ns(void)
{
	return clock_read(CLOCK_REALTIME);
}

void clock_sleep_ms(int64_t ms)
{
	struct timespec left = {ms / 1000, (ms % 1000) * NS_PER_MS};

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}
