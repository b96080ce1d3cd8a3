/*
 * How a command runs and ends, statements 80 to 85 of docs/protocol.md, and that actions
 * which run at once do not see each other.
 */
#include "tests/integration/worker_fixture.h"

#include <signal.h>

#define STDOUT_BYTES ((int64_t)200 << 20) /* LAZYROOT_TEST_LONG=1: five times as much */

/* ---- argv[0] -------------------------------------------------------------------- */

static Reapi__Digest *put_programs(struct fixture *fixture)
{
	Reapi__Digest *program = put_text(fixture, "#!/bin/sh\necho \"$0 $1\"\n");
	_cleanup_buf_ struct buf root = BUF_INIT, w = BUF_INIT, bin = BUF_INIT;

	dir_add_file(&w, "data", put_text(fixture, "data\n"));
	dir_add_program(&w, "prog", program);
	dir_add_program(&w, "true", program); /* another one is in the PATH */
	dir_add_dir(&w, "sub", empty_root(fixture));
	dir_add_program(&bin, "tool", program);
	dir_add_dir(&root, "bin", dir_put(fixture, &bin));
	dir_add_dir(&root, "w", dir_put(fixture, &w));
	return dir_put(fixture, &root);
}

static void test_80_every_form_of_argv0(void **state)
{
	static const struct {
		const char *name, *path;
		int exit_code;
		const char *out;
	} cases[] = {
		{"/build/w/prog", NULL, 0, "/build/w/prog x\n"},
		{"./prog", NULL, 0, "./prog x\n"},
		{"../bin/tool", NULL, 0, "../bin/tool x\n"},
		{"prog", "/usr/bin:/bin", 0, "prog x\n"}, /* bare, where it runs */
		{"prog", NULL, 0, "prog x\n"},
		{"tool", "/usr/bin:/build/bin", 0, "/build/bin/tool x\n"},
		{"true", "/usr/bin:/bin", 0, ""}, /* the PATH goes first */
		{"echo", NULL, 0, "x\n"},         /* as every shell without a PATH */
		{"no-such", "/usr/bin:/bin", 127, ""},
		{"./no-such", NULL, 127, ""},
		{"/no/such", NULL, 127, ""},
		{"./data/below", NULL, 127, ""},
		{"./data", NULL, 126, ""},
		{"./sub", NULL, 126, ""},
		{"/", NULL, 126, ""},
	};
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	Reapi__Digest *root = put_programs(fixture);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *arguments[] = {cases[i].name, "x", NULL};
		const char *environment[] = {"PATH", cases[i].path, NULL};
		struct act act = {.arguments = arguments, .root = root, .workdir = "w"};
		struct outcome outcome;

		act.environment = cases[i].path ? environment : NULL;
		outcome = act_run(fixture, &act);
		assert_ran(fixture, &outcome, cases[i].exit_code, cases[i].out);
		if (cases[i].exit_code)
			assert_non_null(
				strstr(err_text(fixture, &outcome), cases[i].name));
	}
}

static void test_80_command_without_arguments_is_invalid(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.arguments = LIST("")};
	struct outcome outcome = act_run(fixture, &act);

	assert_refused(&outcome, ERROR_INVALID_ARGUMENT, "no arguments");
	act.arguments = NULL;
	outcome = act_run(fixture, &act);
	assert_refused(&outcome, ERROR_INVALID_ARGUMENT, "no arguments");
}

/* ---- environment ---------------------------------------------------------------- */

static void test_81_environment_is_exactly_the_commands(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.arguments = LIST("/usr/bin/env", "-0")};
	struct outcome outcome = act_run(fixture, &act);
	static const char want[] = "A=1\0EMPTY=\0B=x=y z\nnext\0LD_PRELOAD_=\xc3\xa9";
	size_t len;
	const char *got;

	assert_ran(fixture, &outcome, 0, "");
	act.environment = LIST("A", "1", "EMPTY", "", "B", "x=y z\nnext", "LD_PRELOAD_",
			       "\xc3\xa9");
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, NULL);
	got = get_blob(fixture, outcome.result->stdout_digest, &len);
	assert_int_equal(len, sizeof(want));
	assert_memory_equal(got, want, sizeof(want));
	act.environment = LIST("A=B", "1");
	outcome = act_run(fixture, &act);
	assert_refused(&outcome, ERROR_INVALID_ARGUMENT, "A=B");
}

