/*
 * lazyroot action: an Action, its Command and its cached result, as a person reads them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/action_get.h"
#include "client/last_result.h"
#include "client/reads.h"
#include "lib/base/alloc.h"
#include "lib/base/text.h"
#include "lib/base/units.h"

struct action_view {
	struct arena arena;
	struct digest digest;
	Reapi__Action *action;
	Reapi__Command *command;
	Reapi__ActionResult *result; /* NULL: none is known */
};

static struct error *action_load(struct client *client, struct action_view *view)
{
	struct error *err = action_get(client, &view->digest, &view->arena, &view->action,
				       &view->command);

	if (err)
		return err;
	/* whoever names a service asks what that one has */
	return client_has_server(client)
		       ? remote_get_action(client->action_cache, &view->digest,
					   &view->arena, &view->result)
		       : last_result_find(client, &view->digest, &view->arena,
					  &view->result);
}

/* For people */

/* As a shell would take it: bare, in '…' or, where it has bytes that cannot be shown, in
 * $'…' with escapes. */
static void action_print_word(const char *word)
{
	bool is_bare =
		*word && strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVW"
				      "XYZ0123456789_-./=+,:@%") == strlen(word);
	bool is_plain = text_is_plain(slice_of(word));

	if (is_bare) {
		say_out("%s", word);
		return;
	}
	say_raw(is_plain ? "'" : "$'");
	for (;;) {
		_cleanup_free_ char *part = alloc_string_n(word, strcspn(word, "'"));
		size_t len = strlen(part);

		if (is_plain)
			say_raw(part);
		else
			say_bytes(slice_of(part));
		if (!word[len])
			break;
		say_raw(is_plain ? "'\\''" : "\\'");
		word += len + 1;
	}
	say_raw("'");
}

static void action_print_digest(const char *label, const Reapi__Digest *digest)
{
	if (digest)
		say_out("%-12s %s/%" PRId64 "\n", label, digest->hash,
			digest->size_bytes);
}

static void action_print_command(const Reapi__Command *command)
{
	say_out("%-12s", "command");
	for (size_t i = 0; i < command->n_arguments; i++) {
		say_raw(" ");
		action_print_word(command->arguments[i]);
	}
	say_raw("\n");
	if (*command->working_directory)
		say_out("%-12s %s\n", "workdir", command->working_directory);
	for (size_t i = 0; i < command->n_environment_variables; i++) {
		say_out("%-12s %s=", "env", command->environment_variables[i]->name);
		action_print_word(command->environment_variables[i]->value);
		say_raw("\n");
	}
	for (size_t i = 0; i < command->n_output_paths; i++)
		say_out("%-12s %s\n", "output", command->output_paths[i]);
	for (size_t i = 0; i < command->n_output_files; i++)
		say_out("%-12s %s\n", "output file", command->output_files[i]);
	for (size_t i = 0; i < command->n_output_directories; i++)
		say_out("%-12s %s\n", "output dir", command->output_directories[i]);
}

static void action_print_result(const Reapi__ActionResult *result)
{
	const Reapi__ExecutedActionMetadata *metadata = result->execution_metadata;

	say_out("%-12s exit code %d%s%s\n", "result", result->exit_code,
		metadata && *metadata->worker ? ", by worker " : "",
		metadata ? metadata->worker : "");
	for (size_t i = 0; i < result->n_output_files; i++) {
		say_out("  %s%s ", result->output_files[i]->path,
			result->output_files[i]->is_executable ? "*" : "");
		action_print_digest("", result->output_files[i]->digest);
	}
	for (size_t i = 0; i < result->n_output_directories; i++) {
		const Reapi__OutputDirectory *dir = result->output_directories[i];

		say_out("  %s/ ", dir->path);
		action_print_digest("", dir->root_directory_digest
						? dir->root_directory_digest
						: dir->tree_digest);
	}
	for (size_t i = 0; i < result->n_output_symlinks; i++)
		say_out("  %s -> %s\n", result->output_symlinks[i]->path,
			result->output_symlinks[i]->target);
	action_print_digest("stdout", result->stdout_digest);
	action_print_digest("stderr", result->stderr_digest);
}

static void action_print(const struct action_view *view)
{
	const Reapi__Platform *platform =
		view->action->platform ? view->action->platform : view->command->platform;
	char text[DIGEST_STRING_MAX];

	say_out("%-12s %s\n", "action", digest_format(&view->digest, text));
	action_print_digest("input root", view->action->input_root_digest);
	for (size_t i = 0; platform && i < platform->n_properties; i++)
		say_out("%-12s %s=%s\n", "platform", platform->properties[i]->name,
			platform->properties[i]->value);
	if (view->action->timeout)
		say_out("%-12s %" PRId64 " s\n", "timeout",
			view->action->timeout->seconds);
	if (view->action->do_not_cache)
		say_out("%-12s %s\n", "cache", "not to be cached");
	action_print_command(view->command);
	if (view->result)
		action_print_result(view->result);
	else
		say_out("%-12s %s\n", "result", "not in the action cache");
}

