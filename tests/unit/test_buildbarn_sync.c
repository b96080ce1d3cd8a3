/*
 * worker/source/buildbarn_sync: what a slot tells Buildbarn's scheduler, and what it
 * makes of the answers (docs/protocol.md, "The worker's side of Buildbarn"). No sockets:
 * a test plays the scheduler.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/rpc/rpc.h"
#include "worker/source/buildbarn_sync.h"

#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HASH_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct slot {
	struct buildbarn_sync sync;
	struct arena arena;
	struct source_lease *lease; /* the last one that was given out */
};

static int setup(void **state)
{
	struct slot *slot = alloc_new(struct slot);

	buildbarn_sync_init(&slot->sync, 3);
	slot->arena = ARENA_INIT((size_t)64 << 20);
	*state = slot;
	return 0;
}

static int teardown(void **state)
{
	struct slot *slot = *state;

	buildbarn_sync_deinit(&slot->sync);
	source_lease_free(slot->lease);
	arena_deinit(&slot->arena);
	free(slot);
	return 0;
}

/* The scheduler's part. */

static Buildbarn__DesiredState__Executing *job(struct slot *slot, const char *hash)
{
	Buildbarn__DesiredState__Executing *executing =
		arena_zero(&slot->arena, sizeof(*executing));

	buildbarn__desired_state__executing__init(executing);
	executing->action_digest = arena_zero(&slot->arena, sizeof(Reapi__Digest));
	reapi__digest__init(executing->action_digest);
	executing->action_digest->hash = hash;
	executing->action_digest->size_bytes = 7;
	return executing;
}

static enum buildbarn_news answer(struct slot *slot, Buildbarn__DesiredState *desired)
{
	enum buildbarn_news news;
	struct error *err = buildbarn_sync_answer(&slot->sync, "pre/fix", desired, &news);

	assert_null(err);
	return news;
}

static enum buildbarn_news go_on(struct slot *slot)
{
	return answer(slot, NULL);
}

static enum buildbarn_news be_idle(struct slot *slot)
{
	Buildbarn__DesiredState desired = BUILDBARN__DESIRED_STATE__INIT;
	Pb__Empty nothing = PB__EMPTY__INIT;

	desired.worker_state_case = BUILDBARN__DESIRED_STATE__WORKER_STATE_IDLE;
	desired.idle = &nothing;
	return answer(slot, &desired);
}

static enum buildbarn_news execute(struct slot *slot,
				   Buildbarn__DesiredState__Executing *executing)
{
	Buildbarn__DesiredState desired = BUILDBARN__DESIRED_STATE__INIT;

	desired.worker_state_case = BUILDBARN__DESIRED_STATE__WORKER_STATE_EXECUTING;
	desired.executing = executing;
	return answer(slot, &desired);
}

/* What the slot tells now, in words: "running aaaa". */
static const char *told(struct slot *slot)
{
	static const char *const words[] = {[2] = "started",
					    [3] = "fetching",
					    [4] = "running",
					    [5] = "uploading",
					    [6] = "completed"};
	Buildbarn__SynchronizeRequest request = BUILDBARN__SYNCHRONIZE_REQUEST__INIT;
	const Buildbarn__CurrentState *state;

	assert_true(buildbarn_sync_fill(&slot->sync, &slot->arena, &request));
	state = request.current_state;
	if (state->worker_state_case == BUILDBARN__CURRENT_STATE__WORKER_STATE_IDLE)
		return "idle";
	assert_int_equal(state->executing->action_digest->size_bytes, 7);
	return arena_printf(&slot->arena, "%s %.4s",
			    words[state->executing->execution_state_case],
			    state->executing->action_digest->hash);
}

static const Reapi__ExecuteResponse *completed(struct slot *slot)
{
	Buildbarn__SynchronizeRequest request = BUILDBARN__SYNCHRONIZE_REQUEST__INIT;
	const Buildbarn__CurrentState__Executing *executing;
	const Reapi__ExecuteResponse *response;

	assert_true(buildbarn_sync_fill(&slot->sync, &slot->arena, &request));
	executing = request.current_state->executing;
	response = (const Reapi__ExecuteResponse *)rpc_decode(
		&reapi__execute_response__descriptor,
		(struct slice){executing->completed.data, executing->completed.len},
		&slot->arena);
	assert_non_null(response);
	return response;
}

