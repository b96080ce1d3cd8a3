/*
 * The lazyroot command: finds the verb and calls it.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "client/client.h"

struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *usage;
	const char *help;
};

static const struct verb verbs[] = {
	{"upload", cmd_upload, "PATH...",
	 "store files and directories; prints their digests"},
	{"download", cmd_download, "DIGEST DEST", "bring back a file, Directory or Tree"},
	{"run", cmd_run, "[options] -- COMMAND [ARG]...", "run a command on a worker"},
	{"wait", cmd_wait, "OPERATION", "wait for a run that was left"},
	{"cancel", cmd_cancel, "OPERATION", "end a run"},
	{"mount", cmd_mount, "[DIGEST] MOUNTPOINT",
	 "see a tree as files, fetched when read"},
	{"ls", cmd_ls, "[-l] [-R] DIGEST [PATH]", "list a tree"},
	{"cat", cmd_cat, "DIGEST [PATH]", "print a file of a tree, or a blob"},
	{"action", cmd_action, "DIGEST", "explain an action, its command and its result"},
	{"capabilities", cmd_capabilities, "", "what the service can do"},
};

static void main_help(FILE *to)
{
	(void)fprintf(to,
		      "Usage: lazyroot VERB [options]\n\n"
		      "Stores trees, runs commands on them remotely, and shows them.\n\n"
		      "Verbs:\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		(void)fprintf(to, "  %-13s %-30s %s\n", verbs[i].name, verbs[i].usage,
			      verbs[i].help);
	(void)fprintf(to, "\nlazyroot VERB --help tells more. $LAZYROOT_SERVER names the "
			  "service.\n");
}

int main(int argc, char **argv)
{
	(void)signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		main_help(stderr);
		return CLIENT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		main_help(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		(void)printf("lazyroot %s\n", LAZYROOT_VERSION);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].run(argc - 1, argv + 1);
	}
	(void)fprintf(stderr, "lazyroot: %s is no verb (see lazyroot --help)\n", argv[1]);
	return CLIENT_USAGE;
}
