/*
 * What the tests of lib/cas's network half stand on: a fake store behind a real socket,
 * and all that reads from it and writes to it. Blobs are made of a seed, so that a test
 * can say which one it means.
 */
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "lib/cas/dircache.h"
#include "lib/cas/upload.h"
#include "lib/store/chunks.h"
#include "lib/tree/tree.h"
#include "tests/fake/fake_cas.h"
#include "tests/unit/cas_fixture.h"

#define NET_RETRIES 3 /* after the first attempt */

struct net_config {
	int64_t batch_max;
	size_t tree_page;
	int64_t timeout_ms;   /* 0: longer than any test waits for a healthy answer */
	size_t memory_max;    /* of the dircache; 0: the default */
	bool has_zstd;        /* the fake knows it */
	size_t chunk_average; /* the fake knows chunks, and so does the store */
	bool has_mappings;    /* as 2.13 has them */
};

struct net {
	void *scratch_state;
	struct scratch *scratch;
	struct pool *pool;
	struct store *store;
	struct chunks *chunks; /* NULL where the fake knows none */
	struct fake *fake;
	struct rpc_chan *chan;
	struct remote *remote;
	struct fetch *fetch;
	struct dircache *dirs;
};

void *net_free(struct net *net);
CLEANUP_DEFINE(struct net, net_free)
#define _cleanup_net_ _cleanup_(net_freep)

/* config may be NULL. The fetcher asks for the batch limit at once: it is known here. */
struct net *net_new(const struct net_config *config);

/* ---- blobs ---------------------------------------------------------------------- */

void net_bytes(unsigned int seed, size_t size, struct buf *out);

/* A blob's digest; the fake has it where is_there. */
struct digest net_blob(struct net *net, unsigned int seed, size_t size, bool is_there);

void net_blobs(struct net *net, unsigned int seed, size_t size, size_t n,
	       struct digest *out);

/* The descriptor gives exactly these bytes; closes it. */
void net_expect_fd(int fd, const struct digest *digest);

/* NOT_FOUND, with this blob as the one that is missing. */
void net_expect_missing(struct error *err, const struct digest *digest);

/* Nothing of a failed transfer stays behind. */
void net_expect_not_stored(struct net *net, const struct digest *digest);

/* ---- Directories ---------------------------------------------------------------- */

struct tree_node net_dir_node(const char *name, const struct digest *digest);
/* Its content is nowhere. */
struct tree_node net_file_node(const char *name, int64_t size);
struct digest net_put_dir(struct net *net, const struct tree_node *nodes, size_t n);
/* A Directory with one file of this name. */
struct digest net_put_leaf(struct net *net, const char *name);

/* ---- many at once --------------------------------------------------------------- */

/* The answers to fetches that run at the same time. */
struct net_answers {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	size_t n_left, n_good;
	enum error_code code; /* of the last failure */
};

#define NET_ANSWERS(n)                                                                   \
	{                                                                                \
		.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER,    \
		.n_left = (n)                                                            \
	}

void net_answered(void *ctx, struct error *err, int fd);
void net_wished(void *ctx, struct error *err); /* the same, of a wish */

void net_start(struct net *net, const struct digest *digests, size_t n,
	       enum fetch_priority priority, struct net_answers *answers);

/* Waits for all; returns how many were good. */
size_t net_await(struct net_answers *answers);
