/*
 * From what an action left behind to its ActionResult: outputs captured, logs stored,
 * blobs uploaded.
 */
#pragma once

#include <stdatomic.h>

#include "fuse/capture.h"
#include "lib/cas/upload.h"
#include "worker/action/plan.h"
#include "worker/sandbox/limits.h"

#define OUTPUTS_INLINE_MAX                                                               \
	(16 << 10) /* bytes of stdout or stderr sent in the result too */

struct outputs_config {
	const struct plan *plan;
	const struct limits *limits;
	unsigned int
		*passed_mask;    /* limits that were passed; those of outputs are added */
	struct capture *capture; /* of the detached overlay */
	const atomic_bool *is_cancelled; /* once true: everything ends with CANCELLED */
	struct store *store;
	struct remote *remote; /* NULL: they stay in the store */
	struct fetch *fetch;   /* is told of what it need not fetch */
	int dir_fd; /* holds the files "stdout" and "stderr", which are moved away */
	struct arena *arena; /* what result points to lives here */
};

/* The capture's may_go_on, ctx being the outputs_config: not past a limit, nor once it is
 * cancelled. */
struct error *outputs_may_go_on(void *ctx, const struct capture_stats *with_it);
/*
 * Fills the result's outputs and logs; blobs are in the store, not yet uploaded. The
 * first output that passes a limit and those after it are left out. Logs are cut to their
 * limit, and stderr gets a line for each limit that was passed. n_blobs_out: how many of
 * the capture's blobs, from the first, the result needs.
 */
struct error *outputs_capture(const struct outputs_config *config,
			      Reapi__ActionResult *result, size_t *n_blobs_out);
/* Uploads every blob that the captured result names and the remote lacks. */
struct error *outputs_upload(const struct outputs_config *config,
			     const Reapi__ActionResult *result, size_t n_blobs);