/* The worker's part: what it is to do now, "cancel 3.1 run 3.2". */
static const char *orders(struct slot *slot)
{
	_cleanup_free_ char *cancel = buildbarn_sync_take_cancel(&slot->sync);
	struct source_lease *lease = buildbarn_sync_take_lease(&slot->sync);
	const char *text = arena_printf(
		&slot->arena, "%s%s%s%s", cancel ? "cancel " : "", cancel ? cancel : "",
		lease ? (cancel ? " run " : "run ") : "", lease ? lease->id : "");

	if (lease) {
		source_lease_free(slot->lease);
		slot->lease = lease;
	}
	return text;
}

static void finish(struct slot *slot, const char *id, struct error *status, int exit_code)
{
	Reapi__ActionResult result = REAPI__ACTION_RESULT__INIT;
	struct buf bytes = BUF_INIT;

	result.exit_code = exit_code;
	rpc_encode(&result.base, &bytes);
	assert_true(buildbarn_sync_is_of(&slot->sync, id));
	buildbarn_sync_finish(&slot->sync, status, &bytes);
}

static void test_a_job_is_run_and_told_until_it_is_answered(void **state)
{
	struct slot *slot = *state;

	assert_string_equal(told(slot), "idle");
	assert_true(buildbarn_sync_may_wait(&slot->sync));
	assert_int_equal(execute(slot, job(slot, HASH_A)), BUILDBARN_CHANGE);
	assert_string_equal(orders(slot), "run 3.1");
	assert_string_equal(orders(slot), "");
	assert_string_equal(told(slot), "started aaaa");
	assert_false(buildbarn_sync_may_wait(&slot->sync));
	assert_int_equal(go_on(slot), BUILDBARN_NOTHING);
	finish(slot, "3.1", NULL, 4);
	assert_string_equal(told(slot), "completed aaaa");
	assert_int_equal(completed(slot)->result->exit_code, 4);
	assert_null(completed(slot)->status);
	assert_true(buildbarn_sync_may_wait(&slot->sync));
	assert_int_equal(go_on(slot), BUILDBARN_NOTHING);
	assert_string_equal(told(slot), "completed aaaa");
	assert_int_equal(be_idle(slot), BUILDBARN_CHANGE);
	assert_string_equal(told(slot), "idle");
	assert_int_equal(be_idle(slot), BUILDBARN_NOTHING);
	assert_string_equal(orders(slot), "");
}

static void test_stages_are_told_as_they_come(void **state)
{
	struct slot *slot = *state;

	(void)execute(slot, job(slot, HASH_A));
	assert_string_equal(orders(slot), "run 3.1");
	assert_true(buildbarn_sync_stage(&slot->sync, "3.1", SOURCE_FETCHING));
	assert_string_equal(told(slot), "fetching aaaa");
	assert_true(buildbarn_sync_stage(&slot->sync, "3.1", SOURCE_RUNNING));
	assert_string_equal(told(slot), "running aaaa");
	assert_true(buildbarn_sync_stage(&slot->sync, "3.1", SOURCE_UPLOADING));
	assert_string_equal(told(slot), "uploading aaaa");
	assert_false(buildbarn_sync_stage(&slot->sync, "3.2", SOURCE_RUNNING));
	finish(slot, "3.1", NULL, 0);
	assert_false(buildbarn_sync_stage(&slot->sync, "3.1", SOURCE_RUNNING));
	(void)execute(slot, job(slot, HASH_A));
	assert_string_equal(told(slot), "started aaaa");
}

static void test_what_a_lease_is_made_of(void **state)
{
	struct slot *slot = *state;
	Buildbarn__DesiredState__Executing *executing = job(slot, HASH_A);
	Pb__Timestamp queued = PB__TIMESTAMP__INIT;
	const Reapi__ExecutedActionMetadata *metadata;

	queued.seconds = 17;
	executing->queued_timestamp = &queued;
	executing->action.data = (uint8_t *)arena_string(&slot->arena, "action");
	executing->action.len = 6;
	executing->instance_name_suffix = "suf/fix";
	(void)execute(slot, executing);
	assert_string_equal(orders(slot), "run 3.1");
	assert_string_equal(slot->lease->instance, "pre/fix/suf/fix");
	assert_int_equal(slot->lease->digest_function,
			 REAPI__DIGEST_FUNCTION__VALUE__SHA256);
	assert_int_equal(slot->lease->action.size, 7);
	assert_int_equal(slot->lease->action.hash[0], 0xaa);
	assert_string_equal(buf_string(&slot->lease->action_bytes), "action");
	assert_true(slot->lease->wants_caching);
	metadata = (const Reapi__ExecutedActionMetadata *)rpc_decode(
		&reapi__executed_action_metadata__descriptor,
		buf_slice(&slot->lease->metadata), &slot->arena);
	assert_int_equal(metadata->queued_timestamp->seconds, 17);
}

