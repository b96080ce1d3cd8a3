/*
 * The lazyroot command: finds the verb and calls it.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "client/client.h"
#include "lib/base/process.h"

struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *usage;
	const char *help;
	int failed; /* exit code where its words cannot be written */
};

static const struct verb verbs[] = {
	{"upload", cmd_upload, "PATH...",
	 "store files and directories; prints their digests", CLIENT_FAILED},
	{"download", cmd_download, "DIGEST DEST", "bring back a file, Directory or Tree",
	 CLIENT_FAILED},
	{"run", cmd_run, "[options] -- COMMAND [ARG]...", "run a command on a worker",
	 CLIENT_RUN_ERROR},
	{"wait", cmd_wait, "OPERATION", "wait for a run that was left", CLIENT_RUN_ERROR},
	{"cancel", cmd_cancel, "OPERATION", "end a run", CLIENT_FAILED},
	{"mount", cmd_mount, "[DIGEST] MOUNTPOINT",
	 "see a tree as files, fetched when read", CLIENT_FAILED},
	{"ls", cmd_ls, "[-l] [-R] DIGEST [PATH]", "list a tree", CLIENT_FAILED},
	{"cat", cmd_cat, "DIGEST [PATH]", "print a file of a tree, or a blob",
	 CLIENT_FAILED},
	{"action", cmd_action, "DIGEST", "explain an action, its command and its result",
	 CLIENT_FAILED},
	{"capabilities", cmd_capabilities, "", "what the service can do", CLIENT_FAILED},
};

static void main_help(struct buf *text)
{
	buf_add_string(text,
		       "Usage: lazyroot VERB [options]\n\n"
		       "Stores trees, runs commands on them remotely, and shows them.\n\n"
		       "Verbs:\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		buf_printf(text, "  %-13s %-30s %s\n", verbs[i].name, verbs[i].usage,
			   verbs[i].help);
	buf_add_string(text,
		       "\nlazyroot VERB --help tells more. $LAZYROOT_SERVER names the "
		       "service.\n");
}

static int main_run(int argc, char **argv, int *failed_out)
{
	_cleanup_buf_ struct buf help = BUF_INIT;

	*failed_out = CLIENT_FAILED;
	main_help(&help);
	if (argc < 2) {
		(void)fputs(buf_string(&help), stderr);
		return CLIENT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		say_raw(buf_string(&help));
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		say_out("lazyroot %s\n", LAZYROOT_VERSION);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(argv[1], verbs[i].name) != 0)
			continue;
		*failed_out = verbs[i].failed;
		return verbs[i].run(argc - 1, argv + 1);
	}
	say("lazyroot: %s is no verb (see lazyroot --help)", argv[1]);
	return CLIENT_USAGE;
}

/* What was said counts only once it was written. */
int main(int argc, char **argv)
{
	int failed;
	int code;

	(void)signal(SIGPIPE, SIG_IGN);
	process_raise_descriptors();
	code = main_run(argc, argv, &failed);
	return say_end("lazyroot") || code ? code : failed;
}
