/*
 * What an action finds, statements 65 to 72 of docs/protocol.md: hand-made Directories
 * under the real server and worker.
 */
#include "tests/integration/worker_fixture.h"

#include <limits.h>

/* ---- sizes and lost blobs ------------------------------------------------------- */

static void test_65_size_that_is_not_the_blobs_fails_the_job(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	Reapi__Digest *blob = put_text(fixture, unique_text(fixture, "bytes"));

	for (int off = -1; off <= 1; off += 2) {
		_cleanup_buf_ struct buf dir = BUF_INIT;
		Reapi__Digest wrong = *blob;
		struct outcome outcome;
		struct act act = {.script = "cat f; exit 0"};

		wrong.size_bytes += off;
		dir_add_file(&dir, "f", &wrong);
		act.root = dir_put(fixture, &dir);
		outcome = act_run(fixture, &act);
		assert_refused(&outcome, ERROR_FAILED_PRECONDITION, wrong.hash);
		assert_null(outcome.result->stdout_digest);
	}
}

static void assert_missing_is(const struct outcome *outcome, const Reapi__Digest *digest)
{
	_cleanup_error_ struct error *err = rpc_status_error(outcome->response->status);
	_cleanup_free_ char *subject = alloc_printf("blobs/%s/%lld", digest->hash,
						    (long long)digest->size_bytes);

	assert_int_equal(error_code(err), ERROR_FAILED_PRECONDITION);
	assert_int_equal(error_n_missing(err), 1);
	assert_string_equal(error_missing(err, 0), subject);
}

static void test_66_lost_blob_is_eio_inside_and_missing_outside(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	Reapi__Digest *absent = absent_blob(fixture);
	_cleanup_buf_ struct buf dir = BUF_INIT;
	struct outcome outcome;
	struct act act = {.script = "cat f; echo said; exit 0"};

	dir_add_file(&dir, "f", absent);
	act.root = dir_put(fixture, &dir);
	outcome = act_run(fixture, &act);
	assert_missing_is(&outcome, absent);
	dir_add_dir(&dir, "d", absent);
	act.script = "ls d; exit 0";
	act.root = dir_put(fixture, &dir);
	outcome = act_run(fixture, &act);
	assert_missing_is(&outcome, absent);
}

/* The command itself sees an I/O error, not an empty file. */
static void test_66_blob_that_vanishes_during_the_run(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	Reapi__Digest *blob = put_text(fixture, unique_text(fixture, "to vanish"));
	_cleanup_buf_ struct buf dir = BUF_INIT;
	struct gate before, after;
	struct outcome outcome;
	struct run run;
	struct act act;
	char path[PATH_MAX], said[128] = "";

	gate_open(&before);
	gate_open(&after);
	act = act_bash(fixture, arena_printf(&fixture->arena,
					     "%s; f=f; cat $f > got 2> why; "
					     "cat why > /dev/tcp/127.0.0.1/%u; exit 0",
					     gate_words(fixture, &before), after.port));
	dir_add_file(&dir, "f", blob);
	act.root = dir_put(fixture, &dir);
	run = act_start(fixture, &act);
	gate_wait(&before);
	(void)snprintf(path, sizeof(path), "%s/blobs/%.2s/%s", fixture->dir, blob->hash,
		       blob->hash);
	assert_int_equal(unlink(path), 0);
	gate_pass(&before);
	gate_wait(&after);
	assert_true(read(after.fd, said, sizeof(said) - 1) > 0);
	assert_non_null(strstr(said, "Input/output error"));
	outcome = outcome_of(&run);
	assert_missing_is(&outcome, blob);
	gate_close(&before);
	gate_close(&after);
}

/* ---- links ---------------------------------------------------------------------- */

