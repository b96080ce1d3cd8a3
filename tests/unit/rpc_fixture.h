/*
 * A real server in this process for the tests of lib/rpc, offering a few methods that do
 * on request what a test needs: answer, fail richly, stream, hold on, never answer.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/rpc/chan.h"
#include "lib/rpc/server.h"
#include "lib/rpc/stream.h"

#define CAS_SERVICE    (&reapi__content_addressable_storage__descriptor)
#define STREAM_SERVICE (&bytestream__byte_stream__descriptor)
#define OPS_SERVICE    (&longrunning__operations__descriptor)
#define EXEC_SERVICE   (&reapi__execution__descriptor)

extern const struct rpc_method method_find;
extern const struct rpc_method method_update;
extern const struct rpc_method method_unknown;
extern const struct rpc_method method_read;
extern const struct rpc_method method_write;
extern const struct rpc_method method_get;
extern const struct rpc_method method_wait;

struct fixture {
	struct rpc_server *server;
	struct rpc_chan *chan;
	pthread_mutex_t mutex;
	struct rpc_in *waiting; /* guarded by mutex: a call to WaitExecution */
	int n_updates;          /* guarded by mutex: what that call is to be told */
	bool is_last;           /* guarded by mutex */
	atomic_int n_dropped;   /* states dropped */
	atomic_int n_released;  /* buffers of Read given back */
	sem_t is_waiting; /* a call entered WaitExecution or hangs in GetOperation */
	atomic_bool saw_worker;
	char header[64]; /* guarded by mutex: RequestMetadata of the last call */
};

/* ---- the methods ---------------------------------------------------------------- */

struct read_state {
	struct fixture *fixture;
	int64_t left;
	bool has_begun;
};

static const uint8_t read_chunk[65536] = {'x', 'y'};

struct wait_state {
	struct fixture *fixture;
	struct rpc_in *in;
	int n_sent;
};

void fixture_offer(struct rpc_server *server, void *ctx); /* the methods above */

/* ---- set up --------------------------------------------------------------------- */

struct rpc_server *fixture_server(const char *address, void *ctx);

struct rpc_chan *fixture_chan(const char *address);

int fixture_setup(void **state);

int fixture_teardown(void **state);

void fixture_wait(struct fixture *fixture);

/* Fails the test with the error's text where there is one. */
void assert_no_error(struct error *err);

void assert_error(struct error *err, enum error_code code, const char *part);
