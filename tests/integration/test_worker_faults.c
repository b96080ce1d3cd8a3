/*
 * An I/O failure is never a build failure: blobs that are lost, come wrong, never come or
 * are refused, under every way in which a command touches its inputs. The real server
 * gives the jobs, the fake store the blobs.
 *
 * Each case runs one Action until it fails, mends the store, and runs the same Action
 * again: were the failure cached, the second run would not happen.
 */
#include "tests/fake/fake_cas.h"
#include "tests/integration/worker_fixture.h"

struct faults {
	struct worker worker; /* first */
	struct fake *fake;
};

enum fault_kind {
	FAULT_LOST,
	FAULT_CORRUPT,
	FAULT_SHORT,
	FAULT_REFUSED,
	FAULT_STALLED, /* longer than the worker lets a command wait */
	FAULT_N_KINDS,
};

static const char *const fault_names[] = {"lost", "corrupt", "short", "refused",
					  "stalled"};

enum fault_time { TIME_FIRST, TIME_SECOND, TIME_LOADING, TIME_N };

static const char *const time_names[] = {"first touch", "second touch", "while loading"};

/* Each says on stdout that it succeeded, and what it does to f or d. */
struct touch {
	const char *name;
	const char *words;
	const char *said;
	bool is_of_dir; /* its blob is the Directory d, else the file f */
};

static const struct touch touches[] = {
	{"lookup", "test -e d/inside && echo there", "there\n", true},
	{"readdir", "ls -1 d | grep -v unique", "inside\n", true},
	{"read", "cat f", "#!/bin/echo 123\n", false},
	{"mmap",
	 "/usr/bin/python3 -c 'import mmap; "
	 "f = open(\"f\", \"rb\"); "
	 "m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); "
	 "print(chr(m[7]))'",
	 "e\n", false},
	{"exec", "./f 2>&1", "123 ./f\n", false},
};

/* ---- one case ------------------------------------------------------------------- */

struct trial {
	struct faults *faults;
	struct fixture *fixture;
	const struct touch *touch;
	struct digest target; /* what the fault is about */
	struct slice bytes;   /* of it */
	Reapi__Digest *action;
};

/* Blobs that the server needs in order to take the job, for the worker. */
static void trial_mirror(struct trial *trial, const Reapi__Digest *digest)
{
	size_t len;
	const char *bytes = get_blob(trial->fixture, digest, &len);

	(void)fake_put(trial->faults->fake, bytes, len);
}

static void trial_put_action(struct trial *trial, const struct act *act)
{
	Reapi__Action *action;
	struct slice bytes;

	trial->action = act_put(trial->fixture, act);
	bytes.data = (const uint8_t *)get_blob(trial->fixture, trial->action, &bytes.len);
	action = (void *)rpc_decode(&reapi__action__descriptor, bytes,
				    &trial->fixture->arena);
	trial_mirror(trial, action->command_digest);
	trial_mirror(trial, action->input_root_digest);
}

static struct slice keep(struct fixture *fixture, const void *data, size_t len)
{
	return (struct slice){arena_memdup(&fixture->arena, data, len), len};
}

/* A root with f and d/inside, of which only the fake has the blobs. */
static Reapi__Digest *trial_root(struct trial *trial)
{
	struct fixture *fixture = trial->fixture;
	struct fake *fake = trial->faults->fake;
	const char *unique = unique_text(fixture, "only here");
	const char *text = arena_printf(&fixture->arena, "#!/bin/echo 123\n");
	_cleanup_buf_ struct buf root = BUF_INIT, d = BUF_INIT, file = BUF_INIT;
	struct digest f, dir;

	buf_add_string(&file, text);
	if (!trial->touch->is_of_dir) /* more than one page, and no other file's bytes */
		buf_printf(&file, "%*s\n", 9000, unique);
	f = fake_put(fake, file.data, file.len);
	dir_add_file(&d, "inside", wire_of_digest(fixture, &f));
	dir_add_link(&d, "unique", unique);
	dir = fake_put(fake, d.data, d.len);
	dir_add_program(&root, "f", wire_of_digest(fixture, &f));
	dir_add_dir(&root, "d", wire_of_digest(fixture, &dir));
	trial->target = trial->touch->is_of_dir ? dir : f;
	trial->bytes = trial->touch->is_of_dir ? keep(fixture, d.data, d.len)
					       : keep(fixture, file.data, file.len);
	return dir_put(fixture, &root);
}