static void test_67_symlink_targets_are_byte_exact(void **state)
{
	static const char *const targets[] = {
		"/etc/passwd",  "../../../../etc/x", "a//b/./c/",        "..",
		"\xff\xfe\x80", " two\nlines\t",     "nowhere/at/all///"};
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	char longest[TREE_TARGET_MAX + 1];
	_cleanup_buf_ struct buf dir = BUF_INIT, want = BUF_INIT;
	struct outcome outcome;
	struct act act = {.outputs = LIST("copy")};
	struct slice got;

	for (size_t i = 0; i <= ARRAY_SIZE(targets); i++) {
		const char *target = i < ARRAY_SIZE(targets) ? targets[i] : longest;
		char name[16];

		memset(longest, 'x', TREE_TARGET_MAX);
		longest[TREE_TARGET_MAX] = '\0';
		(void)snprintf(name, sizeof(name), "l%zu", i);
		dir_add_link(&dir, name, target);
		buf_add(&want, target, strlen(target) + 1);
	}
	act.root = dir_put(fixture, &dir);
	act.script = "perl -e 'for (sort glob(\"l*\")) { print readlink($_), \"\\0\" }'; "
		     "mkdir copy; cp -d l* copy; ln -sfT ok copy/l4";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, NULL);
	got.data = (const uint8_t *)get_blob(fixture, outcome.result->stdout_digest,
					     &got.len);
	assert_true(slice_equal(got, buf_slice(&want)));
	/* and back: the captured directory is the input again, but for what no string in
	 * a message can hold */
	buf_clear(&dir);
	for (size_t i = 0; i <= ARRAY_SIZE(targets); i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "l%zu", i);
		dir_add_link(&dir, name,
			     i == 4                    ? "ok"
			     : i < ARRAY_SIZE(targets) ? targets[i]
						       : longest);
	}
	act.root = dir_put(fixture, &dir);
	got.data = (const uint8_t *)get_blob(
		fixture, output_dir(&outcome, "copy")->tree_digest, &got.len);
	{
		_cleanup_free_ struct slice *dirs = NULL;
		struct digest digest;
		size_t n;

		assert_no_error(tree_message_split(got, &dirs, &n));
		digest = digest_of(dirs[0].data, dirs[0].len);
		assert_same_digest(wire_of_digest(fixture, &digest), act.root);
	}
}

static Reapi__Digest *put_file(struct fixture *fixture, const char *path)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	assert_no_error(file_read_all(AT_FDCWD, path, (size_t)64 << 20, &bytes));
	return put_blob(fixture, bytes.data, bytes.len);
}

/* A root with a static busybox: "bin" holds it, what else is in dir is the caller's. */
static Reapi__Digest *put_busybox(struct fixture *fixture)
{
	_cleanup_buf_ struct buf bin = BUF_INIT;
	Reapi__Digest *busybox = put_file(fixture, "/bin/busybox");

	dir_add_program(&bin, "cat", busybox);
	dir_add_program(&bin, "sh", busybox);
	return dir_put(fixture, &bin);
}

static void test_67_links_resolve_inside_the_root_only(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	_cleanup_buf_ struct buf dir = BUF_INIT, etc = BUF_INIT;
	struct outcome outcome;
	struct act act = {.properties = LIST("InputRootAbsolutePath", "/")};

	dir_add_file(&etc, "passwd", put_text(fixture, "mine\n"));
	dir_add_dir(&dir, "bin", put_busybox(fixture));
	dir_add_dir(&dir, "etc", dir_put(fixture, &etc));
	dir_add_link(&dir, "absolute", "/etc/passwd");
	dir_add_link(&dir, "climbs", "../../../../../../etc/passwd");
	dir_add_link(&dir, "outside", "/var/tmp");
	act.root = dir_put(fixture, &dir);
	act.script = "cat absolute climbs; cd outside || echo none";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "mine\nmine\nnone\n");
}

/* ---- properties ----------------------------------------------------------------- */

static struct slice props(struct fixture *fixture, int64_t seconds, int32_t nanos,
			  unsigned int mode, bool is_read_only)
{
	_cleanup_buf_ struct buf out = BUF_INIT, part = BUF_INIT;

	if (is_read_only) {
		wire_put_bytes(&part, 1, slice_of("SubtreeReadOnly"));
		wire_put_bytes(&part, 2, slice_of("true"));
		wire_put_bytes(&out, 1, buf_slice(&part));
		buf_clear(&part);
	}
	if (seconds) {
		wire_put_int(&part, 1, (uint64_t)seconds);
		wire_put_int(&part, 2, (uint64_t)nanos);
		wire_put_bytes(&out, 2, buf_slice(&part));
		buf_clear(&part);
	}
	if (mode) {
		wire_put_int(&part, 1, mode);
		wire_put_bytes(&out, 3, buf_slice(&part));
	}
	return (struct slice){arena_memdup(&fixture->arena, out.data, out.len), out.len};
}

static void test_68_executable_mtime_and_mode_are_honoured(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	Reapi__Digest *program = put_text(fixture, "#!/bin/sh\necho runs\n");
	_cleanup_buf_ struct buf dir = BUF_INIT;
	struct outcome outcome;
	struct act act = {0};

	dir_add_file_with(&dir, slice_of("dated"), put_text(fixture, "d"), false,
			  props(fixture, 1234567890, 987654321, 0, false));
	dir_add_file_with(&dir, slice_of("moded"), put_text(fixture, "m"), false,
			  props(fixture, 0, 0, 0640, false));
	dir_add_file(&dir, "plain", program);
	dir_add_program(&dir, "run", program);
	act.root = dir_put(fixture, &dir);
	act.script = "./run; ./plain 2>/dev/null; echo $?; stat -c '%y' dated; "
		     "stat -c %a moded plain run; stat -c %Y plain; stat -c %u:%g run";
	act.environment = LIST("PATH", "/usr/bin:/bin", "TZ", "UTC");
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0,
		   "runs\n126\n2009-02-13 23:31:30.987654321 +0000\n640\n644\n755\n"
		   "1321009871\n1000:1000\n");
}

