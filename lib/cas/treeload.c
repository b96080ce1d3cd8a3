/*
 * Owns the loading of whole trees. A load walks level by level from the root. What is at
 * hand is looked into, and not even that below what is marked as whole; a level's other
 * Directories are asked for together, which the fetcher makes batches of. That costs a
 * round trip a level, and nothing that is here already.
 *
 * Where nothing below seems to be here, one GetTree of that subtree is better. A changed
 * file explains one unknown Directory in each on its way; each further one is doubt that
 * anything below is known, and each that is at hand takes four times as much away. Doubt
 * is handed down. A cold cache, which can hold no tree worth a round trip, begins with
 * GetTree. A GetTree that mostly sends what was here already is ended.
 *
 * Threads: any; each load is its caller's. Its GetTrees share only what is atomic.
 */
#include "lib/cas/treeload.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "lib/base/alloc.h"
#include "lib/base/latch.h"
#include "lib/base/sync.h"
#include "lib/tree/dirset.h"
#include "lib/tree/hasher.h"

#define LOG_MODULE "treeload"
#include "lib/base/log.h"

#define TREELOAD_COUNT_MAX ((size_t)1 << 30) /* bytes of Directories read to count */
#define TREELOAD_LEVEL_MAX 4096 /* directories asked for at once without GetTree */
#define TREELOAD_TREES_MAX 8    /* GetTrees at once; the rest goes level by level */
#define TREELOAD_COLD      64   /* blobs: a cache with fewer is cold */
#define TREELOAD_DOUBT     4    /* a subtree of which so much speaks is asked for whole */
#define TREELOAD_DOUBT_MAX (4 * TREELOAD_DOUBT)
#define TREELOAD_JUDGED    64 /* Directories of a GetTree before it is judged */

struct treeload_item {
	struct digest digest;
	unsigned int doubt; /* how much says that nothing below is here */
	bool is_covered;    /* a GetTree sent what the server has of it */
};

struct treeload_level {
	struct treeload_item *items;
	size_t n;
	size_t cap;
};

struct treeload {
	struct treeload_config config;
	uint64_t stamp;
	struct dirset seen;          /* without their bytes: what the walk came across */
	size_t bytes;                /* of these */
	_Atomic size_t n_tree_bytes; /* that GetTrees sent */
	bool walks_all;              /* also where a mark says that all is here */
	bool with_trees;             /* GetTree is worth a try */
	bool has_gaps;               /* a GetTree left something out */
};

static struct error *treeload_too_large(const struct treeload *load)
{
	return error_new(ERROR_RESOURCE_EXHAUSTED,
			 "the tree has more than %zu bytes of Directories",
			 load->config.max_bytes);
}

/* CANCELLED where nobody wants the tree any more. */
static struct error *treeload_check(const struct treeload *load)
{
	const atomic_bool *is_cancelled = load->config.is_cancelled;

	if (is_cancelled && atomic_load(is_cancelled))
		return error_new(ERROR_CANCELLED, "nobody wants the tree any more");
	return NULL;
}

static void treeload_tell(const struct treeload *load, const struct digest *digest)
{
	if (load->config.coming)
		load->config.coming(load->config.ctx, digest);
}

/* By GetTree */

struct treeload_tree {
	struct treeload *load;
	struct digest root;
	size_t first, end;   /* what it covers, in the level to come */
	uint64_t n_loaded;   /* Directories, before it began */
	size_t n_new, n_old; /* that it sent, by whether they were here */
	bool has_refused;    /* we did, not the server */
	bool is_old_news;    /* that is why */
	struct error *err;
};

static struct error *treeload_keep(const struct treeload_tree *tree,
				   const struct digest *digest, struct slice directory)
{
	struct dircache *dirs = tree->load->config.dirs;
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct error *err;

	buf_add(&bytes, directory.data, directory.len);
	err = dircache_decode(digest, &bytes, &dir);
	if (!err)
		err = store_put(fetch_store(dircache_fetch(dirs)), digest, directory.data,
				directory.len);
	if (err)
		return err;
	/* trees that share it may load at the same time: one of them pays */
	if (dircache_put(dirs, digest, take(dir)))
		fetch_charge(dircache_fetch(dirs), tree->load->config.account,
			     (int64_t)directory.len);
	return NULL;
}

static struct error *treeload_take(struct treeload_tree *tree, struct slice directory)
{
	struct treeload *load = tree->load;
	struct dircache *dirs = load->config.dirs;
	struct error *err = treeload_check(load);
	struct digest digest;

