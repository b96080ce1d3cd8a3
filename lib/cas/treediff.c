/*
 * Owns one comparison. Two walks: the first goes level by level over pairs of Directories
 * that differ, each pair once, and loads them; the second, over what is at hand then,
 * goes in order of names and tells. A few Directories that name each other twice can have
 * more paths than anybody could be told of: the second counts what it looks at.
 *
 * Threads: the caller's; loads count a latch down on the fetcher's.
 */
#include "lib/cas/treediff.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/htab.h"
#include "lib/base/latch.h"
#include "lib/cas/treeload.h"

#define TREEDIFF_AT_ONCE 1024 /* Directories asked for together */

/* At one path; NULL-like has_*: the other tree has no directory there. */
struct treediff_pair {
	struct hnode hnode;
	struct digest was, is;
	bool has_was, has_is;
};

struct treediff {
	const struct treediff_config *config;
	const struct digest *root; /* for messages */
	struct htab seen;
	struct treediff_pair **pairs; /* all, level by level */
	size_t n;
	size_t cap;
	int64_t n_entries;
	struct buf path;
};

struct treediff_wait {
	struct latch latch;
	struct sync_mutex mutex;
	struct error *err SYNC_GUARDED_BY(&mutex);
};

static void treediff_deinit(struct treediff *diff)
{
	for (size_t i = 0; i < diff->n; i++)
		free(diff->pairs[i]);
	free(diff->pairs);
	htab_deinit(&diff->seen);
	buf_deinit(&diff->path);
}

/* Going over two Directories side by side */

struct treediff_step {
	const struct tree_dir *was, *is; /* NULL: none */
	uint32_t at_was, at_is;
};

/* The next name: the nodes that it has; false: no more. */
static bool treediff_next(struct treediff_step *step, const struct tree_node **was_out,
			  const struct tree_node **is_out)
{
	const struct tree_node *was = NULL;
	const struct tree_node *is = NULL;
	int order = 0;

	if (step->was && step->at_was < step->was->n_nodes)
		was = &step->was->nodes[step->at_was];
	if (step->is && step->at_is < step->is->n_nodes)
		is = &step->is->nodes[step->at_is];
	if (was && is)
		order = slice_compare(was->name, is->name);
	*was_out = order <= 0 ? was : NULL;
	*is_out = order >= 0 ? is : NULL;
	step->at_was += *was_out ? 1 : 0;
	step->at_is += *is_out ? 1 : 0;
	return was || is;
}

static const struct tree_node *treediff_dir_of(const struct tree_node *node)
{
	return node && node->kind == TREE_DIR ? node : NULL;
}

static struct error *treediff_get(struct treediff *diff, const struct digest *was,
				  const struct digest *is, struct tree_dir **was_out,
				  struct tree_dir **is_out)
{
	struct error *err = NULL;

	if (was)
		err = dircache_get(diff->config->dirs, was, NULL, was_out);
	if (!err && is)
		err = dircache_get(diff->config->dirs, is, NULL, is_out);
	return err;
}

/* Loading */

static bool treediff_is_pair(const struct treediff_pair *pair, const struct digest *was,
			     const struct digest *is)
{
	return pair->has_was == !!was && pair->has_is == !!is &&
	       (!was || digest_equal(&pair->was, was)) &&
	       (!is || digest_equal(&pair->is, is));
}

static struct error *treediff_add_pair(struct treediff *diff, const struct digest *was,
				       const struct digest *is)
{
	uint64_t key = (was ? digest_key(was) : 1) * 31 + (is ? digest_key(is) : 2);
	struct treediff_pair *pair;

	if (was && is && digest_equal(was, is))
		return NULL;
	for (struct hnode *n = htab_first(&diff->seen, key); n; n = htab_next(n, key))
		if (treediff_is_pair(container_of(n, struct treediff_pair, hnode), was,
				     is))
			return NULL;
	if ((int64_t)diff->n >= diff->config->entries_max)
		return treeload_too_many(diff->root, diff->config->entries_max);
	pair = alloc_new(struct treediff_pair);
	pair->has_was = was;
	pair->has_is = is;
	if (was)
		pair->was = *was;
	if (is)
		pair->is = *is;
	htab_insert(&diff->seen, &pair->hnode, key);
	diff->pairs =
		alloc_grow(diff->pairs, &diff->cap, diff->n + 1, sizeof(*diff->pairs));
	diff->pairs[diff->n++] = pair;
	return NULL;
}

static struct error *treediff_find_pairs(struct treediff *diff,
					 const struct treediff_pair *pair)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *was = NULL;
	_cleanup_(tree_dir_unrefp) struct tree_dir *is = NULL;
	const struct tree_node *a, *b;
	struct treediff_step step = {0};
	struct error *err = treediff_get(diff, pair->has_was ? &pair->was : NULL,
					 pair->has_is ? &pair->is : NULL, &was, &is);

	step.was = was;
	step.is = is;
	while (!err && treediff_next(&step, &a, &b)) {
		a = treediff_dir_of(a);
		b = treediff_dir_of(b);
		if (a || b)
			err = treediff_add_pair(diff, a ? &a->digest : NULL,
						b ? &b->digest : NULL);
	}
	return err;
}

static void treediff_loaded(void *ctx, struct error *err, struct tree_dir *dir)
{
	struct treediff_wait *wait = ctx;

	tree_dir_unref(dir);
	if (err) {
		sync_lock(&wait->mutex);
		if (wait->err)
			error_free(err);
		else
			wait->err = err;
		sync_unlock(&wait->mutex);
	}
	latch_down(&wait->latch);
}

