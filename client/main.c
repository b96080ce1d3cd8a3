/*
 * The lazyroot command: finds the verb and calls it.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "client/client.h"
#include "client/interrupt.h"
#include "lib/base/nearest.h"
#include "lib/base/process.h"

struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *usage;
	const char *help;
	int failed;        /* exit code where its words cannot be written */
	bool owns_signals; /* else interrupt.h has them from the start */
};

static const struct verb verbs[] = {
	{"upload", cmd_upload, "PATH...|-",
	 "store files and directories; prints their digests", CLIENT_FAILED, false},
	{"download", cmd_download, "DIGEST|NAME DEST",
	 "bring back a file, Directory or Tree", CLIENT_FAILED, false},
	{"run", cmd_run, "[options] -- COMMAND [ARG]...",
	 "run a command, here or on a worker", CLIENT_RUN_ERROR, true},
	{"wait", cmd_wait, "OPERATION", "wait for a run that was left", CLIENT_RUN_ERROR,
	 false},
	{"cancel", cmd_cancel, "OPERATION", "end a run", CLIENT_FAILED, false},
	{"mount", cmd_mount, "[TREE] MOUNTPOINT",
	 "see a tree as files, fetched when read", CLIENT_FAILED, true},
	{"ls", cmd_ls, "[-l] [-R] TREE [PATH]", "list a tree", CLIENT_FAILED, false},
	{"cat", cmd_cat, "DIGEST|TREE PATH", "print a file of a tree, or a blob",
	 CLIENT_FAILED, false},
	{"checkout", cmd_checkout, "[options] TREE [DEST]",
	 "put a tree into a directory or an archive", CLIENT_FAILED, true},
	{"shell", cmd_shell, "TREE|--action DIGEST [-- COMMAND]",
	 "a shell in a tree, or in what an action saw", CLIENT_RUN_ERROR, true},
	{"diff", cmd_diff, "[--stat|--patch] A B", "what differs between two trees", 2,
	 false},
	{"action", cmd_action, "DIGEST", "explain an action, its command and its result",
	 CLIENT_FAILED, false},
	{"operations", cmd_operations, "[FIELD=VALUE]...", "list what the service runs",
	 CLIENT_FAILED, false},
	{"artifacts", cmd_artifacts, "[--remote] [NAME]...",
	 "list artifacts here, or what caches know of them", CLIENT_FAILED, false},
	{"push", cmd_push, "NAME...", "send artifacts to caches", CLIENT_FAILED, false},
	{"pull", cmd_pull, "NAME...", "bring artifacts out of caches", CLIENT_FAILED,
	 false},
	{"forget", cmd_forget, "NAME...", "take names of artifacts back", CLIENT_FAILED,
	 false},
	{"capabilities", cmd_capabilities, "", "what the service can do", CLIENT_FAILED,
	 false},
};

static void main_help(struct buf *text)
{
	buf_add_string(
		text,
		"Usage: lazyroot VERB [options]\n\n"
		"Stores trees, runs commands on them, here or on workers, and shows "
		"them.\n\n"
		"Verbs:\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		buf_printf(text, "  %-13s %-30s %s\n", verbs[i].name, verbs[i].usage,
			   verbs[i].help);
	buf_add_string(
		text,
		"\nOptions of all verbs (--server, --json, -q …) may stand before "
		"VERB, too.\nlazyroot VERB --help tells more. $LAZYROOT_SERVER names the "
		"service; without one\nall is done on this machine.\n");
}

/* Common options may stand before the verb: it is moved before them. */
static struct error *main_find_verb(int argc, char **argv)
{
	int at = 1;
	char *verb;

	while (at < argc && argv[at][0] == '-' && argv[at][1]) {
		int n = client_common_words(argv[at]);

		if (!n)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "%s is no option of all verbs; options of a "
					 "verb stand behind it (see lazyroot --help)",
					 argv[at]);
		at += n;
	}
	if (at >= argc)
		return error_new(ERROR_INVALID_ARGUMENT, "no verb (see lazyroot --help)");
	verb = argv[at];
	memmove(&argv[2], &argv[1], (size_t)(at - 1) * sizeof(char *));
	argv[1] = verb;
	return NULL;
}

static struct error *main_unknown(const char *word)
{
	struct nearest nearest;

	nearest_init(&nearest, word);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		nearest_offer(&nearest, verbs[i].name);
	return error_new(ERROR_INVALID_ARGUMENT,
			 "%s is no verb%s%s%s (see lazyroot --help)", word,
			 nearest.best ? "; did you mean " : "",
			 nearest.best ? nearest.best : "", nearest.best ? "?" : "");
}

static int main_verb(const struct verb *verb, int argc, char **argv)
{
	struct error *err = NULL;

	client_collect_begin();
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		(void)verbs[i].run(0, NULL);
	client_collect_end();
	if (!verb->owns_signals)
		err = interrupt_start();
	return err ? client_fail(verb->name, err, verb->failed) : verb->run(argc, argv);
}

static int main_run(int argc, char **argv, int *failed_out)
{
	static char help_option[] = "--help";
	_cleanup_buf_ struct buf help = BUF_INIT;
	struct error *err;

	*failed_out = CLIENT_FAILED;
	main_help(&help);
	if (argc > 2 && strcmp(argv[1], "help") == 0) { /* of that verb, as git has it */
		argv[1] = argv[2];
		argv[2] = help_option;
	}
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
	client_find_asked(argc, argv);
	err = main_find_verb(argc, argv);
	if (err)
		return client_fail(NULL, err, CLIENT_USAGE);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(argv[1], verbs[i].name) != 0)
			continue;
		*failed_out = verbs[i].failed;
		return main_verb(&verbs[i], argc - 1, argv + 1);
	}
	return client_fail(NULL, main_unknown(argv[1]), CLIENT_USAGE);
}

/* What was said counts only once it was written. */
int main(int argc, char **argv)
{
	int failed;
	int code;

	process_keep_standard();
	(void)signal(SIGPIPE, SIG_IGN);
	process_raise_descriptors();
	code = main_run(argc, argv, &failed);
	return say_end("lazyroot") || code ? code : failed;
}