static void test_59_times_of_the_metadata_grow(void **state)
{
	struct worker *worker = *state;
	struct act act = {.script = "echo x > o", .outputs = LIST("o")};
	struct outcome outcome = act_run(&worker->server, &act);
	const Reapi__ExecutedActionMetadata *metadata;
	int64_t last_ns = 0;

	assert_ran(&worker->server, &outcome, 0, "");
	metadata = outcome.result->execution_metadata;
	const Pb__Timestamp *const times[] = {
		metadata->queued_timestamp,
		metadata->worker_start_timestamp,
		metadata->input_fetch_start_timestamp,
		metadata->input_fetch_completed_timestamp,
		metadata->execution_start_timestamp,
		metadata->execution_completed_timestamp,
		metadata->output_upload_start_timestamp,
		metadata->output_upload_completed_timestamp,
		metadata->worker_completed_timestamp,
	};
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		int64_t ns;

		assert_non_null(times[i]);
		ns = times[i]->seconds * NS_PER_S + times[i]->nanos;
		assert_true(ns >= last_ns);
		last_ns = ns;
	}
}

static void test_81_descriptors_are_the_three_only(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.script = "ls /proc/self/fd | tr '\\n' ' '; readlink "
				    "/proc/self/fd/0; grep -h SigBlk /proc/self/status; "
				    "grep -h CapEff /proc/self/status"};
	struct outcome outcome = act_run(fixture, &act);

	/* 3 is ls's own */
	assert_ran(fixture, &outcome, 0,
		   "0 1 2 3 /dev/null\nSigBlk:\t0000000000000000\n"
		   "CapEff:\t0000000000000000\n");
}

/* ---- ends ----------------------------------------------------------------------- */

static void test_82_timeout_ends_the_whole_tree_and_keeps_what_was_made(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	const char *marker = arena_printf(&fixture->arena, "86%d1", (int)getpid());
	struct act act = {.outputs = LIST("part"), .timeout_ms = 700};
	struct outcome outcome;

	act.script = arena_printf(&fixture->arena,
				  "echo said; echo wrong >&2; echo half > part; "
				  "setsid sleep %s & (trap '' TERM; sleep %s) & "
				  "sleep %s; echo never",
				  marker, marker, marker);
	outcome = act_run(fixture, &act);
	assert_refused(&outcome, ERROR_DEADLINE_EXCEEDED, "timeout");
	assert_string_equal(out_text(fixture, &outcome), "said\n");
	assert_string_equal(err_text(fixture, &outcome), "wrong\n");
	assert_string_equal(
		get_blob(fixture, output_file(&outcome, "part")->digest, NULL), "half\n");
	assert_int_equal(count_processes(marker), 0);
	assert_tidy(worker);
}

static void test_82_a_timeout_is_never_served_from_the_cache(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.script = "sleep 600", .timeout_ms = 200};

	act.salt = unique_text(fixture, "salt");
	for (int i = 0; i < 2; i++) {
		struct outcome outcome = act_run(fixture, &act);

		assert_refused(&outcome, ERROR_DEADLINE_EXCEEDED, "timeout");
		assert_false(outcome.response->cached_result);
	}
}

static void test_83_signal_n_is_128_plus_n(void **state)
{
	static const int signals[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGILL,  SIGABRT,
				      SIGBUS,  SIGFPE,  SIGKILL, SIGUSR1, SIGSEGV,
				      SIGPIPE, SIGALRM, SIGTERM};
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		struct act act = {.outputs = LIST("part")};
		struct outcome outcome;

		act.script = arena_printf(&fixture->arena,
					  "ulimit -c 0; echo half > part; echo said; "
					  "kill -%d $$; sleep 600",
					  signals[i]);
		outcome = act_run(fixture, &act);
		assert_ran(fixture, &outcome, 128 + signals[i], "said\n");
		assert_non_null(output_file(&outcome, "part"));
		assert_false(outcome.response->cached_result);
	}
}

static int64_t peak_memory(pid_t pid)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	char path[64];
	long long kib = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
	assert_no_error(file_read_all(AT_FDCWD, path, 65536, &text));
	assert_int_equal(sscanf(strstr(buf_string(&text), "VmHWM:"), "VmHWM: %lld", &kib),
			 1);
	return kib << 10;
}

