/*
 * What a bot is told of a lease beside it: ExecuteOperationMetadata, with the names by
 * which it may write the command's stdout and stderr while it runs. The streams are the
 * lease's: they end with it.
 *
 * Threads: the steps' (lib/rpc/server.h).
 */
#pragma once

#include "server/service.h"

/* Bytes of a lease's metadata at most. */
size_t bots_logs_size(const char *session);
/* The streams are made when a lease is first described; where there can be none, it has
 * no names. */
void bots_logs_metadata(const struct server *server, const char *session,
			const struct queue_lease_told *lease, struct buf *out);
