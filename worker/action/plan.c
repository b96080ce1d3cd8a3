/* Owns the decoded messages in its arena, and the strings made from them. One thread. */
#include "worker/action/plan.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/units.h"
#include "lib/rpc/rpc.h"
#include "worker/sandbox/accounts.h"

#define PLAN_ARENA_MAX     ((size_t)64 << 20)
#define PLAN_PATH_MAX      4096
#define PLAN_TIMEOUT_MAX_S (366LL * 24 * 3600)

void *plan_free(struct plan *plan)
{
	if (!plan)
		return NULL;
	arena_deinit(&plan->arena);
	free(plan);
	return NULL;
}

static struct error *plan_set_timeout(struct plan *plan)
{
	const Pb__Duration *timeout = plan->action->timeout;

	if (!timeout)
		return NULL;
	if (timeout->seconds < 0 || timeout->nanos < 0 || timeout->nanos >= NS_PER_S ||
	    timeout->seconds > PLAN_TIMEOUT_MAX_S)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the Action's timeout of %lld s is out of range",
				 (long long)timeout->seconds);
	plan->timeout_ns = timeout->seconds * NS_PER_S + timeout->nanos;
	return NULL;
}

/* Bytes that did not decode: there was too much of them, or they are something else. */
static struct error *plan_no_message(const struct plan *plan, const char *what,
				     const struct digest *digest)
{
	char name[DIGEST_STRING_MAX];

	if (plan->arena.is_full)
		return arena_error(what);
	return error_new(ERROR_INVALID_ARGUMENT, "%s is no %s",
			 digest_format(digest, name), what);
}

struct error *plan_new(struct slice action_bytes, const struct digest *action,
		       const char *default_root, struct plan **plan_out)
{
	_cleanup_(plan_freep) struct plan *plan = alloc_new(struct plan);
	char name[DIGEST_STRING_MAX];
	struct error *err;

	plan->arena = ARENA_INIT(PLAN_ARENA_MAX);
	plan->action_digest = *action;
	plan->root_path = default_root;
	plan->uid = ACCOUNTS_UID;
	plan->gid = ACCOUNTS_UID;
	err = plan_check_action_bounds(action_bytes);
	if (err)
		return err;
	plan->action = (Reapi__Action *)rpc_decode(&reapi__action__descriptor,
						   action_bytes, &plan->arena);
	if (!plan->action)
		return plan_no_message(plan, "Action", action);
	err = digest_from_wire(plan->action->command_digest, &plan->command_digest);
	if (err)
		return error_wrap(err, "command_digest of Action %s",
				  digest_format(action, name));
	err = digest_from_wire(plan->action->input_root_digest, &plan->root);
	if (err)
		return error_wrap(err, "input_root_digest of Action %s",
				  digest_format(action, name));
	err = plan_set_timeout(plan);
	if (err)
		return err;
	*plan_out = take(plan);
	return NULL;
}

const char *plan_property(const struct plan *plan, const char *name)
{
	const Reapi__Platform *platform = plan->action->platform;
	const char *value = NULL;

	if (!platform || !platform->n_properties)
		platform = plan->command ? plan->command->platform : NULL;
	for (size_t i = 0; platform && i < platform->n_properties; i++) {
		if (strcmp(platform->properties[i]->name, name) == 0)
			value = platform->properties[i]->value;
	}
	return value;
}

struct error *plan_resolve(struct arena *arena, const char *base, const char *path,
			   const char **resolved_out)
{
	char resolved[PLAN_PATH_MAX];
	size_t len = strlen(base);
	const char *copy;

	if (len + strlen(path) + 2 > sizeof(resolved))
		return error_new(ERROR_INVALID_ARGUMENT, "path %.64s… is too long", path);
	if (*path == '/')
		return error_new(ERROR_INVALID_ARGUMENT, "path %s is absolute", path);
	memcpy(resolved, base, len);
	for (const char *at = path; *at;) {
		size_t n = strcspn(at, "/");

		if (n == 2 && at[0] == '.' && at[1] == '.') {
			if (!len)
				return error_new(ERROR_INVALID_ARGUMENT,
						 "path %s climbs out of the input root",
						 path);
			while (len && resolved[len - 1] != '/')
				len--;
			len -= len > 0;
		} else if (n && !(n == 1 && at[0] == '.')) {
			if (len)
				resolved[len++] = '/';
			memcpy(resolved + len, at, n);
			len += n;
		}
		at += n + (at[n] == '/');
	}
	resolved[len] = '\0';
	copy = arena_string(arena, resolved);
	if (!copy)
		return arena_error("the paths that the Command names");
	*resolved_out = copy;
	return NULL;
}

