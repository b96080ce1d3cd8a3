/*
 * A service by its address, with all that belongs to that: instance, credentials, how
 * long a call may take, what it is used for. Read from one record of options
 * (option_record.h), connected to when first needed.
 *
 * Threads: main. The remote is any thread's.
 */
#pragma once

#include "lib/base/option_record.h"
#include "lib/cas/remote.h"
#include "lib/rpc/creds.h"

enum endpoint_type { ENDPOINT_ALL, ENDPOINT_INDEX, ENDPOINT_STORAGE };

struct endpoint {
	char *url, *instance; /* owned, or NULL: not said */
	struct rpc_creds_options creds;
	int64_t timeout_ns; /* 0: not said */
	bool is_pushed_to;
	enum endpoint_type type; /* of an artifact cache */
	struct rpc_chan *chan;   /* made by endpoint_open() */
	struct remote *remote;
};
void endpoint_deinit(struct endpoint *endpoint);

/* What a record may say: url alone, of a service, that and push, or of a cache all. */
extern const char *const endpoint_keys[];
extern const char *const endpoint_keys_push[];
extern const char *const endpoint_keys_cache[];

/* INVALID_ARGUMENT: what says so is "--OPTION". */
struct error *endpoint_read(const char *record, const char *option,
			    struct endpoint *endpoint);
/* What it does not say is as with other. */
void endpoint_inherit(struct endpoint *endpoint, const struct endpoint *other);
/* Nothing is sent yet. option as above. */
struct error *endpoint_open(struct endpoint *endpoint, const char *option);
