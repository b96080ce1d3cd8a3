/*
 * Owns an answer from the moment where its blobs are in the store to the one where they
 * are on the disk. No thread waits: the store's durable thread wakes the call.
 *
 * Threads: the call's step, and the durable thread in durable_done(), which only notes
 * the outcome; the store's lock orders it before durable_deinit().
 */
#include "server/durable.h"

#include <stdatomic.h>

enum durable_outcome { DURABLE_OPEN, DURABLE_ON_DISK, DURABLE_LOST };

void durable_add(struct durable *durable, struct store *store,
		 const struct digest *digest)
{
	uint64_t commit = store_commit_of(store, digest);

	durable->store = store;
	if (commit > durable->commit)
		durable->commit = commit;
}

static void durable_done(void *ctx, const struct error *err)
{
	struct durable *durable = ctx;

	if (err)
		durable->err = error_dup(err);
	atomic_store(&durable->outcome, err ? DURABLE_LOST : DURABLE_ON_DISK);
	rpc_wake(durable->in);
}

enum rpc_verdict durable_send(struct rpc_in *in, struct durable *durable,
			      const ProtobufCMessage *answer)
{
	if (!durable->commit) {
		rpc_send(in, answer);
		return RPC_DONE;
	}
	rpc_encode(answer, &durable->answer);
	durable->in = rpc_in_ref(in);
	durable->wait.done = durable_done;
	durable->wait.ctx = durable;
	durable->is_waiting = true;
	if (store_await(durable->store, &durable->wait, durable->commit))
		atomic_store(&durable->outcome, DURABLE_ON_DISK);
	return durable_step(in, durable);
}

enum rpc_verdict durable_step(struct rpc_in *in, struct durable *durable)
{
	switch ((enum durable_outcome)atomic_load(&durable->outcome)) {
	case DURABLE_OPEN:
		return RPC_LATER;
	case DURABLE_LOST:
		return rpc_fail(in, take(durable->err));
	case DURABLE_ON_DISK:
		break;
	}
	if (rpc_is_cancelled(in))
		return rpc_fail(in, error_new(ERROR_CANCELLED, "the client left"));
	rpc_send_raw(in, buf_slice(&durable->answer), (struct slice){0}, NULL, NULL);
	return RPC_DONE;
}

void durable_deinit(struct durable *durable)
{
	if (durable->is_waiting)
		store_await_end(durable->store, &durable->wait);
	rpc_in_unref(durable->in);
	error_free(durable->err);
	buf_deinit(&durable->answer);
}