/* For scripts */

static json_t *action_json_wire(const Reapi__Digest *digest)
{
	_cleanup_free_ char *text = NULL;

	if (!digest)
		return json_null();
	text = alloc_printf("%s/%" PRId64, digest->hash, digest->size_bytes);
	return json_string(text);
}

static json_t *action_json_strings(const char **strings, size_t n)
{
	json_t *json = json_array();

	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(json, json_string(strings[i]));
	return json;
}

static json_t *action_json_result(const Reapi__ActionResult *result)
{
	json_t *files = json_array();
	json_t *dirs = json_array();
	json_t *links = json_array();

	for (size_t i = 0; i < result->n_output_files; i++)
		(void)json_array_append_new(
			files,
			json_pack("{s:s,s:o,s:b}", "path", result->output_files[i]->path,
				  "digest",
				  action_json_wire(result->output_files[i]->digest),
				  "executable", result->output_files[i]->is_executable));
	for (size_t i = 0; i < result->n_output_directories; i++)
		(void)json_array_append_new(
			dirs,
			json_pack("{s:s,s:o,s:o}", "path",
				  result->output_directories[i]->path, "tree",
				  action_json_wire(
					  result->output_directories[i]->tree_digest),
				  "root",
				  action_json_wire(result->output_directories[i]
							   ->root_directory_digest)));
	for (size_t i = 0; i < result->n_output_symlinks; i++)
		(void)json_array_append_new(
			links,
			json_pack("{s:s,s:s}", "path", result->output_symlinks[i]->path,
				  "target", result->output_symlinks[i]->target));
	return json_pack("{s:i,s:o,s:o,s:o,s:o,s:o}", "exit_code", result->exit_code,
			 "files", files, "directories", dirs, "symlinks", links, "stdout",
			 action_json_wire(result->stdout_digest), "stderr",
			 action_json_wire(result->stderr_digest));
}

static void action_print_json(const struct action_view *view)
{
	const Reapi__Command *command = view->command;
	json_t *env = json_object();

	for (size_t i = 0; i < command->n_environment_variables; i++)
		(void)json_object_set_new(
			env, command->environment_variables[i]->name,
			json_string(command->environment_variables[i]->value));
	client_print_json(json_pack(
		"{s:o,s:o,s:o,s:b,s:o,s:s,s:o,s:o,s:o}", "action",
		client_json_digest(&view->digest), "input_root",
		action_json_wire(view->action->input_root_digest), "command",
		action_json_wire(view->action->command_digest), "do_not_cache",
		view->action->do_not_cache, "arguments",
		action_json_strings(command->arguments, command->n_arguments), "workdir",
		command->working_directory, "environment", env, "outputs",
		action_json_strings(command->output_paths, command->n_output_paths),
		"result", view->result ? action_json_result(view->result) : json_null()));
}

static struct error *action_show_reads(struct client *client,
				       const struct action_view *view)
{
	_cleanup_(reads_deinit) struct reads reads = {.profile = PROFILE_INIT};
	struct digest command, root;
	json_t *json = NULL;
	struct error *err = digest_from_wire(view->action->command_digest, &command);

	if (!err)
		err = digest_from_wire(view->action->input_root_digest, &root);
	if (!err)
		err = reads_load(client, &command, &root, 0, &reads);
	if (err || !client->is_json)
		return err ? err : reads_print(client, &reads, false);
	err = reads_json(client, &reads, &json);
	if (!err)
		client_print_json(json);
	return err;
}

int cmd_action(int argc, char **argv)
{
	_cleanup_(client_deinit) struct client client = CLIENT_INIT;
	bool shows_reads = false;
	const struct option_def defs[] = {
		{"reads", 0, OPTION_FLAG, NULL,
		 "what runs of its command read of its input root, and what they never\n"
		 "touched, by directory",
		 NULL, &shows_reads, 0, 0},
		CLIENT_ENTRIES_OPTION(&client),
		CLIENT_OPTIONS(&client),
	};
	const struct option_program program = {
		.name = "lazyroot action",
		.usage = "DIGEST",
		.summary = "Explains an Action: its command, its inputs, its result if "
			   "one is "
			   "cached.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	struct action_view view = {.arena = ARENA_INIT(RPC_ARENA_MAX)};
	int operands;
	int code;
	struct error *err;

	if (!client_parse_operands(&program, argc, argv, 1, 1, "name one DIGEST",
				   &operands, &code))
		return code;
	err = client_digest(argv[operands], &view.digest);
	if (!err)
		err = client_open_fetch(&client);
	if (err)
		return client_fail_start("action", err, CLIENT_FAILED);
	err = action_load(&client, &view);
	if (!err && shows_reads)
		err = action_show_reads(&client, &view);
	else if (!err && client.is_json)
		action_print_json(&view);
	else if (!err)
		action_print(&view);
	arena_deinit(&view.arena);
	return client_fail("action", err, CLIENT_FAILED);
}
