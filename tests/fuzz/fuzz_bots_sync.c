/*
 * Fuzzes the worker's half of the Bots protocol with a server that says anything in any
 * order. Of one lease: nothing is assigned twice, and what is cancelled was assigned.
 *
 * An input is a row of turns: a byte, then its part. Even: the server answers with a
 * BotSession; odd: the job of that id ends, the session begins anew, or the request is
 * made.
 */
#include "lib/rpc/rpc.h"
#include "tests/fuzz/fuzz.h"
#include "worker/source/bots_sync.h"

#define FUZZ_ARENA_MAX ((size_t)32 << 20)
#define FUZZ_RUNS_MAX  64

/* The jobs that were assigned and have not ended. */
struct fuzz_runs {
	char *ids[FUZZ_RUNS_MAX];
	bool is_cancelled[FUZZ_RUNS_MAX];
	size_t n;
};

static size_t fuzz_find(const struct fuzz_runs *runs, const char *id)
{
	size_t i = 0;

	while (i < runs->n && strcmp(runs->ids[i], id) != 0)
		i++;
	return i;
}

static void fuzz_act(struct fuzz_runs *runs, const struct bots_action *action)
{
	size_t i = fuzz_find(runs, action->id);

	if (action->kind == BOTS_ASSIGN) {
		require(i == runs->n && action->job);
		require(strcmp(action->job->id, action->id) == 0);
		if (runs->n == FUZZ_RUNS_MAX)
			return;
		runs->is_cancelled[runs->n] = false;
		runs->ids[runs->n++] = alloc_string(action->id);
		return;
	}
	require(runs->n == FUZZ_RUNS_MAX || (i < runs->n && !runs->is_cancelled[i]));
	if (i < runs->n)
		runs->is_cancelled[i] = true;
}

static void fuzz_answer(struct bots_sync *sync, struct fuzz_runs *runs, struct slice part)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(FUZZ_ARENA_MAX);
	Bots__BotSession *session = (Bots__BotSession *)rpc_decode(
		&bots__bot_session__descriptor, part, &arena);
	struct list actions = LIST_INIT(actions);
	struct list *node;

	if (!session)
		return;
	(void)bots_sync_answer(sync, session, &actions);
	while ((node = list_pop(&actions))) {
		struct bots_action *action = container_of(node, struct bots_action, link);

		fuzz_act(runs, action);
		bots_action_free(action);
	}
}

static void fuzz_finish(struct bots_sync *sync, struct fuzz_runs *runs, struct slice part)
{
	_cleanup_free_ char *id = fuzz_text(part);
	struct buf result = BUF_INIT;
	size_t i = fuzz_find(runs, id);

	if (i == runs->n) /* jobs that do not run do not end */
		return;
	free(runs->ids[i]);
	runs->ids[i] = runs->ids[runs->n - 1];
	runs->is_cancelled[i] = runs->is_cancelled[runs->n - 1];
	runs->n--;
	buf_add_string(&result, "result");
	bots_sync_finish(sync, id,
			 id[0] & 1 ? error_new(ERROR_INTERNAL, "it broke") : NULL,
			 &result);
}

static void fuzz_fill(struct bots_sync *sync)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(FUZZ_ARENA_MAX);
	Bots__BotSession session = BOTS__BOT_SESSION__INIT;
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	if (!bots_sync_fill(sync, &session, &arena))
		return;
	rpc_encode(&session.base, &bytes);
	require(bytes.len <= RPC_MESSAGE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice input = {data, size};
	struct fuzz_runs runs = {0};
	struct bots_sync sync;

	bots_sync_init(&sync);
	while (input.len > 0 && runs.n < FUZZ_RUNS_MAX) {
		uint8_t turn = *input.data;
		struct slice part;

		input.data++;
		input.len--;
		part = fuzz_part(&input);
		if (turn % 2 == 0)
			fuzz_answer(&sync, &runs, part);
		else if (turn % 3 == 0)
			fuzz_finish(&sync, &runs, part);
		else if (turn % 5 == 0)
			bots_sync_restart(&sync);
		else
			fuzz_fill(&sync);
	}
	bots_sync_deinit(&sync);
	for (size_t i = 0; i < runs.n; i++)
		free(runs.ids[i]);
	return 0;
}