static void test_68_inputs_written_by_one_job_are_whole_for_the_others(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	const char *text = unique_text(fixture, "original");
	Reapi__Digest *blob = put_text(fixture, text);
	_cleanup_buf_ struct buf dir = BUF_INIT;
	_cleanup_buf_ struct buf cached = BUF_INIT;
	struct outcome outcome;
	struct gate gate;
	struct run run;
	struct act act;
	char path[PATH_MAX];

	gate_open(&gate);
	dir_add_program(&dir, "f", blob);
	act = act_bash(fixture, arena_printf(&fixture->arena,
					     "cat f > /dev/null; echo overwritten > f; "
					     "truncate -s 1 f; %s; cat f",
					     gate_words(fixture, &gate)));
	act.root = dir_put(fixture, &dir);
	run = act_start(fixture, &act);
	gate_wait(&gate);
	act = (struct act){.script = "cat f; rm f", .root = act.root};
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, text);
	gate_pass(&gate);
	outcome = outcome_of(&run);
	assert_ran(fixture, &outcome, 0, "o");
	assert_string_equal(get_blob(fixture, blob, NULL), text);
	(void)snprintf(path, sizeof(path), "%s/cache/blobs/%.2s/%s", worker->dir,
		       blob->hash, blob->hash);
	assert_no_error(file_read_all(AT_FDCWD, path, 1000, &cached));
	assert_string_equal(buf_string(&cached), text);
	gate_close(&gate);
}

static void test_69_read_only_subtrees_cannot_be_written(void **state)
{
	static const char *const attempts[] = {
		"echo x > ro/new",     "echo x >> ro/f",
		"echo x > ro/sub/g",   "rm ro/f",
		"mkdir ro/sub/d",      "mv ro/f elsewhere",
		"mv ro/sub elsewhere", "ln -s x ro/link",
		"chmod 777 ro/f",      "touch ro/f",
		"rmdir ro/empty",      "chmod 777 ro",
		"mv outside ro/f",     "ln ro/f hard && echo x >> hard"};
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	_cleanup_buf_ struct buf root = BUF_INIT, ro = BUF_INIT, sub = BUF_INIT;
	struct slice read_only = props(fixture, 0, 0, 0, true);
	const char *script = "cat ro/f ro/sub/g; ";
	Reapi__Digest *ro_digest;
	struct outcome outcome;
	struct act act = {.outputs = LIST("ro", "outside")};

	dir_add_file(&sub, "g", put_text(fixture, "g\n"));
	dir_add_file(&ro, "f", put_text(fixture, "f\n"));
	dir_add_dir(&ro, "empty", empty_root(fixture));
	dir_add_dir(&ro, "sub", dir_put(fixture, &sub));
	wire_put_bytes(&ro, 5, read_only);
	ro_digest = dir_put(fixture, &ro);
	dir_add_file(&root, "outside", put_text(fixture, "o\n"));
	dir_add_dir(&root, "ro", ro_digest);
	act.root = dir_put(fixture, &root);
	for (size_t i = 0; i < ARRAY_SIZE(attempts); i++)
		script = arena_printf(&fixture->arena,
				      "%s if (%s) 2>/dev/null; then echo '%s'; fi; ",
				      script, attempts[i], attempts[i]);
	act.script = arena_printf(&fixture->arena,
				  "%s echo changed >> outside; cat outside", script);
	act.format = REAPI__COMMAND__OUTPUT_DIRECTORY_FORMAT__DIRECTORY_ONLY;
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "f\ng\no\nchanged\n");
	assert_same_digest(output_dir(&outcome, "ro")->root_directory_digest, ro_digest);
}

/* ---- working directory ---------------------------------------------------------- */

