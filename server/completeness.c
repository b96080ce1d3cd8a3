/*
 * Owns the question whether a result can still be used: every file, log, Tree and
 * Directory that it names must be in the store, and so must every file that those name.
 * Asking counts as a use, so an answer of yes keeps them for a while. No state; blocks on
 * the disk.
 */
#include "lib/tree/tree.h"
#include "server/action.h"
#include "server/walk.h"

#define COMPLETENESS_TREE_MAX ((size_t)256 << 20) /* bytes of one Tree */

static bool completeness_has(const struct server *server, const Reapi__Digest *wire)
{
	_cleanup_error_ struct error *err = NULL;
	struct digest digest;

	err = digest_from_wire(wire, &digest);
	return !err && server_has(server, &digest);
}

static bool completeness_has_file(void *ctx, const struct digest *digest)
{
	return server_has(ctx, digest);
}

/* All files of one encoded Directory. */
static bool completeness_dir(const struct server *server, struct slice bytes)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_buf_ struct buf copy = BUF_INIT;
	_cleanup_error_ struct error *err = NULL;

	buf_add(&copy, bytes.data, bytes.len);
	err = tree_dir_decode(&copy, &dir);
	if (err)
		return false;
	for (uint32_t i = 0; i < dir->n_nodes; i++) {
		if (dir->nodes[i].kind == TREE_FILE &&
		    !server_has(server, &dir->nodes[i].digest))
			return false;
	}
	return true;
}

static bool completeness_tree(const struct server *server, const Reapi__Digest *wire)
{
	_cleanup_free_ struct slice *dirs = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_error_ struct error *err = NULL;
	struct digest digest;
	size_t n = 0;

	err = digest_from_wire(wire, &digest);
	if (!err && digest.size > 0)
		err = server_read(server, &digest, COMPLETENESS_TREE_MAX, &bytes);
	if (!err && digest.size > 0)
		err = tree_message_split(buf_slice(&bytes), &dirs, &n);
	for (size_t i = 0; i < n && !err; i++) {
		if (!completeness_dir(server, dirs[i]))
			return false;
	}
	return !err;
}

static bool completeness_directory(const struct server *server, const Reapi__Digest *wire)
{
	_cleanup_error_ struct error *err = NULL;
	struct digest root;
	struct walk walk;
	bool is_found = true;

	err = digest_from_wire(wire, &root);
	if (err)
		return false;
	walk_init(&walk, server, &root);
	while (is_found && !err && !walk_is_over(&walk))
		err = walk_next(&walk, NULL, completeness_has_file,
				(void *)(uintptr_t)server, &is_found);
	walk_deinit(&walk);
	return is_found && !err;
}

static bool completeness_output_directory(const struct server *server,
					  const Reapi__OutputDirectory *output)
{
	if (!output->tree_digest && !output->root_directory_digest)
		return false;
	return (!output->tree_digest || completeness_tree(server, output->tree_digest)) &&
	       (!output->root_directory_digest ||
		completeness_directory(server, output->root_directory_digest));
}

bool action_is_complete(const struct server *server, const Reapi__ActionResult *result)
{
	for (size_t i = 0; i < result->n_output_files; i++) {
		if (!completeness_has(server, result->output_files[i]->digest))
			return false;
	}
	for (size_t i = 0; i < result->n_output_directories; i++) {
		if (!completeness_output_directory(server, result->output_directories[i]))
			return false;
	}
	return (!result->stdout_digest ||
		completeness_has(server, result->stdout_digest)) &&
	       (!result->stderr_digest ||
		completeness_has(server, result->stderr_digest));
}
