/*
 * What foresight may ask of this worker: Directories in memory or on the disk, and blobs
 * of the cache, never the network. One desk of blobs for the thread that thinks, and for
 * each job what it is charged.
 *
 * Threads: the one that thinks; while a foresight begins, its job's own.
 */
#pragma once

#include "lib/cas/dircache.h"
#include "predict/foresight.h"

struct foresee_blobs {
	struct dircache *dirs; /* both borrowed */
	struct store *store;
	struct digest read_digest; /* of read_fd, which is the blob read last */
	int read_fd;
};

void foresee_blobs_init(struct foresee_blobs *blobs, struct dircache *dirs);
void foresee_blobs_deinit(struct foresee_blobs *blobs);

struct foresee_world {
	struct foresight_world world;
	struct foresee_blobs *blobs;
	struct foresight *foresight; /* who asks; NULL: it begins, and no disk is read */
};

/* Stays where it is. */
void foresee_world_init(struct foresee_world *world, struct foresee_blobs *blobs);
