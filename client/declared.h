/*
 * The outputs that were asked for, and where they lie: a result names its outputs from
 * the working directory on, as whoever asked did, and each may write a path its own way.
 *
 * Threads: one at a time. Owns nothing.
 */
#pragma once

#include "lib/base/option.h"
#include "lib/rpc/rpc.h"

struct declared {
	/* clean paths that were asked for, or NULL: not known here, all are taken */
	const struct option_list *outputs;
	const char *workdir; /* clean, or NULL: paths are relative to it */
	/* outputs lie above workdir: the directory for outputs is the input root's then
	 */
	bool is_from_root;
};

/* Where an output lies in the input root. INVALID_ARGUMENT: outside; as below. */
struct error *declared_in_root(const struct declared *declared, const char *path,
			       char **out);
/* Where it goes below the directory for outputs. */
struct error *declared_place(const struct declared *declared, const char *path,
			     char **out);
/* Whether an output that a result names was asked for. */
bool declared_has(const struct declared *declared, const char *path);
/* Whether the result holds what was asked for as path. */
bool declared_is_in(const struct declared *declared, const Reapi__ActionResult *result,
		    const char *path);