static struct error *plan_add_output(struct plan *plan, const char *spelt,
				     enum plan_want want)
{
	struct plan_output *output = &plan->outputs[plan->n_outputs];
	struct error *err;

	err = plan_resolve(&plan->arena, plan->workdir, spelt, &output->path);
	if (err)
		return error_wrap(err, "output");
	output->spelt = spelt;
	output->want = want;
	plan->n_outputs++;
	return NULL;
}

static struct error *plan_set_outputs(struct plan *plan)
{
	const Reapi__Command *command = plan->command;
	struct error *err = NULL;

	plan->is_legacy = !command->n_output_paths &&
			  (command->n_output_files || command->n_output_directories);
	plan->outputs = arena_array(&plan->arena,
				    command->n_output_paths + command->n_output_files +
					    command->n_output_directories,
				    sizeof(struct plan_output));
	if (!plan->outputs)
		return arena_error("the list of outputs");
	for (size_t i = 0; !err && i < command->n_output_paths; i++)
		err = plan_add_output(plan, command->output_paths[i], PLAN_ANY);
	if (!plan->is_legacy)
		return err;
	for (size_t i = 0; !err && i < command->n_output_files; i++)
		err = plan_add_output(plan, command->output_files[i], PLAN_FILE);
	for (size_t i = 0; !err && i < command->n_output_directories; i++)
		err = plan_add_output(plan, command->output_directories[i],
				      PLAN_DIRECTORY);
	return err;
}

static struct error *plan_set_id(const struct plan *plan, const char *name,
				 unsigned int *out)
{
	const char *text = plan_property(plan, name);
	int64_t value;
	struct error *err;

	if (!text)
		return NULL;
	err = units_parse_int(text, 0, 0x7ffffffe, &value);
	if (err)
		return error_wrap(err, "platform property %s", name);
	*out = (unsigned int)value;
	return NULL;
}

static struct error *plan_set_platform(struct plan *plan)
{
	const char *root = plan_property(plan, "InputRootAbsolutePath");
	const char *network = plan_property(plan, "network");
	const char *resolved;
	struct error *err;

	err = plan_set_id(plan, "unixUID", &plan->uid);
	if (!err)
		err = plan_set_id(plan, "unixGID", &plan->gid);
	if (err)
		return err;
	plan->with_network = network && strcmp(network, "on") == 0;
	if (network && !plan->with_network && strcmp(network, "off") != 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "platform property network is \"%s\", not on or off",
				 network);
	if (!root)
		return NULL;
	if (*root != '/')
		return error_new(
			ERROR_INVALID_ARGUMENT,
			"platform property InputRootAbsolutePath is %s, which is not "
			"absolute",
			root);
	err = plan_resolve(&plan->arena, "", root + strspn(root, "/"), &resolved);
	if (err)
		return error_wrap(err, "platform property InputRootAbsolutePath");
	plan->root_path = arena_printf(&plan->arena, "/%s", resolved);
	return plan->root_path ? NULL : arena_error("InputRootAbsolutePath");
}

static struct error *plan_check_environment(const Reapi__Command *command)
{
	for (size_t i = 0; i < command->n_environment_variables; i++) {
		const char *name = command->environment_variables[i]->name;

		if (!*name || strchr(name, '='))
			return error_new(ERROR_INVALID_ARGUMENT,
					 "\"%.64s\" names no environment variable", name);
	}
	return NULL;
}

struct error *plan_set_command(struct plan *plan, struct slice command_bytes)
{
	char name[DIGEST_STRING_MAX];
	struct error *err;

	err = plan_check_command_bounds(command_bytes);
	if (err)
		return err;
	plan->command = (Reapi__Command *)rpc_decode(&reapi__command__descriptor,
						     command_bytes, &plan->arena);
	if (!plan->command)
		return plan_no_message(plan, "Command", &plan->command_digest);
	if (!plan->command->n_arguments || !*plan->command->arguments[0])
		return error_new(ERROR_INVALID_ARGUMENT, "Command %s has no arguments",
				 digest_format(&plan->command_digest, name));
	err = plan_resolve(&plan->arena, "", plan->command->working_directory,
			   &plan->workdir);
	if (err)
		return error_wrap(err, "working_directory");
	err = plan_check_environment(plan->command);
	if (!err)
		err = plan_set_platform(plan);
	if (!err)
		err = plan_set_outputs(plan);
	for (size_t i = 0; i < plan->command->n_output_node_properties; i++) {
		const char *property = plan->command->output_node_properties[i];

		plan->with_mtime = plan->with_mtime || strcmp(property, "mtime") == 0;
		plan->with_unix_mode =
			plan->with_unix_mode || strcmp(property, "unix_mode") == 0;
	}
	return err;
}
