/*
 * GetTree, which cas.c lists among its methods.
 *
 * Threads: the steps' (lib/rpc/server.h).
 */
#pragma once

#include "server/service.h"

enum rpc_verdict cas_get_tree(struct rpc_in *in, void *service);