static void test_an_instance_of_one_part_has_no_slash(void **state)
{
	struct slot *slot = *state;

	(void)execute(slot, job(slot, HASH_A));
	assert_string_equal(orders(slot), "run 3.1");
	assert_string_equal(slot->lease->instance, "pre/fix");
}

static void test_idle_in_the_middle_cancels(void **state)
{
	struct slot *slot = *state;

	(void)execute(slot, job(slot, HASH_A));
	assert_string_equal(orders(slot), "run 3.1");
	assert_int_equal(be_idle(slot), BUILDBARN_CHANGE);
	assert_int_equal(slot->sync.state, BUILDBARN_STOPPING);
	assert_string_equal(orders(slot), "cancel 3.1");
	assert_string_equal(orders(slot), "");
	finish(slot, "3.1", error_new(ERROR_CANCELLED, "killed"), 0);
	assert_string_equal(told(slot), "idle");
}

static void test_another_job_in_the_middle_waits_for_the_end_of_the_first(void **state)
{
	struct slot *slot = *state;

	(void)execute(slot, job(slot, HASH_A));
	assert_string_equal(orders(slot), "run 3.1");
	assert_int_equal(execute(slot, job(slot, HASH_B)), BUILDBARN_CHANGE);
	assert_string_equal(orders(slot), "cancel 3.1");
	finish(slot, "3.1", NULL, 0);
	assert_string_equal(orders(slot), "run 3.2");
	assert_string_equal(told(slot), "started bbbb");
	finish(slot, "3.2", NULL, 9);
	assert_int_equal(completed(slot)->result->exit_code, 9);
}

static void test_the_same_job_again_is_begun_anew(void **state)
{
	struct slot *slot = *state;

	(void)execute(slot, job(slot, HASH_A));
	assert_string_equal(orders(slot), "run 3.1");
	(void)execute(slot, job(slot, HASH_A));
	assert_string_equal(orders(slot), "cancel 3.1");
	finish(slot, "3.1", NULL, 0);
	assert_string_equal(orders(slot), "run 3.2");
}

static void test_a_result_may_bring_the_next_job(void **state)
{
	struct slot *slot = *state;

	(void)execute(slot, job(slot, HASH_A));
	assert_string_equal(orders(slot), "run 3.1");
	finish(slot, "3.1", NULL, 0);
	assert_int_equal(execute(slot, job(slot, HASH_A)), BUILDBARN_CHANGE);
	assert_string_equal(orders(slot), "run 3.2");
	assert_string_equal(told(slot), "started aaaa");
}

/* The answer to what was said before the end: it is not wanted any more. */
static void test_idle_takes_a_result_that_was_not_told(void **state)
{
	struct slot *slot = *state;

	(void)execute(slot, job(slot, HASH_A));
	assert_string_equal(orders(slot), "run 3.1");
	finish(slot, "3.1", NULL, 0);
	(void)be_idle(slot);
	assert_string_equal(told(slot), "idle");
}

static void test_a_job_that_was_not_begun_is_only_dropped(void **state)
{
	struct slot *slot = *state;

	(void)execute(slot, job(slot, HASH_A));
	(void)be_idle(slot);
	assert_string_equal(orders(slot), "");
	assert_string_equal(told(slot), "idle");
}

static void test_a_failure_is_told_with_its_status_and_waits_for_no_job(void **state)
{
	struct slot *slot = *state;

	(void)execute(slot, job(slot, HASH_A));
	assert_string_equal(orders(slot), "run 3.1");
	finish(slot, "3.1", error_new(ERROR_DEADLINE_EXCEEDED, "late"), 5);
	assert_int_equal(completed(slot)->status->code, ERROR_DEADLINE_EXCEEDED);
	assert_int_equal(completed(slot)->result->exit_code, 5);
	assert_false(buildbarn_sync_may_wait(&slot->sync));
}

static void assert_refused(struct slot *slot,
			   Buildbarn__DesiredState__Executing *executing,
			   const char *word)
{
	assert_int_equal(execute(slot, executing), BUILDBARN_REFUSAL);
	assert_string_equal(orders(slot), "");
	assert_int_equal(completed(slot)->status->code, ERROR_INVALID_ARGUMENT);
	assert_non_null(strstr(completed(slot)->status->message, word));
	assert_int_equal(be_idle(slot), BUILDBARN_CHANGE);
}

