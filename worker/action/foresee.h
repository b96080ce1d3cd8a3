/*
 * Foresight at work: what predict/foresight.h thinks of each action that runs here, its
 * wishes handed to the fetcher, and what was learned kept in a database. One thread does
 * all the thinking, so that no job waits for it; whatever goes wrong here costs bytes or
 * time, and never an action.
 *
 * Threads: any, for all but new and free; no call blocks but foresee_result(), which
 * waits a second at most for the thinking to catch up.
 */
#pragma once

#include "fuse/view.h"
#include "predict/foresight.h"
#include "predict/profile_db.h"
#include "predict/profile_key.h"

struct foresee;
struct foresee_job;

struct foresee_config {
	struct fetch *fetch; /* all borrowed */
	struct dircache *dirs;
	struct view *view;
	struct profile_db *profiles; /* of all instances; NULL: nothing is learned */
	bool is_shared;              /* with other workers, through the storage */
};

struct error *foresee_new(const struct foresee_config *config,
			  struct foresee **foresee_out);
/* No job may be there any more; waits for wishes in flight. */
void *foresee_free(struct foresee *foresee);
CLEANUP_DEFINE(struct foresee, foresee_free)

struct foresee_action {
	struct digest command;
	struct foresight_action action; /* borrowed for the call */
};

/* The command is known, perhaps nothing of its root is here yet. */
struct foresee_job *foresee_begin(struct foresee *foresee,
				  const struct foresee_action *action);
/* Directories of the root have come, those that the command starts with among them: what
 * else comes is looked for now and then. */
void foresee_loaded(struct foresee_job *job);
/* The command opened path, clean, from the root; was_here: its blob was at hand. */
void foresee_opened(struct foresee_job *job, const char *path, bool was_here);
/* The command has ended, or will never run: wishes are dropped, and where it ran what it
 * read is learned. */
void foresee_end(struct foresee_job *job, bool has_run);
/* After foresee_end(): what came of it; false where the thinking is far behind, since it
 * thinks for all jobs. */
bool foresee_result(struct foresee_job *job, struct foresight_summary *out);
/* NULL is fine. */
void *foresee_job_free(struct foresee_job *job);

/* Adds what came of all jobs so far, for metrics. */
void foresee_totals(struct foresee *foresee, struct foresight_summary *sum);
