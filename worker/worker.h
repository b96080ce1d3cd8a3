/*
 * The worker as a whole: cache, lazy mount, slots and a job source put together.
 *
 * Threads: main starts and frees it; everything else happens on threads of its own.
 */
#pragma once

#include "lib/rpc/creds.h"
#include "worker/action/job.h"
#include "worker/source/source.h"

struct worker_config {
	const struct source_kind *source;      /* the protocol that leases come by */
	uint32_t size_class;                   /* at its scheduler */
	const char *server;                    /* addresses */
	const char *cas;                       /* NULL: the server's */
	const struct rpc_creds_options *creds; /* for both */
	const char *instance;
	const char *cache;
	int64_t cache_size;   /* bytes; 0: the store's default */
	unsigned int n_slots; /* 0: one a processor, if there are descriptors for it */
	const struct source_property *properties; /* sorted */
	size_t n_properties;
	struct sandbox_user user; /* whom actions are, outside; not root */
	const char *root_path;
	const char *name;
	int64_t wait_limit_ns;
	int64_t entries_max;           /* of one action's outputs */
	const struct cgroups *cgroups; /* borrowed, as limits is */
	const struct limits_policy *limits;
	enum upper_kind upper;
	const struct allow *allow;
	bool want_passthrough;
	bool want_foresight;
	bool share_profiles;
	const char *metrics; /* HOST:PORT of the page; NULL: none */
};

struct worker;

struct error *worker_new(const struct worker_config *config, struct worker **out);
void *worker_free(struct worker *worker);
CLEANUP_DEFINE(struct worker, worker_free)

/* Begins to take jobs; ready is called once, on another thread. */
struct error *worker_start(struct worker *worker, void (*ready)(const char *name));
int worker_end_fd(const struct worker *worker); /* POLLIN: it takes no more jobs, ever */
struct error *worker_end_error(struct worker *worker); /* why; NULL: it was drained */
int worker_mount_fd(const struct worker *worker);      /* readable: a mount is gone */
void worker_drain(struct worker *worker); /* finish what runs, take no more */
void worker_abort(struct worker *worker); /* and kill what runs */
