/*
 * Owns what was found of one name: the plan of an Action. Trees that are made of an input
 * root and outputs go into the local store.
 */
#include "client/subject.h"

#include <string.h>

#include "client/artifact.h"
#include "client/last_result.h"
#include "client/result_outputs.h"
#include "client/tree_upload.h"
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

/* In its place, where nothing else is any more. */
static struct error *subject_add_output(void *ctx, const struct result_output *output)
{
	const struct subject_outputs *outputs = ctx;
	_cleanup_free_ char *place = NULL;
	struct error *err = file_path_join(outputs->workdir, output->path, &place);

	if (!err)
		err = treebuild_clear(outputs->build, place);
	return err ? err
		   : result_outputs_put(outputs->client, outputs->build, place, output);
}

static struct error *subject_add_result(struct client *client, struct subject *subject)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	_cleanup_(treebuild_freep) struct treebuild *build =
		treebuild_new(subject_load, client);
	struct subject_outputs outputs = {
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
		err = result_outputs_each(result, subject_add_output, &outputs);
	if (!err)
		err = treebuild_finish(build, subject_keep, client, &subject->root);
	if (err)
		return err;
	subject->has_result = true;
	subject->result_exit_code = result->exit_code;
	return NULL;
}

/* All of it */

/* A directory of this machine, as it is now: it goes into the local store. */
static struct error *subject_import_once(struct client *client, const char *path,
					 struct tree_upload_changes *changes,
					 struct digest *root_out)
{
	_cleanup_(import_freep) struct import *import = NULL;
	struct error *err = tree_upload_import(client, path, changes, &import);

	if (!err && import_kind(import) != TREE_DIR)
		err = error_new(ERROR_INVALID_ARGUMENT, "it is no directory");
	if (!err)
		err = tree_upload_store(client, import, NULL, 0, changes, NULL);
	if (!err)
		*root_out = *import_digest(import);
	return err;
}

static struct error *subject_import(struct client *client, const char *path,
				    struct digest *root_out)
{
	_cleanup_(tree_upload_changes_deinit) struct tree_upload_changes changes = {0};
	bool is_again = true;
	struct error *err = NULL;

	while (is_again) {
		err = subject_import_once(client, path, &changes, root_out);
		err = tree_upload_settle(&changes, err, &is_again);
	}
	return err;
}

/* By its digest, an artifact by its name, or a directory of this machine. */
static struct error *subject_look(struct client *client, const char *name,
				  const struct subject_wish *wish,
				  struct subject *subject)
{
	struct digest digest;
	struct error *err;

	if (!wish->is_action && artifact_is_path(name))
		return subject_import(client, name, &subject->root);
	err = wish->is_action ? client_digest(name, &digest)
			      : artifact_or_digest(client, name, &digest);
	return err ? err : subject_read(client, &digest, wish, subject);
}

/* The name without its suffix. */
static char *subject_name(const char *text, bool *has_suffix_out)
{
	size_t len = strlen(text);
	size_t suffix = strlen(SUBJECT_SUFFIX);

	*has_suffix_out =
		len > suffix && strcmp(text + len - suffix, SUBJECT_SUFFIX) == 0;
	return alloc_string_n(text, *has_suffix_out ? len - suffix : len);
}

struct error *subject_check(struct client *client, const char *text)
{
	bool has_suffix, is_digest;
	_cleanup_free_ char *name = subject_name(text, &has_suffix);
	struct digest digest;

	return artifact_is_path(name)
		       ? NULL
		       : artifact_check_text(client, name, &digest, &is_digest);
}

struct error *subject_find(struct client *client, const char *text,
			   const struct subject_wish *wish, struct subject *out)
{
	_cleanup_(subject_deinit) struct subject subject = SUBJECT_INIT;
	bool has_suffix;
	_cleanup_free_ char *name = subject_name(text, &has_suffix);
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

struct error *subject_root(struct client *client, const char *text,
			   struct digest *root_out)
{
	const struct subject_wish wish = {.root_path = LAYOUT_ROOT};
	_cleanup_(subject_deinit) struct subject subject = SUBJECT_INIT;
	struct error *err = subject_find(client, text, &wish, &subject);

	if (!err)
		*root_out = subject.root;
	return err;
}