	if (err)
		return err;
	/* what came before counts again: no server sends for ever */
	if (directory.len > load->config.max_bytes ||
	    atomic_fetch_add(&load->n_tree_bytes, directory.len) >
		    load->config.max_bytes - directory.len)
		return treeload_too_large(load);
	hasher_digest(directory.data, directory.len, &digest);
	if (dircache_had(dirs, &digest, tree->n_loaded))
		tree->n_old++;
	else
		tree->n_new++;
	tree->is_old_news =
		tree->n_old > tree->n_new && tree->n_old + tree->n_new >= TREELOAD_JUDGED;
	if (tree->is_old_news && !load->walks_all)
		return error_new(ERROR_CANCELLED, "most of it is here");
	if (!store_has(fetch_store(dircache_fetch(dirs)), &digest))
		err = treeload_keep(tree, &digest, directory);
	if (!err)
		treeload_tell(load, &digest);
	return err;
}

static struct error *treeload_directory(void *ctx, struct slice directory)
{
	struct treeload_tree *tree = ctx;
	struct error *err = treeload_take(tree, directory);

	tree->has_refused = err != NULL;
	return err;
}

static void treeload_tree_run(void *ctx, size_t i)
{
	struct treeload_tree *tree = (struct treeload_tree *)ctx + i;
	const struct treeload_config *config = &tree->load->config;

	tree->err = treeload_check(tree->load);
	tree->has_refused = tree->err != NULL;
	if (tree->err)
		return;
	tree->n_loaded = dircache_n_loaded(config->dirs);
	if (config->account)
		atomic_fetch_add(&config->account->round_trips, 1);
	tree->err = remote_get_tree(fetch_remote(dircache_fetch(config->dirs)),
				    &tree->root, treeload_directory, tree);
}

/* Whether the load goes on, level by level, where a GetTree failed. Consumes its error.
 */
static struct error *treeload_tree_failed(struct treeload_tree *tree)
{
	struct error *err = take(tree->err);

	if (tree->has_refused && !tree->is_old_news)
		return err;
	/* a server may have none, or its answer does not fit into a message */
	if (!tree->has_refused)
		tree->load->with_trees = false;
	log_drop(tree->has_refused || error_code(err) == ERROR_UNIMPLEMENTED ? LOG_DEBUG
									     : LOG_INFO,
		 err, "loading level by level");
	return NULL;
}

/* Subtrees by GetTree, all at once; level is what they cover parts of. */
static struct error *treeload_trees(struct treeload_tree *trees, size_t n,
				    struct treeload_level *level)
{
	_cleanup_(pool_freep) struct pool *pool = NULL;
	struct error *err = NULL;

	if (n > 1)
		err = pool_new("treeload", (unsigned int)n - 1, &pool);
	if (err)
		return err;
	if (pool)
		pool_for_each(pool, n, treeload_tree_run, trees);
	else if (n)
		treeload_tree_run(trees, 0);
	for (size_t i = 0; i < n; i++) {
		struct treeload_tree *tree = &trees[i];

		if (err)
			error_free(take(tree->err));
		else if (tree->err)
			err = treeload_tree_failed(tree);
		else
			for (size_t k = tree->first; k < tree->end; k++)
				level->items[k].is_covered = true;
	}
	return err;
}

/* Level by level */

static void treeload_level_deinit(struct treeload_level *level)
{
	free(level->items);
}

static void treeload_level_push(struct treeload_level *level, struct treeload_item item)
{
	level->items = alloc_grow(level->items, &level->cap, level->n + 1, sizeof(item));
	level->items[level->n++] = item;
}

/* Of many loads at once: their end, and the first error. */
struct treeload_wait {
	struct latch latch;
	struct sync_mutex mutex;
	struct error *err SYNC_GUARDED_BY(&mutex);
};

static void treeload_one_done(void *ctx, struct error *err, struct tree_dir *dir)
{
	struct treeload_wait *wait = ctx;

	tree_dir_unref(dir);
	sync_lock(&wait->mutex);
	if (err && !wait->err)
		wait->err = take(err);
	sync_unlock(&wait->mutex);
	error_free(err);
	latch_down(&wait->latch);
}

static struct error *treeload_some(struct treeload *load, const struct digest *digests,
				   size_t n)
{
	struct treeload_wait wait = {0};

	latch_init(&wait.latch, n);
	sync_mutex_init(&wait.mutex);
	for (size_t i = 0; i < n; i++)
		dircache_start(load->config.dirs, &digests[i], load->config.account,
			       treeload_one_done, &wait);
	for (size_t i = 0; i < n; i++)
		treeload_tell(load, &digests[i]);
	latch_wait(&wait.latch);
	latch_deinit(&wait.latch);
	sync_mutex_deinit(&wait.mutex);
	sync_alone(&wait.mutex);
	return wait.err;
}

