/*
 * The steps by which a job makes its input root ready and tidies it up: loading the
 * tree's directories, checking the working directory, making the outputs' parents.
 */
#pragma once

#include <stdatomic.h>

#include "fuse/capture.h"
#include "worker/action/job.h"
#include "worker/action/report.h"

/*
 * Makes sure that the root is here, and starts loading the directories below it in the
 * background; waits for them for a moment (JOB_LOAD_WAIT_MS), since one GetTree beats a
 * round trip a directory, but never for a tree that takes long.
 */
struct error *job_stage_tree(const struct job_site *site, struct view_root *root,
			     const struct digest *digest);
/* In the mounted root: makes the parents of outputs; INVALID_ARGUMENT where the working
 * directory is then neither there nor an output itself. No link leads out of the root. */
struct error *job_stage_prepare(const struct plan *plan, const struct sandbox_user *user,
				int merged_fd, const atomic_bool *is_cancelled);
/* What the job (in arena already) and the capture have to say to people. */
void job_stage_notes(const struct capture *capture, const char *const *own, size_t n_own,
		     struct arena *arena, struct report *report);

/*
 * What went wrong with blobs, as the client has to know it: one that is nowhere is its to
 * send again; what came wrong, late or not at all may come at the next try. In particular
 * the deadline of a call is not that of the action.
 */
struct error *job_stage_blob_error(struct error *err);
