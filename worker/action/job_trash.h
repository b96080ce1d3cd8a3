/*
 * What an action leaves, removed in the background: it may take long, and nobody waits
 * for it.
 */
#pragma once

#include "fuse/overlay.h"
#include "lib/base/pool.h"
#include "worker/action/open_watch.h"
#include "worker/action/upper.h"
#include "worker/sandbox/layout.h"

struct job_trash {
	struct pool_task task;
	/* all owned; each may be NULL, or zeroed */
	struct open_watch
		*opened; /* closing a fanotify group waits for an SRCU grace period */
	struct overlay *overlay;
	struct upper *upper;
	struct layout layout;
	char *dir;
};

/* Consumes what trash holds; no longer seen when this returns: the overlay. */
void job_trash_push(struct pool *background, const struct job_trash *trash);
