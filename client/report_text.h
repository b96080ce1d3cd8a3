/*
 * The read report of a run: one line for people, one document for scripts.
 */
#pragma once

#include "client/outcome.h"

struct error *report_text_deliver(const struct outcome_config *config,
				  const struct execution_outcome *outcome, int exit_code);
/* Calls fn with each note of the worker's, which is escaped text. */
void report_text_each_note(const struct execution_outcome *outcome,
			   void (*fn)(void *ctx, const char *note), void *ctx);
/* The document of INTERFACES.md. */
json_t *report_text_json(const struct outcome_config *config,
			 const struct execution_outcome *outcome, int exit_code);