static void trial_harm(struct trial *trial, enum fault_kind kind)
{
	struct fake *fake = trial->faults->fake;
	struct fake_fault fault = {.digest = &trial->target, .method = FAKE_GET_TREE};

	fault.kind = FAKE_OMIT; /* d is asked for by itself */
	fake_script(fake, &fault);
	fault.method = FAKE_BATCH_READ;
	switch (kind) {
	case FAULT_LOST:
		fake_drop(fake, &trial->target);
		return;
	case FAULT_CORRUPT:
		fault.kind = FAKE_CORRUPT;
		fault.at = 9;
		break;
	case FAULT_SHORT:
		fault.kind = FAKE_TRUNCATE;
		fault.at = 10;
		break;
	case FAULT_REFUSED:
		fault.kind = FAKE_REFUSE;
		fault.code = ERROR_PERMISSION_DENIED;
		break;
	case FAULT_STALLED:
	case FAULT_N_KINDS:
		return;
	}
	fake_script(fake, &fault);
}

static void trial_mend(struct trial *trial)
{
	fake_heal(trial->faults->fake);
	fake_release(trial->faults->fake);
	(void)fake_put(trial->faults->fake, trial->bytes.data, trial->bytes.len);
}

static const char *trial_script(struct trial *trial, enum fault_time time)
{
	const char *words = trial->touch->words;
	struct arena *arena = &trial->fixture->arena;

	switch (time) {
	case TIME_FIRST:
		return arena_printf(arena, "%s; exit 0", words);
	case TIME_SECOND: /* the kernel must not take an error for an answer */
		return arena_printf(arena, "%s > /dev/null 2>&1; %s; exit 1", words,
				    words);
	case TIME_LOADING:
		return arena_printf(arena, "%s > a & %s > b & wait; cat a; exit 0", words,
				    words);
	case TIME_N:
		break;
	}
	return NULL;
}

static int64_t read_calls(struct fake *fake, const struct digest *digest)
{
	return (int64_t)fake_n_asked(fake, FAKE_BATCH_READ, digest);
}

/* Commands and Directories come first; then all reads wait. */
static struct outcome trial_run_held(struct trial *trial, bool is_released)
{
	struct fake *fake = trial->faults->fake;
	int64_t until = clock_mono_ns() + WORKER_PATIENCE_MS * NS_PER_MS;
	struct run run;

	/* the Command is read at the start: it goes through, the next waits */
	fake_hold(fake, FAKE_BATCH_READ);
	run = run_execute(trial->fixture, trial->action, false, 0);
	while (!read_calls(fake, &trial->target) && clock_mono_ns() < until) {
		clock_sleep_ms(2);
		if (!read_calls(fake, &trial->target))
			fake_release_one(fake);
	}
	if (is_released) {
		clock_sleep_ms(50); /* the other toucher comes, too */
		fake_release(fake);
	}
	return outcome_of(&run);
}

static struct outcome trial_run(struct trial *trial, enum fault_kind kind,
				enum fault_time time)
{
	struct run run;

	if (kind == FAULT_STALLED || time == TIME_LOADING)
		return trial_run_held(trial, kind != FAULT_STALLED);
	run = run_execute(trial->fixture, trial->action, false, 0);
	return outcome_of(&run);
}

static void trial_expect_failure(const struct trial *trial, const struct outcome *outcome,
				 enum fault_kind kind)
{
	_cleanup_error_ struct error *err = rpc_status_error(outcome->response->status);
	char name[DIGEST_STRING_MAX];

