/* Owns nothing: a walk over a message. */
#include "client/result_outputs.h"

struct result_walk {
	struct error *(*fn)(void *ctx, const struct result_output *output);
	void *ctx;
};

static struct error *result_tell(const struct result_walk *walk,
				 const struct result_output *output, struct error *err)
{
	if (!err)
		err = walk->fn(walk->ctx, output);
	return error_wrap(err, "output %s", output->path);
}

static void result_props(const Reapi__NodeProperties *wire, struct tree_props *out)
{
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

static struct error *result_file(const struct result_walk *walk,
				 const Reapi__OutputFile *file)
{
	struct result_output output = {.kind = RESULT_FILE,
				       .path = file->path,
				       .is_executable = file->is_executable};

	result_props(file->node_properties, &output.props);
	return result_tell(walk, &output, digest_from_wire(file->digest, &output.digest));
}

static struct error *result_directory(const struct result_walk *walk,
				      const Reapi__OutputDirectory *dir)
{
	struct result_output output = {.kind = RESULT_TREE, .path = dir->path};

	return result_tell(walk, &output,
			   digest_from_wire(dir->root_directory_digest
						    ? dir->root_directory_digest
						    : dir->tree_digest,
					    &output.digest));
}

static struct error *result_links(const struct result_walk *walk,
				  Reapi__OutputSymlink *const *links, size_t n)
{
	struct error *err = NULL;

	for (size_t i = 0; !err && i < n; i++) {
		const struct result_output output = {.kind = RESULT_LINK,
						     .path = links[i]->path,
						     .target = links[i]->target};

		err = result_tell(walk, &output, NULL);
	}
	return err;
}

struct error *result_outputs_each(const Reapi__ActionResult *result,
				  struct error *(*fn)(void *ctx,
						      const struct result_output *output),
				  void *ctx)
{
	const struct result_walk walk = {fn, ctx};
	struct error *err = NULL;

	for (size_t i = 0; !err && i < result->n_output_files; i++)
		err = result_file(&walk, result->output_files[i]);
	for (size_t i = 0; !err && i < result->n_output_directories; i++)
		err = result_directory(&walk, result->output_directories[i]);
	if (!err)
		err = result_links(&walk, result->output_symlinks,
				   result->n_output_symlinks);
	if (err || result->n_output_symlinks)
		return err;
	/* from services that fill only the fields of before 2.1 */
	err = result_links(&walk, result->output_file_symlinks,
			   result->n_output_file_symlinks);
	return err ? err
		   : result_links(&walk, result->output_directory_symlinks,
				  result->n_output_directory_symlinks);
}

struct error *result_outputs_root(struct client *client,
				  const struct result_output *output,
				  struct digest *root_out)
{
	bool is_tree = false;
	struct error *err = client_tree_root(client, &output->digest, &is_tree, root_out);

	if (!err && !is_tree)
		err = error_new(ERROR_DATA_LOSS,
				"the result names a blob that is no tree");
	return err;
}

const struct tree_props *result_outputs_props(const struct result_output *output)
{
	return output->props.has_mtime || output->props.has_unix_mode ? &output->props
								      : NULL;
}

struct error *result_outputs_put(struct client *client, struct treebuild *build,
				 const char *place, const struct result_output *output)
{
	struct digest root;
	struct error *err;

	switch (output->kind) {
	case RESULT_FILE:
		return treebuild_put_file(build, place, &output->digest,
					  output->is_executable,
					  result_outputs_props(output));
	case RESULT_TREE:
		err = result_outputs_root(client, output, &root);
		return err ? err : treebuild_put_tree(build, place, &root);
	case RESULT_LINK:
		return treebuild_put_symlink(build, place, output->target, NULL);
	}
	return NULL;
}
