/* Records of the queue: which are written, and those that are damaged or made up. */
#include "tests/unit/restore_fixture.h"

/* ---- what is written ------------------------------------------------------------ */

static void test_journal_writes_the_newest_state_once(void **state)
{
	struct world *world = *state;
	struct name name;
	struct bot bot;

	bot_open(world, &bot, 1);
	assert_int_equal(world->n_wakes, 1);
	(void)world_write(world);
	name = submit(world, "a");
	bot_report(world, &bot, bot_take(world, &bot, 0), LEASE_COMPLETED, 0);
	assert_int_equal(world->n_wakes, 2);
	/* one record: the job went with its operation */
	assert_int_equal(world_write(world), 1);
	assert_int_equal(world_count(world, 0), 2);
	assert_int_equal(world_write(world), 0);
	(void)submit(world, "b");
	assert_int_equal(world->n_wakes, 3);
	(void)name;
}

static void test_journal_of_what_came_and_went_nothing_is_written(void **state)
{
	struct world *world = *state;
	struct queue_spec spec = spec_of("a");
	struct name name;

	assert_null(queue_submit_done(world->queue, &spec, slice_of(""), 0, name.text));
	queue_tick(world->queue, QUEUE_RETAINED_NS);
	assert_int_equal(world_write(world), 0);
	assert_int_equal(world_count(world, 0), 0);
}

static void test_journal_that_failed_writes_all_again(void **state)
{
	struct world *world = *state;
	struct name one = submit(world, "a"), two;

	(void)world_write(world);
	two = submit(world, "b");
	{
		_cleanup_(queue_batch_deinit) struct queue_batch lost = {0};

		queue_journal_take(world->queue, AHEAD, &lost);
		assert_int_equal(lost.n, 2);
	}
	queue_journal_fail(world->queue);
	assert_int_equal(world_write(world), 4);
	world_restart_after(world, 0);
	assert_int_equal(stage_of(world, &one), QUEUE_QUEUED);
	assert_int_equal(stage_of(world, &two), QUEUE_QUEUED);
}

/* ---- damage --------------------------------------------------------------------- */

/* A row of a kind, as it is in the file. */
static struct row *row_of(struct world *world, int kind)
{
	for (size_t i = 0; i < ROWS_MAX; i++) {
		if (world->rows[i].kind == kind)
			return &world->rows[i];
	}
	fail();
	return NULL;
}

static void reread_job(struct world *world, struct queue_saved_job *out)
{
	assert_true(queue_record_read_job(buf_slice(&row_of(world, QUEUE_KIND_JOB)->head),
					  &world->arena, out));
}

static void rewrite_job(struct world *world, const struct queue_saved_job *saved)
{
	_cleanup_buf_ struct buf head = BUF_INIT;
	struct row *row = row_of(world, QUEUE_KIND_JOB);

	queue_record_job(saved, &head);
	(void)world_put(world, row->kind, row->id, buf_slice(&head),
			buf_slice(&row->response));
}

static void damage_instance(struct queue_saved_job *saved)
{
	saved->spec.instance = "none such";
}

static void damage_other_instance(struct queue_saved_job *saved)
{
	saved->spec.instance = "b";
}

static void damage_action(struct queue_saved_job *saved)
{
	saved->spec.action = slice_of("another");
}

static void damage_no_action(struct queue_saved_job *saved)
{
	saved->spec.action = (struct slice){0};
}

static void damage_digest(struct queue_saved_job *saved)
{
	saved->spec.action_digest.hash[3] ^= 1;
}

static void damage_limit(struct queue_saved_job *saved)
{
	saved->spec.limit_ns = 0;
}

static void damage_long_limit(struct queue_saved_job *saved)
{
	saved->spec.limit_ns = INT64_MAX;
}

static void damage_turn(struct queue_saved_job *saved)
{
	saved->turn = UINT64_MAX;
}

static void damage_tries(struct queue_saved_job *saved)
{
	saved->n_tries = QUEUE_TRIES_MAX;
}

static void damage_required(struct queue_saved_job *saved)
{
	static struct queue_property many[QUEUE_REQUIRED_MAX + 1];

	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct queue_property){"a", "b"};
	saved->spec.required = many;
	saved->spec.n_required = ARRAY_SIZE(many);
}

static void damage_completed(struct queue_saved_job *saved)
{
	saved->is_completed = true; /* and has an action */
}

