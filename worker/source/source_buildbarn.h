/*
 * Leases from Buildbarn's scheduler (OperationQueue), a call of its own for each slot.
 */
#pragma once

#include "worker/source/source.h"

struct error *source_buildbarn_start(const struct source_config *config,
				     struct source **source_out);
