/*
 * Owns decoded Directories in memory, one entry per digest, in order of last use; over
 * the limit the oldest that nobody loads is dropped (holders of references keep theirs).
 *
 * Threads: any. The mutex is a leaf: decoding, reading and callbacks happen outside it.
 * An entry is LOADING from its first request until its fetch ends; who comes meanwhile
 * joins.
 */
#include "lib/cas/dircache.h"

#include <stdatomic.h>

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/htab.h"
#include "lib/base/latch.h"
#include "lib/base/list.h"
#include "lib/base/sync.h"

struct dircache_waiter {
	struct list link;
	dircache_done_fn *done;
	void *ctx;
};

struct dircache_entry {
	struct hnode node;
	struct list lru; /* LOADED only */
	struct digest digest;
	struct tree_dir *dir; /* NULL: LOADING */
	struct list waiters;
	struct dircache *cache;
	bool has_totals;
	struct tree_totals totals;
	uint64_t born;  /* how many had been loaded before it */
	uint64_t whole; /* the stamp of its mark; 0: none */
};

struct dircache {
	struct fetch *fetch;
	size_t memory_max;
	struct sync_mutex mutex;
	struct htab entries SYNC_GUARDED_BY(&mutex); /* and their fields */
	struct list lru SYNC_GUARDED_BY(&mutex);     /* oldest first */
	size_t memory SYNC_GUARDED_BY(&mutex);
	uint64_t stamp SYNC_GUARDED_BY(&mutex); /* of marks that count */
	uint64_t n_gone
		SYNC_GUARDED_BY(&mutex); /* blobs, from the store, at that stamp */
	bool has_dropped SYNC_GUARDED_BY(&mutex);       /* ever … */
	bool has_dropped_since SYNC_GUARDED_BY(&mutex); /* … and since that stamp */
	_Atomic uint64_t n_loaded;
};

struct dircache *dircache_new(struct fetch *fetch, size_t memory_max)
{
	struct dircache *cache = alloc_new(struct dircache);

	cache->fetch = fetch;
	cache->memory_max = memory_max;
	sync_mutex_init(&cache->mutex);
	sync_alone(&cache->mutex);
	list_init(&cache->lru);
	cache->stamp = 1;
	return cache;
}

void *dircache_free(struct dircache *cache)
{
	struct hnode *node;

	if (!cache)
		return NULL;
	sync_alone(&cache->mutex);
	while ((node = htab_pop(&cache->entries))) {
		struct dircache_entry *entry =
			container_of(node, struct dircache_entry, node);

		require(entry->dir); /* else a load is still running */
		tree_dir_unref(entry->dir);
		free(entry);
	}
	htab_deinit(&cache->entries);
	sync_mutex_deinit(&cache->mutex);
	free(cache);
	return NULL;
}

struct fetch *dircache_fetch(const struct dircache *cache)
{
	return cache->fetch;
}

static struct dircache_entry *dircache_find(struct dircache *cache,
					    const struct digest *digest)
	SYNC_REQUIRES(&cache->mutex)
{
	uint64_t hash = digest_key(digest);

	for (struct hnode *n = htab_first(&cache->entries, hash); n;
	     n = htab_next(n, hash)) {
		struct dircache_entry *entry =
			container_of(n, struct dircache_entry, node);

		if (digest_equal(&entry->digest, digest))
			return entry;
	}
	return NULL;
}

static void dircache_touch(struct dircache *cache, struct dircache_entry *entry)
	SYNC_REQUIRES(&cache->mutex)
{
	list_remove(&entry->lru);
	list_push(&cache->lru, &entry->lru);
}

/* Makes room. The newest entry stays even where it alone is over the limit.
 */
static void dircache_shrink(struct dircache *cache) SYNC_REQUIRES(&cache->mutex)
{
	while (cache->memory > cache->memory_max && cache->lru.next != cache->lru.prev) {
		struct dircache_entry *oldest =
			container_of(list_pop(&cache->lru), struct dircache_entry, lru);

		cache->has_dropped = true;
		cache->has_dropped_since = true;
		cache->memory -= oldest->dir->memory;
		htab_remove(&cache->entries, &oldest->node);
		tree_dir_unref(oldest->dir);
		free(oldest);
	}
}

