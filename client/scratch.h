/*
 * A directory of one command's own beside the user's store, for what is of no use later.
 * It goes with its owner; what a killed one left goes with the next owner's start: each
 * holds a lock on its directory for as long as it lives.
 *
 * Threads: main.
 */
#pragma once

#include "client/local.h"

struct scratch {
	char *path;
	int fd; /* of the directory; holds the lock */
};

#define SCRATCH_INIT                                                                     \
	{                                                                                \
		.fd = -1                                                                 \
	}

/* Made empty; removes what the dead left. */
struct error *scratch_open(struct scratch *scratch, struct local *local);
void scratch_deinit(struct scratch *scratch);
