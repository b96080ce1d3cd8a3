/*
 * What the files of the fake share: its state, and how a call of it begins.
 */
#pragma once

#include <pthread.h>

#include "lib/base/htab.h"
#include "lib/base/list.h"
#include "lib/rpc/server.h"
#include "tests/fake/fake_cas.h"

#define FAKE_HELD_MAX   256
#define FAKE_FAULTS_MAX 64

struct fake_blob {
	struct hnode node;
	struct digest digest;
	bool is_here;
	struct buf bytes;     /* stay until the end, as readers borrow them */
	struct digest *claim; /* what it is said to be made of; NULL: nothing is */
	size_t n_claim;
	size_t n_asked[FAKE_N_METHODS];
};

struct fake_upload {
	struct list link;
	char *name;
	struct buf bytes;
};

struct fake_script {
	struct fake_fault fault;
	struct digest digest;
	bool has_digest;
	unsigned int n_seen;
};

struct fake_held {
	struct rpc_in *in; /* a reference */
	size_t index;      /* in the log */
};

struct fake {
	struct store *store;
	int64_t batch_max;
	size_t tree_page;
	bool has_zstd;
	size_t chunk_average;
	bool has_mappings;
	struct rpc_server *server;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct htab blobs; /* guarded by mutex, as all below */
	struct list uploads;
	struct fake_script scripts[FAKE_FAULTS_MAX];
	size_t n_scripts;
	struct fake_call *calls;
	size_t n_calls, calls_cap;
	bool is_holding[FAKE_N_METHODS];
	struct fake_held held[FAKE_HELD_MAX]; /* longest first */
	size_t n_held;
};

/* The state of every call begins with it. */
struct fake_in {
	bool has_begun;
	size_t index; /* in the log */
	bool has_fault;
	struct fake_fault fault; /* of the call */
	int64_t until_ns;
	ProtobufCMessage *request;
	struct digest *digests;
	size_t n_digests;
};

extern const struct rpc_handler fake_unary_handlers[];
extern const size_t fake_n_unary_handlers;
extern const struct rpc_handler fake_stream_handlers[];
extern const size_t fake_n_stream_handlers;
extern const struct rpc_handler fake_chunk_handlers[];
extern const size_t fake_n_chunk_handlers;

/* Writes the call down and finds its fault, once. state->digests are set by now. */
void fake_begin(struct fake *fake, struct fake_in *state, enum fake_method method);
/* Whether the call goes on: else *verdict_out is what its step returns. Faults of streams
 * that happen on the way are left to them. */
bool fake_proceed(struct fake *fake, struct rpc_in *in, struct fake_in *state,
		  enum rpc_verdict *verdict_out);
enum rpc_verdict fake_end(struct rpc_in *in, const struct fake_fault *fault);
struct error *fake_error(const struct fake_fault *fault);
void fake_garbage(struct rpc_in *in);

/* The fault of a blob, if it is to have one now. */
bool fake_blob_fault(struct fake *fake, enum fake_method method,
		     const struct digest *digest, struct fake_fault *out);
/* The bytes of a blob, perhaps harmed by a fault; false: it is not here. */
bool fake_bytes(struct fake *fake, const struct digest *digest,
		const struct fake_fault *fault, struct arena *arena, struct slice *out);
/* What a test claims of a blob's chunks; false: nothing. */
bool fake_claimed(struct fake *fake, const struct digest *blob, struct arena *arena,
		  struct digest **digests_out, size_t *n_out);
struct digest *fake_digests(Reapi__Digest *const *wire, size_t n, struct arena *arena);
void fake_note(struct fake *fake, const struct fake_in *state, int64_t offset,
	       int64_t n_bytes);
void fake_note_zstd(struct fake *fake, const struct fake_in *state, bool is_zstd);