static void test_jobs_that_cannot_be_run_are_refused_by_status(void **state)
{
	struct slot *slot = *state;
	Buildbarn__DesiredState__Executing *md5 = job(slot, "00112233");
	Buildbarn__DesiredState__Executing *far = job(slot, HASH_A);
	char *suffix = arena_zero(&slot->arena, 5000);

	md5->digest_function = REAPI__DIGEST_FUNCTION__VALUE__MD5;
	memset(suffix, 'x', 4999);
	far->instance_name_suffix = suffix;
	assert_refused(slot, md5, "SHA256");
	assert_refused(slot, job(slot, "not hexadecimal"), "");
	assert_refused(slot, far, "instance");
}

static void test_a_job_that_is_refused_in_the_middle_ends_the_first(void **state)
{
	struct slot *slot = *state;

	(void)execute(slot, job(slot, HASH_A));
	assert_string_equal(orders(slot), "run 3.1");
	assert_int_equal(execute(slot, job(slot, "short")), BUILDBARN_REFUSAL);
	assert_string_equal(orders(slot), "cancel 3.1");
	finish(slot, "3.1", NULL, 0);
	assert_string_equal(told(slot), "completed shor");
	assert_int_equal(completed(slot)->status->code, ERROR_INVALID_ARGUMENT);
}

static void assert_unanswerable(struct slot *slot,
				Buildbarn__DesiredState__Executing *executing)
{
	Buildbarn__DesiredState desired = BUILDBARN__DESIRED_STATE__INIT;
	enum buildbarn_news news;
	struct error *err;

	desired.worker_state_case = BUILDBARN__DESIRED_STATE__WORKER_STATE_EXECUTING;
	desired.executing = executing;
	err = buildbarn_sync_answer(&slot->sync, "", &desired, &news);
	assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
	error_free(err);
	assert_string_equal(orders(slot), "");
}

static void test_a_job_without_a_name_changes_nothing(void **state)
{
	struct slot *slot = *state;
	Buildbarn__DesiredState__Executing *none = job(slot, HASH_B);
	char *hash = arena_zero(&slot->arena, 1000);

	memset(hash, 'a', 999);
	none->action_digest = NULL;
	(void)execute(slot, job(slot, HASH_A));
	assert_string_equal(orders(slot), "run 3.1");
	assert_unanswerable(slot, none);
	assert_unanswerable(slot, job(slot, ""));
	assert_unanswerable(slot, job(slot, hash));
	assert_string_equal(told(slot), "started aaaa");
}

/* What the scheduler adds to a result is kept within bounds, and the time is not lost. */
static void test_metadata_that_is_too_large_is_left_out(void **state)
{
	struct slot *slot = *state;
	Buildbarn__DesiredState__Executing *executing = job(slot, HASH_A);
	Pb__Timestamp queued = PB__TIMESTAMP__INIT;
	Pb__Any any = PB__ANY__INIT;
	Pb__Any *list[] = {&any};

	queued.seconds = 17;
	any.value.len = (size_t)1 << 20;
	any.value.data = arena_zero(&slot->arena, any.value.len);
	executing->queued_timestamp = &queued;
	executing->auxiliary_metadata = list;
	executing->n_auxiliary_metadata = 1;
	(void)execute(slot, executing);
	assert_string_equal(orders(slot), "run 3.1");
	assert_in_range(slot->lease->metadata.len, 1, 100);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_job_is_run_and_told_until_it_is_answered),
		TEST(test_stages_are_told_as_they_come),
		TEST(test_what_a_lease_is_made_of),
		TEST(test_an_instance_of_one_part_has_no_slash),
		TEST(test_idle_in_the_middle_cancels),
		TEST(test_another_job_in_the_middle_waits_for_the_end_of_the_first),
		TEST(test_the_same_job_again_is_begun_anew),
		TEST(test_a_result_may_bring_the_next_job),
		TEST(test_idle_takes_a_result_that_was_not_told),
		TEST(test_a_job_that_was_not_begun_is_only_dropped),
		TEST(test_a_failure_is_told_with_its_status_and_waits_for_no_job),
		TEST(test_jobs_that_cannot_be_run_are_refused_by_status),
		TEST(test_a_job_that_is_refused_in_the_middle_ends_the_first),
		TEST(test_a_job_without_a_name_changes_nothing),
		TEST(test_metadata_that_is_too_large_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
