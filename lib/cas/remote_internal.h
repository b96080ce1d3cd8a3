/*
 * What remote.c and remote_stream.c share; nobody else includes it.
 */
#pragma once

#include "lib/base/sync.h"
#include "lib/cas/remote.h"

enum remote_learning { REMOTE_IGNORANT, REMOTE_LEARNING, REMOTE_LEARNED };

struct remote {
	struct rpc_chan *chan;
	char *instance;
	unsigned int n_attempts;
	int64_t timeout_ms;
	int64_t until_ns; /* 0: no end */
	_Atomic size_t batch_max;
	struct sync_mutex mutex;
	/* Held while they are asked for; what caps points to is constant. */
	struct arena caps_arena SYNC_GUARDED_BY(&mutex);
	Reapi__ServerCapabilities *caps SYNC_GUARDED_BY(&mutex);
	struct sync_mutex learn_mutex;
	struct sync_cond learned;
	enum remote_learning learning SYNC_GUARDED_BY(&learn_mutex);
	uint64_t learn_id SYNC_GUARDED_BY(&learn_mutex); /* the last call */
};

/* Sleeps until err may be tried again, or returns it; consumes it in both cases. */
struct error *remote_again(struct remote *remote, struct error *err,
			   unsigned int *attempt);
/* So many ms, but no longer than the remote goes on. */
int64_t remote_timeout(const struct remote *remote, int64_t ms);
/* A unary call with the remote's deadline and retries. */
struct error *remote_call(struct remote *remote, const struct rpc_method *method,
			  const ProtobufCMessage *request, struct arena *arena,
			  ProtobufCMessage **reply_out);
