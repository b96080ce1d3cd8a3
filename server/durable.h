/*
 * Answers that promise a blob: sent once the blobs that they speak of are on the disk.
 */
#pragma once

#include "lib/rpc/server.h"
#include "lib/store/store_durable.h"

/* What a call keeps while it waits; zeroed before, its own state or part of it. */
struct durable {
	struct store *store;
	struct store_wait wait;
	struct rpc_in *in; /* a reference while it waits */
	uint64_t commit;   /* of the newest blob */
	struct buf answer; /* encoded */
	_Atomic int outcome;
	struct error *err;
	bool is_waiting;
};

/* The answer will speak of this blob. */
void durable_add(struct durable *durable, struct store *store,
		 const struct digest *digest);
/* Sends the answer, now (RPC_DONE) or later (RPC_LATER). */
enum rpc_verdict durable_send(struct rpc_in *in, struct durable *durable,
			      const ProtobufCMessage *answer);
/* A further step of a call whose answer waits (is_waiting). */
enum rpc_verdict durable_step(struct rpc_in *in, struct durable *durable);
/* With the state that holds it. */
void durable_deinit(struct durable *durable);
