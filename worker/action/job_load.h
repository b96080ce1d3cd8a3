/*
 * Loading the input root's directories: all of them in the background, and before the
 * command starts those that its start needs.
 */
#pragma once

#include <stdatomic.h>

#include "lib/cas/treeahead.h"
#include "worker/action/job.h"

/*
 * Makes sure that the root is here, and begins to load what is not at hand of the
 * directories below it. Waits until that is over, or until the directories on the way to
 * the working directory, to the outputs and to the program in the root are here: what of
 * them the load does not bring soon is asked for by itself. Fails for the root only: of
 * any other the command finds out. *load_out is the load, or NULL; the caller's to let go
 * of, also where this fails: treeahead_leave() where the action was cancelled.
 */
struct error *job_load_tree(const struct job_site *site, struct view_root *root,
			    const struct plan *plan, const atomic_bool *is_cancelled,
			    struct treeahead_load **load_out);
