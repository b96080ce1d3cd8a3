/* What restore_fixture.h declares. */
#include "tests/unit/restore_fixture.h"

void world_wake(void *ctx)
{
	++*(int *)ctx;
}

static const struct queue_config config_of_all = {.abandon_ns = 60 * S,
						  .waits_for_bots = true};

int world_setup(void **state)
{
	struct world *world = alloc_new(struct world);

	world->arena = ARENA_INIT(4 << 20);
	world->queue = queue_new(&config_of_all);
	queue_journal_begin(world->queue, false, world_wake, &world->n_wakes);
	*state = world;
	return 0;
}

static void row_free(struct row *row)
{
	buf_deinit(&row->head);
	buf_deinit(&row->response);
	*row = (struct row){0};
}

int world_teardown(void **state)
{
	struct world *world = *state;

	queue_free(world->queue);
	for (size_t i = 0; i < ROWS_MAX; i++)
		row_free(&world->rows[i]);
	arena_deinit(&world->arena);
	free(world);
	return 0;
}

/* ---- the file ------------------------------------------------------------------- */

static struct row *world_row(struct world *world, uint64_t id)
{
	struct row *free_row = NULL;

	for (size_t i = 0; i < ROWS_MAX; i++) {
		if (world->rows[i].kind && world->rows[i].id == id)
			return &world->rows[i];
		if (!world->rows[i].kind && !free_row)
			free_row = &world->rows[i];
	}
	assert_non_null(free_row);
	return free_row;
}

struct row *world_put(struct world *world, int kind, uint64_t id, struct slice head,
		      struct slice response)
{
	struct row *row = world_row(world, id);

	row_free(row);
	row->kind = kind;
	row->id = id;
	buf_add(&row->head, head.data, head.len);
	buf_add(&row->response, response.data, response.len);
	return row;
}

size_t world_count(const struct world *world, int kind)
{
	size_t n = 0;

	for (size_t i = 0; i < ROWS_MAX; i++)
		n += kind ? world->rows[i].kind == kind : world->rows[i].kind != 0;
	return n;
}

/* All that changed, as the journal would; how many records that were. */
size_t world_write(struct world *world)
{
	size_t n = 0;
	bool has_more = true;

	while (has_more) {
		_cleanup_(queue_batch_deinit) struct queue_batch batch = {0};

		queue_journal_take(world->queue, AHEAD, &batch);
		has_more = batch.has_more;
		n += batch.n;
		if (batch.is_all) {
			for (size_t i = 0; i < ROWS_MAX; i++)
				row_free(&world->rows[i]);
		}
		for (size_t i = 0; i < batch.n; i++) {
			const struct queue_record *record = &batch.records[i];
			const struct queue_bytes *response = record->response;
			struct slice bytes = {response ? response->data : NULL,
					      response ? response->len : 0};

			(void)world_put(world, (int)record->kind, record->id,
					buf_slice(&record->head), bytes);
		}
		for (size_t i = 0; i < batch.n_gone; i++)
			row_free(world_row(world, batch.gone[i]));
	}
	return n;
}

static const struct row *world_next(const struct world *world, int kind, uint64_t after)
{
	const struct row *next = NULL;

	for (size_t i = 0; i < ROWS_MAX; i++) {
		const struct row *row = &world->rows[i];

		if (row->kind == kind && row->id > after && (!next || row->id < next->id))
			next = row;
	}
	return next;
}

/* The server is killed, and another is made of what was written, wall_ns later. */
void world_restart_after(struct world *world, int64_t later_ns)
{
	char *names[] = {(char *)(uintptr_t) "", (char *)(uintptr_t) "b"};
	const struct option_list instances = {names, ARRAY_SIZE(names)};
	struct queue_restore_config config = {.instances = &instances,
					      .now_ns = NOW,
					      .wall_ahead_ns = AHEAD + later_ns - NOW};
	struct queue_restore *restore;
	const struct row *row;

	queue_journal_end(world->queue);
	queue_free(world->queue);
	world->queue = config.queue = queue_new(&config_of_all);
	restore = queue_restore_new(&config);
	for (int kind = QUEUE_KIND_SESSION; kind <= QUEUE_KIND_OPERATION; kind++) {
		for (row = world_next(world, kind, 0); row;
		     row = world_next(world, kind, row->id))
			(void)queue_restore_row(restore, (enum queue_kind)kind, row->id,
						buf_slice(&row->head),
						buf_slice(&row->response));
	}
	queue_restore_end(restore, &world->restored);
	queue_journal_begin(world->queue, world->restored.n_left_out > 0, world_wake,
			    &world->n_wakes);
}

