/*
 * Changes on their way to being shown with their content: held until there are enough of
 * them, so that their blobs come together and not one after the other.
 *
 * Threads: main.
 */
#pragma once

#include "client/client.h"
#include "lib/cas/treediff.h"

struct diff_ahead {
	struct fetch *fetch;
	treediff_change_fn *show; /* is told of each, in order; reads the blobs itself */
	void *ctx;
	int64_t blob_max; /* bytes of a blob that is read; larger ones are not */
	struct diff_held *held;
	size_t n, cap;
	int64_t bytes; /* of their blobs, and of what is held of them */
};

void diff_ahead_deinit(struct diff_ahead *ahead);
/* Its nodes and path are copied. May show those before it; an error of show ends it. */
struct error *diff_ahead_add(struct diff_ahead *ahead, const char *path,
			     const struct tree_node *was, const struct tree_node *is);
/* Shows what is left. */
struct error *diff_ahead_end(struct diff_ahead *ahead);
