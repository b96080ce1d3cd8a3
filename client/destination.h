/*
 * Where a tree is put on this machine: all of it at once, beside the place and then by
 * rename, or nothing.
 *
 * Threads: main; blocking.
 */
#pragma once

#include "lib/cas/checkout.h"

/* ALREADY_EXISTS: something is there that is no empty directory; wish says what may be
 * done about it. */
struct error *destination_check(const char *dest, const char *wish);
/* Replaces whatever is there, but for a mount point and the working directory with all
 * above it: such a one is filled while it is empty, else it is FAILED_PRECONDITION. So is
 * a device. */
struct error *destination_put_tree(const struct checkout_config *config,
				   const struct digest *root, const char *dest);
/* What takes bytes and is never replaced by a file: one of our own descriptors
 * (/dev/stdout, /dev/fd/N), a device, a FIFO; open for writing. *fd_out is -1 for any
 * other path. */
struct error *destination_open_stream(const char *path, int *fd_out);
