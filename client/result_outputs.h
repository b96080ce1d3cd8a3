/*
 * The outputs that an ActionResult names, in whichever of the protocol's fields: files,
 * then directories, then links.
 *
 * Threads: main.
 */
#pragma once

#include "client/client.h"
#include "lib/tree/treebuild.h"

enum result_output_kind { RESULT_FILE, RESULT_TREE, RESULT_LINK };

struct result_output {
	enum result_output_kind kind;
	const char *path;        /* as the result has it */
	struct digest digest;    /* of a file; of a directory, its Tree or Directory */
	bool is_executable;      /* a file */
	struct tree_props props; /* a file's */
	const char *target;      /* of a link */
};

/* fn's first error ends it, with the output's path before its text. */
struct error *result_outputs_each(const Reapi__ActionResult *result,
				  struct error *(*fn)(void *ctx,
						      const struct result_output *output),
				  void *ctx);
/* The Directory of a RESULT_TREE; fetches its Tree. DATA_LOSS: it is none. */
struct error *result_outputs_root(struct client *client,
				  const struct result_output *output,
				  struct digest *root_out);
/* A file's, or NULL where it has none. */
const struct tree_props *result_outputs_props(const struct result_output *output);
/* Into a tree that is being built, at place. */
struct error *result_outputs_put(struct client *client, struct treebuild *build,
				 const char *place, const struct result_output *output);
