/*
 * What a person and a script get of an execution's outcome: logs, outputs, one line, the
 * report, the exit code. Shared by run and wait.
 */
#pragma once

#include "client/execution.h"

struct outcome_config {
	struct client *client;
	const struct digest *action; /* NULL: from the metadata */
	const char *download; /* directory for outputs, or NULL: they stay in the store */
	/* clean paths that were asked for, or NULL: not known here, all are taken */
	const struct option_list *outputs;
	const char *workdir; /* clean, or NULL: paths are relative to it */
	/* outputs lie above workdir: the directory for outputs is the input root's then
	 */
	bool is_from_root;
	const char *report; /* file for the report, "-": stdout, or NULL */
	int64_t wall_ns;    /* how long it took as seen from here */
	int64_t queued_ns;  /* -1: not known */
};

/* Whether the result holds an output at a clean path that was asked for. */
bool outcome_has_output(const struct outcome_config *config,
			const Reapi__ActionResult *result, const char *path);
/* *exit_out: what the program should exit with. */
struct error *outcome_deliver(const struct outcome_config *config,
			      const struct execution_outcome *outcome, int *exit_out);
