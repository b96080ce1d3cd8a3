/*
 * Owns what was found of one name: the plan of an Action. Trees that are made of an input
 * root and outputs go into the local store.
 */
#include "client/subject.h"

#include <string.h>

#include "client/artifact.h"
#include "client/last_result.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/cas/dircache.h"
#include "lib/tree/treebuild.h"

#define SUBJECT_MESSAGE_MAX ((size_t)16 << 20) /* bytes of an Action or a Command */
#define SUBJECT_SUFFIX      "+result"

void subject_deinit(struct subject *subject)
{
	plan_free(subject->plan);
	free(subject->workdir);
}

/* Actions */

static struct error *subject_plan(struct client *client, const struct digest *digest,
				  const char *root_path, struct subject *subject)
{
	_cleanup_(plan_freep) struct plan *plan = NULL;
	_cleanup_buf_ struct buf action = BUF_INIT;
	_cleanup_buf_ struct buf command = BUF_INIT;
	struct error *err =
		fetch_bytes(client->fetch, digest, SUBJECT_MESSAGE_MAX, NULL, &action);

	if (!err)
		err = plan_new(buf_slice(&action), digest, root_path, &plan);
	if (!err)
		err = fetch_bytes(client->fetch, &plan->command_digest,
				  SUBJECT_MESSAGE_MAX, NULL, &command);
	if (!err)
		err = plan_set_command(plan, buf_slice(&command));
	if (err)
		return err;
	subject->root = plan->root;
	subject->workdir = alloc_string(plan->workdir);
	subject->plan = take(plan);
	return NULL;
}

/* What a digest is: a tree, or else an Action. */
static struct error *subject_read(struct client *client, const struct digest *digest,
				  const struct subject_wish *wish,
				  struct subject *subject)
{
	char text[DIGEST_STRING_MAX];
	bool is_tree = false;
	struct error *err = NULL;

	if (!wish->is_action)
		err = client_tree_root(client, digest, &is_tree, &subject->root);
	if (err || is_tree)
		return err;
	if ((uint64_t)digest->size <= SUBJECT_MESSAGE_MAX)
		err = subject_plan(client, digest, wish->root_path, subject);
	if (!subject->plan &&
	    (!err || (!wish->is_action && error_code(err) == ERROR_INVALID_ARGUMENT))) {
		error_free(err);
		err = error_new(ERROR_INVALID_ARGUMENT,
				"%s is neither a Directory nor a Tree nor an Action",
				digest_format(digest, text));
	}
	return err;
}

/* Outputs */

struct subject_outputs {
	struct client *client;
	struct treebuild *build;
	const char *workdir;
};

static struct error *subject_load(void *ctx, const struct digest *digest,
				  struct tree_dir **dir_out)
{
	struct client *client = ctx;

	return dircache_get(client->dirs, digest, NULL, dir_out);
}

static struct error *subject_keep(void *ctx, const struct digest *digest,
				  struct slice bytes)
{
	struct client *client = ctx;

	return store_put(client->local.store, digest, bytes.data, bytes.len);
}

/* Where an output lies, which nothing else does any more. */
static struct error *subject_clear(const struct subject_outputs *outputs,
				   const char *path, char **place_out)
{
	_cleanup_free_ char *place = NULL;
	struct error *err = file_path_join(outputs->workdir, path, &place);

	if (!err)
		err = treebuild_clear(outputs->build, place);
	if (!err)
		*place_out = take(place);
	return err;
}

static struct error *subject_add_dir(const struct subject_outputs *outputs,
				     const Reapi__OutputDirectory *dir)
{
	_cleanup_free_ char *place = NULL;
	struct digest digest, root;
	bool is_tree = false;
	struct error *err =
		digest_from_wire(dir->root_directory_digest ? dir->root_directory_digest
							    : dir->tree_digest,
				 &digest);

	if (!err)
		err = client_tree_root(outputs->client, &digest, &is_tree, &root);
	if (!err && !is_tree)
		err = error_new(ERROR_DATA_LOSS,
				"the result names a blob that is no tree");
	if (!err)
		err = subject_clear(outputs, dir->path, &place);
	if (!err)
		err = treebuild_put_tree(outputs->build, place, &root);
	return error_wrap(err, "output %s", dir->path);
}

static void subject_props(const Reapi__NodeProperties *wire, struct tree_props *out)
{
	*out = (struct tree_props){0};
	if (wire && wire->mtime && wire->mtime->nanos >= 0 &&
	    wire->mtime->nanos < NS_PER_S) {
		out->has_mtime = true;
		out->mtime_s = wire->mtime->seconds;
		out->mtime_ns = wire->mtime->nanos;
	}
	if (wire && wire->unix_mode) {
		out->has_unix_mode = true;
		out->unix_mode = wire->unix_mode->value;
	}
}

