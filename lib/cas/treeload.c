/*
 * Owns the loading of whole trees: what GetTree sends is verified, stored and kept in
 * memory as it comes; where the server has no GetTree, a level of directories is asked
 * for at a time, which the fetcher makes batches of.
 *
 * Threads: any; each load is its caller's, but for what is loaded ahead, which its caller
 * and the pool's task hold, and whoever lets go last frees.
 */
#include "lib/cas/treeload.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "lib/base/alloc.h"
#include "lib/base/latch.h"
#include "lib/base/sync.h"
#include "lib/tree/hasher.h"

#define LOG_MODULE "treeload"
#include "lib/base/log.h"

#define TREELOAD_COUNT_MAX ((size_t)1 << 30) /* bytes of Directories read to count */
#define TREELOAD_LEVEL_MAX 4096 /* directories asked for at once without GetTree */

struct treeload {
	struct dircache *cache;
	struct fetch_account *account;
	size_t max_bytes;
	size_t bytes;
	bool has_refused; /* we did, not the server */
};

static struct error *treeload_count(struct treeload *load, size_t n_bytes)
{
	if (n_bytes > load->max_bytes - load->bytes)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "the tree has more than %zu bytes of Directories",
				 load->max_bytes);
	load->bytes += n_bytes;
	return NULL;
}

static struct error *treeload_take(struct treeload *load, struct slice directory)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct digest digest;
	struct error *err;

	/* what came before counts again: no server sends for ever */
	err = treeload_count(load, directory.len);
	if (err)
		return err;
	hasher_digest(directory.data, directory.len, &digest);
	if (store_has(fetch_store(dircache_fetch(load->cache)), &digest))
		return NULL;
	buf_add(&bytes, directory.data, directory.len);
	err = dircache_decode(&digest, &bytes, &dir);
	if (err)
		return err;
	err = store_put(fetch_store(dircache_fetch(load->cache)), &digest, directory.data,
			directory.len);
	if (err)
		return err;
	/* trees that share it may load at the same time: one of them pays */
	if (dircache_put(load->cache, &digest, take(dir)))
		fetch_charge(dircache_fetch(load->cache), load->account,
			     (int64_t)directory.len);
	return NULL;
}

static struct error *treeload_directory(void *ctx, struct slice directory)
{
	struct treeload *load = ctx;
	struct error *err = treeload_take(load, directory);

	load->has_refused = err != NULL;
	return err;
}

struct treeload_level {
	struct digest *digests;
	size_t n;
	size_t cap;
};

static void treeload_level_deinit(struct treeload_level *level)
{
	free(level->digests);
}

static int treeload_order(const void *a, const void *b)
{
	return digest_compare(a, b);
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
		dircache_start(load->cache, &digests[i], load->account, treeload_one_done,
			       &wait);
	latch_wait(&wait.latch);
	latch_deinit(&wait.latch);
	sync_mutex_deinit(&wait.mutex);
	sync_alone(&wait.mutex);
	return wait.err;
}

/* A level's Directories, all asked for at once: the fetcher makes batches of them. */
static struct error *treeload_level(struct treeload *load,
				    const struct treeload_level *level)
{
	struct error *err = NULL;

	for (size_t i = 0; i < level->n && !err; i++)
		err = treeload_count(load, (size_t)level->digests[i].size);
	for (size_t at = 0; at < level->n && !err; at += TREELOAD_LEVEL_MAX)
		err = treeload_some(load, level->digests + at,
				    level->n - at < TREELOAD_LEVEL_MAX
					    ? level->n - at
					    : TREELOAD_LEVEL_MAX);
	return err;
}

/* The distinct subdirectories of all directories of a level, all of which were loaded:
 * what left the memory since is read from the store. */
static struct error *treeload_descend(struct treeload *load,
				      const struct treeload_level *level,
				      struct treeload_level *next)
{
	size_t n = 0;

