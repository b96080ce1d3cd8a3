/*
 * What cannot be an output is left out, with a note that names it; all else that the
 * action did arrives.
 */
#include "tests/integration/tree_fixture.h"

/* It alone is left out, and said: what the command did and wrote besides arrives. */
static void test_75_legacy_output_of_the_other_kind_is_left_out(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.files = LIST("o", "good", "last"),
			  .directories = LIST("d", "f")};
	struct outcome outcome;

	act.script = "mkdir o d; echo in > o/x; echo e > d/e; echo f > f; echo g > good; "
		     "echo l > last; echo out; echo err >&2; exit 3";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 3, "out\n");
	assert_string_equal(err_text(fixture, &outcome), "err\n");
	assert_int_equal(outcome.result->n_output_files, 2);
	assert_file_says(fixture, &outcome, "good", "g\n");
	assert_file_says(fixture, &outcome, "last", "l\n");
	assert_int_equal(outcome.result->n_output_directories, 1);
	assert_tree_lists(fixture, output_dir(&outcome, "d"), "e\n");
	assert_string_equal(note_about(fixture, &outcome, "o"),
			    "o: a directory where output_files wants a file, skipped");
	assert_string_equal(
		note_about(fixture, &outcome, "f"),
		"f: a file where output_directories wants a directory, skipped");
}

/* Strings in messages are UTF-8: what is called otherwise would make the whole result
 * unreadable to whoever checks that. */
static void test_75_what_no_string_can_hold_is_left_out(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.outputs = LIST("d", "bad-link", "f", "gone")};
	struct outcome outcome;

	act.script = "mkdir d; echo e > d/e; ln -s \"$(printf '\\377')\" bad-link; "
		     "echo f > f; n=$(printf 'caf\\351'); echo x > d/$n; "
		     "mkdir d/sub d/dir$n; echo y > d/dir$n/y; ln -s e d/sub/link$n; "
		     "ln -s $n d/to; ln -s \"$(printf 'caf\\303\\251')\" "
		     "\"d/$(printf 'good\\303\\251')\"";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	assert_file_says(fixture, &outcome, "f", "f\n");
	assert_int_equal(outcome.result->n_output_symlinks, 0);
	assert_tree_lists(fixture, output_dir(&outcome, "d"),
			  "e\ngood\303\251 -> caf\303\251\nsub/\n");
	assert_string_equal(note_about(fixture, &outcome, "bad-link"),
			    "bad-link: a link whose target is not UTF-8, skipped");
	assert_string_equal(note_about(fixture, &outcome, "d/to"),
			    "d/to: a link whose target is not UTF-8, skipped");
	assert_string_equal(note_about(fixture, &outcome, "d/caf\\xe9"),
			    "d/caf\\xe9: its name is not UTF-8, skipped");
	assert_string_equal(note_about(fixture, &outcome, "d/dircaf\\xe9"),
			    "d/dircaf\\xe9: its name is not UTF-8, skipped");
	assert_string_equal(note_about(fixture, &outcome, "d/sub/linkcaf\\xe9"),
			    "d/sub/linkcaf\\xe9: its name is not UTF-8, skipped");
}

static void test_75_sockets_fifos_and_devices_are_skipped_and_said(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.outputs = LIST("fifo", "d", "socket")};
	struct outcome outcome;

	act.script = "mkfifo fifo; mkdir d; mkfifo d/fifo; echo kept > d/f; "
		     "perl -MIO::Socket::UNIX -e "
		     "'IO::Socket::UNIX->new(Local => $_, Listen => 1) or die $! "
		     "for (\"socket\", \"d/socket\")'";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	assert_int_equal(outcome.result->n_output_files, 0);
	assert_int_equal(outcome.result->n_output_symlinks, 0);
	assert_int_equal(outcome.result->n_output_directories, 1);
	assert_tree_lists(fixture, output_dir(&outcome, "d"), "f\n");
	assert_string_equal(note_about(fixture, &outcome, "fifo"),
			    "fifo: a FIFO, skipped");
	assert_string_equal(note_about(fixture, &outcome, "socket"),
			    "socket: a socket, skipped");
	assert_string_equal(note_about(fixture, &outcome, "d/fifo"),
			    "d/fifo: a FIFO, skipped");
	assert_string_equal(note_about(fixture, &outcome, "d/socket"),
			    "d/socket: a socket, skipped");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_75_legacy_output_of_the_other_kind_is_left_out),
		cmocka_unit_test(test_75_what_no_string_can_hold_is_left_out),
		cmocka_unit_test(test_75_sockets_fifos_and_devices_are_skipped_and_said),
	};

	return cmocka_run_group_tests(tests, worker_setup, worker_teardown);
}