	assert_int_equal(outcome->result->n_output_files, 0);
	if (kind != FAULT_LOST) {
		assert_refused(outcome, ERROR_UNAVAILABLE, "");
		return;
	}
	assert_refused(outcome, ERROR_FAILED_PRECONDITION, "");
	assert_int_equal(error_n_missing(err), 1);
	assert_non_null(
		strstr(error_missing(err, 0), digest_format(&trial->target, name)));
}

static void run_case(struct faults *faults, const struct touch *touch,
		     enum fault_kind kind, enum fault_time time)
{
	struct trial trial = {
		.faults = faults, .fixture = &faults->worker.server, .touch = touch};
	struct digest said = digest_of(touch->said, strlen(touch->said));
	struct outcome outcome;
	struct act act = {0};

	print_message("           %s, %s, %s\n", touch->name, fault_names[kind],
		      time_names[time]);
	act.root = trial_root(&trial);
	act.script = trial_script(&trial, time);
	trial_put_action(&trial, &act);
	trial_harm(&trial, kind);
	outcome = trial_run(&trial, kind, time);
	trial_expect_failure(&trial, &outcome, kind);
	trial_mend(&trial);
	{
		struct run run = run_execute(trial.fixture, trial.action, false, 0);

		outcome = outcome_of(&run);
	}
	assert_ran(trial.fixture, &outcome, time == TIME_SECOND, NULL);
	assert_false(outcome.response->cached_result);
	if (strcmp(touch->name, "read") != 0) /* the file is larger than it says */
		assert_same_digest(outcome.result->stdout_digest,
				   wire_of_digest(trial.fixture, &said));
	assert_tidy(&faults->worker);
}

static void run_cases(struct faults *faults, const char *touch)
{
	for (size_t i = 0; i < ARRAY_SIZE(touches); i++) {
		if (strcmp(touches[i].name, touch) != 0)
			continue;
		for (enum fault_kind kind = 0; kind < FAULT_N_KINDS; kind++)
			for (enum fault_time time = 0; time < TIME_N; time++)
				run_case(faults, &touches[i], kind, time);
	}
}

static void test_lookup_of_a_bad_directory_is_no_build_failure(void **state)
{
	run_cases(*state, "lookup");
}

static void test_listing_of_a_bad_directory_is_no_build_failure(void **state)
{
	run_cases(*state, "readdir");
}

static void test_read_of_a_bad_blob_is_no_build_failure(void **state)
{
	run_cases(*state, "read");
}

static void test_page_fault_of_a_bad_blob_is_no_build_failure(void **state)
{
	run_cases(*state, "mmap");
}

static void test_exec_of_a_bad_blob_is_no_build_failure(void **state)
{
	run_cases(*state, "exec");
}

/* ---- the messages themselves ---------------------------------------------------- */

/* The worker's own reads: the Command, and the root's Directory. */
static void test_bad_command_or_root_is_no_build_failure(void **state)
{
	static const enum fault_kind kinds[] = {FAULT_LOST, FAULT_CORRUPT, FAULT_REFUSED};
	struct faults *faults = *state;
	struct fixture *fixture = &faults->worker.server;

	for (size_t i = 0; i < 2 * ARRAY_SIZE(kinds); i++) {
		struct trial trial = {.faults = faults, .fixture = fixture};
		struct act act = {.script = arena_printf(&fixture->arena, "exit 0 # %s",
							 unique_text(fixture, "of"))};
		_cleanup_buf_ struct buf root = BUF_INIT;
		struct outcome outcome;
		Reapi__Action *action;
		struct run run;

		dir_add_link(&root, "unique", unique_text(fixture, "root"));
		act.root = dir_put(fixture, &root);
		trial_put_action(&trial, &act);
		trial.bytes.data = (const uint8_t *)get_blob(fixture, trial.action,
							     &trial.bytes.len);
		action = (void *)rpc_decode(&reapi__action__descriptor, trial.bytes,
					    &fixture->arena);
		assert_no_error(digest_from_wire(i % 2 ? action->command_digest
						       : action->input_root_digest,
						 &trial.target));
		trial.bytes.data = (const uint8_t *)get_blob(
			fixture, wire_of_digest(fixture, &trial.target),
			&trial.bytes.len);
		trial_harm(&trial, kinds[i / 2]);
		run = run_execute(fixture, trial.action, false, 0);
		outcome = outcome_of(&run);
		trial_expect_failure(&trial, &outcome, kinds[i / 2]);
		trial_mend(&trial);
		run = run_execute(fixture, trial.action, false, 0);
		outcome = outcome_of(&run);
		assert_ran(fixture, &outcome, 0, NULL);
	}
}