/* Brings what is not at hand of a level; what a GetTree left out goes from it. */
static struct error *treeload_level(struct treeload *load, struct treeload_level *level)
{
	_cleanup_free_ struct digest *missing = alloc_array(level->n, sizeof(*missing));
	struct error *err = NULL;
	size_t n_missing = 0;
	size_t n = 0;

	for (size_t i = 0; i < level->n; i++) {
		const struct treeload_item item = level->items[i];
		bool is_here = dircache_has(load->config.dirs, &item.digest);

		if ((size_t)item.digest.size > load->config.max_bytes - load->bytes)
			return treeload_too_large(load);
		load->bytes += (size_t)item.digest.size;
		if (!is_here && !item.is_covered)
			missing[n_missing++] = item.digest;
		if (is_here || !item.is_covered)
			level->items[n++] = item;
	}
	load->has_gaps |= n < level->n;
	level->n = n;
	for (size_t at = 0; at < n_missing && !err; at += TREELOAD_LEVEL_MAX) {
		size_t some = n_missing - at < TREELOAD_LEVEL_MAX ? n_missing - at
								  : TREELOAD_LEVEL_MAX;

		err = treeload_check(load);
		if (!err)
			err = treeload_some(load, missing + at, some);
	}
	return err;
}

/* Adds what is to be walked below a Directory. It was loaded: what left the memory since
 * is read from the store. *is_bare_out: many below it are missing, and none is here. */
static struct error *treeload_below(struct treeload *load,
				    const struct treeload_item *item,
				    struct treeload_level *next, bool *is_bare_out)
{
	struct dircache *dirs = load->config.dirs;
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	size_t n_here = 0;
	size_t n_missing = 0;
	size_t first = next->n;
	size_t doubt;
	struct error *err;

	err = dircache_get(dirs, &item->digest, load->config.account, &dir);
	if (err)
		return err;
	for (uint32_t i = 0; i < dir->n_nodes; i++) {
		const struct digest *digest = &dir->nodes[i].digest;

		if (dir->nodes[i].kind != TREE_DIR)
			continue;
		if (!load->walks_all && dircache_is_whole(dirs, digest, load->stamp)) {
			n_here++;
			continue;
		}
		if (!dirset_add(&load->seen, digest, (struct slice){NULL, 0}))
			continue;
		if (dircache_has(dirs, digest))
			n_here++;
		else
			n_missing++;
		treeload_level_push(
			next, (struct treeload_item){.digest = *digest,
						     .is_covered = item->is_covered});
		if (load->config.max_dirs && load->seen.n > load->config.max_dirs)
			return error_new(ERROR_RESOURCE_EXHAUSTED,
					 "the tree has more than %zu Directories",
					 load->config.max_dirs);
	}
	doubt = n_missing ? item->doubt + n_missing - 1 : 0;
	doubt = doubt > 4 * n_here ? doubt - 4 * n_here : 0;
	doubt = doubt < TREELOAD_DOUBT_MAX ? doubt : TREELOAD_DOUBT_MAX;
	for (size_t i = first; i < next->n; i++)
		next->items[i].doubt = (unsigned int)doubt;
	*is_bare_out = n_here == 0 && doubt >= TREELOAD_DOUBT;
	return NULL;
}

static struct error *treeload_descend(struct treeload *load,
				      const struct treeload_level *level,
				      struct treeload_level *next)
{
	struct treeload_tree trees[TREELOAD_TREES_MAX];
	size_t n = 0;

	next->n = 0;
	for (size_t i = 0; i < level->n; i++) {
		const struct treeload_item *item = &level->items[i];
		size_t first = next->n;
		bool is_bare = false;
		struct error *err = treeload_check(load);

		if (!err)
			err = treeload_below(load, item, next, &is_bare);
		if (err)
			return err;
		if (is_bare && load->with_trees && !item->is_covered &&
		    n < TREELOAD_TREES_MAX)
			trees[n++] = (struct treeload_tree){.load = load,
							    .root = item->digest,
							    .first = first,
							    .end = next->n};
	}
	return treeload_trees(trees, n, next);
}

/* A load */

static bool treeload_is_cold(const struct treeload *load, const struct digest *root)
{
	struct dircache *dirs = load->config.dirs;
	struct store *store = fetch_store(dircache_fetch(dirs));
	struct store_stats stats;

	if (load->walks_all)
		return !store_has(store, root);
	store_stats(store, &stats);
	return stats.n_blobs < TREELOAD_COLD && dircache_n_loaded(dirs) < TREELOAD_COLD &&
	       !dircache_has(dirs, root);
}

static struct error *treeload_begin(struct treeload *load, const struct digest *root,
				    struct treeload_level *level)
{
	struct treeload_tree tree = {.load = load, .root = *root, .end = 1};
	bool is_missing;
	struct error *err;

