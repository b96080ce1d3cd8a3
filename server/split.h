/*
 * SplitBlob and GetChunkMapping, which cas.c lists among its methods.
 *
 * Threads: the steps' (lib/rpc/server.h).
 */
#pragma once

#include "server/service.h"

/* Bytes of a chunk, as announced: what the protocol proposes. */
#define SPLIT_AVERAGE (512 << 10)

enum rpc_verdict split_blob(struct rpc_in *in, void *service);
enum rpc_verdict split_mapping(struct rpc_in *in, void *service);
