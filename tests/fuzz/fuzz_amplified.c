/*
 * Fuzzes the worker's ways in with many small elements: pieces of an input, each repeated
 * up to a megabyte in all, make one message. Whatever they are, they end in an error or
 * in something that a message can carry again, in memory that a bound knows.
 *
 * An input is a byte that says what the message is, then pieces: a byte for how often (a
 * power of two), then its part.
 */
#include "lib/rpc/rpc.h"
#include "lib/tree/tree.h"
#include "tests/fuzz/fuzz.h"
#include "worker/action/plan.h"
#include "worker/sandbox/layout.h"
#include "worker/source/bots_sync.h"

#define FUZZ_MESSAGE_MAX ((size_t)1 << 20)
#define FUZZ_ARENA_MAX   ((size_t)64 << 20)

static void fuzz_amplify(struct slice input, struct buf *out)
{
	while (input.len > 0) {
		size_t n = (size_t)1 << (input.data[0] % 20);
		struct slice part;

		input.data++;
		input.len--;
		part = fuzz_part(&input);
		for (size_t i = 0; part.len && i < n; i++) {
			if (out->len + part.len > FUZZ_MESSAGE_MAX)
				break;
			buf_add(out, part.data, part.len);
		}
	}
}

static void fuzz_require_told(const struct error *err)
{
	require(error_code(err) == ERROR_INVALID_ARGUMENT ||
		error_code(err) == ERROR_RESOURCE_EXHAUSTED);
	require(strlen(error_text(err)) <= ERROR_TEXT_MAX);
}

static void fuzz_command(struct slice message)
{
	char hex[DIGEST_HEX_MAX];
	Reapi__Digest digest = REAPI__DIGEST__INIT;
	Reapi__Action action = REAPI__ACTION__INIT;
	_cleanup_(plan_freep) struct plan *plan = NULL;
	_cleanup_error_ struct error *err = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	digest_to_wire(&digest_of_empty, hex, &digest);
	action.command_digest = &digest;
	action.input_root_digest = &digest;
	rpc_encode(&action.base, &bytes);
	require(!plan_new(buf_slice(&bytes), &digest_of_empty, LAYOUT_ROOT, &plan));
	err = plan_set_command(plan, message);
	if (err) {
		fuzz_require_told(err);
		return;
	}
	require(plan->command->n_arguments <= PLAN_ARGUMENTS_MAX);
	require(plan->command->n_environment_variables <= PLAN_VARIABLES_MAX);
	require(plan->n_outputs <= 3 * PLAN_OUTPUTS_MAX);
}

static void fuzz_action(struct slice message)
{
	_cleanup_(plan_freep) struct plan *plan = NULL;
	_cleanup_error_ struct error *err = NULL;

	err = plan_new(message, &digest_of_empty, LAYOUT_ROOT, &plan);
	if (err)
		fuzz_require_told(err);
}

static void fuzz_tree(struct slice message)
{
	_cleanup_free_ struct slice *dirs = NULL;
	_cleanup_error_ struct error *err = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	size_t n = 0;

	err = tree_message_split(message, &dirs, &n);
	if (err)
		return;
	tree_message_encode(dirs[0], dirs + 1, n - 1, true, &bytes);
	/* what stands there twice goes, and lengths are written as short as can be */
	require(bytes.len <= message.len + 16);
}

static void fuzz_session(struct slice message)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(FUZZ_ARENA_MAX);
	Bots__BotSession *said = (Bots__BotSession *)rpc_decode(
		&bots__bot_session__descriptor, message, &arena);
	Bots__BotSession told = BOTS__BOT_SESSION__INIT;
	struct list actions = LIST_INIT(actions);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct bots_sync sync;
	struct list *node;

	if (!said)
		return;
	bots_sync_init(&sync);
	for (int i = 0; i < 3; i++) {
		(void)bots_sync_answer(&sync, said, &actions);
		if (!bots_sync_fill(&sync, &told, &arena))
			break;
		buf_clear(&bytes);
		rpc_encode(&told.base, &bytes);
		require(bytes.len <= RPC_MESSAGE_MAX);
	}
	while ((node = list_pop(&actions)))
		bots_action_free(container_of(node, struct bots_action, link));
	bots_sync_deinit(&sync);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf message = BUF_INIT;

	if (!size)
		return 0;
	fuzz_amplify((struct slice){data + 1, size - 1}, &message);
	switch (data[0] % 4) {
	case 0:
		fuzz_command(buf_slice(&message));
		break;
	case 1:
		fuzz_action(buf_slice(&message));
		break;
	case 2:
		fuzz_tree(buf_slice(&message));
		break;
	default:
		fuzz_session(buf_slice(&message));
		break;
	}
	return 0;
}
