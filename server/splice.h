/*
 * SpliceBlob and RegisterChunkMapping, which cas.c lists among its methods.
 *
 * Threads: the steps' (lib/rpc/server.h).
 */
#pragma once

#include "server/service.h"

enum rpc_verdict splice_blob(struct rpc_in *in, void *service);
enum rpc_verdict splice_mapping(struct rpc_in *in, void *service);
