/*
 * The outputs that were asked for, and where they lie: a result names its outputs from
 * the working directory on, as whoever asked did, and each may write a path its own way.
 *
 * Threads: one at a time.
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

/* Places in the input root, to be looked for: a service names as many as it likes. */
struct declared_places {
	const struct declared *declared;
	char **items; /* sorted */
	size_t n;
	bool has_all;
};
void declared_places_deinit(struct declared_places *places);
/* What was asked for: all there is, where that is not known. */
void declared_asked(const struct declared *declared, struct declared_places *out);
/* What a result holds. */
void declared_held(const struct declared *declared, const Reapi__ActionResult *result,
		   struct declared_places *out);
/* Whether an output is among them, however it is written. */
bool declared_places_have(const struct declared_places *places, const char *path);
