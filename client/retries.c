/* Owns the count. */
#include "client/retries.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/say.h"

/* A server that is gone for a while fails thousands of calls in the same words. */
#define RETRIES_LINES 10

static _Atomic uint64_t retries_n;
static _Atomic uint64_t retries_n_said;

void retries_add(void)
{
	atomic_fetch_add(&retries_n, 1);
}

uint64_t retries_count(void)
{
	return atomic_load(&retries_n);
}

void retries_say(void *ctx, const struct error *err, int64_t delay_ms)
{
	uint64_t n_said = atomic_fetch_add(&retries_n_said, 1);
	const char *address = ctx;
	const char *text = error_text(err);
	bool is_named = strstr(text, address);
	char when[32] = "at once";

	retries_add();
	if (n_said == RETRIES_LINES)
		say("lazyroot: more is tried again, and only counted from here on");
	if (n_said >= RETRIES_LINES)
		return;
	if (delay_ms)
		(void)snprintf(when, sizeof(when), "in %lld ms", (long long)delay_ms);
	say("lazyroot: a call failed; again %s: %s%s%s", when, is_named ? "" : address,
	    is_named ? "" : ": ", text);
}
