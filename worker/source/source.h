/*
 * Where leases come from: an interface with one implementation a scheduler protocol. A
 * source owns its thread and its connection; the worker owns what becomes of a lease.
 *
 * Threads: assign() and cancel() are called on the source's thread and return at once;
 * source_stage() and source_report() may be called from any thread.
 */
#pragma once

#include "lib/base/buf.h"
#include "lib/rpc/chan.h"
#include "lib/tree/digest.h"

struct source;

/* One action handed over to be run; the receiver frees it with source_lease_free(). */
struct source_lease {
	char *id;       /* names it in cancel() and report() */
	char *instance; /* of the blobs that it names and makes; "" is common */
	/* UNKNOWN: what a digest's length says. The worker refuses all but SHA-256. */
	Reapi__DigestFunction__Value digest_function;
	struct digest action;
	/* The Action itself where it came along, else empty. Its timeout may be another
	 * one than that of the blob that action names. */
	struct buf action_bytes;
	/* An ExecutedActionMetadata: what the scheduler has to say in the result's. */
	struct buf metadata;
	bool wants_caching; /* the action cache is the worker's to write */
	/* By which names the command's stdout and stderr are written as log streams;
	 * NULL: nobody asked for them. */
	char *log_names[2];
	bool may_leave_logs_out; /* where there is nothing to write */
};
void *source_lease_free(struct source_lease *lease);
CLEANUP_DEFINE(struct source_lease, source_lease_free)

struct source_events {
	void (*assign)(void *ctx, struct source_lease *lease); /* consumes it */
	void (*cancel)(void *ctx, const char *id); /* unknown or ended: nothing to do */
	/* The source can go on no more (drained, or hopeless: err, consumed). */
	void (*ended)(void *ctx, struct error *err);
	/* The first session is open: leases may come. */
	void (*ready)(void *ctx, const char *name);
	void *ctx;
};

/* How far a lease is. Each comes at most once, in this order, before its report. */
enum source_stage {
	SOURCE_FETCHING,  /* the action's messages and directories; its root is made */
	SOURCE_RUNNING,   /* the command; files still come as it reads them */
	SOURCE_UPLOADING, /* outputs are captured and sent */
};

struct source_impl {
	/* How far a lease is, by its slot's thread: returns at once, and asks nobody.
	 * What the protocol has a message for goes along with the next one. NULL: it has
	 * none.
	 */
	void (*stage)(struct source *source, const char *id, enum source_stage stage);
	/* The result of a lease: status NULL or why it could not be run (consumed), an
	 * encoded ActionResult (moved), which may be empty where status is not NULL. */
	void (*report)(struct source *source, const char *id, struct error *status,
		       struct buf *result);
	/* Takes no more; ended() once all is reported. The second time: or once that
	 * cannot be done at the first try. */
	void (*drain)(struct source *source);
	void *(*free)(struct source *source);
};

struct source {
	const struct source_impl *impl;
};

struct source_property {
	const char *name;
	const char *value;
};

struct source_config { /* all borrowed: until start() returns, but channels and events */
	struct rpc_chan *chan;
	struct rpc_chan *cas_chan; /* where blobs are: the same, or another */
	const char *instance;      /* the worker's own */
	const char *worker_id;     /* unique at the scheduler */
	unsigned int n_slots;
	uint32_t size_class;                      /* 0 unless the kind has_sizes */
	const struct source_property *properties; /* sorted by name, then value */
	size_t n_properties;
	const struct source_events *events;
};

/* A scheduler's protocol: how a source of it is started. */
struct source_kind {
	const char *name;
	struct error *(*start)(const struct source_config *config,
			       struct source **source_out);
	/* Actions come only to workers with the very properties that they ask for. */
	bool is_exact;
	bool has_sizes; /* workers of one platform are told apart by size_class */
};
/* NULL: the usual one. INVALID_ARGUMENT names those that there are. */
struct error *source_kind_find(const char *name, const struct source_kind **kind_out);

/* Says in the log what was found at the start, protocol named in words: asks the storage
 * what it can do, for a few seconds at most. */
void source_found(const char *protocol, struct rpc_chan *chan, struct rpc_chan *cas_chan,
		  const char *instance);

static inline void source_stage(struct source *source, const char *id,
				enum source_stage stage)
{
	if (source->impl->stage)
		source->impl->stage(source, id, stage);
}

static inline void source_report(struct source *source, const char *id,
				 struct error *status, struct buf *result)
{
	source->impl->report(source, id, status, result);
}

static inline void source_drain(struct source *source)
{
	source->impl->drain(source);
}

static inline void *source_free(struct source *source)
{
	return source ? source->impl->free(source) : NULL;
}