static struct dircache_entry *dircache_add(struct dircache *cache,
					   const struct digest *digest)
	SYNC_REQUIRES(&cache->mutex)
{
	struct dircache_entry *entry = alloc_new(struct dircache_entry);

	entry->digest = *digest;
	entry->cache = cache;
	list_init(&entry->lru);
	list_init(&entry->waiters);
	htab_insert(&cache->entries, &entry->node, digest_key(digest));
	return entry;
}

/* LOADING → LOADED. The entry owns the reference. */
static void dircache_set_loaded(struct dircache *cache, struct dircache_entry *entry,
				struct tree_dir *dir) SYNC_REQUIRES(&cache->mutex)
{
	require(!entry->dir);
	entry->dir = dir;
	cache->memory += dir->memory;
	entry->born = atomic_fetch_add(&cache->n_loaded, 1);
	list_push(&cache->lru, &entry->lru);
	dircache_shrink(cache);
}

uint64_t dircache_n_loaded(const struct dircache *cache)
{
	return atomic_load(&cache->n_loaded);
}

struct tree_dir *dircache_peek(struct dircache *cache, const struct digest *digest)
{
	struct dircache_entry *entry;
	struct tree_dir *dir = NULL;

	sync_lock(&cache->mutex);
	entry = dircache_find(cache, digest);
	if (entry && entry->dir) {
		dircache_touch(cache, entry);
		dir = tree_dir_ref(entry->dir);
	}
	sync_unlock(&cache->mutex);
	return dir;
}

bool dircache_is_near(struct dircache *cache, const struct digest *digest)
{
	bool is_near;

	sync_lock(&cache->mutex);
	is_near = dircache_find(cache, digest) != NULL;
	sync_unlock(&cache->mutex);
	return is_near;
}

/* Whether it is in memory, and in *born_out since when. */
static bool dircache_holds(struct dircache *cache, const struct digest *digest,
			   uint64_t *born_out)
{
	const struct dircache_entry *entry;
	bool is_held;

	sync_lock(&cache->mutex);
	entry = dircache_find(cache, digest);
	is_held = entry && entry->dir;
	if (is_held)
		*born_out = entry->born;
	sync_unlock(&cache->mutex);
	return is_held;
}

bool dircache_has(struct dircache *cache, const struct digest *digest)
{
	uint64_t born;

	return dircache_holds(cache, digest, &born) ||
	       store_has(fetch_store(cache->fetch), digest);
}

bool dircache_had(struct dircache *cache, const struct digest *digest, uint64_t n_loaded)
{
	uint64_t born;

	if (dircache_holds(cache, digest, &born))
		return born < n_loaded;
	return store_has(fetch_store(cache->fetch), digest);
}

/* Marks of whole trees */

uint64_t dircache_stamp(struct dircache *cache)
{
	struct store_stats stats;
	uint64_t n_gone, stamp;

	store_stats(fetch_store(cache->fetch), &stats);
	n_gone = stats.n_evicted + stats.n_corrupt;
	sync_lock(&cache->mutex);
	/* what the store drops memory may still have, and the other way round: marks go
	 * where one of them dropped something and the other had done so */
	if ((cache->has_dropped && n_gone != cache->n_gone) ||
	    (cache->has_dropped_since && n_gone))
		cache->stamp++;
	cache->has_dropped_since = false;
	cache->n_gone = n_gone;
	stamp = cache->stamp;
	sync_unlock(&cache->mutex);
	return stamp;
}

bool dircache_is_whole(struct dircache *cache, const struct digest *digest,
		       uint64_t stamp)
{
	const struct dircache_entry *entry;
	bool is_whole;

	sync_lock(&cache->mutex);
	entry = dircache_find(cache, digest);
	is_whole = entry && entry->dir && entry->whole == stamp;
	sync_unlock(&cache->mutex);
	return is_whole;
}

