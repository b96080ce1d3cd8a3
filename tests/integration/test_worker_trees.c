/*
 * Input roots that are wrong or very deep, statements 44 and 61 to 64 of
 * docs/protocol.md: hand-made Directories under the real server and worker.
 */
#include "tests/integration/worker_fixture.h"

#include <limits.h>

/* ---- wrong trees ---------------------------------------------------------------- */

static struct slice bad_name(unsigned int i)
{
	static char longest[TREE_NAME_MAX + 1];
	const struct slice names[] = {
		{(const uint8_t *)"", 0},
		slice_of("."),
		slice_of(".."),
		slice_of("../escaped"),
		slice_of("a/escaped"),
		slice_of("/var/tmp/escaped"),
		{(const uint8_t *)"a\0b", 3},
		{(const uint8_t *)longest, sizeof(longest)},
	};

	memset(longest, 'n', sizeof(longest));
	return i < ARRAY_SIZE(names) ? names[i] : (struct slice){0};
}

static void add_entry(struct fixture *fixture, struct buf *dir, enum tree_kind kind,
		      struct slice name)
{
	switch (kind) {
	case TREE_FILE:
		dir_add_file_with(dir, name, put_text(fixture, "x"), false,
				  (struct slice){0});
		break;
	case TREE_DIR:
		dir_add_dir_raw(dir, name, empty_root(fixture));
		break;
	case TREE_SYMLINK:
		dir_add_link_raw(dir, name, slice_of("x"));
		break;
	}
}

/* The Directory in dir is refused, as the root and below it. */
static void assert_directory_refused(struct fixture *fixture, struct buf *dir)
{
	_cleanup_buf_ struct buf root = BUF_INIT;
	struct outcome outcome;
	struct act act = {.script = "echo ran"};
	Reapi__Digest *wrong = dir_put(fixture, dir);

	act.root = wrong;
	outcome = act_run(fixture, &act);
	assert_refused(&outcome, ERROR_INVALID_ARGUMENT, wrong->hash);
	assert_null(outcome.result->stdout_digest);
	dir_add_dir(&root, "sub", wrong);
	act = (struct act){.script = "ls -R sub; exit 0",
			   .root = dir_put(fixture, &root)};
	outcome = act_run(fixture, &act);
	assert_refused(&outcome, ERROR_INVALID_ARGUMENT, wrong->hash);
}

static bool exists_below(const char *path, const char *name)
{
	_cleanup_free_ char *find =
		alloc_printf("find %s -name %s | grep -q .", path, name);

	return system(find) == 0;
}

static void test_61_bad_names_are_invalid_and_write_nothing_outside(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;

	for (unsigned int i = 0; i == 0 || bad_name(i).len; i++) {
		for (enum tree_kind kind = TREE_FILE; kind <= TREE_SYMLINK; kind++) {
			_cleanup_buf_ struct buf dir = BUF_INIT;

			add_entry(fixture, &dir, kind, bad_name(i));
			assert_directory_refused(fixture, &dir);
		}
	}
	assert_false(exists_below(worker->dir, "'escaped*'"));
	assert_int_not_equal(access("/var/tmp/escaped", F_OK), 0);
}

static void test_62_a_name_twice_is_invalid(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;

	for (enum tree_kind a = TREE_FILE; a <= TREE_SYMLINK; a++) {
		for (enum tree_kind b = a; b <= TREE_SYMLINK; b++) {
			_cleanup_buf_ struct buf dir = BUF_INIT;

			add_entry(fixture, &dir, a, slice_of("same"));
			add_entry(fixture, &dir, b, slice_of("same"));
			assert_directory_refused(fixture, &dir);
		}
	}
}

static void test_63_unsorted_entries_are_invalid_everywhere(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;

	for (enum tree_kind kind = TREE_FILE; kind <= TREE_SYMLINK; kind++) {
		_cleanup_buf_ struct buf dir = BUF_INIT;

		add_entry(fixture, &dir, kind, slice_of("b"));
		add_entry(fixture, &dir, kind, slice_of("a"));
		assert_directory_refused(fixture, &dir);
	}
}

static void test_44_a_directory_that_is_none_is_invalid(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	_cleanup_buf_ struct buf dir = BUF_INIT;

	buf_add_string(&dir, "\x0a\xff no directory");
	assert_directory_refused(fixture, &dir);
}

