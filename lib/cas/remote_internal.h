/*
 * What remote.c, remote_stream.c and remote_chunks.c share; nobody else includes it.
 */
#pragma once

#include <stdatomic.h>

#include "lib/base/sync.h"
#include "lib/cas/remote.h"

enum remote_learning { REMOTE_IGNORANT, REMOTE_LEARNING, REMOTE_LEARNED };

struct remote {
	struct rpc_chan *chan;
	char *instance;
	unsigned int n_attempts;
	bool is_patient; /* from the start on */
	int64_t timeout_ms;
	int64_t until_ns; /* 0: no end */
	_Atomic size_t batch_max;
	atomic_bool has_zstd;       /* the server knows it in streams and answers … */
	atomic_bool has_batch_zstd; /* … and in batches that are sent to it */
	_Atomic uint64_t saved;     /* by compressed reads */
	_Atomic uint64_t saved_up;  /* by compressed writes, of streams and batches */
	/* How the server cuts, as it says; an average of 0: not at all. */
	_Atomic uint64_t chunk_average;
	_Atomic uint32_t chunk_seed;
	atomic_bool has_split, has_splice;
	atomic_bool has_mappings; /* it knows the calls of 2.13 for both */
	struct sync_mutex mutex;
	/* Held while they are asked for; what caps points to is constant. */
	struct arena caps_arena SYNC_GUARDED_BY(&mutex);
	Reapi__ServerCapabilities *caps SYNC_GUARDED_BY(&mutex);
	struct sync_mutex learn_mutex;
	struct sync_cond learned;
	enum remote_learning learning SYNC_GUARDED_BY(&learn_mutex);
	uint64_t learn_id SYNC_GUARDED_BY(&learn_mutex); /* the last call */
};

/* What became of a call so far, or of the part of a stream that is being tried. */
struct remote_tries {
	unsigned int n;  /* of now, from 0 */
	bool is_renewed; /* other credentials had their try */
};
/* Sleeps until err may be tried again, or returns it; consumes it in both cases. */
struct error *remote_again(struct remote *remote, struct error *err,
			   struct remote_tries *tries);
/* How often a call is tried that ends with err. */
unsigned int remote_attempts(const struct remote *remote, const struct error *err);
/* Waits for what remote_learn() began, if it did. */
void remote_learn_wait(struct remote *remote);
/* Whether a call that went or asked for frames was refused, perhaps for that; the server
 * is asked anew then what it knows, as it may be another one by now. */
bool remote_refuses_zstd(struct remote *remote, const struct error *err);
/* So many ms, but no longer than the remote goes on. */
int64_t remote_timeout(const struct remote *remote, int64_t ms);
/* Of a stream that carries so many bytes. */
struct rpc_options remote_stream_options(const struct remote *remote, int64_t bytes);
/* One request, and each of its answers to fn, until that fails; then the call's end. */
struct error *remote_stream_each(struct remote *remote, const struct rpc_method *method,
				 const ProtobufCMessage *request,
				 const struct rpc_options *options,
				 struct error *(*fn)(void *ctx, struct slice message),
				 void *ctx);
/* A unary call with the remote's deadline and retries. */
struct error *remote_call(struct remote *remote, const struct rpc_method *method,
			  const ProtobufCMessage *request, struct arena *arena,
			  ProtobufCMessage **reply_out);
