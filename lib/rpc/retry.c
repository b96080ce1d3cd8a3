/*
 * Owns the retry policy, which is pure: what a peer may yet answer otherwise is tried
 * again after a delay that grows; answers about the request itself (INVALID_ARGUMENT,
 * NOT_FOUND, FAILED_PRECONDITION, …) are final here, and whoever can repair the request
 * starts anew.
 */
#include <sys/random.h>

#include "lib/rpc/chan.h"

#define RETRY_FIRST_MS  100
#define RETRY_MAX_MS    10000
#define RETRY_ASKED_MAX (5 * 60 * 1000) /* no peer makes us wait longer than this */

static bool rpc_retry_is_worth(enum error_code code)
{
	switch (code) {
	case ERROR_UNAVAILABLE:
	case ERROR_INTERNAL:
	case ERROR_RESOURCE_EXHAUSTED:
	case ERROR_ABORTED:
	case ERROR_UNKNOWN:
	case ERROR_DEADLINE_EXCEEDED:
		return true;
	case ERROR_OK:
	case ERROR_CANCELLED:
	case ERROR_INVALID_ARGUMENT:
	case ERROR_NOT_FOUND:
	case ERROR_ALREADY_EXISTS:
	case ERROR_PERMISSION_DENIED:
	case ERROR_FAILED_PRECONDITION:
	case ERROR_OUT_OF_RANGE:
	case ERROR_UNIMPLEMENTED:
	case ERROR_DATA_LOSS:
	case ERROR_UNAUTHENTICATED:
		return false;
	}
	return false;
}

int64_t rpc_retry_delay_ms(const struct error *err, unsigned int attempt,
			   unsigned int max_attempts)
{
	int64_t asked = error_retry_delay_ms(err);
	int64_t delay = RETRY_FIRST_MS;

	if (attempt + 1 >= max_attempts || !rpc_retry_is_worth(error_code(err)))
		return -1;
	if (asked >= 0)
		return asked < RETRY_ASKED_MAX ? asked : RETRY_ASKED_MAX;
	for (unsigned int i = 0; i < attempt && delay < RETRY_MAX_MS; i++)
		delay = delay * 8 / 5;
	return delay < RETRY_MAX_MS ? delay : RETRY_MAX_MS;
}

int64_t rpc_retry_jitter_ms(int64_t delay_ms)
{
	uint32_t dice = 0;

	if (getrandom(&dice, sizeof(dice), GRND_NONBLOCK) != (ssize_t)sizeof(dice))
		return delay_ms; /* at boot; spread matters less than waiting for it */
	return delay_ms + (int64_t)(dice % (uint64_t)(delay_ms / 4 + 1));
}
