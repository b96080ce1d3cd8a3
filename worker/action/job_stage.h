/*
 * The steps by which a job makes its mounted input root ready and tidies it up: checking
 * the working directory, making the outputs' parents.
 */
#pragma once

#include <stdatomic.h>

#include "fuse/capture.h"
#include "worker/action/job.h"
#include "worker/action/report.h"

/* In the mounted root: makes the parents of outputs; INVALID_ARGUMENT where the working
 * directory is then neither there nor an output itself. No link leads out of the root. */
struct error *job_stage_prepare(const struct plan *plan, const struct sandbox_user *user,
				int merged_fd, const atomic_bool *is_cancelled);
/* Whether the directories of both paths are the same: neighbours share theirs. */
bool job_stage_same_parent(const char *a, const char *b);
/* What the job (in arena already) and the capture have to say to people. */
void job_stage_notes(const struct capture *capture, const char *const *own, size_t n_own,
		     struct arena *arena, struct report *report);

/*
 * What went wrong with blobs, as the client has to know it: one that is nowhere is its to
 * send again; what came wrong, late or not at all may come at the next try. In particular
 * the deadline of a call is not that of the action.
 */
struct error *job_stage_blob_error(struct error *err);
/* What bubblewrap said before it failed stands where the command's stderr would: adds it.
 */
struct error *job_stage_last_words(int dir_fd, struct error *err);