/* Binary, too: NUL and 0xff bytes come through. */
static void test_84_much_output_streams_in_bounded_memory(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	int64_t bytes = getenv("LAZYROOT_TEST_LONG") ? 5 * STDOUT_BYTES : STDOUT_BYTES;
	_cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
	char chunk[4096];
	struct digest want;
	struct outcome outcome;
	struct act act = {0};
	int64_t before, worker_before;

	memset(chunk, '\xff', sizeof(chunk));
	chunk[0] = '\0';
	chunk[sizeof(chunk) - 1] = '\n';
	for (int64_t i = 0; i < bytes; i += (int64_t)sizeof(chunk))
		hasher_add(hasher, chunk, sizeof(chunk));
	hasher_end(hasher, &want);
	before = peak_memory(fixture->pid);
	worker_before = peak_memory(worker->pid);
	act.script = arena_printf(&fixture->arena,
				  "perl -e '$| = 1; my $c = \"\\0\" . (\"\\xff\" x 4094) "
				  ". \"\\n\"; print $c for (1..%lld)'; echo end >&2",
				  (long long)(bytes / (int64_t)sizeof(chunk)));
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, NULL);
	assert_same_digest(outcome.result->stdout_digest, wire_of_digest(fixture, &want));
	assert_int_equal(outcome.result->stdout_raw.len, 0);
	assert_string_equal(err_text(fixture, &outcome), "end\n");
	assert_in_range(peak_memory(worker->pid) - worker_before, 0, bytes / 3);
	assert_in_range(peak_memory(fixture->pid) - before, 0, bytes / 3);
}

static void test_85_daemons_end_with_the_command_however_it_ends(void **state)
{
	static const struct {
		const char *end;
		int64_t timeout_ms;
	} cases[] = {{"exit 0", 0}, {"exit 9", 0}, {"kill -9 $$", 0}, {"sleep 600", 700}};
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *marker =
			arena_printf(&fixture->arena, "85%d%zu", (int)getpid(), i);
		struct act act = {.timeout_ms = cases[i].timeout_ms};
		struct outcome outcome;

		act.script = arena_printf(
			&fixture->arena,
			"setsid nohup sleep %s > /dev/null 2>&1 & "
			"perl -e 'use POSIX; exit if fork; setsid; exit if fork; "
			"$SIG{$_} = \"IGNORE\" for qw(HUP TERM INT); "
			"exec \"sleep\", \"%s\"' & sleep 0.1; echo well; %s",
			marker, marker, cases[i].end);
		outcome = act_run(fixture, &act);
		assert_string_equal(out_text(fixture, &outcome), "well\n");
		assert_int_equal(count_processes(marker), 0);
		assert_tidy(worker);
	}
}

/* ---- two at once ---------------------------------------------------------------- */

/* One action leaves all it can, and stays; the other looks for it. */
static void test_two_actions_do_not_see_each_other(void **state)
{
	static const char hides[] =
		"echo secret > /tmp/hidden; echo secret > /build/hidden; "
		"echo secret > /dev/shm/hidden; "
		"perl -e 'use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0); "
		"bind($s, pack(\"Sa*\", AF_UNIX, \"\\0hidden\")) or die $!; listen($s, "
		"1); "
		"socket(my $t, PF_INET, SOCK_STREAM, 0); "
		"setsockopt($t, SOL_SOCKET, SO_REUSEADDR, 1); "
		"bind($t, sockaddr_in(47123, INADDR_LOOPBACK)) or die $!; listen($t, 1); "
		"shmget(4711, 100, 0666 | 01000) // die $!; "
		"$| = 1; print \"hidden\\n\"; sleep 600 if %s' & "
		"while ! test -e /build/enough; do sleep 0.05; done";
	static const char seeks[] =
		"ls /tmp /build /dev/shm; "
		"perl -e 'use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0); "
		"print \"unix\\n\" if connect($s, pack(\"Sa*\", AF_UNIX, "
		"\"\\0hidden\")); "
		"socket(my $t, PF_INET, SOCK_STREAM, 0); "
		"print \"net\\n\" if connect($t, sockaddr_in(47123, INADDR_LOOPBACK)); "
		"print \"shm\\n\" if defined shmget(4711, 100, 0666)'; "
		"ls /proc | grep -c '^[0-9]'; kill -9 -1; ls /var /home /root "
		"2>/dev/null";
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	const char *marker = arena_printf(&fixture->arena, "88%d1", (int)getpid());
	struct act act = {.script = arena_printf(&fixture->arena, hides, marker)};
	struct outcome outcome;
	struct run first = act_start(fixture, &act);
	Longrunning__CancelOperationRequest request =
		LONGRUNNING__CANCEL_OPERATION_REQUEST__INIT;
	int64_t until = clock_mono_ns() + WORKER_PATIENCE_MS * NS_PER_MS;

	run_until(&first, REAPI__EXECUTION_STAGE__VALUE__EXECUTING);
	while (!count_processes(marker) && clock_mono_ns() < until)
		clock_sleep_ms(5);
	clock_sleep_ms(300); /* time to hide: more makes the test only stricter */
	act.script = seeks;
	outcome = act_run(fixture, &act);
	assert_int_equal(outcome.code, 0);
	{
		const char *text = out_text(fixture, &outcome);

		assert_null(strstr(text, "hidden"));
		assert_null(strstr(text, "unix"));
		assert_null(strstr(text, "net"));
		assert_null(strstr(text, "shm\n/")); /* the directory's own heading */
		assert_null(strstr(text, "\nshm\n"));
	}
	/* kill -1 reached nobody else's processes */
	assert_true(count_processes(marker) > 0);
	request.name = first.operation->name;
	assert_no_error(
		call(fixture, OPS_SERVICE, "CancelOperation", &request.base, NULL));
	assert_int_equal(run_finish(&first), ERROR_CANCELLED);
	assert_gone(marker);
	assert_tidy(worker);
}

