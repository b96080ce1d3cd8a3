/*
 * A command's stdout and stderr while it runs: from the files where they are kept, where
 * it runs on this machine; elsewhere where the service offers log streams of them
 * (ExecuteOperationMetadata.stdout_stream_name, ByteStream.Read). What was shown is
 * counted and hashed, so that the result need only add what is missing, and is shown as a
 * whole where it says something else.
 *
 * Threads: main; a thread a stream, or one for the files, reads and writes.
 */
#pragma once

#include "client/client.h"

#define LIVE_STREAMS 2 /* stdout, stderr */

struct live;

/* Whether it is wanted: on a terminal, unless an option says otherwise. */
struct live_wish {
	bool is_wanted, is_unwanted;
};
#define LIVE_OPTIONS(w)                                                                  \
	{"stream-logs",                                                                  \
	 0,                                                                              \
	 OPTION_FLAG,                                                                    \
	 NULL,                                                                           \
	 "show what the command says while it runs; a service must offer that\n"         \
	 "(default: on a terminal)",                                                     \
	 NULL,                                                                           \
	 &(w)->is_wanted,                                                                \
	 0,                                                                              \
	 0},                                                                             \
	{                                                                                \
		"no-stream-logs", 0, OPTION_FLAG, NULL, "show it once it has ended",     \
			NULL, &(w)->is_unwanted, 0, 0                                    \
	}
bool live_is_wished(const struct live_wish *wish, int stdout_fd);

/* stdout_fd: where the command's stdout goes. */
struct live *live_new(struct client *client, int stdout_fd);
void *live_free(struct live *live); /* ends it */
CLEANUP_DEFINE(struct live, live_free)

/* What the service says of the operation now; each time it says something. */
void live_follow(struct live *live, const Reapi__ExecuteOperationMetadata *metadata);
/* The command begins on this machine; dir_fd (copied) has, or will have, the files
 * "stdout" and "stderr", which grow until live_end(). Once. */
void live_follow_files(struct live *live, int dir_fd);
/* The operation is over: returns once the streams are read, too, or a little later. */
void live_end(struct live *live); /* NULL: nothing */
/* After live_end(): how many bytes of one were shown, and their digest. */
void live_shown(const struct live *live, size_t which, struct digest *out);
