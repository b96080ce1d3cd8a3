/*
 * The life of one action on this worker, from its lease to its result. Each slot has one
 * thread, which runs one job at a time from top to bottom; what a job needs of the worker
 * is in struct job_site.
 */
#pragma once

#include "fuse/session.h"
#include "lib/base/pool.h"
#include "worker/allow.h"
#include "worker/limits.h"
#include "worker/place.h"
#include "worker/plan.h"
#include "worker/source.h"
#include "worker/upper.h"

struct metrics;

struct job_site { /* all borrowed; the same for every job */
	struct store *store;
	struct remote *remote;
	struct fetch *fetch;
	struct dircache *dirs;
	struct view *view;
	struct session *session;
	struct pool *pool;       /* disk and hashing */
	struct pool *background; /* one thread: loads trees, removes what actions left */
	const struct sandbox_tools *tools;
	const struct cgroups *cgroups;
	const struct limits_policy *limits;
	enum upper_kind upper; /* where a limit of disk space is passed */
	const struct allow *allow;
	struct slice filter; /* of system calls, from allow */
	struct metrics *metrics;
	const char *actions_dir; /* on the store's file system */
	const char *merged_dir;  /* reachable by user: mount points of input roots */
	const char *etc_dir;     /* accounts.h, of the usual user */
	struct sandbox_user user;
	const char *root_path; /* where commands find their input root */
	const char *worker_name;
	int64_t entries_max;   /* of what one action's outputs may have */
	int64_t wait_limit_ns; /* how long a command may wait for its inputs in all */
};

enum job_state {
	JOB_WAITING,  /* nothing done yet */
	JOB_FETCHING, /* Action, Command, the tree's directories */
	JOB_STAGING,  /* overlay, output parents */
	JOB_RUNNING,
	JOB_CAPTURING,
	JOB_UPLOADING,
	JOB_ENDED,
};

struct job;

/* Consumes order. number is unique while this worker lives; place is the slot's. */
struct job *job_new(const struct job_site *site, struct place *place,
		    struct source_job *order, unsigned int number);
void *job_free(struct job *job);
CLEANUP_DEFINE(struct job, job_free)
const char *job_id(const struct job *job);

/* Runs it to its end, blocking. status_out NULL: it ran (whatever its exit code). result
 * holds an encoded ActionResult where there is one, also beside a status. */
void job_run(struct job *job, struct error **status_out, struct buf *result_out);
/* Any thread: the command is killed and job_run() ends soon, with CANCELLED. */
void job_cancel(struct job *job);