static void test_70_working_directory_must_be_in_the_inputs(void **state)
{
	static const struct {
		const char *workdir;
		int code;
	} cases[] = {{"absent", ERROR_INVALID_ARGUMENT},
		     {"sub/absent", ERROR_INVALID_ARGUMENT},
		     {"file", ERROR_INVALID_ARGUMENT},
		     {"..", ERROR_INVALID_ARGUMENT},
		     {"sub/../..", ERROR_INVALID_ARGUMENT},
		     {"/sub", ERROR_INVALID_ARGUMENT},
		     {"leaves", ERROR_INVALID_ARGUMENT},
		     {"sub", 0},
		     {"./sub/.", 0},
		     {"sub/../sub/", 0},
		     {"stays", 0}};
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	_cleanup_buf_ struct buf dir = BUF_INIT, sub = BUF_INIT;
	Reapi__Digest *root;

	dir_add_file(&sub, "here", put_text(fixture, "here\n"));
	dir_add_file(&dir, "file", put_text(fixture, "x"));
	dir_add_dir(&dir, "sub", dir_put(fixture, &sub));
	dir_add_link(&dir, "leaves", "/usr");
	dir_add_link(&dir, "stays", "sub");
	root = dir_put(fixture, &dir);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct act act = {
			.script = "cat here", .root = root, .workdir = cases[i].workdir};
		struct outcome outcome = act_run(fixture, &act);

		if (cases[i].code)
			assert_refused(&outcome, cases[i].code, cases[i].workdir);
		else
			assert_ran(fixture, &outcome, 0, "here\n");
	}
}

static void test_71_output_that_leaves_the_root_is_invalid(void **state)
{
	static const struct {
		const char *output;
		int code;
	} cases[] = {{"/o", ERROR_INVALID_ARGUMENT},
		     {"../../../o", ERROR_INVALID_ARGUMENT},
		     {"x/../../../../o", ERROR_INVALID_ARGUMENT},
		     {"../../o", 0},
		     {"../o", 0},
		     {"x/../o", 0}};
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf b = BUF_INIT, root = BUF_INIT;
		const char *outputs[] = {cases[i].output, NULL};
		struct act act = {.workdir = "a/b", .outputs = outputs};
		struct outcome outcome;

		dir_add_dir(&b, "b", empty_root(fixture));
		dir_add_dir(&root, "a", dir_put(fixture, &b));
		act.root = dir_put(fixture, &root);
		act.script = arena_printf(&fixture->arena, "mkdir -p x; echo o > %s",
					  cases[i].output);
		outcome = act_run(fixture, &act);
		if (cases[i].code) {
			assert_refused(&outcome, cases[i].code, cases[i].output);
			continue;
		}
		assert_ran(fixture, &outcome, 0, "");
		assert_non_null(output_file(&outcome, cases[i].output));
	}
}

static void test_72_parents_of_outputs_exist_and_outputs_do_not(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct outcome outcome;
	struct act act = {.outputs = LIST("a/b/out", "w/../c/out", "top")};

	act.script = "find . | sort";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, ".\n./a\n./a/b\n./c\n");
	act = (struct act){.files = LIST("f/deep/out"),
			   .directories = LIST("d/deep/out")};
	act.script = "find . | sort";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, ".\n./d\n./d/deep\n./f\n./f/deep\n");
}

/* Whether inputs lie there or only outputs will. */
static void test_72_a_working_directory_of_outputs_is_made(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.workdir = "new/w", .outputs = LIST("out", "sub/out")};
	struct outcome outcome;

	act.script = "pwd; find . | sort; echo x > out";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "/build/new/w\n.\n./sub\n");
	assert_string_equal(get_blob(fixture, output_file(&outcome, "out")->digest, NULL),
			    "x\n");
	act = (struct act){.workdir = "new/w", .directories = LIST(".")};
	act.script = "pwd; echo x > y";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "/build/new/w\n");
	assert_int_equal(outcome.result->n_output_directories, 1);
	act = (struct act){.workdir = "new/w", .outputs = LIST("../../elsewhere")};
	act.script = "pwd";
	outcome = act_run(fixture, &act);
	assert_refused(&outcome, ERROR_INVALID_ARGUMENT, "working directory new/w");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_65_size_that_is_not_the_blobs_fails_the_job),
		cmocka_unit_test(test_66_lost_blob_is_eio_inside_and_missing_outside),
		cmocka_unit_test(test_66_blob_that_vanishes_during_the_run),
		cmocka_unit_test(test_67_symlink_targets_are_byte_exact),
		cmocka_unit_test(test_67_links_resolve_inside_the_root_only),
		cmocka_unit_test(test_68_executable_mtime_and_mode_are_honoured),
		cmocka_unit_test(
			test_68_inputs_written_by_one_job_are_whole_for_the_others),
		cmocka_unit_test(test_69_read_only_subtrees_cannot_be_written),
		cmocka_unit_test(test_70_working_directory_must_be_in_the_inputs),
		cmocka_unit_test(test_71_output_that_leaves_the_root_is_invalid),
		cmocka_unit_test(test_72_parents_of_outputs_exist_and_outputs_do_not),
		cmocka_unit_test(test_72_a_working_directory_of_outputs_is_made),
	};

	return cmocka_run_group_tests(tests, worker_setup, worker_teardown);
}
