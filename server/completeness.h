/*
 * Whether all that a result names is here, looked at step by step.
 *
 * Threads: one at a time; workers only.
 */
#pragma once

#include "lib/tree/dirset.h"
#include "server/walk.h"

struct completeness {
	const struct server *server;
	const Reapi__ActionResult *result; /* borrowed */
	unsigned int n_steps;
	size_t next; /* output: files, then directories */
	bool has_outputs, is_over;
	struct dirset seen; /* Trees */
	int64_t tree_bytes;
	struct walk walk; /* of the Directories, once there is one */
};

void completeness_init(struct completeness *check, const struct server *server,
		       const Reapi__ActionResult *result);
void completeness_deinit(struct completeness *check);
/* False: it is over, and *is_complete_out says how. */
bool completeness_step(struct completeness *check, bool *is_complete_out);