	treeload_level_push(level, (struct treeload_item){.digest = *root});
	(void)dirset_add(&load->seen, root, (struct slice){NULL, 0});
	if (!load->with_trees || !treeload_is_cold(load, root))
		return NULL;
	treeload_tree_run(&tree, 0);
	is_missing = !tree.has_refused && error_n_missing(tree.err);
	err = is_missing ? take(tree.err) : NULL;
	if (!err && tree.err)
		return treeload_tree_failed(&tree);
	level->items[0].is_covered = !err;
	return err;
}

static struct error *treeload_walk(struct treeload *load, const struct digest *root)
{
	_cleanup_(treeload_level_deinit) struct treeload_level level = {0};
	_cleanup_(treeload_level_deinit) struct treeload_level next = {0};
	struct error *err = treeload_begin(load, root, &level);

	for (unsigned int depth = 0; !err && level.n && depth < TREE_DEPTH_MAX; depth++) {
		struct treeload_level swap;

		err = treeload_level(load, &level);
		if (!err)
			err = treeload_descend(load, &level, &next);
		swap = level;
		level = next;
		next = swap;
	}
	load->has_gaps |= level.n > 0;
	return err;
}

/* Of a load that did not bring all: the subtrees that are whole, from the last level up.
 */
static bool treeload_is_whole(const struct treeload *load, const struct digest *digest)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir =
		dircache_peek(load->config.dirs, digest);
	bool is_whole = dir != NULL;

	for (uint32_t i = 0; is_whole && i < dir->n_nodes; i++)
		is_whole = dir->nodes[i].kind != TREE_DIR ||
			   dircache_is_whole(load->config.dirs, &dir->nodes[i].digest,
					     load->stamp);
	return is_whole;
}

static void treeload_mark(const struct treeload *load, bool is_complete)
{
	for (size_t i = load->seen.n; i-- > 0;) {
		struct digest digest = dirset_item(&load->seen, i).digest;
		_cleanup_(tree_dir_unrefp) struct tree_dir *root = NULL;

		if (i == 0 && is_complete) /* memory may have been too small for it */
			error_free(dircache_get(load->config.dirs, &digest, NULL, &root));
		if (is_complete || treeload_is_whole(load, &digest))
			dircache_set_whole(load->config.dirs, &digest, load->stamp);
	}
}

static struct error *treeload_go(struct treeload *load, const struct digest *root)
{
	struct error *err = treeload_walk(load, root);

	treeload_mark(load, !err && !load->has_gaps);
	dirset_deinit(&load->seen);
	return err;
}

struct error *treeload_whole(const struct treeload_config *config,
			     const struct digest *root)
{
	struct treeload load = {.config = *config,
				.stamp = dircache_stamp(config->dirs),
				.with_trees = true};

	if (!fetch_remote(dircache_fetch(config->dirs)) ||
	    dircache_is_whole(config->dirs, root, load.stamp))
		return NULL;
	return treeload_go(&load, root);
}

struct error *treeload_run(struct dircache *cache, const struct digest *root,
			   size_t max_bytes, struct fetch_account *account)
{
	const struct treeload_config config = {
		.dirs = cache, .max_bytes = max_bytes, .account = account};

	return treeload_whole(&config, root);
}

struct error *treeload_to_store(struct dircache *cache, const struct digest *root,
				size_t max_bytes)
{
	struct treeload load = {.config = {.dirs = cache, .max_bytes = max_bytes},
				.stamp = dircache_stamp(cache),
				.walks_all = true,
				.with_trees = true};

	return fetch_remote(dircache_fetch(cache)) ? treeload_go(&load, root) : NULL;
}

/* Counting */

struct error *treeload_too_many(const struct digest *root, int64_t max)
{
	char name[DIGEST_STRING_MAX];

	return error_new(ERROR_RESOURCE_EXHAUSTED,
			 "the tree %s has more than %" PRId64
			 " entries, which is the limit (--entries-max)",
			 digest_format(root, name), max);
}

struct error *treeload_check_entries(struct dircache *cache, const struct digest *root,
				     int64_t max)
{
	struct treeload load = {
		.config = {.dirs = cache, .max_bytes = TREELOAD_COUNT_MAX},
		.stamp = dircache_stamp(cache),
		.walks_all = true};
	struct tree_totals totals;

	if (!dircache_totals(cache, root, &totals)) {
		struct error *err = treeload_go(&load, root);

		if (err)
			return err;
		if (!dircache_totals(cache, root, &totals))
			return NULL;
	}
	return dircache_entries(&totals) > max ? treeload_too_many(root, max) : NULL;
}