	next->n = 0;
	for (size_t i = 0; i < level->n; i++) {
		_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
		struct error *err;

		err = dircache_get(load->cache, &level->digests[i], load->account, &dir);
		if (err)
			return err;
		for (uint32_t k = 0; k < dir->n_nodes; k++) {
			if (dir->nodes[k].kind != TREE_DIR)
				continue;
			next->digests = alloc_grow(next->digests, &next->cap, next->n + 1,
						   sizeof(struct digest));
			next->digests[next->n++] = dir->nodes[k].digest;
		}
	}
	if (next->n)
		qsort(next->digests, next->n, sizeof(struct digest), treeload_order);
	for (size_t i = 0; i < next->n; i++) {
		if (n == 0 || !digest_equal(&next->digests[n - 1], &next->digests[i]))
			next->digests[n++] = next->digests[i];
	}
	next->n = n;
	return NULL;
}

static struct error *treeload_levels(struct treeload *load, const struct digest *root)
{
	_cleanup_(treeload_level_deinit) struct treeload_level level = {0};
	_cleanup_(treeload_level_deinit) struct treeload_level next = {0};

	level.digests = alloc_grow(level.digests, &level.cap, 1, sizeof(struct digest));
	level.digests[level.n++] = *root;
	for (unsigned int depth = 0; level.n && depth < TREE_DEPTH_MAX; depth++) {
		struct error *err = treeload_level(load, &level);
		struct treeload_level swap;

		if (!err)
			err = treeload_descend(load, &level, &next);
		if (err)
			return err;
		swap = level;
		level = next;
		next = swap;
	}
	return NULL;
}

struct error *treeload_run(struct dircache *cache, const struct digest *root,
			   size_t max_bytes, struct fetch_account *account)
{
	struct treeload load = {
		.cache = cache, .account = account, .max_bytes = max_bytes};
	struct remote *remote = fetch_remote(dircache_fetch(cache));
	struct error *err;

	if (!remote || store_has(fetch_store(dircache_fetch(cache)), root))
		return NULL;
	if (account)
		atomic_fetch_add(&account->round_trips, 1);
	err = remote_get_tree(remote, root, treeload_directory, &load);
	if (!err || load.has_refused || error_n_missing(err))
		return err;
	/* a server may have none, or its answer does not fit into a message */
	log_drop(error_code(err) == ERROR_UNIMPLEMENTED ? LOG_DEBUG : LOG_INFO, err,
		 "loading level by level");
	load.bytes = 0;
	return treeload_levels(&load, root);
}

/* Ahead of who needs it */

struct treeload_ahead {
	struct pool_task task;
	struct treeload_config config;
	struct digest root;
	atomic_uint refs;
	struct latch latch;
};

static void treeload_ahead_unref(struct treeload_ahead *ahead)
{
	if (atomic_fetch_sub(&ahead->refs, 1) > 1)
		return;
	latch_deinit(&ahead->latch);
	free(ahead);
}

static void treeload_ahead_run(struct pool_task *task)
{
	struct treeload_ahead *ahead = container_of(task, struct treeload_ahead, task);
	struct error *err = treeload_run(ahead->config.dirs, &ahead->root,
					 ahead->config.max_bytes, ahead->config.account);

	/* whoever needs a directory that is missing now asks for it himself */
	log_drop(LOG_INFO, err, "load the tree's directories ahead");
	ahead->config.done(ahead->config.ctx);
	latch_down(&ahead->latch);
	treeload_ahead_unref(ahead);
}

void treeload_ahead(const struct treeload_config *config, const struct digest *root,
		    struct pool *pool, int64_t until_ns)
{
	struct treeload_ahead *ahead = alloc_new(struct treeload_ahead);

	ahead->task.run = treeload_ahead_run;
	ahead->config = *config;
	ahead->root = *root;
	atomic_init(&ahead->refs, 2);
	latch_init(&ahead->latch, 1);
	pool_push(pool, &ahead->task);
	(void)latch_wait_until(&ahead->latch, until_ns);
	treeload_ahead_unref(ahead);
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
	struct treeload load = {.cache = cache, .max_bytes = TREELOAD_COUNT_MAX};
	struct tree_totals totals;

	if (!dircache_totals(cache, root, &totals)) {
		struct error *err = treeload_levels(&load, root);

		if (err)
			return err;
		if (!dircache_totals(cache, root, &totals))
			return NULL;
	}
	return dircache_entries(&totals) > max ? treeload_too_many(root, max) : NULL;
}
