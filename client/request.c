/* Owns the messages' parts and their bytes. */
#include "client/request.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/tree/hasher.h"

void request_deinit(struct request *request)
{
	option_list_deinit(&request->outputs);
	option_list_deinit(&request->env);
	option_list_deinit(&request->platform);
	free(request->workdir);
	arena_deinit(&request->arena);
	buf_deinit(&request->command);
	buf_deinit(&request->action);
}

/* ---- paths ------------------------------------------------------------------------ */

static struct error *request_clean_path(char **path, const char *option)
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
static struct error *request_clean_output(struct request *request, char **path)
{
	const char *workdir = request->workdir ? request->workdir : "";
	_cleanup_free_ char *in_root = NULL;
	struct error *err = file_path_join(workdir, *path, &in_root);

	if (err)
		return error_wrap(err, "--output");
	free(*path);
	*path = file_path_relative(workdir, in_root);
	request->is_from_root = request->is_from_root || strncmp(*path, "..", 2) == 0;
	return NULL;
}

struct error *request_clean(struct request *request)
{
	struct error *err = request->workdir
				    ? request_clean_path(&request->workdir, "--workdir")
				    : NULL;

	for (size_t i = 0; i < request->outputs.n && !err; i++)
		err = request_clean_output(request, &request->outputs.items[i]);
	return err;
}

/* ---- the Command ------------------------------------------------------------------ */

struct request_pair {
	const char *name, *value; /* value NULL: a variable that is not set here */
	size_t at;                /* on the command line */
};

/* NAME=VALUE in place; is_env: NAME alone is the caller's own. */
static struct error *request_split(char *text, const char *option, bool is_env,
				   struct request_pair *out)
{
	char *equals = strchr(text, '=');

	if (is_env && !equals && *text) {
		out->name = text;
		out->value = getenv(text);
		return NULL;
	}
	if (!equals || equals == text)
		return error_new(ERROR_INVALID_ARGUMENT, "%s %s is not NAME=VALUE",
				 option, text);
	*equals = '\0';
	out->name = text;
	out->value = equals + 1;
	return NULL;
}

struct error *request_split_variable(char *text, const char **name_out,
				     const char **value_out)
{
	struct request_pair pair;
	struct error *err = request_split(text, "--env", true, &pair);

	if (err)
		return err;
	*name_out = pair.name;
	*value_out = pair.value;
	return NULL;
}

