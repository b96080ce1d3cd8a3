/*
 * Jobs from a Remote Workers API server (lazyroot-server, BuildGrid).
 */
#pragma once

#include "lib/rpc/chan.h"
#include "worker/source.h"

struct source_bots_property {
	const char *name;
	const char *value;
};

struct source_bots_config {
	struct rpc_chan *chan; /* borrowed */
	const char *instance;
	const char *bot_id;
	unsigned int n_slots;
	const struct source_bots_property *properties; /* sorted by name, then value */
	size_t n_properties;
	const struct source_events *events; /* borrowed */
};

struct error *source_bots_start(const struct source_bots_config *config,
				struct source **source_out);
