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
/* Replaces whatever is there, or unless is_forced nothing but an empty directory: what
 * came since it was checked stays. A mount point and the working directory with all above
 * it are filled while they are empty, else they are FAILED_PRECONDITION,
 * as is a device. PERMISSION_DENIED: dest is another user's link. */
struct error *destination_put_tree(const struct checkout_config *config,
				   const struct digest *root, bool is_forced,
				   const char *dest);
/* What takes bytes and is never replaced by a file: one of our own descriptors
 * (/dev/stdout, /dev/fd/N), a device, a FIFO that somebody reads; open for writing.
 * *fd_out is -1 for any other path. */
struct error *destination_open_stream(const char *path, int *fd_out);
