/*
 * Owns the loads that run, by root. A load is held by its task and by all who wait for
 * it; whoever lets go last frees it.
 *
 * Threads: see treeahead.h. The desk's mutex guards the table of loads; a load's own,
 * which is a leaf as well, who waits for which Directory.
 */
#include "lib/cas/treeahead.h"

#include <stdatomic.h>

#include "lib/base/alloc.h"
#include "lib/base/htab.h"
#include "lib/base/sync.h"

#define LOG_MODULE "treeahead"
#include "lib/base/log.h"

#define TREEAHEAD_BYTES_MAX ((size_t)256 << 20) /* Directories of one root */
#define TREEAHEAD_DIRS_MAX  ((size_t)1 << 20)

struct treeahead {
	struct dircache *dirs;
	struct pool *pool;
	struct sync_mutex mutex;
	struct htab loads SYNC_GUARDED_BY(&mutex);
};

struct treeahead_load {
	struct hnode node; /* while it runs */
	struct pool_task task;
	struct treeahead *ahead;
	struct treeahead_order order;
	atomic_uint refs;
	atomic_bool is_cancelled; /* nobody wants it; the desk's mutex orders changes */
	unsigned int n_wanting;   /* the desk's mutex guards both */
	unsigned int n_joined;    /* ever */
	struct sync_mutex mutex;
	struct sync_cond cond;
	struct list waiters SYNC_GUARDED_BY(&mutex);
	bool is_over SYNC_GUARDED_BY(&mutex);
};

struct treeahead_waiter {
	struct list link;
	struct digest digest;
	bool is_coming;
};

struct treeahead *treeahead_new(struct dircache *dirs, struct pool *pool)
{
	struct treeahead *ahead = alloc_new(struct treeahead);

	ahead->dirs = dirs;
	ahead->pool = pool;
	sync_mutex_init(&ahead->mutex);
	return ahead;
}

void *treeahead_free(struct treeahead *ahead)
{
	if (!ahead)
		return NULL;
	sync_alone(&ahead->mutex);
	require(!ahead->loads.len);
	htab_deinit(&ahead->loads);
	sync_mutex_deinit(&ahead->mutex);
	free(ahead);
	return NULL;
}

void *treeahead_put(struct treeahead_load *load)
{
	if (!load || atomic_fetch_sub(&load->refs, 1) > 1)
		return NULL;
	sync_cond_deinit(&load->cond);
	sync_mutex_deinit(&load->mutex);
	free(load);
	return NULL;
}

void *treeahead_leave(struct treeahead_load *load)
{
	if (!load)
		return NULL;
	sync_lock(&load->ahead->mutex);
	if (--load->n_wanting == 0)
		atomic_store(&load->is_cancelled, true);
	sync_unlock(&load->ahead->mutex);
	return treeahead_put(load);
}

/* The load's task */

static void treeahead_coming(void *ctx, const struct digest *digest)
{
	struct treeahead_load *load = ctx;

	sync_lock(&load->mutex);
	list_for_each (link, &load->waiters) {
		struct treeahead_waiter *waiter =
			container_of(link, struct treeahead_waiter, link);

		if (!digest_equal(&waiter->digest, digest))
			continue;
		waiter->is_coming = true;
		sync_broadcast(&load->cond);
	}
	sync_unlock(&load->mutex);
}

/* Lets go of the load where it is over; not where somebody joined it after it was told to
 * end. */
static bool treeahead_end(struct treeahead_load *load, const struct error *err,
			  unsigned int *n_joined)
{
	struct treeahead *ahead = load->ahead;
	bool is_over;

	sync_lock(&ahead->mutex);
	is_over = error_code(err) != ERROR_CANCELLED || load->n_joined == *n_joined;
	*n_joined = load->n_joined;
	if (is_over)
		htab_remove(&ahead->loads, &load->node);
	sync_unlock(&ahead->mutex);
	return is_over;
}