/* The worker itself stumbles over it while it makes the parents of outputs. */
static void test_bad_directory_on_the_way_to_an_output_is_no_build_failure(void **state)
{
	struct faults *faults = *state;
	struct fixture *fixture = &faults->worker.server;

	for (enum fault_kind kind = FAULT_LOST; kind < FAULT_STALLED; kind++) {
		struct trial trial = {
			.faults = faults, .fixture = fixture, .touch = &touches[0]};
		struct act act = {.script = "exit 0", .outputs = LIST("d/new/out")};
		struct outcome outcome;
		struct run run;

		act.root = trial_root(&trial);
		trial_put_action(&trial, &act);
		trial_harm(&trial, kind);
		run = run_execute(fixture, trial.action, false, 0);
		outcome = outcome_of(&run);
		trial_expect_failure(&trial, &outcome, kind);
		trial_mend(&trial);
		run = run_execute(fixture, trial.action, false, 0);
		outcome = outcome_of(&run);
		assert_ran(fixture, &outcome, 0, NULL);
	}
}

static struct error *get_result(struct fixture *fixture, Reapi__Digest *action)
{
	Reapi__GetActionResultRequest request = REAPI__GET_ACTION_RESULT_REQUEST__INIT;

	request.action_digest = action;
	return call(fixture, ACTION_SERVICE, "GetActionResult", &request.base, NULL);
}

static void test_failures_are_not_in_the_action_cache(void **state)
{
	struct faults *faults = *state;
	struct fixture *fixture = &faults->worker.server;
	struct trial trial = {.faults = faults, .fixture = fixture, .touch = &touches[2]};
	struct act act = {.script = "cat f > /dev/null 2>&1; exit 0"};
	struct outcome outcome;
	struct run run;

	act.root = trial_root(&trial);
	trial_put_action(&trial, &act);
	trial_harm(&trial, FAULT_CORRUPT);
	run = run_execute(fixture, trial.action, false, 0);
	outcome = outcome_of(&run);
	assert_refused(&outcome, ERROR_UNAVAILABLE, "");
	assert_error(get_result(fixture, trial.action), ERROR_NOT_FOUND, "no result");
	trial_mend(&trial);
	run = run_execute(fixture, trial.action, false, 0);
	outcome = outcome_of(&run);
	assert_ran(fixture, &outcome, 0, NULL);
	assert_no_error(get_result(fixture, trial.action));
}

/* Outputs that cannot be stored: the command did its work, but nobody would get it. */
static void test_refused_upload_is_no_build_failure(void **state)
{
	struct faults *faults = *state;
	struct fixture *fixture = &faults->worker.server;
	struct trial trial = {.faults = faults, .fixture = fixture};
	struct fake_fault fault = {.kind = FAKE_REFUSE,
				   .method = FAKE_BATCH_UPDATE,
				   .code = ERROR_RESOURCE_EXHAUSTED};
	struct act act = {.outputs = LIST("o")};
	struct outcome outcome;
	struct run run;

	act.script = arena_printf(&fixture->arena, "echo '%s' > o",
				  unique_text(fixture, "output"));
	trial_put_action(&trial, &act);
	fake_script(faults->fake, &fault);
	run = run_execute(fixture, trial.action, false, 0);
	outcome = outcome_of(&run);
	assert_int_not_equal(outcome.code, 0);
	fake_heal(faults->fake);
	run = run_execute(fixture, trial.action, false, 0);
	outcome = outcome_of(&run);
	assert_ran(fixture, &outcome, 0, NULL);
	assert_non_null(output_file(&outcome, "o"));
}

