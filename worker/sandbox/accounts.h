/*
 * What a command finds in /etc instead of the worker's: who is who, and what the machine
 * is called, the same on each worker. A directory with the files "passwd", "group" and
 * "hosts", to be mounted over those of the host one by one.
 */
#pragma once

#define ACCOUNTS_UID                                                                     \
	1000 /* whom a command finds itself to be, where it asks for nobody              \
		 else; documented for users, as is the group */

#include <stdbool.h>

#include "lib/base/error.h"

#define ACCOUNTS_NAME     "build"    /* of whoever the command is, but root and nobody */
#define ACCOUNTS_HOME     "/tmp"     /* of all: the one place that is always writable */
#define ACCOUNTS_HOSTNAME "lazyroot" /* of the sandbox */

/* Makes dir. with_network: the host's own hosts are in there, too. */
struct error *accounts_write(const char *dir, unsigned int uid, unsigned int gid,
			     bool with_network);