static int request_order_strings(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int request_order_properties(const void *a, const void *b)
{
	const struct request_pair *x = a;
	const struct request_pair *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : strcmp(x->value, y->value);
}

static int request_order_variables(const void *a, const void *b)
{
	const struct request_pair *x = a;
	const struct request_pair *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : x->at < y->at ? -1 : 1;
}

static struct error *request_pairs(const struct option_list *list, const char *option,
				   bool is_env, int (*order)(const void *, const void *),
				   struct request_pair **out)
{
	_cleanup_free_ struct request_pair *pairs = alloc_array(list->n, sizeof(*pairs));

	for (size_t i = 0; i < list->n; i++) {
		struct error *err =
			request_split(list->items[i], option, is_env, &pairs[i]);

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
static struct error *request_platform(struct request *request)
{
	struct arena *arena = &request->arena;
	size_t n = request->platform.n;
	Reapi__Platform *platform = arena_new(arena, Reapi__Platform);
	Reapi__Platform__Property *list = arena_array(arena, n, sizeof(*list));
	Reapi__Platform__Property **links = arena_array(arena, n, sizeof(*links));
	_cleanup_free_ struct request_pair *pairs = NULL;
	struct error *err = request_pairs(&request->platform, "--platform", false,
					  request_order_properties, &pairs);

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
	request->properties = n ? platform : NULL;
	return NULL;
}

/* REAPI: variables are sorted by name; of several values the last one counts. */
static struct error *request_environment(struct request *request, struct arena *arena,
					 Reapi__Command *command)
{
	typedef Reapi__Command__EnvironmentVariable variable;
	size_t n = request->env.n;
	variable *list = arena_array(arena, n, sizeof(*list));
	variable **links = arena_array(arena, n, sizeof(*links));
	_cleanup_free_ struct request_pair *pairs = NULL;
	struct error *err = request_pairs(&request->env, "--env", true,
					  request_order_variables, &pairs);

	if (err)
		return err;
	if (arena->is_full)
		return arena_error("the environment");
	command->environment_variables = links;
	for (size_t i = 0; i < n; i++) {
		if (i + 1 < n && strcmp(pairs[i].name, pairs[i + 1].name) == 0)
			continue;
		if (!pairs[i].value)
			continue;
		reapi__command__environment_variable__init(&list[i]);
		list[i].name = (char *)(uintptr_t)pairs[i].name;
		list[i].value = (char *)(uintptr_t)pairs[i].value;
		links[command->n_environment_variables++] = &list[i];
	}
	return NULL;
}

static struct error *request_set_command(struct request *request)
{
	Reapi__Command *command = &request->message;

	reapi__command__init(command);
	command->arguments = (const char **)(uintptr_t)request->arguments;
	command->n_arguments = (size_t)request->n_arguments;
	command->platform = request->properties;
	command->working_directory = request->workdir ? request->workdir : "";
	command->output_paths = (const char **)(uintptr_t)request->outputs.items;
	command->n_output_paths = request->outputs.n;
	/* a Tree holds every directory of an output again: what did not change, too */
	command->output_directory_format =
		REAPI__COMMAND__OUTPUT_DIRECTORY_FORMAT__DIRECTORY_ONLY;
	if (request->outputs.n)
		qsort(request->outputs.items, request->outputs.n, sizeof(char *),
		      request_order_strings);
	return request_environment(request, &request->arena, command);
}

struct error *request_make(struct request *request)
{
	struct error *err = request_platform(request);

	return err ? err : request_set_command(request);
}

/* ---- encoding --------------------------------------------------------------------- */

/* Where inputs have times, outputs are to have theirs: the next run compares them. */
static void request_encode_command(struct request *request, bool with_mtimes)
{
	static const char *mtime = "mtime";

	request->message.output_node_properties = &mtime;
	request->message.n_output_node_properties = with_mtimes;
	buf_clear(&request->command);
	rpc_encode(&request->message.base, &request->command);
	hasher_digest(request->command.data, request->command.len,
		      &request->command_digest);
}

static void request_encode_action(struct request *request,
				  const struct digest *input_root)
{
	Reapi__Action action = REAPI__ACTION__INIT;
	Reapi__Digest command = REAPI__DIGEST__INIT;
	Reapi__Digest root = REAPI__DIGEST__INIT;
	Pb__Duration timeout = PB__DURATION__INIT;
	char command_hex[DIGEST_HEX_MAX];
	char root_hex[DIGEST_HEX_MAX];

	digest_to_wire(&request->command_digest, command_hex, &command);
	digest_to_wire(input_root, root_hex, &root);
	action.command_digest = &command;
	action.input_root_digest = &root;
	action.do_not_cache = request->no_cache;
	action.platform = request->properties;
	if (request->timeout_ns) {
		timeout.seconds = request->timeout_ns / NS_PER_S;
		timeout.nanos = (int32_t)(request->timeout_ns % NS_PER_S);
		action.timeout = &timeout;
	}
	buf_clear(&request->action);
	rpc_encode(&action.base, &request->action);
	hasher_digest(request->action.data, request->action.len, &request->action_digest);
}

void request_encode(struct request *request, const struct digest *input_root,
		    bool with_mtimes)
{
	request_encode_command(request, with_mtimes);
	request_encode_action(request, input_root);
}

void request_blobs(const struct request *request,
		   struct blob_source blobs_out[static REQUEST_N_BLOBS])
{
	blobs_out[0] = (struct blob_source){.digest = request->command_digest,
					    .from = BLOB_BYTES,
					    .bytes = buf_slice(&request->command)};
	blobs_out[1] = (struct blob_source){.digest = request->action_digest,
					    .from = BLOB_BYTES,
					    .bytes = buf_slice(&request->action)};
}
