/*
 * A command with its caller's descriptors in the local sandbox: files, and a terminal
 * with job control. Each in a process of its own, which enters namespaces.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "client/interrupt.h"
#include "client/sandbox.h"
#include "client/tree_upload.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "worker/sandbox/accounts.h"

#define PATIENCE_MS 60000
#define FAILED      99 /* of the child, where it is not the command's exit code */

struct fixture {
	char dir[64];
	int tree_fd;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	char path[128];

	if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0) {
		(void)fprintf(stderr, "skipped: needs root and /dev/fuse\n");
		exit(77);
	}
	(void)snprintf(fixture->dir, sizeof(fixture->dir),
		       "/var/tmp/lazyroot-shell-XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	(void)snprintf(path, sizeof(path), "%s/tree", fixture->dir);
	assert_int_equal(mkdir(path, 0755), 0);
	fixture->tree_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_null(file_replace(fixture->tree_fd, "in", "input\n", 6, 0644));
	assert_int_equal(setenv("XDG_CACHE_HOME", fixture->dir, 1), 0);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	(void)close(fixture->tree_fd);
	assert_null(file_remove_tree(AT_FDCWD, fixture->dir));
	free(fixture);
	return 0;
}

static void must(struct error *err)
{
	if (!err)
		return;
	(void)dprintf(STDERR_FILENO, "%s\n", error_text(err));
	_exit(FAILED);
}

/* In the child: the command's exit code is ours. saved: in it, a file "made" must be. */
static void shell_child(const struct fixture *fixture, const char *script,
			bool is_terminal, bool is_saved)
{
	struct client client = CLIENT_INIT;
	enum sandbox_place place = SANDBOX_NAMESPACES;
	struct tree_upload_changes changes = {0};
	_cleanup_(import_freep) struct import *import = NULL;
	_cleanup_free_ char *tree = alloc_printf("%s/tree", fixture->dir);
	const char *shell[] = {"/bin/bash", "--norc", "-i"};
	const char *words[] = {"/bin/sh", "-c", script};
	const struct sandbox_variable path = {"PATH", "/usr/bin:/bin"};
	struct sandbox_shell_config config = {
		.client = &client,
		.workdir = "work/here",
		.arguments = is_terminal ? shell : words,
		.n_arguments = 3,
		.variables = &path,
		.n_variables = 1,
		.fds = {0, 1, 2},
		.is_terminal = is_terminal,
		.uid = ACCOUNTS_UID,
		.gid = ACCOUNTS_UID,
		.is_saved = is_saved,
	};
	struct sandbox_shell_end end;
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	const struct tree_node *node;

	must(sandbox_settle(&client, false, &place));
	if (is_terminal) {
		(void)signal(SIGINT, SIG_IGN);
		(void)signal(SIGQUIT, SIG_IGN);
	}
	must(interrupt_start());
	client.is_quiet = true;
	must(tree_upload_import(&client, tree, &changes, &import));
	must(tree_upload_store(&client, import, NULL, 0, &changes, NULL));
	config.root = import_digest(import);
	must(sandbox_shell(&config, &end));
	if (is_saved)
		must(client_find(&client, &end.saved, "work/here/made", &dir, &node));
	if (is_terminal && tcgetpgrp(0) != getpgrp())
		_exit(FAILED);
	tree_dir_unref(take(dir));
	import_free(take(import));
	tree_upload_changes_deinit(&changes);
	client_deinit(&client);
	_exit(end.exit_code);
}

static int exit_code_of(pid_t child)
{
	int status = 0;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_files_are_its_descriptors_and_its_tree_is_saved(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_buf_ struct buf said = BUF_INIT;
	int in = openat(fixture->tree_fd, "in", O_RDONLY | O_CLOEXEC);
	int out = openat(fixture->tree_fd, "../said", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	pid_t child = fork();

	if (child == 0) {
		(void)dup2(in, 0);
		(void)dup2(out, 1);
		shell_child(fixture,
			    "pwd; cat; cat ../../in; echo x > made; test -t 0 || exit 3",
			    false, true);
	}
	assert_int_equal(exit_code_of(child), 3);
	assert_null(file_read_fd(out, 1000, &said));
	assert_string_equal(buf_string(&said), "/build/work/here\ninput\ninput\n");
	(void)close(in);
	(void)close(out);
}

static void terminal_child(const struct fixture *fixture, const char *slave)
{
	int fd;

	(void)setsid();
	fd = open(slave, O_RDWR); /* the first one is this session's terminal */
	for (int i = 0; i < 3; i++)
		(void)dup2(fd, i);
	if (fd > 2)
		(void)close(fd);
	shell_child(fixture, NULL, true, false);
}

/* Until the terminal has said it, behind what was expected before. */
static void expect(int terminal, struct buf *said, size_t *from, const char *word)
{
	const char *found;
	char chunk[512];

	while (!(found = strstr(buf_string(said) + *from, word))) {
		struct pollfd fd = {.fd = terminal, .events = POLLIN};
		ssize_t n = poll(&fd, 1, PATIENCE_MS) == 1
				    ? read(terminal, chunk, sizeof(chunk))
				    : 0;

		if (n <= 0)
			fail_msg("no \"%s\" in: %s", word, buf_string(said));
		buf_add(said, chunk, (size_t)n);
	}
	*from = (size_t)(found - buf_string(said)) + strlen(word);
}

static void type(int terminal, const char *text)
{
	assert_null(file_write_all(terminal, text, strlen(text)));
}

static void test_a_terminal_has_job_control_interrupts_and_sizes(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_buf_ struct buf said = BUF_INIT;
	size_t from = 0;
	struct winsize size = {.ws_row = 33, .ws_col = 77};
	int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	pid_t child;

	assert_true(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
	child = fork();
	if (child == 0)
		terminal_child(fixture, ptsname(terminal));
	type(terminal, "echo begun$((1+1))\n");
	expect(terminal, &said, &from, "begun2");
	/* who says so is in the foreground already */
	type(terminal, "sh -c 'echo sleeping$((1+1)); exec sleep 1000'\n");
	expect(terminal, &said, &from, "sleeping2");
	type(terminal, "\003"); /* ^C ends what runs, and not the shell */
	type(terminal, "echo alive$((1+1))\n");
	expect(terminal, &said, &from, "alive2");
	type(terminal, "sh -c 'echo again$((1+1)); exec sleep 1000'\n");
	expect(terminal, &said, &from, "again2");
	type(terminal, "\032"); /* ^Z */
	type(terminal, "jobs; echo jobs$((1+1))\n");
	expect(terminal, &said, &from, "Stopped");
	expect(terminal, &said, &from, "jobs2");
	assert_int_equal(ioctl(terminal, TIOCSWINSZ, &size), 0);
	type(terminal, "stty size\n");
	expect(terminal, &said, &from, "33 77");
	/* with it ends what it has stopped */
	type(terminal, "exec sh -c 'exit 4'\n");
	assert_null(strstr(buf_string(&said), "job control"));
	assert_int_equal(exit_code_of(child), 4);
	(void)close(terminal);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_files_are_its_descriptors_and_its_tree_is_saved, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_terminal_has_job_control_interrupts_and_sizes, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
