/*
 * Where jobs come from: an interface with one implementation a scheduler protocol. A
 * source owns its thread and its connection; the worker owns what a job does.
 *
 * Threads: assign() and cancel() are called on the source's thread and return at once;
 * source_report() may be called from any thread.
 */
#pragma once

#include "lib/base/buf.h"
#include "lib/cas/digest.h"

struct source;

/* One job handed over; the receiver frees it with source_job_free(). */
struct source_job {
	char *id; /* of the lease: names the job in cancel() and report() */
	struct digest action;
	struct buf action_bytes; /* the Action itself where it came along; else empty */
	int64_t assigned_wall_ns;
};
void *source_job_free(struct source_job *job);
CLEANUP_DEFINE(struct source_job, source_job_free)

struct source_events {
	void (*assign)(void *ctx, struct source_job *job); /* consumes job */
	void (*cancel)(void *ctx, const char *id); /* unknown or ended: nothing to do */
	/* The source can go on no more (drained, or hopeless: err, consumed). */
	void (*ended)(void *ctx, struct error *err);
	/* The first session is open: jobs may come. */
	void (*ready)(void *ctx, const char *name);
	void *ctx;
};

struct source_impl {
	const char *name;
	/* The result of a job: status NULL or why it could not be run (consumed), and an
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