static void test_restore_job_that_cannot_be_is_left_out(void **state)
{
	static void (*const damages[])(struct queue_saved_job *) = {
		damage_instance,   damage_other_instance, damage_action,
		damage_no_action,  damage_digest,         damage_limit,
		damage_long_limit, damage_turn,           damage_tries,
		damage_required,   damage_completed,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
		struct queue_saved_job saved;
		struct queue_stats stats;
		struct world *world;
		struct name name;
		void *own;

		(void)world_setup(&own);
		world = own;
		name = submit(world, "a");
		(void)world_write(world);
		reread_job(world, &saved);
		damages[i](&saved);
		rewrite_job(world, &saved);
		world_restart_after(world, 0);
		assert_true(world->restored.n_left_out > 0);
		assert_unknown(world, &name);
		queue_stats(world->queue, &stats);
		assert_int_equal(stats.n_queued + stats.n_running, 0);
		/* what is left is written, and says the same */
		(void)world_write(world);
		assert_int_equal(world_count(world, 0), 0);
		(void)world_teardown(&own);
	}
}

static void test_restore_lease_of_nobody_is_queued(void **state)
{
	struct world *world = *state;
	struct name name = submit(world, "a");
	struct queue_saved_job saved;

	(void)world_write(world);
	reread_job(world, &saved);
	saved.session = 4711;
	saved.lease = "x";
	saved.is_running = true;
	rewrite_job(world, &saved);
	world_restart_after(world, 0);
	assert_int_equal(world->restored.n_left_out, 0);
	assert_int_equal(stage_of(world, &name), QUEUE_QUEUED);
}

static void rewrite_operation(struct world *world,
			      const struct queue_saved_operation *saved,
			      struct slice response)
{
	_cleanup_buf_ struct buf head = BUF_INIT;
	struct row *row = row_of(world, QUEUE_KIND_OPERATION);

	queue_record_operation(saved, &head);
	(void)world_put(world, row->kind, row->id, buf_slice(&head), response);
}

/* Each with the job of "a", which is there. */
static void test_restore_operation_that_cannot_be_is_left_out(void **state)
{
	static const char other[] = "b/00000000-0000-4000-8000-000000000000-";
	static const uint8_t request[QUEUE_REQUEST_MAX + 1];
	char digest[DIGEST_STRING_MAX], name_of_b[QUEUE_NAME_MAX];
	struct queue_spec spec = spec_of("a");
	enum { NAME, INSTANCE, DIGEST, JOB, RESPONSE, REQUEST, CLIENT, WAYS };

	(void)state;
	(void)snprintf(name_of_b, sizeof(name_of_b), "%s%s", other,
		       digest_name(&spec.action_digest, digest));
	for (int way = 0; way < WAYS; way++) {
		struct queue_saved_operation saved;
		struct slice response = {NULL, 0};
		struct queue_stats stats;
		char client[1000] = "";
		struct world *world;
		void *own;

		(void)world_setup(&own);
		world = own;
		(void)submit(world, "a");
		(void)world_write(world);
		assert_true(queue_record_read_operation(
			buf_slice(&row_of(world, QUEUE_KIND_OPERATION)->head),
			&world->arena, &saved));
		switch (way) {
		case NAME:
			saved.name = "no name of ours";
			break;
		case INSTANCE:
			saved.name = name_of_b;
			break;
		case DIGEST:
			((char *)(uintptr_t)saved.name)[40] ^= 1;
			break;
		case JOB:
			saved.job = 4711;
			break;
		case RESPONSE:
			saved.job = 0;
			response = slice_of("\xff\xff no response");
			break;
		case REQUEST:
			saved.request = (struct slice){request, sizeof(request)};
			break;
		case CLIENT:
			memset(client, 'c', sizeof(client) - 1);
			saved.client = client;
			break;
		}
		rewrite_operation(world, &saved, response);
		world_restart_after(world, 0);
		assert_true(world->restored.n_left_out > 0);
		queue_stats(world->queue, &stats);
		assert_int_equal(stats.n_operations, 0);
		assert_int_equal(stats.n_queued + stats.n_running, 0);
		(void)world_teardown(&own);
	}
}

