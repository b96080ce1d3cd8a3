/*
 * The read report of a run: one line for people, one document for scripts.
 *
 * Threads: main.
 */
#pragma once

#include "client/declared.h"
#include "client/execution.h"

struct report_text_config {
	struct client *client;
	const struct digest *action; /* NULL: from the metadata */
	struct declared declared;
	const char *file;  /* for the document, "-": stdout, or NULL */
	int64_t wall_ns;   /* how long it took as seen from here */
	int64_t queued_ns; /* -1: not known */
};

bool report_text_is_on_stdout(const struct report_text_config *config);
/* Says the line, unless --quiet, and writes the document where it is asked for. The
 * outcome has a result. */
struct error *report_text_deliver(const struct report_text_config *config,
				  const struct execution_outcome *outcome, int exit_code);
/* Calls fn with each note of the worker's, which is escaped text. */
void report_text_each_note(const struct execution_outcome *outcome,
			   void (*fn)(void *ctx, const char *note), void *ctx);
