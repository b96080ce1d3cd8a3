/*
 * A tree as a tar archive: POSIX pax where ustar cannot say it, the same bytes for the
 * same tree. All is root's, and has the time of inputs where it has none of its own.
 *
 * Threads: main; blocking.
 */
#pragma once

#include "client/client.h"

/* After client_open_fetch(). Compressed as its name ends: .gz, .tgz, .bz2, .xz or .zst.
 * What is at fd when it fails is part of one. */
struct error *tarball_write(struct client *client, const struct digest *root,
			    const char *name, int fd);
