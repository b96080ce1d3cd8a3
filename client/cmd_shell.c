/*
 * lazyroot shell: a command, or a shell with job control on our terminal, in a local
 * sandbox with a tree lazily mounted and writable. Of an Action it is what a worker gives
 * its command, before that runs.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "client/client.h"
#include "client/interrupt.h"
#include "client/outcome.h"
#include "client/request.h"
#include "client/sandbox.h"
#include "client/subject.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "worker/sandbox/accounts.h"

/* Where nobody can bring us forward, a stop has no effect. */
#define SHELL_STOPS_MAX 16
#define SHELL_PATH      "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* The better of the two that the sandbox has. */
static const char *const shell_default[] = {
	"/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh"};

struct shell_verb {
	struct client client;
	struct subject subject;
	char *action;
	char *root_path; /* NULL: LAYOUT_ROOT */
	char *workdir;   /* NULL: the action's, or the root */
	struct option_list env;
	bool with_result, is_saved, with_network;
	const char *text; /* what names the tree */
	char **command;   /* n_command words, or none */
	int n_command;
	bool is_terminal;
	struct sandbox_variable *variables;
	size_t n_variables;
};

static void shell_verb_deinit(struct shell_verb *verb)
{
	subject_deinit(&verb->subject);
	free(verb->action);
	free(verb->root_path);
	free(verb->workdir);
	option_list_deinit(&verb->env);
	free(verb->variables);
	client_deinit(&verb->client);
}

static void shell_add_variable(struct shell_verb *verb, const char *name,
			       const char *value)
{
	for (size_t i = 0; i < verb->n_variables; i++)
		if (strcmp(verb->variables[i].name, name) == 0)
			return;
	if (value)
		verb->variables[verb->n_variables++] =
			(struct sandbox_variable){name, value};
}

/* Those of --env; the last of a name counts. */
static struct error *shell_add_asked(struct shell_verb *verb)
{
	for (size_t i = verb->env.n; i > 0; i--) {
		const char *name, *value;
		struct error *err =
			request_split_variable(verb->env.items[i - 1], &name, &value);

		if (err)
			return err;
		shell_add_variable(verb, name, value);
	}
	return NULL;
}

/* What was asked for, an action's own, what a shell needs. On a terminal, a shell that
 * nobody asked for by name is told what that is. */
static struct error *shell_set_variables(struct shell_verb *verb)
{
	const Reapi__Command *command =
		verb->subject.plan ? verb->subject.plan->command : NULL;
	size_t n = command ? command->n_environment_variables : 0;
	struct error *err;

	verb->variables = alloc_array(verb->env.n + n + 3, sizeof(*verb->variables));
	err = shell_add_asked(verb);
	for (size_t i = 0; i < n; i++)
		shell_add_variable(verb, command->environment_variables[i]->name,
				   command->environment_variables[i]->value);
	if (!command) {
		shell_add_variable(verb, "PATH", SHELL_PATH);
		shell_add_variable(verb, "HOME", ACCOUNTS_HOME);
	}
	if (verb->is_terminal && !verb->n_command)
		shell_add_variable(verb, "TERM", getenv("TERM"));
	return err;
}

static struct error *shell_execute(struct shell_verb *verb, struct sandbox_shell_end *end)
{
	const struct plan *plan = verb->subject.plan;
	struct sandbox_shell_config config = {
		.client = &verb->client,
		.root = &verb->subject.root,
		.root_path = plan ? plan->root_path : verb->root_path,
		.workdir = verb->workdir ? verb->workdir
			   : plan        ? plan->workdir
					 : "",
		.outputs = plan ? plan->outputs : NULL,
		.n_outputs = plan ? plan->n_outputs : 0,
		.arguments = verb->n_command ? (const char *const *)verb->command
					     : shell_default,
		.n_arguments = verb->n_command ? (size_t)verb->n_command
					       : ARRAY_SIZE(shell_default),
		.fds = {STDIN_FILENO,
			/* with --json that is the document's */
			verb->client.is_json ? STDERR_FILENO : STDOUT_FILENO,
			STDERR_FILENO},
		.is_terminal = verb->is_terminal,
		.with_network = verb->with_network || (plan && plan->with_network),
		.uid = plan ? plan->uid : ACCOUNTS_UID,
		.gid = plan ? plan->gid : ACCOUNTS_UID,
		.is_saved = verb->is_saved,
	};

	config.variables = verb->variables;
	config.n_variables = verb->n_variables;
	return sandbox_shell(&config, end);
}

static void shell_tell(const struct shell_verb *verb, const struct sandbox_shell_end *end)
{
	char text[DIGEST_STRING_MAX];

	if (verb->client.is_json)
		client_print_json(json_pack(
			"{s:i,s:o}", "exit_code", end->exit_code, "saved",
			verb->is_saved ? client_json_digest(&end->saved) : json_null()));
	else if (verb->is_saved)
		say_out("%s\n", digest_format(&end->saved, text));
}

