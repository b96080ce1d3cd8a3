/* One run of a credential helper, and what it answered. Private to lib/rpc. */
#pragma once

#include "lib/base/buf.h"
#include "lib/base/error.h"
#include "lib/rpc/creds.h"

struct helper_header {
	char *name; /* lower case */
	char *value;
};

struct helper_answer {
	struct helper_header headers[RPC_CREDS_HEADERS_MAX];
	size_t n;
	int64_t expires_ns; /* wall clock; 0: it did not say */
};
void helper_answer_deinit(struct helper_answer *answer);

/* Runs COMMAND get for an address like https://HOST:PORT, at most 10 s; ends earlier,
 * CANCELLED, when stop_fd becomes readable. */
struct error *helper_run(const char *command, const char *uri, int stop_fd,
			 struct helper_answer *answer_out);
/* What a helper wrote, read. Pure. */
struct error *helper_parse(struct slice json, struct helper_answer *answer_out);