static struct error *treediff_load(struct treediff *diff, size_t from, size_t end)
{
	struct dircache *dirs = diff->config->dirs;
	struct treediff_wait wait = {0};
	struct error *err;
	size_t n = 0;

	for (size_t i = from; i < end; i++)
		n += (size_t)diff->pairs[i]->has_was + (size_t)diff->pairs[i]->has_is;
	latch_init(&wait.latch, n);
	sync_mutex_init(&wait.mutex);
	for (size_t i = from; i < end; i++) {
		const struct treediff_pair *pair = diff->pairs[i];

		if (pair->has_was)
			dircache_start(dirs, &pair->was, NULL, treediff_loaded, &wait);
		if (pair->has_is)
			dircache_start(dirs, &pair->is, NULL, treediff_loaded, &wait);
	}
	latch_wait(&wait.latch);
	sync_alone(&wait.mutex);
	err = take(wait.err);
	sync_mutex_deinit(&wait.mutex);
	latch_deinit(&wait.latch);
	return err;
}

static struct error *treediff_load_all(struct treediff *diff)
{
	struct error *err = NULL;
	size_t at = 0;
	unsigned int depth = 0;

	while (!err && at < diff->n) {
		size_t level_end = diff->n;

		if (++depth > TREE_DEPTH_MAX)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "a tree is deeper than %d levels",
					 TREE_DEPTH_MAX);
		for (size_t i = at; !err && i < level_end; i += TREEDIFF_AT_ONCE) {
			size_t end = i + TREEDIFF_AT_ONCE;

			err = treediff_load(diff, i, end < level_end ? end : level_end);
		}
		for (; !err && at < level_end; at++)
			err = treediff_find_pairs(diff, diff->pairs[at]);
	}
	return err;
}

/* Telling */

static bool treediff_same_props(const struct tree_props *was, const struct tree_props *is)
{
	_cleanup_buf_ struct buf was_bytes = BUF_INIT;
	_cleanup_buf_ struct buf is_bytes = BUF_INIT;

	if (was)
		tree_props_encode(was, &was_bytes);
	if (is)
		tree_props_encode(is, &is_bytes);
	return slice_equal(buf_slice(&was_bytes), buf_slice(&is_bytes));
}

static bool treediff_same_node(const struct tree_node *was, const struct tree_node *is)
{
	return was->kind == is->kind && was->is_executable == is->is_executable &&
	       digest_equal(&was->digest, &is->digest) &&
	       slice_equal(was->target, is->target) &&
	       (was->props == is->props || treediff_same_props(was->props, is->props));
}

static struct error *treediff_tell(struct treediff *diff, const struct tree_node *was,
				   const struct tree_node *is)
{
	return diff->config->change(diff->config->ctx, buf_string(&diff->path), was, is);
}

static struct error *treediff_dirs(struct treediff *diff, const struct tree_node *was,
				   const struct tree_node *is, unsigned int depth);

static struct error *treediff_node(struct treediff *diff, const struct tree_node *was,
				   const struct tree_node *is, unsigned int depth)
{
	const struct tree_node *was_dir = treediff_dir_of(was);
	const struct tree_node *is_dir = treediff_dir_of(is);
	struct slice name = was ? was->name : is->name;
	size_t len = diff->path.len;
	struct error *err = NULL;

	if (++diff->n_entries > diff->config->entries_max)
		return treeload_too_many(diff->root, diff->config->entries_max);
	if (was && is && treediff_same_node(was, is))
		return NULL;
	if (len)
		buf_add_byte(&diff->path, '/');
	buf_add(&diff->path, name.data, name.len);
	if (was_dir || is_dir)
		err = treediff_dirs(diff, was_dir, is_dir, depth + 1);
	/* what is no directory, beside one or not */
	was = was_dir ? NULL : was;
	is = is_dir ? NULL : is;
	if (!err && (was || is))
		err = treediff_tell(diff, was, is);
	diff->path.len = len;
	if (diff->path.data)
		diff->path.data[len] = '\0';
	return err;
}

/* Of directories one may be NULL; they differ. */
static struct error *treediff_dirs(struct treediff *diff, const struct tree_node *was,
				   const struct tree_node *is, unsigned int depth)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *was_dir = NULL;
	_cleanup_(tree_dir_unrefp) struct tree_dir *is_dir = NULL;
	const struct tree_node *a, *b;
	struct treediff_step step = {0};
	struct error *err;

	if (depth > TREE_DEPTH_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "a tree is deeper than %d levels", TREE_DEPTH_MAX);
	err = treediff_get(diff, was ? &was->digest : NULL, is ? &is->digest : NULL,
			   &was_dir, &is_dir);
	if (err)
		return error_wrap(err, "%s", buf_string(&diff->path));
	if (was && is && !treediff_same_props(was_dir->props, is_dir->props))
		err = treediff_tell(diff, was, is);
	else if ((!was && !is_dir->n_nodes) || (!is && !was_dir->n_nodes))
		err = treediff_tell(diff, was, is);
	step.was = was_dir;
	step.is = is_dir;
	while (!err && treediff_next(&step, &a, &b))
		err = treediff_node(diff, a, b, depth);
	return err;
}

struct error *treediff_run(const struct treediff_config *config, const struct digest *was,
			   const struct digest *is)
{
	_cleanup_(treediff_deinit) struct treediff diff = {.config = config, .root = was};
	const struct tree_node was_root = {.kind = TREE_DIR, .digest = *was};
	const struct tree_node is_root = {.kind = TREE_DIR, .digest = *is};
	struct error *err;

	if (digest_equal(was, is))
		return NULL;
	err = treediff_add_pair(&diff, was, is);
	if (!err)
		err = treediff_load_all(&diff);
	return err ? err : treediff_dirs(&diff, &was_root, &is_root, 0);
}
