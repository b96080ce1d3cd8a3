/*
 * The read report of a run: one line for people, one document for scripts.
 */
#pragma once

#include "client/outcome.h"

struct error *report_text_deliver(const struct outcome_config *config,
				  const struct execution_outcome *outcome, int exit_code);
/* The document of INTERFACES.md. */
json_t *report_text_json(const struct outcome_config *config,
			 const struct execution_outcome *outcome, int exit_code);
