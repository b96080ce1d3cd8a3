/*
 * Owns nothing: the database is opened for each look, of which a command has two at most.
 * Whether a result is whole is asked of the local store alone.
 */
#include "client/local_actions.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/rpc/rpc.h"
#include "lib/tree/dirset.h"

#define LOCAL_ACTIONS_BYTES    ((int64_t)1 << 30)
#define LOCAL_ACTIONS_TREE_MAX ((size_t)256 << 20) /* bytes of one Tree */

struct error *local_actions_open(struct client *client, struct action_cache **out)
{
	_cleanup_free_ char *path = NULL;
	struct error *err = local_path(&client->local, "", &path);

	if (err)
		return err;
	return action_cache_open(path, LOCAL_ACTIONS_BYTES, out);
}

struct local_actions_check {
	struct store *store;
	struct dirset seen;  /* Directories, each looked into once */
	struct dirset trees; /* the same of Trees */
};

static bool local_actions_has(const struct local_actions_check *check,
			      const Reapi__Digest *wire)
{
	_cleanup_error_ struct error *err = NULL;
	struct digest digest;

	err = digest_from_wire(wire, &digest);
	return !err && (!digest.size || store_has(check->store, &digest));
}

static bool local_actions_has_dir(struct local_actions_check *check,
				  const struct digest *digest, unsigned int depth);

static bool local_actions_has_node(struct local_actions_check *check,
				   const struct tree_node *node, unsigned int depth)
{
	switch (node->kind) {
	case TREE_FILE:
		return !node->digest.size || store_has(check->store, &node->digest);
	case TREE_DIR:
		return local_actions_has_dir(check, &node->digest, depth + 1);
	case TREE_SYMLINK:
		return true;
	}
	return false;
}

static bool local_actions_has_nodes(struct local_actions_check *check, struct buf *bytes,
				    unsigned int depth, bool is_deep)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_error_ struct error *err = tree_dir_decode(bytes, &dir);
	bool has_all = !err;

	for (uint32_t i = 0; has_all && i < dir->n_nodes; i++)
		if (is_deep || dir->nodes[i].kind != TREE_DIR)
			has_all = local_actions_has_node(check, &dir->nodes[i], depth);
	return has_all;
}

static bool local_actions_has_dir(struct local_actions_check *check,
				  const struct digest *digest, unsigned int depth)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_error_ struct error *err = NULL;
	struct slice known;

	if (!digest->size || dirset_find(&check->seen, digest, &known))
		return true;
	if (depth > TREE_DEPTH_MAX)
		return false;
	err = store_read(check->store, digest, TREE_DIR_MAX, &bytes);
	if (err)
		return false;
	(void)dirset_add(&check->seen, digest, (struct slice){0});
	return local_actions_has_nodes(check, &bytes, depth, true);
}

/* A Tree holds its directories itself. */
static bool local_actions_has_tree(struct local_actions_check *check,
				   const Reapi__Digest *wire)
{
	_cleanup_free_ struct slice *dirs = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_error_ struct error *err = NULL;
	struct digest digest;
	bool has_all = true;
	size_t n = 0;

	err = digest_from_wire(wire, &digest);
	if (!err && !dirset_add(&check->trees, &digest, (struct slice){0}))
		return true;
	if (!err)
		err = store_read(check->store, &digest, LOCAL_ACTIONS_TREE_MAX, &bytes);
	if (!err)
		err = tree_message_split(buf_slice(&bytes), &dirs, &n);
	for (size_t i = 0; !err && has_all && i < n; i++) {
		_cleanup_buf_ struct buf copy = BUF_INIT;

		buf_add(&copy, dirs[i].data, dirs[i].len);
		has_all = local_actions_has_nodes(check, &copy, 0, false);
	}
	return !err && has_all;
}

static bool local_actions_has_output(struct local_actions_check *check,
				     const Reapi__OutputDirectory *output)
{
	_cleanup_error_ struct error *err = NULL;
	struct digest root;

	if (output->tree_digest && !local_actions_has_tree(check, output->tree_digest))
		return false;
	if (!output->root_directory_digest)
		return output->tree_digest != NULL;
	err = digest_from_wire(output->root_directory_digest, &root);
	return !err && local_actions_has_dir(check, &root, 0);
}

static bool local_actions_is_whole(struct store *store, struct slice bytes)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	struct local_actions_check check = {.store = store};
	const Reapi__ActionResult *result = (const Reapi__ActionResult *)rpc_decode(
		&reapi__action_result__descriptor, bytes, &arena);
	bool is_whole = result != NULL;

	for (size_t i = 0; is_whole && i < result->n_output_files; i++)
		is_whole = local_actions_has(&check, result->output_files[i]->digest);
	for (size_t i = 0; is_whole && i < result->n_output_directories; i++)
		is_whole =
			local_actions_has_output(&check, result->output_directories[i]);
	if (is_whole && result->stdout_digest)
		is_whole = local_actions_has(&check, result->stdout_digest);
	if (is_whole && result->stderr_digest)
		is_whole = local_actions_has(&check, result->stderr_digest);
	dirset_deinit(&check.seen);
	dirset_deinit(&check.trees);
	return is_whole;
}

struct error *local_actions_get(struct client *client, const struct digest *action,
				struct buf *out, bool *found_out)
{
	_cleanup_(action_cache_closep) struct action_cache *cache = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	bool is_found = false;
	struct error *err = local_open_store(&client->local);

	if (!err)
		err = local_actions_open(client, &cache);
	if (!err)
		err = action_cache_get(cache, "", action, &bytes, &is_found);
	if (err)
		return err;
	*found_out = is_found &&
		     local_actions_is_whole(client->local.store, buf_slice(&bytes));
	if (*found_out)
		buf_add(out, bytes.data, bytes.len);
	return NULL;
}

struct error *local_actions_put(struct client *client, const struct digest *action,
				struct slice result)
{
	_cleanup_(action_cache_closep) struct action_cache *cache = NULL;
	struct error *err = local_actions_open(client, &cache);

	return err ? err : action_cache_put(cache, "", action, result);
}
