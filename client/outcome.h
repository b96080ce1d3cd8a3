/*
 * What a person and a script get of an execution's outcome: logs, outputs, one line, the
 * report, the exit code. Shared by run and wait.
 */
#pragma once

#include "client/live.h"
#include "client/report_text.h"

struct outcome_config {
	struct report_text_config report;
	const struct live *live; /* has shown some of the logs, or NULL */
	const char *download; /* directory for outputs, or NULL: they stay in the store */
};

/* Before the command runs: INVALID_ARGUMENT where --download or --report name a place
 * that could never be. Either may be NULL. */
struct error *outcome_check(const char *download, const char *report);
/* Where the command's stdout goes. */
int outcome_stdout_fd(const struct report_text_config *report);
/* Main. Brings the logs, then the outputs, then the report; what fails is an error, after
 * as much of it as was there. *exit_out: what the program should exit with. */
struct error *outcome_deliver(const struct outcome_config *config,
			      const struct execution_outcome *outcome, int *exit_out);
