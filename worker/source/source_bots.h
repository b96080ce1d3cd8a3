/*
 * Leases from a Remote Workers API server (lazyroot-server, BuildGrid).
 */
#pragma once

#include "worker/source/source.h"

struct error *source_bots_start(const struct source_config *config,
				struct source **source_out);