static void test_restore_session_that_cannot_be_is_left_out(void **state)
{
	static const struct {
		const char *name, *instance, *bot_id;
		size_t capacity;
	} cases[] = {
		{"b/x", "", "bot", 1},   {"x", "b", "bot", 1},
		{"x", "none", "bot", 1}, {"", "", "bot", 1},
		{"x", "", "", 1},        {"x", "", "bot", 0},
		{"b/", "b", "bot", 1},   {"x", "", "bot", QUEUE_CAPACITY_MAX + 1},
	};
	struct world *world = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf head = BUF_INIT;
		const struct queue_saved_session saved = {
			.name = cases[i].name,
			.bot = {.instance = cases[i].instance,
				.bot_id = cases[i].bot_id,
				.owner = "me",
				.capacity = cases[i].capacity}};
		struct queue_stats stats;

		queue_record_session(&saved, &head);
		(void)world_put(world, QUEUE_KIND_SESSION, 1, buf_slice(&head),
				(struct slice){NULL, 0});
		world_restart_after(world, 0);
		assert_int_equal(world->restored.n_left_out, 1);
		queue_stats(world->queue, &stats);
		assert_int_equal(stats.n_sessions, 0);
	}
}

/* Records that end early, or with a byte changed: whatever is made of them holds. */
static void test_restore_any_damage_is_survived(void **state)
{
	struct world *world = *state;
	struct queue_spec spec = spec_of("done");
	struct name name;
	struct bot bot;

	bot_open(world, &bot, 2);
	(void)submit(world, "a");
	(void)submit(world, "a");
	(void)bot_take(world, &bot, 0);
	assert_null(queue_submit_done(world->queue, &spec, slice_of(""), 0, name.text));
	(void)world_write(world);
	for (size_t i = 0; i < ROWS_MAX; i++) {
		const struct row *row = &world->rows[i];
		_cleanup_buf_ struct buf whole = BUF_INIT;

		if (!row->kind)
			continue;
		buf_add(&whole, row->head.data, row->head.len);
		for (size_t at = 0; at < whole.len; at++) {
			struct slice cut = {whole.data, at};

			(void)world_put(world, row->kind, row->id, cut,
					(struct slice){NULL, 0});
			world_restart_after(world, 0);
			queue_tick(world->queue, NOW + 61 * S);
			whole.data[at] ^= 0x21;
			(void)world_put(world, row->kind, row->id, buf_slice(&whole),
					(struct slice){NULL, 0});
			world_restart_after(world, 0);
			queue_tick(world->queue, NOW + 61 * S);
			whole.data[at] ^= 0x21;
		}
		(void)world_put(world, row->kind, row->id, buf_slice(&whole),
				(struct slice){NULL, 0});
	}
}

/* As many as there may be, and no more. */
static void test_restore_keeps_to_what_a_client_may_have(void **state)
{
	struct world *world = *state;
	const struct option_list instances = {(char *[]){(char *)(uintptr_t) ""}, 1};
	const struct queue_restore_config config = {
		.queue = world->queue, .instances = &instances, .now_ns = NOW};
	struct queue_restore *restore = queue_restore_new(&config);
	struct queue_saved_job job = {.spec = spec_of("a")};
	_cleanup_buf_ struct buf head = BUF_INIT;
	char digest[DIGEST_STRING_MAX], name[QUEUE_NAME_MAX];
	const struct slice none = {NULL, 0};
	struct queue_restored restored;

	queue_journal_end(world->queue);
	queue_record_job(&job, &head);
	assert_true(
		queue_restore_row(restore, QUEUE_KIND_JOB, 1, buf_slice(&head), none));
	for (uint64_t i = 0; i < QUEUE_CLIENT_OPERATIONS + 10; i++) {
		struct queue_saved_operation saved = {
			.name = name, .client = "c", .job = 1};

		(void)snprintf(name, sizeof(name), "%08u-0000-4000-8000-000000000000-%s",
			       (unsigned int)i,
			       digest_name(&job.spec.action_digest, digest));
		buf_clear(&head);
		queue_record_operation(&saved, &head);
		assert_int_equal(queue_restore_row(restore, QUEUE_KIND_OPERATION, i + 2,
						   buf_slice(&head), none),
				 i < QUEUE_CLIENT_OPERATIONS);
	}
	queue_restore_end(restore, &restored);
	assert_int_equal(restored.n_left_out, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_journal_writes_the_newest_state_once,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_journal_of_what_came_and_went_nothing_is_written,
			world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(test_journal_that_failed_writes_all_again,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_job_that_cannot_be_is_left_out, world_setup,
			world_teardown),
		cmocka_unit_test_setup_teardown(test_restore_lease_of_nobody_is_queued,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_operation_that_cannot_be_is_left_out, world_setup,
			world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_session_that_cannot_be_is_left_out, world_setup,
			world_teardown),
		cmocka_unit_test_setup_teardown(test_restore_any_damage_is_survived,
						world_setup, world_teardown),
		cmocka_unit_test_setup_teardown(
			test_restore_keeps_to_what_a_client_may_have, world_setup,
			world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
