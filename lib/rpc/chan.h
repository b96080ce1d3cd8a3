/*
 * A client's connection to one server, and unary calls over it: blocking ones, and ones
 * with a callback for when many are in flight.
 *
 * Threads: all functions from any. A callback runs on one of the channel's poller
 * threads: it may only advance state, push to a pool or start further calls; never block.
 */
#pragma once

#include "lib/rpc/rpc.h"

struct rpc_chan;

struct rpc_chan_config {
	const char *address; /* as rpc_address_parse() takes it */
	/* TLS addresses only; read again when they change, for the next connection. */
	const char *ca_file;              /* PEM; NULL: the system's */
	const char *cert_file, *key_file; /* mTLS, or NULL */
	const char *token_file;           /* of a bearer token, or NULL; read again */
	const char *helper;               /* a credential helper instead, or NULL */
	bool is_insecure;                 /* they may be sent without encryption */
	const char *tool_name;            /* goes into RequestMetadata with every call */
	/* Hears of each call, or rest of a stream, that is tried again, before the pause;
	 * on any thread. NULL: nobody does. */
	void (*retried)(void *ctx, const struct error *err, int64_t delay_ms);
	void *retried_ctx;
};

/* Does not connect yet: an unreachable server is UNAVAILABLE at the first call. A helper
 * runs, though. */
struct error *rpc_chan_new(const struct rpc_chan_config *config,
			   struct rpc_chan **chan_out);
/* Waits for calls in flight (cancel them first); the last callback has run on return. */
void *rpc_chan_free(struct rpc_chan *chan);
CLEANUP_DEFINE(struct rpc_chan, rpc_chan_free)
const char *rpc_chan_address(const struct rpc_chan *chan);
/* The server was there before, so one that is gone now may come back. */
bool rpc_chan_has_answered(const struct rpc_chan *chan);

struct rpc_options {
	int64_t timeout_ms; /* 0: none */
	int64_t idle_ms;    /* streams: how long one message may take; 0: no limit */
	const struct rpc_header *headers;
	size_t n_headers;
};

/* What came back: the reply's bytes and the trailing metadata, valid until its deinit. */
struct rpc_reply {
	struct slice bytes;
	struct arena arena; /* owns all of it; callers decode into it too */
	struct rpc_header *trailers;
	size_t n_trailers;
};
void rpc_reply_deinit(struct rpc_reply *reply);
#define _cleanup_rpc_reply_ _cleanup_(rpc_reply_deinit)

/* Whoever tries again what failed with err says so here; false: nobody hears of it. */
bool rpc_chan_retried(const struct rpc_chan *chan, const struct error *err,
		      int64_t delay_ms);
/* A call ended with err, UNAUTHENTICATED: whether it is worth a second try (and never a
 * third), since its credentials are others by now. They are read again for that: blocks,
 * while a helper runs. False for other errors, and without credentials. */
bool rpc_chan_renew(struct rpc_chan *chan, const struct error *err);

/* Blocking. options may be NULL. On success *reply_out is the caller's. The second try
 * that rpc_chan_renew() is for is made here; of streams and calls with a callback it is
 * their callers'. */
struct error *rpc_call(struct rpc_chan *chan, const struct rpc_method *method,
		       const ProtobufCMessage *request, const struct rpc_options *options,
		       struct rpc_reply *reply_out);
/* As rpc_call, and decodes: *message_out lives in arena (copied there where need be). */
struct error *rpc_call_message(struct rpc_chan *chan, const struct rpc_method *method,
			       const ProtobufCMessage *request,
			       const struct rpc_options *options, struct arena *arena,
			       ProtobufCMessage **message_out);

/*
 * Starts a call; done runs exactly once, possibly before this returns, and on the calling
 * thread where no other can be had: hold no lock that it takes. done owns err and
 * *reply (it moves what it keeps; the rest is freed after it returns). The returned id
 * can cancel it until done has run. request is encoded before this returns.
 */
typedef void rpc_done_fn(void *ctx, struct error *err, struct rpc_reply *reply);
uint64_t rpc_start(struct rpc_chan *chan, const struct rpc_method *method,
		   const ProtobufCMessage *request, const struct rpc_options *options,
		   rpc_done_fn *done, void *ctx);
void rpc_cancel(struct rpc_chan *chan,
		uint64_t id); /* unknown or ended: nothing happens */

/* Calls by method ("/pkg.Service/Name") since the channel was made; fn must not call. */
void rpc_chan_each_count(const struct rpc_chan *chan,
			 void (*fn)(void *ctx, const char *path, uint64_t n), void *ctx);

/*
 * Whether a failed call may be tried again, and when (docs/protocol.md, "What is tried
 * again"). Pure. attempt counts from 0; -1 means give up. RetryInfo replaces the base
 * delay.
 */
int64_t rpc_retry_delay_ms(const struct error *err, unsigned int attempt,
			   unsigned int max_attempts);
/* The same, or up to a quarter longer: those that lost one server come back one by one.
 * Never shorter, since a peer may have asked for it. Not pure. */
int64_t rpc_retry_jitter_ms(int64_t delay_ms);
