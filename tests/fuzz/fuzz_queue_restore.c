/*
 * Fuzzes what a server makes of the records of before: any of them, in any number. What
 * is taken can be lived with: the queue goes on, a bot takes all of its jobs, and what it
 * hands out again is taken as a whole.
 *
 * An input is a row of parts: a byte for the kind, one for the id, one for the length of
 * a response ahead of the record, then both. Kinds stand in order, as ids within one.
 */
#include "lib/base/clock.h"
#include "server/queue_journal.h"
#include "server/queue_restore.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_NOW  (1000 * NS_PER_S)
#define FUZZ_WALL (5000 * NS_PER_S)

static void fuzz_wake(void *ctx)
{
	(void)ctx;
}

static struct queue_restore *fuzz_begin(struct queue *queue)
{
	static char *names[] = {(char *)(uintptr_t) "", (char *)(uintptr_t) "b"};
	static const struct option_list instances = {names, ARRAY_SIZE(names)};
	const struct queue_restore_config config = {.queue = queue,
						    .instances = &instances,
						    .now_ns = FUZZ_NOW,
						    .wall_ahead_ns = FUZZ_WALL};

	return queue_restore_new(&config);
}

static void fuzz_read(struct queue_restore *restore, const uint8_t *data, size_t size)
{
	int last_kind = QUEUE_KIND_SESSION;
	uint64_t last_id = 0;

	while (size >= 4) {
		int kind = QUEUE_KIND_SESSION + data[0] % 3;
		size_t n_response = data[2], n_head = data[3];
		uint64_t id = data[1];

		data += 4;
		size -= 4;
		n_response = n_response < size ? n_response : size;
		n_head = n_head < size - n_response ? n_head : size - n_response;
		if (kind > last_kind || (kind == last_kind && id > last_id)) {
			(void)queue_restore_row(restore, (enum queue_kind)kind, id,
						(struct slice){data + n_response, n_head},
						(struct slice){data, n_response});
			last_kind = kind;
			last_id = id;
		}
		data += n_response + n_head;
		size -= n_response + n_head;
	}
}

/* What the queue hands out of itself, another takes as it is. */
static void fuzz_again(struct queue *queue)
{
	_cleanup_(queue_batch_deinit) struct queue_batch batch = {0};
	_cleanup_(queue_freep) struct queue *other = queue_new(NULL);
	struct queue_restore *restore = fuzz_begin(other);
	struct queue_restored restored;

	queue_journal_begin(queue, true, fuzz_wake, NULL);
	queue_journal_take(queue, FUZZ_WALL, &batch);
	queue_journal_end(queue);
	require(batch.is_all);
	for (int kind = QUEUE_KIND_SESSION; kind <= QUEUE_KIND_OPERATION; kind++) {
		for (uint64_t id = 0; id <= UINT8_MAX + 1; id++) {
			for (size_t i = 0; i < batch.n; i++) {
				const struct queue_record *record = &batch.records[i];
				const struct queue_bytes *response = record->response;

				if ((int)record->kind != kind || record->id != id)
					continue;
				require(queue_restore_row(
					restore, record->kind, id,
					buf_slice(&record->head),
					response ? (struct slice){response->data,
								  response->len}
						 : (struct slice){NULL, 0}));
			}
		}
	}
	queue_restore_end(restore, &restored);
	require(batch.has_more || restored.n_left_out == 0);
}

static void fuzz_live(struct queue *queue)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)16 << 20);
	const struct queue_bot bot = {
		.instance = "", .bot_id = "fuzz", .owner = "fuzz", .capacity = 1024};
	const struct queue_report report = {.takes_jobs = true};
	struct queue_poll poll = {.wake = fuzz_wake};
	char session[QUEUE_NAME_MAX];
	struct queue_lease_told *leases;
	size_t n;

	queue_tick(queue, FUZZ_NOW);
	queue_tick(queue, FUZZ_NOW + QUEUE_RETURN_NS);
	require(!queue_session_open(queue, &bot, FUZZ_NOW, session));
	require(!queue_poll_begin(queue, session, &report, &poll, FUZZ_NOW, &n));
	(void)queue_poll_answer(queue, &poll, true, &arena, &leases, &n);
	queue_poll_end(queue, &poll, false, FUZZ_NOW);
	queue_tick(queue, FUZZ_NOW + QUEUE_RETAINED_NS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(queue_freep) struct queue *queue = queue_new(NULL);
	struct queue_restore *restore = fuzz_begin(queue);
	struct queue_restored restored;

	fuzz_read(restore, data, size);
	queue_restore_end(restore, &restored);
	fuzz_again(queue);
	fuzz_live(queue);
	return 0;
}