static void treeahead_run(struct pool_task *task)
{
	struct treeahead_load *load = container_of(task, struct treeahead_load, task);
	struct treeahead *ahead = load->ahead;
	const struct digest *root = &load->order.root;
	const struct treeload_config config = {
		.dirs = ahead->dirs,
		.max_bytes = TREEAHEAD_BYTES_MAX,
		.max_dirs = TREEAHEAD_DIRS_MAX,
		.account = load->order.account,
		.coming = treeahead_coming,
		.ctx = load,
		.is_cancelled = &load->is_cancelled,
	};
	uint64_t stamp = dircache_stamp(ahead->dirs);
	unsigned int n_joined = 0; /* it began with one */
	struct error *err = treeload_whole(&config, root);

	while (!treeahead_end(load, err, &n_joined)) {
		error_free(err);
		err = treeload_whole(&config, root);
	}
	/* too large once is too large again: no other action need find that out */
	if (error_code(err) == ERROR_RESOURCE_EXHAUSTED)
		dircache_set_whole(ahead->dirs, root, stamp);
	log_drop(error_code(err) == ERROR_CANCELLED ? LOG_DEBUG : LOG_INFO, err,
		 "load the tree's directories ahead");
	load->order.done(load->order.ctx);
	sync_lock(&load->mutex);
	load->is_over = true;
	sync_broadcast(&load->cond);
	sync_unlock(&load->mutex);
	(void)treeahead_put(load);
}

/* Whoever wants it */

static struct treeahead_load *treeahead_find(struct treeahead *ahead,
					     const struct digest *root)
	SYNC_REQUIRES(&ahead->mutex)
{
	uint64_t key = digest_key(root);

	for (struct hnode *n = htab_first(&ahead->loads, key); n; n = htab_next(n, key)) {
		struct treeahead_load *load =
			container_of(n, struct treeahead_load, node);

		if (digest_equal(&load->order.root, root))
			return load;
	}
	return NULL;
}

static struct treeahead_load *treeahead_load_new(struct treeahead *ahead,
						 const struct treeahead_order *order)
{
	struct treeahead_load *load = alloc_new(struct treeahead_load);

	load->ahead = ahead;
	load->order = *order;
	load->task.run = treeahead_run;
	load->n_wanting = 1;
	atomic_init(&load->refs, 2); /* the task's, the caller's */
	sync_mutex_init(&load->mutex);
	sync_cond_init(&load->cond);
	sync_alone(&load->mutex);
	list_init(&load->waiters);
	return load;
}

struct treeahead_load *treeahead_begin(struct treeahead *ahead,
				       const struct treeahead_order *order)
{
	uint64_t stamp = dircache_stamp(ahead->dirs);
	struct treeahead_load *load = NULL;
	bool is_new = false;

	if (!dircache_is_whole(ahead->dirs, &order->root, stamp)) {
		sync_lock(&ahead->mutex);
		load = treeahead_find(ahead, &order->root);
		is_new = !load;
		if (load) {
			atomic_fetch_add(&load->refs, 1);
			load->n_wanting++;
			load->n_joined++;
			atomic_store(&load->is_cancelled, false);
		} else {
			load = treeahead_load_new(ahead, order);
			htab_insert(&ahead->loads, &load->node, digest_key(&order->root));
		}
		sync_unlock(&ahead->mutex);
	}
	if (is_new)
		pool_push(ahead->pool, &load->task);
	else
		order->done(order->ctx);
	return load;
}

bool treeahead_await(struct treeahead_load *load, const struct digest *digest,
		     int64_t until_ns)
{
	struct treeahead_waiter waiter = {.digest = *digest};
	bool is_in_time = true;
	bool is_near;

	sync_lock(&load->mutex);
	list_push(&load->waiters, &waiter.link);
	sync_unlock(&load->mutex);
	/* it may have come before somebody waited for it */
	is_near = dircache_is_near(load->ahead->dirs, digest);
	sync_lock(&load->mutex);
	waiter.is_coming |= is_near;
	while (!waiter.is_coming && !load->is_over && is_in_time)
		is_in_time = sync_wait_until(&load->cond, &load->mutex, until_ns);
	list_remove(&waiter.link);
	is_in_time = waiter.is_coming || load->is_over;
	sync_unlock(&load->mutex);
	return is_in_time;
}