void dircache_set_whole(struct dircache *cache, const struct digest *digest,
			uint64_t stamp)
{
	struct dircache_entry *entry;

	sync_lock(&cache->mutex);
	entry = dircache_find(cache, digest);
	if (entry && entry->dir)
		entry->whole = stamp;
	sync_unlock(&cache->mutex);
}

struct error *dircache_decode(const struct digest *digest, struct buf *bytes,
			      struct tree_dir **dir_out)
{
	char name[DIGEST_STRING_MAX];

	return error_wrap(tree_dir_decode(bytes, dir_out), "Directory %s",
			  digest_format(digest, name));
}

static struct error *dircache_too_large(const struct digest *digest)
{
	char name[DIGEST_STRING_MAX];

	return error_new(ERROR_INVALID_ARGUMENT,
			 "Directory %s is over the limit of %zu bytes",
			 digest_format(digest, name), TREE_DIR_MAX);
}

static void dircache_tell(struct list *waiters, struct error *err, struct tree_dir *dir)
{
	struct list *node;

	while ((node = list_pop(waiters))) {
		struct dircache_waiter *waiter =
			container_of(node, struct dircache_waiter, link);

		waiter->done(waiter->ctx, error_dup(err), dir ? tree_dir_ref(dir) : NULL);
		free(waiter);
	}
}

static void dircache_fetched(void *ctx, struct error *err, int fd)
{
	struct dircache_entry *entry = ctx;
	struct dircache *cache = entry->cache;
	struct list waiters = LIST_INIT(waiters);
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_error_ struct error *error = err;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_fd_ int file = fd;

	if (!error)
		error = file_read_fd(file, TREE_DIR_MAX, &bytes);
	if (!error)
		error = dircache_decode(&entry->digest, &bytes, &dir);
	sync_lock(&cache->mutex);
	list_splice(&waiters, &entry->waiters);
	if (error) {
		htab_remove(&cache->entries, &entry->node);
		free(entry);
	} else {
		dircache_set_loaded(cache, entry, tree_dir_ref(dir));
	}
	sync_unlock(&cache->mutex);
	dircache_tell(&waiters, error, dir);
}

void dircache_start(struct dircache *cache, const struct digest *digest,
		    struct fetch_account *account, dircache_done_fn *done, void *ctx)
{
	struct dircache_waiter *waiter;
	struct dircache_entry *entry;
	struct tree_dir *dir = dircache_peek(cache, digest);
	bool is_first = false;

	if (dir) {
		done(ctx, NULL, dir);
		return;
	}
	if ((uint64_t)digest->size > TREE_DIR_MAX) { /* before it crosses the network */
		done(ctx, dircache_too_large(digest), NULL);
		return;
	}
	waiter = alloc_new(struct dircache_waiter);
	*waiter = (struct dircache_waiter){.done = done, .ctx = ctx};
	sync_lock(&cache->mutex);
	entry = dircache_find(cache, digest);
	if (entry && entry->dir) {
		dir = tree_dir_ref(entry->dir);
	} else {
		is_first = !entry;
		if (is_first)
			entry = dircache_add(cache, digest);
		list_push(&entry->waiters, &waiter->link);
	}
	sync_unlock(&cache->mutex);
	if (dir) {
		free(waiter);
		done(ctx, NULL, dir);
	} else if (is_first) {
		fetch_start(cache->fetch, digest, account, dircache_fetched, entry);
	}
}

bool dircache_put(struct dircache *cache, const struct digest *digest,
		  struct tree_dir *dir)
{
	bool is_new;

	sync_lock(&cache->mutex);
	is_new = !dircache_find(cache, digest);
	if (is_new)
		dircache_set_loaded(cache, dircache_add(cache, digest), take(dir));
	sync_unlock(&cache->mutex);
	tree_dir_unref(dir);
	return is_new;
}

/* Blocking form */

struct dircache_wait {
	struct latch latch;
	struct error *err;
	struct tree_dir *dir;
};

static void dircache_wait_done(void *ctx, struct error *err, struct tree_dir *dir)
{
	struct dircache_wait *wait = ctx;

	wait->err = err;
	wait->dir = dir;
	latch_down(&wait->latch);
}