void world_restart(struct world *world)
{
	(void)world_write(world);
	world_restart_after(world, 0);
}

/* ---- clients and bots ----------------------------------------------------------- */

struct queue_spec spec_of(const char *action)
{
	struct queue_spec spec = {.instance = "", .limit_ns = 60 * S, .client = "c"};
	static int64_t wall;

	spec.wall_ns = ++wall;
	spec.action = slice_of(action);
	hasher_digest(action, strlen(action), &spec.action_digest);
	return spec;
}

struct name submit_spec(struct world *world, const struct queue_spec *spec)
{
	struct name name;

	assert_null(queue_submit(world->queue, spec, 0, name.text));
	return name;
}

struct name submit(struct world *world, const char *action)
{
	struct queue_spec spec = spec_of(action);

	return submit_spec(world, &spec);
}

struct queue_bot bot_config(const char *id, const char *owner, size_t capacity)
{
	return (struct queue_bot){.instance = "",
				  .bot_id = id,
				  .owner = owner,
				  .is_owner_proven = true,
				  .capacity = capacity};
}

void bot_open(struct world *world, struct bot *bot, size_t capacity)
{
	const struct queue_bot config = bot_config("bot", "me", capacity);

	*bot = (struct bot){0};
	assert_null(queue_session_open(world->queue, &config, 0, bot->name));
}

/* A report with one claim or none; the answer, which is asked for at once. */
void bot_report(struct world *world, struct bot *bot, const char *id,
		enum queue_lease_state state, int64_t now_ns)
{
	const struct queue_claim claim = {
		.id = id, .state = state, .response = slice_of("")};
	const struct queue_report report = {&claim, id ? 1 : 0, true, false};

	bot->poll.wake = world_wake;
	bot->poll.ctx = &bot->n_wakes;
	assert_null(queue_poll_begin(world->queue, bot->name, &report, &bot->poll, now_ns,
				     &bot->n_strange));
	(void)queue_poll_answer(world->queue, &bot->poll, true, &world->arena,
				&bot->leases, &bot->n_leases);
	queue_poll_end(world->queue, &bot->poll, false, now_ns);
}

/* Takes the one lease that it is offered. */
const char *bot_take(struct world *world, struct bot *bot, int64_t now_ns)
{
	const char *id;

	bot_report(world, bot, NULL, LEASE_PENDING, now_ns);
	assert_int_equal(bot->n_leases, 1);
	assert_int_equal(bot->leases[0].state, LEASE_PENDING);
	id = bot->leases[0].id;
	bot_report(world, bot, id, LEASE_ACTIVE, now_ns);
	return id;
}

enum queue_stage stage_of(struct world *world, const struct name *name)
{
	struct queue_state state;

	assert_null(queue_get(world->queue, name->text, &world->arena, &state));
	queue_bytes_unref(state.shared);
	return state.stage;
}

enum error_code code_of(struct world *world, const struct name *name)
{
	Reapi__ExecuteResponse *response;
	struct queue_state state;

	assert_null(queue_get(world->queue, name->text, &world->arena, &state));
	assert_int_equal(state.stage, QUEUE_COMPLETED);
	response = (void *)rpc_decode(&reapi__execute_response__descriptor,
				      state.response, &world->arena);
	assert_non_null(response);
	queue_bytes_unref(state.shared);
	return response->status ? (enum error_code)response->status->code : ERROR_OK;
}

void assert_unknown(struct world *world, const struct name *name)
{
	struct queue_state state;
	struct error *err = queue_get(world->queue, name->text, &world->arena, &state);

	assert_int_equal(error_code(err), ERROR_NOT_FOUND);
	error_free(err);
}
