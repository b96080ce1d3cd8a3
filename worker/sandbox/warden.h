/*
 * The worker's warden: a process (lazyroot-sandbox warden) that outlives it by a moment
 * and aborts the FUSE mounts that it served. A thread of the worker that waits for an
 * answer of its own mount is not killed while that mount is open, and the mount is open
 * while a thread of the worker lives: without somebody outside, a worker killed just then
 * would stay as a zombie for ever, and its cache in use.
 *
 * Threads: the process's first one, whose end the kernel tells the warden.
 */
#pragma once

#include "lib/base/error.h"

struct warden;

/* program: path of lazyroot-sandbox; dir: absolute, of whose mounts it takes care. It is
 * in this thread's mount namespace. */
struct error *warden_new(const char *program, const char *dir, struct warden **out);
/* Ends it: the mounts are gone, or nobody waits for them. */
void *warden_free(struct warden *warden);
CLEANUP_DEFINE(struct warden, warden_free)
