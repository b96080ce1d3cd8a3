/*
 * lazyroot run: an input root, a command, a worker; its output as if it had run here.
 */
#include <stdio.h>
#include <string.h>

#include "client/inputs.h"
#include "client/outcome.h"
#include "client/progress.h"
#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/tree/hasher.h"

struct run {
	struct client client;
	struct execution_patience patience;
	struct option_list inputs, input_digests, outputs, env, platform;
	char *workdir, *download, *report;
	int64_t timeout_ns, priority;
	bool no_cache, rerun, no_download, is_detached;
	bool is_from_root; /* an output lies above workdir */

	char **arguments;
	int n_arguments;
	struct tree_upload_changes changes;
	struct inputs *built;
	struct arena arena;          /* of the two messages' parts */
	Reapi__Platform *properties; /* or NULL */
	Reapi__Command message;
	struct buf command;
	struct buf action;
	struct digest command_digest;
	struct digest action_digest;
	struct progress *progress;
	int64_t queued_at_ns;  /* monotonic; -1: not yet */
	int64_t started_at_ns; /* of the command; -1: not yet */
};

static void run_deinit(struct run *run)
{
	progress_end(run->progress);
	inputs_free(run->built);
	tree_upload_changes_deinit(&run->changes);
	client_deinit(&run->client);
	option_list_deinit(&run->inputs);
	option_list_deinit(&run->input_digests);
	option_list_deinit(&run->outputs);
	option_list_deinit(&run->env);
	option_list_deinit(&run->platform);
	free(run->workdir);
	free(run->download);
	free(run->report);
	arena_deinit(&run->arena);
	buf_deinit(&run->command);
	buf_deinit(&run->action);
}

struct run_pair {
	const char *name, *value;
	size_t at; /* on the command line */
};

/* NAME=VALUE in place. */
static struct error *run_split(char *text, const char *option, struct run_pair *out)
{
	char *equals = strchr(text, '=');

	if (!equals || equals == text)
		return error_new(ERROR_INVALID_ARGUMENT, "%s %s is not NAME=VALUE",
				 option, text);
	*equals = '\0';
	out->name = text;
	out->value = equals + 1;
	return NULL;
}

