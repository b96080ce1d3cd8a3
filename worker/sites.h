/*
 * What the jobs of one instance share (struct job_site): a way to its blobs and a mount
 * that shows them. The first instance is the worker's own, made at the start; others are
 * made with their first lease, and stay as long as the worker. The cache is one for all:
 * a blob is what its digest says, whoever asked for it.
 *
 * Threads: any; sites_new() and sites_free() from main.
 */
#pragma once

#include "worker/action/job.h"

#define SITES_MAX 8 /* instances of one worker */

struct sites;

struct sites_config {           /* all borrowed: strings until sites_new() returns */
	struct job_site common; /* what is the same for all: all but the instance's own */
	struct rpc_chan *chan;  /* to where blobs are */
	const char *instance;   /* the worker's own */
	const char *mount_dir;  /* its mount; others stand beside it, with a number */
	bool want_passthrough;
	const char
		*profiles; /* where what is learned is kept; NULL: nothing is foreseen */
	bool share_profiles;
	size_t n_max; /* of instances, SITES_MAX at most */
};

struct error *sites_new(const struct sites_config *config, struct sites **out);
/* What waits for blobs fails from now on: before whoever may wait is ended. */
void sites_give_up(struct sites *sites);
/* No job runs any more. */
void *sites_free(struct sites *sites);
CLEANUP_DEFINE(struct sites, sites_free)

/* *site_out lives as long as sites. RESOURCE_EXHAUSTED: there are n_max others. */
struct error *sites_get(struct sites *sites, const char *instance,
			const struct job_site **site_out);
size_t sites_n(struct sites *sites);
/* i < sites_n(); 0 is the worker's own. */
const struct job_site *sites_at(struct sites *sites, size_t i);
int sites_end_fd(const struct sites *sites); /* readable: one of the mounts is gone */