/* ---- time ----------------------------------------------------------------------- */

static void test_timeout_stands_still_while_data_is_waited_for(void **state)
{
	struct faults *faults = *state;
	struct fixture *fixture = &faults->worker.server;
	struct trial trial = {.faults = faults, .fixture = fixture, .touch = &touches[2]};
	struct act act = {.script = "cat f > /dev/null", .timeout_ms = 700};
	struct outcome outcome;
	struct run run;

	act.root = trial_root(&trial);
	trial_put_action(&trial, &act);
	fake_hold(faults->fake, FAKE_BATCH_READ);
	run = run_execute(fixture, trial.action, false, 0);
	while (!read_calls(faults->fake, &trial.target)) {
		clock_sleep_ms(2);
		if (!read_calls(faults->fake, &trial.target))
			fake_release_one(faults->fake);
	}
	clock_sleep_ms(1400);
	fake_release(faults->fake);
	outcome = outcome_of(&run);
	assert_ran(fixture, &outcome, 0, NULL);
	assert_true(report_of(fixture, &outcome)->times->waiting_for_data > 1000000);
	/* and goes on afterwards */
	act.script = "cat f > /dev/null; sleep 600";
	act.root = trial_root(&trial);
	trial_put_action(&trial, &act);
	run = run_execute(fixture, trial.action, false, 0);
	outcome = outcome_of(&run);
	assert_refused(&outcome, ERROR_DEADLINE_EXCEEDED, "timeout");
}

static void test_waits_have_a_limit_of_their_own(void **state)
{
	struct faults *faults = *state;
	struct fixture *fixture = &faults->worker.server;
	struct trial trial = {.faults = faults, .fixture = fixture, .touch = &touches[2]};
	struct act act = {.script = "cat f"};
	struct outcome outcome;

	act.root = trial_root(&trial);
	trial_put_action(&trial, &act);
	outcome = trial_run_held(&trial, false);
	assert_refused(&outcome, ERROR_UNAVAILABLE, "waited");
	trial_mend(&trial);
	assert_tidy(&faults->worker);
}

/* ---- frame ---------------------------------------------------------------------- */

static int faults_setup(void **state)
{
	const struct fake_config config = {.address = "grpc://127.0.0.1:0"};
	struct faults *faults = alloc_new(struct faults);
	struct fixture *fixture;

	skip_without_fuse();
	(void)fixture_setup((void **)&fixture);
	faults->worker.server = *fixture;
	free(fixture);
	worker_make_dir(&faults->worker);
	faults->fake = fake_new(&config);
	worker_launch(
		&faults->worker, faults->worker.server.address,
		LIST("--cas", fake_address(faults->fake), "--wait-limit", "1500ms"));
	*state = faults;
	return 0;
}

static int faults_teardown(void **state)
{
	struct faults *faults = *state;
	struct worker *worker = alloc_new(struct worker);
	int status;

	fake_release(faults->fake);
	*worker = faults->worker;
	status = worker_teardown((void **)&worker);
	fake_free(faults->fake);
	free(faults);
	return status;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lookup_of_a_bad_directory_is_no_build_failure),
		cmocka_unit_test(test_listing_of_a_bad_directory_is_no_build_failure),
		cmocka_unit_test(test_read_of_a_bad_blob_is_no_build_failure),
		cmocka_unit_test(test_page_fault_of_a_bad_blob_is_no_build_failure),
		cmocka_unit_test(test_exec_of_a_bad_blob_is_no_build_failure),
		cmocka_unit_test(test_bad_command_or_root_is_no_build_failure),
		cmocka_unit_test(
			test_bad_directory_on_the_way_to_an_output_is_no_build_failure),
		cmocka_unit_test(test_failures_are_not_in_the_action_cache),
		cmocka_unit_test(test_refused_upload_is_no_build_failure),
		cmocka_unit_test(test_timeout_stands_still_while_data_is_waited_for),
		cmocka_unit_test(test_waits_have_a_limit_of_their_own),
	};

	return cmocka_run_group_tests(tests, faults_setup, faults_teardown);
}