/* What it can reach of the worker: nothing to write to, and nothing that stays. */
static void test_hostile_action_changes_nothing_outside(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	const char *text = unique_text(fixture, "precious");
	Reapi__Digest *blob = put_text(fixture, text);
	_cleanup_buf_ struct buf dir = BUF_INIT;
	struct outcome outcome;
	struct act act = {0};

	dir_add_file(&dir, "f", blob);
	act.root = dir_put(fixture, &dir);
	act.script = arena_printf(
		&fixture->arena,
		"cat f > /dev/null; "
		"for d in %s /var/lib /usr /etc /proc/1/root/var/lib /sys /proc/sys; do "
		"echo evil > $d/evil 2>/dev/null && echo \"wrote $d\"; done; "
		"mount -t tmpfs none /build 2>/dev/null && echo mounted; "
		"umount -l /build 2>/dev/null && echo unmounted; "
		"mknod dev b 8 0 2>/dev/null && echo device; "
		"chroot / true 2>/dev/null && echo chroot; "
		"unshare -m true 2>/dev/null && echo unshared; "
		"setpriv --reuid 0 true 2>/dev/null && echo root; "
		"cat /etc/shadow 2>/dev/null; "
		"perl -e 'my ($type, $name, $key) = qw(user name key); "
		"my $nr = qx(uname -m) =~ /x86_64/ ? 248 : 217; "
		"print \"key\n\" if syscall($nr, $type, $name, $key, 3, -3) >= 0 or "
		"not $!{ENOSYS}'; "
		"unshare -UrmC sh -c 'mount -t cgroup2 none /tmp && "
		"echo 9 > /tmp/cgroup.max.depth && echo cgroup' 2>/dev/null; "
		"cat /proc/[0-9]*/comm | grep lazyroot-work; "
		"kill -9 %d 2>/dev/null && echo killed; "
		"cp /bin/sh suid; chmod 6755 suid; setfattr -n trusted.overlay.opaque -v "
		"y . "
		"2>/dev/null && echo attribute; echo x > f; exit 0",
		worker->dir, (int)worker->pid);
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, NULL);
	assert_string_equal(out_text(fixture, &outcome), "");
	act.script = "cat f";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, text);
	assert_tidy(worker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_80_every_form_of_argv0),
		cmocka_unit_test(test_80_command_without_arguments_is_invalid),
		cmocka_unit_test(test_59_times_of_the_metadata_grow),
		cmocka_unit_test(test_81_environment_is_exactly_the_commands),
		cmocka_unit_test(test_81_descriptors_are_the_three_only),
		cmocka_unit_test(
			test_82_timeout_ends_the_whole_tree_and_keeps_what_was_made),
		cmocka_unit_test(test_82_a_timeout_is_never_served_from_the_cache),
		cmocka_unit_test(test_83_signal_n_is_128_plus_n),
		cmocka_unit_test(test_84_much_output_streams_in_bounded_memory),
		cmocka_unit_test(test_85_daemons_end_with_the_command_however_it_ends),
		cmocka_unit_test(test_two_actions_do_not_see_each_other),
		cmocka_unit_test(test_hostile_action_changes_nothing_outside),
	};

	/* a sanitizer would keep what was freed: that is not what is measured here */
	(void)setenv("ASAN_OPTIONS", "quarantine_size_mb=8", 0);
	return cmocka_run_group_tests(tests, worker_setup, worker_teardown);
}
