/*
 * Owns the question whether a result can still be used: every file, log, Tree and
 * Directory that it names must be in the store, and so must every file that those name.
 * Asking counts as a use, so an answer of yes keeps them for a while. Blocks on the disk.
 *
 * A result of a few bytes may name one Tree a hundred thousand times, and a Tree may have
 * millions of files. So each is looked at once, all Trees together have a bound, and the
 * look goes on step by step: large ones begin when others have had their turn.
 */
#include "lib/tree/tree.h"
#include "server/completeness.h"

#define COMPLETENESS_TREE_MAX ((int64_t)256 << 20) /* bytes of one Tree */
#define COMPLETENESS_ALL_MAX  ((int64_t)1 << 30)   /* of all Trees of a result */
#define COMPLETENESS_STEP     ((int64_t)1 << 20)   /* bytes of Trees looked at, about */
#define COMPLETENESS_LOOKS    4096                 /* of files and outputs in a step */
#define COMPLETENESS_DIRS     64                   /* of a walk */

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
		err = server_read(server, &digest, (size_t)COMPLETENESS_TREE_MAX, &bytes);
	if (!err && digest.size > 0)
		err = tree_message_split(buf_slice(&bytes), &dirs, &n);
	for (size_t i = 0; i < n && !err; i++) {
		if (!completeness_dir(server, dirs[i]))
			return false;
	}
	return !err;
}

/* One Tree more. False: it is not whole, or they are too many bytes. */
static bool completeness_next_tree(struct completeness *check, const Reapi__Digest *wire,
				   int64_t *left_in_step)
{
	_cleanup_error_ struct error *err = NULL;
	struct digest digest;

	err = digest_from_wire(wire, &digest);
	if (err)
		return false;
	if (!dirset_add(&check->seen, &digest, (struct slice){0}))
		return true;
	if (digest.size > COMPLETENESS_ALL_MAX - check->tree_bytes)
		return false;
	check->tree_bytes += digest.size;
	*left_in_step -= digest.size;
	return completeness_tree(check->server, wire);
}

static bool completeness_next_root(struct completeness *check, const Reapi__Digest *wire)
{
	_cleanup_error_ struct error *err = NULL;
	struct digest root;

	err = digest_from_wire(wire, &root);
	if (err)
		return false;
	if (check->walk.server)
		return walk_also(&check->walk, &root);
	walk_init(&check->walk, check->server, &root);
	return true;
}

static bool completeness_next_directory(struct completeness *check,
					const Reapi__OutputDirectory *output,
					int64_t *left_in_step)
{
	if (!output->tree_digest && !output->root_directory_digest)
		return false;
	return (!output->tree_digest ||
		completeness_next_tree(check, output->tree_digest, left_in_step)) &&
	       (!output->root_directory_digest ||
		completeness_next_root(check, output->root_directory_digest));
}

/* Whether this Tree is for a step of its own, or for the next one. */
static bool completeness_is_late(const struct completeness *check,
				 const Reapi__OutputDirectory *output, int64_t left)
{
	return output->tree_digest && output->tree_digest->size_bytes > left &&
	       (left < COMPLETENESS_STEP || check->n_steps == 1);
}

/* Some of the outputs; false: something is missing. */
static bool completeness_outputs(struct completeness *check)
{
	const Reapi__ActionResult *result = check->result;
	int64_t left = COMPLETENESS_STEP;
	bool is_here = true;

	for (size_t n = 0; is_here && n < COMPLETENESS_LOOKS && left > 0; n++) {
		size_t i = check->next++;

		if (i < result->n_output_files) {
			is_here = completeness_has(check->server,
						   result->output_files[i]->digest);
			continue;
		}
		i -= result->n_output_files;
		if (i == result->n_output_directories) {
			check->has_outputs = true;
			break;
		}
		if (completeness_is_late(check, result->output_directories[i], left)) {
			check->next--;
			break;
		}
		is_here = completeness_next_directory(
			check, result->output_directories[i], &left);
	}
	return is_here;
}

/* Some directories of the walk. */
static bool completeness_walk(struct completeness *check)
{
	bool is_here = true;

	for (size_t n = 0; is_here && n < COMPLETENESS_DIRS; n++) {
		_cleanup_error_ struct error *err = NULL;

		if (!check->walk.server || walk_is_over(&check->walk)) {
			check->is_over = true;
			break;
		}
		err = walk_next(&check->walk, NULL, completeness_has_file,
				(void *)(uintptr_t)check->server, &is_here);
		is_here = is_here && !err;
	}
	return is_here;
}

static bool completeness_logs(const struct completeness *check)
{
	const Reapi__ActionResult *result = check->result;

	return (!result->stdout_digest ||
		completeness_has(check->server, result->stdout_digest)) &&
	       (!result->stderr_digest ||
		completeness_has(check->server, result->stderr_digest));
}

void completeness_init(struct completeness *check, const struct server *server,
		       const Reapi__ActionResult *result)
{
	*check = (struct completeness){.server = server, .result = result};
}

void completeness_deinit(struct completeness *check)
{
	if (check->walk.server)
		walk_deinit(&check->walk);
	dirset_deinit(&check->seen);
}

bool completeness_step(struct completeness *check, bool *is_complete_out)
{
	bool is_here = true;

	if (check->n_steps++ == 0)
		is_here = completeness_logs(check);
	if (is_here && !check->has_outputs)
		is_here = completeness_outputs(check);
	/* most results are small, and done at once */
	if (is_here && check->has_outputs)
		is_here = completeness_walk(check);
	*is_complete_out = is_here;
	return is_here && !check->is_over;
}