struct error *dircache_get(struct dircache *cache, const struct digest *digest,
			   struct fetch_account *account, struct tree_dir **dir_out)
{
	struct dircache_wait wait = {0};

	latch_init(&wait.latch, 1);
	dircache_start(cache, digest, account, dircache_wait_done, &wait);
	latch_wait(&wait.latch);
	latch_deinit(&wait.latch);
	if (wait.err)
		return wait.err;
	*dir_out = wait.dir;
	return NULL;
}

/* Totals */

static bool dircache_totals_known(struct dircache *cache, const struct digest *digest,
				  struct tree_totals *out)
{
	struct dircache_entry *entry;
	bool is_known;

	sync_lock(&cache->mutex);
	entry = dircache_find(cache, digest);
	is_known = entry && entry->has_totals;
	if (is_known)
		*out = entry->totals;
	sync_unlock(&cache->mutex);
	return is_known;
}

static void dircache_totals_keep(struct dircache *cache, const struct digest *digest,
				 const struct tree_totals *totals)
{
	struct dircache_entry *entry;

	sync_lock(&cache->mutex);
	entry = dircache_find(cache, digest);
	if (entry) {
		entry->totals = *totals;
		entry->has_totals = true;
	}
	sync_unlock(&cache->mutex);
}

static int64_t dircache_add_up(int64_t a, int64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static bool dircache_totals_at(struct dircache *cache, const struct digest *digest,
			       unsigned int depth, struct tree_totals *out)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	struct tree_totals sum = {0};

	if (dircache_totals_known(cache, digest, out))
		return true;
	dir = depth < TREE_DEPTH_MAX ? dircache_peek(cache, digest) : NULL;
	if (!dir)
		return false;
	for (uint32_t i = 0; i < dir->n_nodes; i++) {
		const struct tree_node *node = &dir->nodes[i];
		struct tree_totals below = {0};

		switch (node->kind) {
		case TREE_FILE:
			below = (struct tree_totals){.files = 1,
						     .bytes = node->digest.size};
			break;
		case TREE_SYMLINK:
			below.symlinks = 1;
			break;
		case TREE_DIR:
			if (!dircache_totals_at(cache, &node->digest, depth + 1, &below))
				return false;
			sum.directories = dircache_add_up(sum.directories, 1);
			break;
		}
		sum.files = dircache_add_up(sum.files, below.files);
		sum.directories = dircache_add_up(sum.directories, below.directories);
		sum.symlinks = dircache_add_up(sum.symlinks, below.symlinks);
		sum.bytes = dircache_add_up(sum.bytes, below.bytes);
	}
	dircache_totals_keep(cache, digest, &sum);
	*out = sum;
	return true;
}

int64_t dircache_entries(const struct tree_totals *totals)
{
	return dircache_add_up(totals->files,
			       dircache_add_up(totals->directories, totals->symlinks));
}

bool dircache_totals(struct dircache *cache, const struct digest *root,
		     struct tree_totals *out)
{
	return dircache_totals_at(cache, root, 0, out);
}

/* Paths */

struct error *dircache_find_path(struct dircache *cache, const struct digest *root,
				 const char *path, struct tree_dir **dir_out,
				 const struct tree_node **node_out)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	const struct tree_node *node = NULL;
	struct error *err = dircache_get(cache, root, NULL, &dir);

	for (const char *at = path; !err && *at;) {
		size_t len = strcspn(at, "/");

		if (node && node->kind == TREE_DIR) {
			struct tree_dir *below = NULL;

			err = dircache_get(cache, &node->digest, NULL, &below);
			if (err)
				return err;
			tree_dir_unref(dir);
			dir = below;
			node = NULL;
		}
		node = node ? NULL
			    : tree_dir_find(dir,
					    (struct slice){(const uint8_t *)at, len});
		if (!node)
			return error_new(ERROR_NOT_FOUND, "%s is not in the tree", path);
		at += len;
		at += *at == '/';
	}
	if (err)
		return err;
	*dir_out = take(dir);
	*node_out = node;
	return NULL;
}