static int run_order_strings(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int run_order_properties(const void *a, const void *b)
{
	const struct run_pair *x = a;
	const struct run_pair *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : strcmp(x->value, y->value);
}

static int run_order_variables(const void *a, const void *b)
{
	const struct run_pair *x = a;
	const struct run_pair *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : x->at < y->at ? -1 : 1;
}

static struct error *run_pairs(const struct option_list *list, const char *option,
			       int (*order)(const void *, const void *),
			       struct run_pair **out)
{
	_cleanup_free_ struct run_pair *pairs = alloc_array(list->n, sizeof(*pairs));

	for (size_t i = 0; i < list->n; i++) {
		struct error *err = run_split(list->items[i], option, &pairs[i]);

		if (err)
			return err;
		pairs[i].at = i;
	}
	if (list->n)
		qsort(pairs, list->n, sizeof(*pairs), order);
	*out = take(pairs);
	return NULL;
}

/* REAPI: properties are sorted by name, then by value. */
static struct error *run_platform(struct run *run)
{
	struct arena *arena = &run->arena;
	size_t n = run->platform.n;
	Reapi__Platform *platform = arena_new(arena, Reapi__Platform);
	Reapi__Platform__Property *list = arena_array(arena, n, sizeof(*list));
	Reapi__Platform__Property **links = arena_array(arena, n, sizeof(*links));
	_cleanup_free_ struct run_pair *pairs = NULL;
	struct error *err =
		run_pairs(&run->platform, "--platform", run_order_properties, &pairs);

	if (err)
		return err;
	if (arena->is_full)
		return arena_error("the list of properties");
	reapi__platform__init(platform);
	platform->properties = links;
	platform->n_properties = n;
	for (size_t i = 0; i < n; i++) {
		reapi__platform__property__init(&list[i]);
		list[i].name = (char *)(uintptr_t)pairs[i].name;
		list[i].value = (char *)(uintptr_t)pairs[i].value;
		links[i] = &list[i];
	}
	run->properties = n ? platform : NULL;
	return NULL;
}

/* REAPI: variables are sorted by name; of several values the last one counts. */
static struct error *run_environment(struct run *run, struct arena *arena,
				     Reapi__Command *command)
{
	typedef Reapi__Command__EnvironmentVariable variable;
	size_t n = run->env.n;
	variable *list = arena_array(arena, n, sizeof(*list));
	variable **links = arena_array(arena, n, sizeof(*links));
	_cleanup_free_ struct run_pair *pairs = NULL;
	struct error *err = run_pairs(&run->env, "--env", run_order_variables, &pairs);

	if (err)
		return err;
	if (arena->is_full)
		return arena_error("the environment");
	command->environment_variables = links;
	for (size_t i = 0; i < n; i++) {
		if (i + 1 < n && strcmp(pairs[i].name, pairs[i + 1].name) == 0)
			continue;
		reapi__command__environment_variable__init(&list[i]);
		list[i].name = (char *)(uintptr_t)pairs[i].name;
		list[i].value = (char *)(uintptr_t)pairs[i].value;
		links[command->n_environment_variables++] = &list[i];
	}
	return NULL;
}

static struct error *run_set_command(struct run *run)
{
	Reapi__Command *command = &run->message;

	reapi__command__init(command);
	command->arguments = (const char **)(uintptr_t)run->arguments;
	command->n_arguments = (size_t)run->n_arguments;
	command->platform = run->properties;
	command->working_directory = run->workdir ? run->workdir : "";
	command->output_paths = (const char **)(uintptr_t)run->outputs.items;
	command->n_output_paths = run->outputs.n;
	/* a Tree holds every directory of an output again: what did not change, too */
	command->output_directory_format =
		REAPI__COMMAND__OUTPUT_DIRECTORY_FORMAT__DIRECTORY_ONLY;
	if (run->outputs.n)
		qsort(run->outputs.items, run->outputs.n, sizeof(char *),
		      run_order_strings);
	return run_environment(run, &run->arena, command);
}

/* Where inputs have times, outputs are to have theirs: the next run compares them. */
static void run_encode_command(struct run *run)
{
	static const char *mtime = "mtime";

	run->message.output_node_properties = &mtime;
	run->message.n_output_node_properties = inputs_have_mtimes(run->built);
	buf_clear(&run->command);
	rpc_encode(&run->message.base, &run->command);
	hasher_digest(run->command.data, run->command.len, &run->command_digest);
}

static void run_encode_action(struct run *run)
{
	Reapi__Action action = REAPI__ACTION__INIT;
	Reapi__Digest command = REAPI__DIGEST__INIT;
	Reapi__Digest root = REAPI__DIGEST__INIT;
	Pb__Duration timeout = PB__DURATION__INIT;
	char command_hex[DIGEST_HEX_MAX];
	char root_hex[DIGEST_HEX_MAX];

	digest_to_wire(&run->command_digest, command_hex, &command);
	digest_to_wire(inputs_root(run->built), root_hex, &root);
	action.command_digest = &command;
	action.input_root_digest = &root;
	action.do_not_cache = run->no_cache;
	action.platform = run->properties;
	if (run->timeout_ns) {
		timeout.seconds = run->timeout_ns / NS_PER_S;
		timeout.nanos = (int32_t)(run->timeout_ns % NS_PER_S);
		action.timeout = &timeout;
	}
	buf_clear(&run->action);
	rpc_encode(&action.base, &run->action);
	hasher_digest(run->action.data, run->action.len, &run->action_digest);
}

static struct error *run_clean(char **path, const char *option)
{
	char *clean;
	struct error *err = file_path_clean(*path, &clean);

	if (err)
		return error_wrap(err, "%s", option);
	free(*path);
	*path = clean;
	return NULL;
}

/* Relative to the working directory, and perhaps above it, but never out of the root. */
static struct error *run_clean_output(struct run *run, char **path)
{
	const char *workdir = run->workdir ? run->workdir : "";
	_cleanup_free_ char *in_root = NULL;
	struct error *err = file_path_join(workdir, *path, &in_root);

	if (err)
		return error_wrap(err, "--output");
	free(*path);
	*path = file_path_relative(workdir, in_root);
	run->is_from_root = run->is_from_root || strncmp(*path, "..", 2) == 0;
	return NULL;
}

/* "./out/" and "out" are one output, and one action. */
static struct error *run_clean_paths(struct run *run)
{
	struct error *err = run->workdir ? run_clean(&run->workdir, "--workdir") : NULL;

	for (size_t i = 0; i < run->outputs.n && !err; i++)
		err = run_clean_output(run, &run->outputs.items[i]);
	return err;
}

/* All that needs neither the inputs nor the service: what is wrong here is usage. */
static struct error *run_check(struct run *run)
{
	enum import_mtimes mtimes;
	struct error *err = run_clean_paths(run);

	if (!err)
		err = inputs_check(&run->inputs, &run->input_digests);
	if (!err)
		err = tree_upload_mtimes(&run->client, &mtimes);
	if (!err)
		err = run_platform(run);
	return err ? err : run_set_command(run);
}

static struct error *run_build(struct run *run)
{
	struct error *err = inputs_build(&run->client, &run->inputs, &run->input_digests,
					 &run->changes, &run->built);

	if (err)
		return err;
	run_encode_command(run);
	run_encode_action(run);
	return NULL;
}

static struct error *run_upload(struct run *run)
{
	struct blob_source items[] = {
		{.digest = run->command_digest,
		 .from = BLOB_BYTES,
		 .bytes = buf_slice(&run->command)},
		{.digest = run->action_digest,
		 .from = BLOB_BYTES,
		 .bytes = buf_slice(&run->action)},
	};

	return inputs_upload(&run->client, run->built, items, ARRAY_SIZE(items),
			     &run->changes);
}

/* The inputs as they are now; again where they changed under way. What is executed is
 * then another action, which is why Execute asks for its digest each time. */
static struct error *run_send(void *ctx)
{
	struct run *run = ctx;

	for (;;) {
		struct error *err = run->built ? NULL : run_build(run);
		bool is_again = false;

		if (!err)
			err = run_upload(run);
		err = tree_upload_settle(&run->changes, err, &is_again);
		if (!is_again)
			return err;
		run->built = inputs_free(run->built);
	}
}

static void run_stage(void *ctx, const char *stage)
{
	struct run *run = ctx;

	if (run->queued_at_ns < 0 && strcmp(stage, "queued") == 0)
		run->queued_at_ns = clock_mono_ns();
	if (run->started_at_ns < 0 && strcmp(stage, "running") == 0)
		run->started_at_ns = clock_mono_ns();
	progress_say(run->progress, stage);
}

static struct error *run_execute(struct run *run, int *exit_out)
{
	struct execution_config config = {
		.client = &run->client,
		.action = &run->action_digest,
		.skip_cache_lookup = run->rerun,
		.priority = (int32_t)run->priority,
		.patience = run->patience,
		.is_detached = run->is_detached,
		.stage = run_stage,
		.resend = run_send,
		.ctx = run,
	};
	_cleanup_(execution_outcome_deinit) struct execution_outcome outcome = {0};
	struct outcome_config deliver = {
		.client = &run->client,
		.action = &run->action_digest,
		.download = run->no_download ? NULL
			    : run->download  ? run->download
					     : ".",
		.outputs = &run->outputs,
		.workdir = run->workdir,
		.is_from_root = run->is_from_root,
		.report = run->report,
	};
	int64_t start = clock_mono_ns();
	struct error *err;

	run->progress = progress_begin("Running:", run->client.is_quiet);
	err = execution_run(&config, &outcome);
	run->progress = progress_end(run->progress);
	if (err)
		return err;
	if (run->is_detached) {
		if (run->client.is_json)
			client_print_json(json_pack(
				"{s:s,s:o}", "operation", outcome.operation, "action",
				client_json_digest(&run->action_digest)));
		else
			say_out("%s\n", outcome.operation);
		*exit_out = 0;
		return NULL;
	}
	deliver.wall_ns = clock_mono_ns() - start;
	deliver.queued_ns = run->started_at_ns < 0 || run->queued_at_ns < 0
				    ? -1
				    : run->started_at_ns - run->queued_at_ns;
	return outcome_deliver(&deliver, &outcome, exit_out);
}

static int run_main(struct run *run)
{
	int code = CLIENT_RUN_ERROR;
	struct error *err;

	err = run_check(run);
	if (!err)
		err = client_connect(&run->client);
	if (err)
		return client_fail_start("run", err, CLIENT_RUN_ERROR);
	err = run_send(run);
	if (!err)
		err = run_execute(run, &code);
	return err ? client_fail("run", err, CLIENT_RUN_ERROR) : code;
}

int cmd_run(int argc, char **argv)
{
	_cleanup_(run_deinit) struct run run = {.client = CLIENT_INIT,
						.patience = EXECUTION_PATIENCE,
						.arena = ARENA_INIT(RPC_ARENA_MAX),
						.changes = TREE_UPLOAD_CHANGES_INIT,
						.queued_at_ns = -1,
						.started_at_ns = -1};
	const struct option_def defs[] = {
		{"input", 'i', OPTION_LIST, "DIR[=AT]",
		 "a local directory in the input root, at AT; repeated", NULL,
		 &run.inputs, 0, 0},
		{"input-digest", 0, OPTION_LIST, "D[=AT]", "a known tree there; repeated",
		 NULL, &run.input_digests, 0, 0},
		{"output", 'o', OPTION_LIST, "PATH",
		 "what to bring back, from --workdir on; repeated (with ../PATH among\n"
		 "them, all go where they lie in the root)",
		 NULL, &run.outputs, 0, 0},
		{"workdir", 'w', OPTION_STRING, "PATH",
		 "where the command starts, in the root", NULL, &run.workdir, 0, 0},
		{"env", 'e', OPTION_LIST, "NAME=VALUE", "its environment; repeated", NULL,
		 &run.env, 0, 0},
		{"platform", 'p', OPTION_LIST, "NAME=VALUE",
		 "a property that the worker must have; repeated", NULL, &run.platform, 0,
		 0},
		{"timeout", 0, OPTION_DURATION, "DURATION",
		 "how long the command may run", NULL, &run.timeout_ns, 0, 0},
		{"priority", 0, OPTION_INT, "N", "lower runs first (default 0)", NULL,
		 &run.priority, INT32_MIN, INT32_MAX},
		{"no-cache", 0, OPTION_FLAG, NULL, "neither look up nor store the result",
		 NULL, &run.no_cache, 0, 0},
		{"rerun", 0, OPTION_FLAG, NULL, "do not look up, but store", NULL,
		 &run.rerun, 0, 0},
		{"download", 0, OPTION_STRING, "DIR", "where outputs go (default: here)",
		 NULL, &run.download, 0, 0},
		{"no-download", 0, OPTION_FLAG, NULL, "leave outputs in the store", NULL,
		 &run.no_download, 0, 0},
		{"detach", 0, OPTION_FLAG, NULL, "print the operation's name and leave",
		 NULL, &run.is_detached, 0, 0},
		{"report", 0, OPTION_STRING, "FILE",
		 "the read report as JSON (-: stdout)", NULL, &run.report, 0, 0},
		EXECUTION_OPTIONS(&run.patience),
		CLIENT_MTIMES_OPTION(&run.client),
		CLIENT_ENTRIES_OPTION(&run.client),
		CLIENT_OPTIONS(&run.client),
	};
	const struct option_program program = {
		.name = "lazyroot run",
		.usage = "[options] -- COMMAND [ARG]...",
		.summary = "Runs a command on a worker. Its output comes out here, its "
			   "exit code "
			   "is the exit\ncode: 128+n after signal n, 124 past its "
			   "timeout, 125 "
			   "where the service failed.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
		.stops_at_operand = true,
	};
	int operands;
	int code;

	if (!client_parse(&program, argc, argv, &operands, &code))
		return code;
	if (operands == argc || !*argv[operands])
		return client_usage("run", "no COMMAND to run");
	run.arguments = argv + operands;
	run.n_arguments = argc - operands;
	return run_main(&run);
}
