/*
 * Fuzzes a slot under Buildbarn's protocol with a scheduler that says anything in any
 * order: one lease runs at a time, only that one is cancelled, and once.
 *
 * An input is a row of turns: a byte, then its part. Even: the scheduler answers with a
 * SynchronizeResponse; odd: the lease ends, is further, or the request is made.
 */
#include "lib/rpc/rpc.h"
#include "tests/fuzz/fuzz.h"
#include "worker/source/buildbarn_sync.h"

#define FUZZ_ARENA_MAX ((size_t)32 << 20)

struct fuzz_run {
	char *id; /* NULL: none runs */
	bool is_cancelled;
};

static void fuzz_obey(struct buildbarn_sync *sync, struct fuzz_run *run)
{
	_cleanup_free_ char *cancel = buildbarn_sync_take_cancel(sync);
	struct source_lease *lease = buildbarn_sync_take_lease(sync);

	if (cancel) {
		require(run->id && strcmp(run->id, cancel) == 0 && !run->is_cancelled);
		run->is_cancelled = true;
	}
	if (!lease)
		return;
	require(!run->id && lease->id && lease->instance);
	run->id = alloc_string(lease->id);
	run->is_cancelled = false;
	source_lease_free(lease);
}

static void fuzz_answer(struct buildbarn_sync *sync, struct slice part)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(FUZZ_ARENA_MAX);
	const Buildbarn__SynchronizeResponse *response =
		(const Buildbarn__SynchronizeResponse *)rpc_decode(
			&buildbarn__synchronize_response__descriptor, part, &arena);
	enum buildbarn_state before = sync->state;
	enum buildbarn_news news;
	struct error *err;

	if (!response)
		return;
	err = buildbarn_sync_answer(sync, "prefix", response->desired_state, &news);
	require(!err || (sync->state == before && news == BUILDBARN_NOTHING));
	error_free(err);
}

static void fuzz_finish(struct buildbarn_sync *sync, struct fuzz_run *run,
			struct slice part)
{
	struct buf result = BUF_INIT;

	if (!run->id)
		return;
	require(buildbarn_sync_is_of(sync, run->id));
	free(take(run->id));
	buf_add(&result, part.data, part.len);
	buildbarn_sync_finish(sync,
			      part.len & 1 ? error_new(ERROR_INTERNAL, "it broke") : NULL,
			      &result);
}

static void fuzz_fill(const struct buildbarn_sync *sync)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(FUZZ_ARENA_MAX);
	Buildbarn__SynchronizeRequest request = BUILDBARN__SYNCHRONIZE_REQUEST__INIT;
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	if (sync->state == BUILDBARN_STOPPING)
		return;
	require(buildbarn_sync_fill(sync, &arena, &request));
	rpc_encode(&request.base, &bytes);
	require(bytes.len <= RPC_MESSAGE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice input = {data, size};
	struct fuzz_run run = {0};
	struct buildbarn_sync sync;

	buildbarn_sync_init(&sync, 0);
	while (input.len > 0) {
		uint8_t turn = *input.data;
		struct slice part;

		input.data++;
		input.len--;
		part = fuzz_part(&input);
		if (turn % 2 == 0)
			fuzz_answer(&sync, part);
		else if (turn % 3 == 0)
			fuzz_finish(&sync, &run, part);
		else if (turn % 5 == 0 && run.id)
			(void)buildbarn_sync_stage(&sync, run.id,
						   (enum source_stage)(part.len % 3));
		else
			fuzz_fill(&sync);
		fuzz_obey(&sync, &run);
	}
	buildbarn_sync_deinit(&sync);
	free(run.id);
	return 0;
}
