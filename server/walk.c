/*
 * Owns the order of a walk over Directories. A subtree that occurs twice is walked once,
 * so a small tree that refers to itself many times over does not explode.
 */
#include "server/walk.h"

#include <stdatomic.h>

#include "lib/base/alloc.h"
#include "lib/tree/tree.h"

/* Directories that all walks of the process hold. */
static atomic_size_t walk_total;

struct walk_dir {
	struct hnode node;
	struct digest digest;
};

static bool walk_has_seen(const struct walk *walk, const struct digest *digest)
{
	uint64_t key = digest_key(digest);

	for (struct hnode *n = htab_first(&walk->seen, key); n; n = htab_next(n, key)) {
		if (digest_equal(&container_of(n, struct walk_dir, node)->digest, digest))
			return true;
	}
	return false;
}

/* False: all walks together have met as many as memory is for. */
static bool walk_add(struct walk *walk, const struct digest *digest)
{
	struct walk_dir *dir;

	if (walk_has_seen(walk, digest))
		return true;
	if (atomic_fetch_add(&walk_total, 1) >= WALK_TOTAL_MAX && walk->n > 0) {
		(void)atomic_fetch_sub(&walk_total, 1);
		return false;
	}
	dir = alloc_new(struct walk_dir);
	dir->digest = *digest;
	htab_insert(&walk->seen, &dir->node, digest_key(digest));
	walk->order = alloc_grow(walk->order, &walk->cap, walk->n + 1,
				 sizeof(struct walk_dir *));
	walk->order[walk->n++] = dir;
	return true;
}

void walk_init(struct walk *walk, const struct server *server, const struct digest *root)
{
	*walk = (struct walk){.server = server};
	(void)walk_add(walk, root); /* the first is always taken */
}

bool walk_also(struct walk *walk, const struct digest *root)
{
	return walk->n <= WALK_DIRS_MAX && walk_add(walk, root);
}

void walk_deinit(struct walk *walk)
{
	(void)atomic_fetch_sub(&walk_total, walk->n);
	for (size_t i = 0; i < walk->n; i++)
		free(walk->order[i]);
	free(walk->order);
	htab_deinit(&walk->seen);
	*walk = (struct walk){0};
}

bool walk_is_over(const struct walk *walk)
{
	return walk->next == walk->n;
}

static struct error *walk_load(const struct walk *walk, const struct digest *digest,
			       struct buf *bytes, bool *found_out)
{
	struct error *err = NULL;

	*found_out = true;
	if (digest->size == 0)
		return NULL;
	err = server_read(walk->server, digest, TREE_DIR_MAX, bytes);
	if (error_code(err) == ERROR_NOT_FOUND) {
		*found_out = false;
		return error_free(err);
	}
	return err;
}

struct error *walk_next(struct walk *walk, struct buf *out,
			bool (*file)(void *ctx, const struct digest *digest), void *ctx,
			bool *found_out)
{
	const struct digest digest = walk->order[walk->next++]->digest;
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	char text[DIGEST_STRING_MAX];
	struct error *err;

	err = walk_load(walk, &digest, &bytes, found_out);
	if (err || !*found_out)
		return err;
	if (out)
		buf_add(out, bytes.data, bytes.len);
	err = tree_dir_decode(&bytes, &dir);
	if (err)
		return error_wrap(err, "directory %s", digest_format(&digest, text));
	for (uint32_t i = 0; i < dir->n_nodes; i++) {
		const struct tree_node *node = &dir->nodes[i];

		if (node->kind == TREE_DIR) {
			if (walk->n > WALK_DIRS_MAX || !walk_add(walk, &node->digest))
				return error_new(
					ERROR_RESOURCE_EXHAUSTED,
					"the tree has more than %zu directories, "
					"or too many are walked at once",
					WALK_DIRS_MAX);
		} else if (node->kind == TREE_FILE && file && !file(ctx, &node->digest))
			*found_out = false;
	}
	return NULL;
}
