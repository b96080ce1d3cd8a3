/*
 * Where leases come from: an interface with one implementation a scheduler protocol. A
 * source owns its thread and its connection; the worker owns what becomes of a lease.
 *
 * Threads: assign() and cancel() are called on the source's thread and return at once;
 * source_report() may be called from any thread.
 */
#pragma once

#include "lib/base/buf.h"
#include "lib/rpc/chan.h"
#include "lib/tree/digest.h"

struct source;

/* One action handed over to be run; the receiver frees it with source_lease_free(). */
struct source_lease {
	char *id; /* names it in cancel() and report() */
	struct digest action;
	struct buf action_bytes; /* the Action itself where it came along; else empty */
	int64_t assigned_wall_ns;
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

struct source_impl {
	const char *name;
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

struct source_config { /* all borrowed: until source_start() returns, but chan and events
			*/
	struct rpc_chan *chan;
	const char *instance;
	const char *worker_id; /* unique at the scheduler */
	unsigned int n_slots;
	const struct source_property *properties; /* sorted by name, then value */
	size_t n_properties;
	const struct source_events *events;
};

/* In the scheduler's protocol: the Remote Workers API, so far the only one. */
struct error *source_start(const struct source_config *config,
			   struct source **source_out);

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