/* Who is in the background stops until he is brought forward, as any shell does: else two
 * would read from one terminal. */
static void shell_await_foreground(void)
{
	for (int i = 0; i < SHELL_STOPS_MAX; i++) {
		pid_t foreground = tcgetpgrp(STDIN_FILENO);

		if (foreground < 0 || foreground == getpgrp())
			return;
		(void)kill(0, SIGTTIN);
	}
}

/* The namespaces are entered while there is one thread. On a terminal ^C and ^\ are for
 * the command. */
static struct error *shell_start(struct shell_verb *verb)
{
	enum sandbox_place place = SANDBOX_NAMESPACES;
	struct error *err;

	verb->is_terminal = isatty(STDIN_FILENO);
	if (verb->is_terminal)
		shell_await_foreground();
	err = sandbox_settle(&verb->client, false, &place);
	if (verb->is_terminal) {
		(void)signal(SIGINT, SIG_IGN);
		(void)signal(SIGQUIT, SIG_IGN);
	}
	if (!err)
		err = interrupt_start();
	return err ? err : client_open_fetch(&verb->client);
}

static struct error *shell_clean_workdir(struct shell_verb *verb)
{
	char *clean;
	struct error *err = file_path_clean(verb->workdir, &clean);

	if (err)
		return error_wrap(err, "--workdir");
	free(verb->workdir);
	verb->workdir = clean;
	return NULL;
}

static int shell_run(struct shell_verb *verb)
{
	const struct subject_wish wish = {.is_action = verb->action,
					  .with_result = verb->with_result,
					  .root_path = verb->root_path ? verb->root_path
								       : LAYOUT_ROOT};
	struct sandbox_shell_end end;
	struct error *err = NULL;

	if (*wish.root_path != '/')
		err = error_new(ERROR_INVALID_ARGUMENT,
				"--root is %s, which is not absolute", wish.root_path);
	if (!err && verb->workdir)
		err = shell_clean_workdir(verb);
	if (!err && verb->is_saved)
		err = error_wrap(local_must_last(&verb->client.local), "--save");
	if (!err)
		err = shell_start(verb);
	if (!err)
		err = subject_find(&verb->client, verb->text, &wish, &verb->subject);
	if (!err)
		err = shell_set_variables(verb);
	if (err)
		return client_fail_start("shell", err, CLIENT_RUN_ERROR);
	err = shell_execute(verb, &end);
	if (err)
		return client_fail("shell", err, CLIENT_RUN_ERROR);
	shell_tell(verb, &end);
	return end.exit_code;
}

int cmd_shell(int argc, char **argv)
{
	_cleanup_(shell_verb_deinit) struct shell_verb verb = {.client = CLIENT_INIT,
							       .subject = SUBJECT_INIT};
	const struct option_def defs[] = {
		{"action", 0, OPTION_STRING, "DIGEST",
		 "what a worker gives this action's command, before it runs", NULL,
		 &verb.action, 0, 0},
		{"result", 0, OPTION_FLAG, NULL,
		 "with the outputs of the action's result, also of one that failed", NULL,
		 &verb.with_result, 0, 0},
		{"save", 0, OPTION_FLAG, NULL,
		 "print the digest of the tree as it was left", NULL, &verb.is_saved, 0,
		 0},
		{"root", 0, OPTION_STRING, "PATH",
		 "where the tree is, unless the action says (default: /build); / makes\n"
		 "it the whole file system",
		 NULL, &verb.root_path, 0, 0},
		{"workdir", 'w', OPTION_STRING, "PATH",
		 "where it starts, in the tree; made where it is missing (default: the\n"
		 "action's, or the tree itself)",
		 NULL, &verb.workdir, 0, 0},
		{"env", 'e', OPTION_LIST, "NAME[=VALUE]",
		 "beside, or instead of, the action's; repeated. NAME alone has the "
		 "value\n"
		 "that it has here",
		 NULL, &verb.env, 0, 0},
		{"network", 0, OPTION_FLAG, NULL, "with the network of this machine",
		 NULL, &verb.with_network, 0, 0},
		CLIENT_ENTRIES_OPTION(&verb.client),
		CLIENT_OPTIONS(&verb.client),
	};
	const struct option_program program = {
		.name = "lazyroot shell",
		.usage = "[options] TREE|--action DIGEST [-- COMMAND [ARG]...]",
		.summary = "A shell, or COMMAND, in a sandbox of this machine in which a "
			   "tree is mounted,\nwritable. Its exit code is the command's; "
			   "125 where lazyroot or the service failed." SUBJECT_HELP,
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	int operands;
	int code;

	if (!client_parse(&program, argc, argv, &operands, &code))
		return code;
	if (!verb.action && operands == argc)
		return client_usage("shell", "name a TREE, or an action with --action");
	verb.text = verb.action ? verb.action : argv[operands++];
	verb.command = argv + operands;
	verb.n_command = argc - operands;
	return shell_run(&verb);
}
