/*
 * run --artifact: what a run made gets a name here, and goes to the caches that take
 * pushes, as if it had been made here.
 *
 * Threads: main.
 */
#pragma once

#include "client/artifact_cache.h"

struct artifact_run {
	char *name; /* NULL: no artifact is wanted */
	int64_t expire_ns;
	struct artifact_caches caches;
};

#define ARTIFACT_RUN_INIT                                                                \
	{                                                                                \
		.caches = ARTIFACT_CACHES_INIT                                           \
	}
void artifact_run_deinit(struct artifact_run *run);

#define ARTIFACT_RUN_OPTIONS(r)                                                          \
	{"artifact",                                                                     \
	 0,                                                                              \
	 OPTION_STRING,                                                                  \
	 "NAME",                                                                         \
	 "what a successful run made is called so from then on",                         \
	 NULL,                                                                           \
	 &(r)->name,                                                                     \
	 0,                                                                              \
	 0},                                                                             \
		{"expire",                                                               \
		 0,                                                                      \
		 OPTION_DURATION,                                                        \
		 "DURATION",                                                             \
		 "how long that name holds (default: until it is taken back)",           \
		 NULL,                                                                   \
		 &(r)->expire_ns,                                                        \
		 0,                                                                      \
		 0},                                                                     \
		ARTIFACT_CACHES_OPTION(&(r)->caches)

/* Before anything is sent. INVALID_ARGUMENT: the name or a cache is none. */
struct error *artifact_run_check(struct artifact_run *run, struct client *client);
/* After the command ended well, wherever it ran. A cache that fails is an error too,
 * after all others were pushed to. */
struct error *artifact_run_keep(struct artifact_run *run, struct client *client,
				const struct artifact_source *source);
