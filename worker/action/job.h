/*
 * The life of one action on this machine, from its digest to its result: a job. Whoever
 * runs one gives it a thread, a place (sandbox_slot.h) and, in struct job_site, what all
 * jobs share; the job tells by callback how far it is, and knows nothing of where it came
 * from.
 */
#pragma once

#include "fuse/session.h"
#include "lib/base/pool.h"
#include "worker/action/plan.h"
#include "worker/action/upper.h"
#include "worker/sandbox/allow.h"
#include "worker/sandbox/limits.h"
#include "worker/sandbox/sandbox_slot.h"

struct report;
struct chunks;
struct foresee;
struct treeahead;

struct job_site { /* all borrowed; the same for every job */
	struct store *store;
	struct chunks *chunks; /* of it; NULL: none are known */
	struct remote *remote; /* NULL: outputs stay in the store */
	struct fetch *fetch;
	struct dircache *dirs;
	struct view *view;
	struct session *session;
	struct foresee *foresee; /* NULL: nothing is foreseen */
	struct pool *pool;       /* disk and hashing */
	struct treeahead *ahead; /* loads trees, in the background */
	struct pool *background; /* removes what actions left; ahead's, too */
	const struct sandbox_tools *tools;
	const struct cgroups *cgroups;
	const struct limits_policy *limits;
	enum upper_kind upper; /* where a limit of disk space is passed */
	const struct allow *allow;
	/* the process ends with its only job: what takes time at the end (counting opened
	 * files, unmounting) is left out */
	bool is_brief;
	struct slice filter;     /* of system calls, from allow */
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

const char *job_state_name(enum job_state state); /* "fetching" */

struct job_config { /* all borrowed until job_free() */
	const struct job_site *site;
	struct sandbox_slot *slot;
	const char *id; /* in the log */
	struct digest action;
	struct slice action_bytes; /* the Action itself; empty: it is fetched */
	struct slice metadata; /* an ExecutedActionMetadata: what others have to say */
	bool wants_caching;    /* the job writes the action cache */
	unsigned int number;   /* unique while this process lives */
	/* On the job's thread, before what the state names begins; NULL: nobody listens.
	 */
	void (*changed)(void *ctx, enum job_state state);
	void *ctx;
};

struct job_outcome {
	struct error *status; /* owned; NULL: it ran (whatever its exit code) */
	/* owned; an encoded ActionResult where there is one, also beside a status */
	struct buf result;
	const struct report *report; /* the job's, until job_free() */
	int exit_code;
	bool is_squeezed; /* the cache was too small for it */
};

struct job;

struct job *job_new(const struct job_config *config);
void *job_free(struct job *job);
CLEANUP_DEFINE(struct job, job_free)

/* Runs it to its end, blocking. */
void job_run(struct job *job, struct job_outcome *out);
/* From JOB_RUNNING on: where its "stdout" and "stderr" are. */
int job_dir_fd(const struct job *job);
/* Any thread: the command is killed and job_run() ends soon, with CANCELLED. */
void job_cancel(struct job *job);
