/*
 * Blobs kept open, by node: the descriptor for reads, or in passthrough mode the kernel's
 * backing id (at most one a node, as the kernel demands).
 *
 * Threads: any.
 */
#pragma once

#include <stdint.h>

#include "lib/base/error.h"

struct handles;
struct handle;
#define HANDLES_IDLE_MAX     256  /* descriptors of ours, … */
#define HANDLES_IDLE_SHARE   8    /* one in so many of all at most */
#define HANDLES_BACKINGS_MAX 8192 /* files that only the kernel holds */

/* device: the session's /dev/fuse in passthrough mode, borrowed; else -1. */
struct handles *handles_new(int device);
/* Closes all, in use or not: no request runs any more. Before the device is closed. */
void *handles_free(struct handles *handles);
/* A use of the node's handle, until handles_put(); NULL: it has none. */
struct handle *handles_get(struct handles *handles, uint64_t id);
/* Consumes fd. A use of the handle made, or of the one that is there already. */
struct error *handles_add(struct handles *handles, uint64_t id, int fd,
			  struct handle **handle_out);
void handles_put(struct handles *handles, struct handle *handle);
/* The kernel forgets the node: closes a handle that nobody uses. */
void handles_forget(struct handles *handles, uint64_t id);
/* For who has a use; -1 in passthrough mode. */
int handle_fd(const struct handle *handle);
int handle_backing_id(const struct handle *handle); /* 0: none */
/* Whether files of this directory can be passed through; the error says why not. */
struct error *handle_probe(int device, int dir_fd);
