/*
 * What a job tells foresight (foresee.h) and hears of it. All of it does nothing where
 * nothing is foreseen. Threads: the job's.
 */
#pragma once

#include "worker/action/foresee.h"
#include "worker/action/job.h"
#include "worker/action/report.h"

struct job_foresight { /* zeroed: nothing is foreseen */
	struct foresee_job *thought;
	struct store *store;
	bool is_over;
};

/* The command is known. */
void job_foresee_begin(struct job_foresight *foresight, const struct job_site *site,
		       const struct plan *plan);
/* What the command starts with is here of the root's Directories. */
void job_foresee_loaded(struct job_foresight *foresight);
/* As open_watch.h tells it; ctx is the job_foresight. */
void job_foresee_opened(void *ctx, const char *path, const struct digest *digest);
/* Once: nothing more is wished for. */
void job_foresee_end(struct job_foresight *foresight, bool has_run);
void job_foresee_report(struct job_foresight *foresight, struct report *report);
void job_foresee_deinit(struct job_foresight *foresight);