static struct error *subject_add_file(const struct subject_outputs *outputs,
				      const Reapi__OutputFile *file)
{
	_cleanup_free_ char *place = NULL;
	struct tree_props props;
	struct digest digest;
	struct error *err = digest_from_wire(file->digest, &digest);

	subject_props(file->node_properties, &props);
	if (!err)
		err = subject_clear(outputs, file->path, &place);
	if (!err)
		err = treebuild_put_file(
			outputs->build, place, &digest, file->is_executable,
			props.has_mtime || props.has_unix_mode ? &props : NULL);
	return error_wrap(err, "output %s", file->path);
}

static struct error *subject_add_links(const struct subject_outputs *outputs,
				       Reapi__OutputSymlink *const *links, size_t n)
{
	struct error *err = NULL;

	for (size_t i = 0; !err && i < n; i++) {
		_cleanup_free_ char *place = NULL;

		err = subject_clear(outputs, links[i]->path, &place);
		if (!err)
			err = treebuild_put_symlink(outputs->build, place,
						    links[i]->target, NULL);
		err = error_wrap(err, "output %s", links[i]->path);
	}
	return err;
}

static struct error *subject_add_outputs(const struct subject_outputs *outputs,
					 const Reapi__ActionResult *result)
{
	struct error *err = NULL;

	for (size_t i = 0; !err && i < result->n_output_directories; i++)
		err = subject_add_dir(outputs, result->output_directories[i]);
	for (size_t i = 0; !err && i < result->n_output_files; i++)
		err = subject_add_file(outputs, result->output_files[i]);
	if (!err)
		err = subject_add_links(outputs, result->output_symlinks,
					result->n_output_symlinks);
	if (err || result->n_output_symlinks)
		return err;
	/* from services that fill only the fields of before 2.1 */
	err = subject_add_links(outputs, result->output_file_symlinks,
				result->n_output_file_symlinks);
	return err ? err
		   : subject_add_links(outputs, result->output_directory_symlinks,
				       result->n_output_directory_symlinks);
}

static struct error *subject_add_result(struct client *client, struct subject *subject)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	_cleanup_(treebuild_freep) struct treebuild *build =
		treebuild_new(subject_load, client);
	const struct subject_outputs outputs = {
		.client = client, .build = build, .workdir = subject->workdir};
	Reapi__ActionResult *result = NULL;
	struct error *err =
		last_result_find(client, &subject->plan->action_digest, &arena, &result);

	if (!err && !result)
		err = error_new(ERROR_NOT_FOUND,
				"no result of the action is known: it is in no action "
				"cache, and it did not fail here");
	if (!err)
		err = treebuild_put_tree(build, "", &subject->root);
	if (!err)
		err = subject_add_outputs(&outputs, result);
	if (!err)
		err = treebuild_finish(build, subject_keep, client, &subject->root);
	if (err)
		return err;
	subject->has_result = true;
	subject->result_exit_code = result->exit_code;
	return NULL;
}

/* All of it */

/* By its digest, or an artifact by its name. */
static struct error *subject_look(struct client *client, const char *name,
				  const struct subject_wish *wish,
				  struct subject *subject)
{
	struct digest digest;
	struct error *err = wish->is_action ? client_digest(name, &digest)
					    : artifact_or_digest(client, name, &digest);

	return err ? err : subject_read(client, &digest, wish, subject);
}

struct error *subject_find(struct client *client, const char *text,
			   const struct subject_wish *wish, struct subject *out)
{
	_cleanup_(subject_deinit) struct subject subject = SUBJECT_INIT;
	size_t len = strlen(text);
	size_t suffix = strlen(SUBJECT_SUFFIX);
	bool has_suffix =
		len > suffix && strcmp(text + len - suffix, SUBJECT_SUFFIX) == 0;
	_cleanup_free_ char *name = alloc_string_n(text, has_suffix ? len - suffix : len);
	struct error *err = subject_look(client, name, wish, &subject);

	if (!err && (has_suffix || wish->with_result))
		err = subject.plan ? subject_add_result(client, &subject)
				   : error_new(ERROR_INVALID_ARGUMENT,
					       "only an Action has a result");
	if (err)
		return error_wrap(err, "%s", text);
	*out = subject;
	subject = SUBJECT_INIT;
	return NULL;
}