/* ---- depth ---------------------------------------------------------------------- */

struct batch {
	Reapi__BatchUpdateBlobsRequest request;
	Reapi__BatchUpdateBlobsRequest__Request items[PUT_BATCH], *list[PUT_BATCH];
};

static void batch_send(struct fixture *fixture, struct batch *batch)
{
	ProtobufCMessage *message = NULL;

	assert_no_error(call(fixture, CAS_SERVICE, "BatchUpdateBlobs",
			     &batch->request.base, &message));
	for (size_t i = 0; i < batch->request.n_requests; i++)
		assert_int_equal(((Reapi__BatchUpdateBlobsResponse *)message)
					 ->responses[i]
					 ->status->code,
				 0);
	batch->request.n_requests = 0;
}

/* n directories named "d", one in the other, and a file "end" in the last. */
static Reapi__Digest *put_deep(struct fixture *fixture, size_t n)
{
	struct batch *batch = alloc_new(struct batch);
	_cleanup_buf_ struct buf dir = BUF_INIT;
	Reapi__Digest *below = NULL;

	reapi__batch_update_blobs_request__init(&batch->request);
	batch->request.requests = batch->list;
	for (size_t i = 0; i <= n; i++) {
		size_t at = batch->request.n_requests++;
		struct digest digest;

		if (below)
			dir_add_dir(&dir, "d", below);
		else
			dir_add_file(&dir, "end", put_text(fixture, "the end"));
		digest = digest_of(dir.data, dir.len);
		below = wire_of_digest(fixture, &digest);
		batch->list[at] = &batch->items[at];
		reapi__batch_update_blobs_request__request__init(&batch->items[at]);
		batch->items[at].digest = below;
		batch->items[at].data.len = dir.len;
		batch->items[at].data.data =
			arena_memdup(&fixture->arena, dir.data, dir.len);
		buf_clear(&dir);
		if (batch->request.n_requests == PUT_BATCH || i == n)
			batch_send(fixture, batch);
	}
	free(batch);
	return below;
}

static void test_64_ten_thousand_levels_fail_cleanly_or_work(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.root = put_deep(fixture, 10000)};
	struct outcome outcome;

	act.script = "perl -e 'my $n = 0; while (chdir(\"d\")) { $n++ } print $n; "
		     "print -e \"end\" ? \" end\" : \": $!\"'";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "10000 end");
	/* as an output it is more than a Tree may have */
	act.script = "echo x > d/x";
	act.outputs = LIST("");
	outcome = act_run(fixture, &act);
	assert_refused(&outcome, ERROR_INVALID_ARGUMENT, "levels");
	act.format = REAPI__COMMAND__OUTPUT_DIRECTORY_FORMAT__DIRECTORY_ONLY;
	outcome = act_run(fixture, &act);
	if (outcome.code)
		assert_refused(&outcome, ERROR_INVALID_ARGUMENT, "levels");
	act = (struct act){.script = "echo well"};
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "well\n");
}

/* What the command makes is as deep as it likes, and limited all the same. */
static void test_64_outputs_of_ten_thousand_levels_fail_cleanly(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.outputs = LIST("out")};
	struct outcome outcome;

	act.script = "perl -e 'mkdir(\"out\"); chdir(\"out\"); for (1..10000) { "
		     "mkdir(\"d\") or die $!; chdir(\"d\") or die $! }'";
	outcome = act_run(fixture, &act);
	assert_refused(&outcome, ERROR_INVALID_ARGUMENT, "levels");
	assert_tidy(worker);
	act = (struct act){.script = "echo well"};
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "well\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_61_bad_names_are_invalid_and_write_nothing_outside),
		cmocka_unit_test(test_62_a_name_twice_is_invalid),
		cmocka_unit_test(test_63_unsorted_entries_are_invalid_everywhere),
		cmocka_unit_test(test_44_a_directory_that_is_none_is_invalid),
		cmocka_unit_test(test_64_ten_thousand_levels_fail_cleanly_or_work),
		cmocka_unit_test(test_64_outputs_of_ten_thousand_levels_fail_cleanly),
	};

	return cmocka_run_group_tests(tests, worker_setup, worker_teardown);
}
