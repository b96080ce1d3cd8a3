/*
 * Owns the making of blobs: written files go into the store in parallel, then merged
 * directories are encoded from the leaves up. A directory in which nothing was written
 * keeps the digest that it has in the lower tree, and nothing below it is looked at; one
 * whose encoding is what the lower tree has already is no new blob.
 *
 * Threads: the capture's; hashing on the pool, each task with an entry of its own.
 */
#include <errno.h>
#include <string.h>

#include "fuse/capture_impl.h"
#include "fuse/view.h"
#include "lib/base/alloc.h"
#include "lib/base/sync.h"
#include "lib/base/wire.h"
#include "lib/cas/treeload.h"
#include "lib/tree/hasher.h"

#define LOG_MODULE "capture"
#include "lib/base/log.h"

/* Bytes of Directories that go into one Tree: what one message may carry, and more. */
#define CAPTURE_TREE_MAX ((size_t)256 << 20)

struct capture_job {
	const struct capture_dir *dir;
	struct capture_entry *entry;
};

struct capture_jobs {
	struct capture *capture;
	struct capture_job *jobs;
	size_t n;
	size_t cap;
	struct sync_mutex mutex;
	struct error *err SYNC_GUARDED_BY(&mutex); /* the first */
};

static struct error *capture_adopt(const struct capture *capture,
				   const struct capture_dir *dir,
				   struct capture_entry *entry)
{
	const struct capture_config *config = &capture->config;
	_cleanup_fd_ int dir_fd = capture_open_dir(capture, dir);
	struct error *err = NULL;

	if (config->may_go_on)
		err = config->may_go_on(config->ctx, &capture->stats);
	if (err)
		return err;
	if (dir_fd < 0)
		return error_errno(errno, "open the written directory %s", dir->path);
	err = store_adopt(config->store, dir_fd, entry->name, true, &entry->digest);
	if (err)
		return error_wrap(err, "%s%s%s", dir->path, *dir->path ? "/" : "",
				  entry->name);
	entry->has_digest = true;
	return NULL;
}

/* Before the pool's threads begin: they only read the stats. */
static void capture_count(struct capture *capture, const struct capture_entry *entry)
{
	capture->stats.n_files++;
	capture->stats.bytes += entry->size;
}

struct error *capture_adopt_file(struct capture *capture, const struct capture_dir *dir,
				 struct capture_entry *entry)
{
	struct error *err;

	if (entry->has_digest)
		return NULL;
	capture_count(capture, entry);
	err = capture_adopt(capture, dir, entry);
	if (err)
		return err;
	return capture_add_blob(capture, &entry->digest);
}

/* All files below dir that are not in the store yet. */
static struct error *capture_collect(struct capture_jobs *jobs, struct capture_dir *dir)
{
	struct error *err = capture_scan(jobs->capture, dir);

	for (size_t i = 0; i < dir->n_entries && !err; i++) {
		struct capture_entry *entry = &dir->entries[i];

		if (entry->kind == CAPTURE_ENTRY_DIR)
			err = capture_collect(jobs, entry->dir);
		if (entry->kind != CAPTURE_ENTRY_FILE || entry->has_digest)
			continue;
		capture_count(jobs->capture, entry);
		jobs->jobs = alloc_grow(jobs->jobs, &jobs->cap, jobs->n + 1,
					sizeof(*jobs->jobs));
		jobs->jobs[jobs->n++] = (struct capture_job){dir, entry};
	}
	return err;
}

static void capture_job_run(void *ctx, size_t i)
{
	struct capture_jobs *jobs = ctx;
	struct error *err =
		capture_adopt(jobs->capture, jobs->jobs[i].dir, jobs->jobs[i].entry);

	if (!err)
		return;
	sync_lock(&jobs->mutex);
	if (jobs->err)
		error_free(err);
	else
		jobs->err = err;
	sync_unlock(&jobs->mutex);
}

static struct error *capture_adopt_all(struct capture *capture, struct capture_dir *dir)
{
	struct capture_jobs jobs = {.capture = capture, .mutex = SYNC_MUTEX_INIT};
	struct error *err = capture_collect(&jobs, dir);

	if (!err && jobs.n)
		pool_for_each(capture->config.pool, jobs.n, capture_job_run, &jobs);
	for (size_t i = 0; i < jobs.n && !err; i++)
		if (jobs.jobs[i].entry->has_digest)
			err = capture_add_blob(capture, &jobs.jobs[i].entry->digest);
	free(jobs.jobs);
	sync_mutex_deinit(&jobs.mutex);
	sync_alone(&jobs.mutex); /* the pool's threads are through */
	if (!err)
		return jobs.err;
	error_free(jobs.err);
	return err;
}

static bool capture_to_node(const struct capture_entry *entry, struct tree_node *out)
{
	*out = (struct tree_node){.name = slice_of(entry->name), .props = entry->props};
	switch (entry->kind) {
	case CAPTURE_ENTRY_FILE:
		out->kind = TREE_FILE;
		out->digest = entry->digest;
		out->is_executable = entry->is_executable;
		return true;
	case CAPTURE_ENTRY_DIR:
		out->kind = TREE_DIR;
		out->digest = entry->dir->digest;
		return true;
	case CAPTURE_ENTRY_SYMLINK:
		out->kind = TREE_SYMLINK;
		out->target = entry->target;
		return true;
	case CAPTURE_ENTRY_WHITEOUT:
	case CAPTURE_ENTRY_OTHER:
		return false;
	}
	return false;
}

/* The properties of a written directory: those that it came with, but for its time, which
 * is another by now, and which is told only where it is asked for. */
static void capture_dir_props(const struct capture *capture,
			      const struct capture_dir *dir, struct buf *out)
{
	struct tree_props time = {
		.has_mtime = true,
		.mtime_s = dir->mtime.tv_sec,
		.mtime_ns = (int32_t)dir->mtime.tv_nsec,
	};
	const struct tree_props *old = dir->lower ? dir->lower->props : NULL;
	_cleanup_buf_ struct buf all = BUF_INIT;
	struct wire_field field;
	struct wire wire;

	if (old)
		tree_props_encode(old, &all);
	wire = wire_of(buf_slice(&all));
	while (wire_next(&wire, &field)) {
		if (field.number != 2 && field.type == WIRE_BYTES)
			wire_put_bytes(out, field.number, field.bytes);
	}
	if (capture->config.with_mtime)
		tree_props_encode(&time, out);
}

/* Whether only a directory's time was changed, where that is asked for. */
static bool capture_is_touched(const struct capture *capture,
			       const struct capture_dir *dir)
{
	const struct tree_props *old = dir->lower ? dir->lower->props : NULL;
	bool has_time = old && old->has_mtime;

	if (!capture->config.with_mtime || !dir->lower)
		return false;
	return dir->mtime.tv_sec != (has_time ? old->mtime_s : VIEW_DEFAULT_MTIME_S) ||
	       dir->mtime.tv_nsec != (has_time ? old->mtime_ns : 0);
}

/* The merged listing: what was written, and what the lower directory has besides.
 * is_kept: with the properties that it came with. */
static struct error *capture_encode(const struct capture *capture,
				    const struct capture_dir *dir, bool is_kept,
				    struct buf *out)
{
	/* of a plain directory, what is not there is gone */
	size_t n_lower = dir->lower && !capture->config.staged ? dir->lower->n_nodes : 0;
	/* bounded: by TREE_DIR_MAX and by the arena that holds the entries */
	_cleanup_free_ struct tree_node *nodes =
		alloc_array(n_lower + dir->n_entries + 1, sizeof(*nodes));
	_cleanup_buf_ struct buf raw = BUF_INIT;
	struct tree_props props = {0};
	struct error *err;
	size_t n = 0;

	for (size_t i = 0; i < n_lower; i++) {
		const struct tree_node *node = &dir->lower->nodes[i];
		char name[TREE_NAME_MAX + 1];

		memcpy(name, node->name.data, node->name.len);
		name[node->name.len] = '\0';
		if (!capture_find(dir, name))
			nodes[n++] = *node;
	}
	for (size_t i = 0; i < dir->n_entries; i++) {
		if (capture_to_node(&dir->entries[i], &nodes[n]))
			n++;
	}
	if (!is_kept)
		capture_dir_props(capture, dir, &raw);
	else if (dir->lower->props)
		tree_props_encode(dir->lower->props, &raw);
	props.raw = buf_slice(&raw);
	err = tree_encode(nodes, n, raw.len ? &props : NULL, out);
	if (!err && out->len > TREE_DIR_MAX)
		err = error_new(ERROR_RESOURCE_EXHAUSTED,
				"its Directory would be larger than %zu MiB",
				TREE_DIR_MAX >> 20);
	return err;
}

/* Of a plain directory: whether it, and all below it, is as it was staged. */
static struct error *capture_is_staged(const struct capture *capture,
				       const struct capture_dir *dir, bool *out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct digest digest;
	struct error *err;

	*out = false;
	if (!capture->config.staged || !dir->has_lower ||
	    capture_is_touched(capture, dir))
		return NULL;
	err = capture_encode(capture, dir, true, &bytes);
	if (err)
		return err;
	hasher_digest(bytes.data, bytes.len, &digest);
	*out = digest_equal(&digest, &dir->lower_digest);
	return NULL;
}

static struct error *capture_keep_dir(struct capture *capture,
				      const struct digest *digest, struct slice bytes)
{
	struct slice known;
	const uint8_t *copy;
	struct error *err;

	if (dirset_find(&capture->built, digest, &known))
		return NULL;
	err = store_put(capture->config.store, digest, bytes.data, bytes.len);
	if (err)
		return err;
	err = capture_add_blob(capture, digest);
	if (err)
		return err;
	copy = arena_memdup(&capture->arena, bytes.data, bytes.len);
	if (!copy)
		return capture_full(capture);
	(void)dirset_add(&capture->built, digest, (struct slice){copy, bytes.len});
	return NULL;
}

/* dir was scanned and all files below it are in the store. */
static struct error *capture_build_dirs(struct capture *capture, struct capture_dir *dir)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	bool is_plain = capture->config.staged != NULL;
	bool is_staged = false;
	struct error *err = NULL;

	if (dir->is_built)
		return NULL;
	for (size_t i = 0; i < dir->n_entries && !err; i++)
		if (dir->entries[i].kind == CAPTURE_ENTRY_DIR)
			err = capture_build_dirs(capture, dir->entries[i].dir);
	if (!err)
		err = capture_is_staged(capture, dir, &is_staged);
	if (err)
		return err;
	for (size_t i = 0; i < dir->n_entries; i++)
		if (dir->entries[i].kind == CAPTURE_ENTRY_OTHER)
			capture_add_note(capture, dir, &dir->entries[i]);
	dir->digest = dir->lower_digest;
	if (!is_staged && (is_plain || dir->n_entries || !dir->has_lower ||
			   capture_is_touched(capture, dir))) {
		err = capture_encode(capture, dir, false, &bytes);
		if (err)
			return error_wrap(err, "output directory %s", dir->path);
		hasher_digest(bytes.data, bytes.len, &dir->digest);
		if (!dir->has_lower || !digest_equal(&dir->digest, &dir->lower_digest))
			err = capture_keep_dir(capture, &dir->digest, buf_slice(&bytes));
	}
	dir->is_built = !err;
	return err;
}

struct error *capture_build(struct capture *capture, struct capture_dir *dir)
{
	struct error *err = NULL;

	if (!dir->is_built)
		err = capture_adopt_all(capture, dir);
	return err ? err : capture_build_dirs(capture, dir);
}

/* A Directory that is in the Tree already. */
struct capture_mark {
	struct hnode node;
	struct digest digest;
	int64_t n_entries; /* of all paths below it */
};

/* Directories gathered for a Tree. */
struct capture_gather {
	struct capture *capture;
	struct htab seen;  /* capture_mark */
	struct slice *all; /* the root first */
	size_t n;
	size_t cap;
	size_t n_bytes;
	bool has_loaded; /* ahead, once */
	struct arena arena;
};

static const struct capture_mark *capture_find_mark(const struct capture_gather *gather,
						    const struct digest *digest)
{
	uint64_t hash = digest_key(digest);

	for (struct hnode *n = htab_first(&gather->seen, hash); n;
	     n = htab_next(n, hash)) {
		struct capture_mark *mark = container_of(n, struct capture_mark, node);

		if (digest_equal(&mark->digest, digest))
			return mark;
	}
	return NULL;
}

/* The bytes of a Directory as they were sent, which alone have its digest. */
static struct error *capture_dir_bytes(struct capture_gather *gather,
				       const struct digest *digest, struct buf *out)
{
	const struct capture_config *config = &gather->capture->config;
	struct slice built;

	if (dirset_find(&gather->capture->built, digest, &built)) {
		buf_add(out, built.data, built.len);
		return NULL;
	}
	if (!gather->has_loaded && !store_has(config->store, digest)) {
		/* the first look below here: in few round trips rather than one each */
		struct error *err =
			treeload_to_store(config->dirs, digest, CAPTURE_TREE_MAX);

		gather->has_loaded = true;
		log_drop(LOG_INFO, err, "load an output's directories ahead");
	}
	return fetch_bytes(dircache_fetch(config->dirs), digest, TREE_DIR_MAX, NULL, out);
}

/* Puts bytes into the Tree; mark_out has no entries yet. */
static struct error *capture_gather_add(struct capture_gather *gather,
					const struct digest *digest, struct slice bytes,
					struct capture_mark **mark_out)
{
	struct capture_mark *mark = arena_new(&gather->arena, struct capture_mark);
	const uint8_t *copy = arena_memdup(&gather->arena, bytes.data, bytes.len);

	gather->n_bytes += bytes.len;
	if (gather->n_bytes > CAPTURE_TREE_MAX || !mark || !copy)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "a Tree of more than %zu MiB of directories",
				 CAPTURE_TREE_MAX >> 20);
	gather->all = alloc_grow(gather->all, &gather->cap, gather->n + 1,
				 sizeof(struct slice));
	gather->all[gather->n++] = (struct slice){copy, bytes.len};
	mark->digest = *digest;
	htab_insert(&gather->seen, &mark->node, digest_key(digest));
	*mark_out = mark;
	return NULL;
}

/*
 * A Tree names each Directory once, but whoever unpacks it meets each path: paths are
 * counted, so that what would never end is not even begun. Of a Directory within itself,
 * which no digest allows, the inner one counts as empty.
 */
static struct error *capture_gather_dir(struct capture_gather *gather,
					const struct digest *digest, unsigned int depth,
					int64_t *n_entries)
{
	const struct capture_mark *seen = capture_find_mark(gather, digest);
	int64_t most = gather->capture->config.entries_max;
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct capture_mark *mark = NULL;
	struct error *err = NULL;

	if (depth > TREE_DEPTH_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "more than %d levels of directories", TREE_DEPTH_MAX);
	if (!seen) {
		err = capture_dir_bytes(gather, digest, &bytes);
		if (!err)
			err = capture_gather_add(gather, digest, buf_slice(&bytes),
						 &mark);
		if (!err)
			err = tree_dir_decode(&bytes, &dir);
		if (err)
			return err;
		mark->n_entries = dir->n_nodes;
		for (uint32_t i = 0; !err && i < dir->n_nodes; i++)
			if (dir->nodes[i].kind == TREE_DIR)
				err = capture_gather_dir(gather, &dir->nodes[i].digest,
							 depth + 1, &mark->n_entries);
		seen = mark;
	}
	if (!err && (seen->n_entries > most || *n_entries > most - seen->n_entries))
		return capture_too_many(gather->capture, "it has");
	*n_entries += seen->n_entries;
	return err;
}

static const struct digest *capture_find_tree(const struct capture *capture,
					      const struct digest *root)
{
	uint64_t hash = digest_key(root);

	for (struct hnode *n = htab_first(&capture->trees, hash); n;
	     n = htab_next(n, hash)) {
		const struct capture_tree *tree =
			container_of(n, struct capture_tree, node);

		if (digest_equal(&tree->root, root))
			return &tree->tree;
	}
	return NULL;
}

static struct error *capture_keep_tree(struct capture *capture, const struct digest *root,
				       struct slice message, struct digest *tree_out)
{
	struct capture_tree *tree = arena_new(&capture->arena, struct capture_tree);
	struct error *err;

	if (!tree)
		return capture_full(capture);
	tree->root = *root;
	hasher_digest(message.data, message.len, &tree->tree);
	err = store_put(capture->config.store, &tree->tree, message.data, message.len);
	if (!err)
		err = capture_add_blob(capture, &tree->tree);
	if (err)
		return err;
	htab_insert(&capture->trees, &tree->node, digest_key(root));
	*tree_out = tree->tree;
	return NULL;
}

struct error *capture_make_tree(struct capture *capture, const struct digest *root,
				struct digest *tree_out)
{
	struct capture_gather gather = {.capture = capture,
					.arena = ARENA_INIT(ARENA_CAP_DEFAULT * 2)};
	const struct digest *made = capture_find_tree(capture, root);
	_cleanup_buf_ struct buf message = BUF_INIT;
	int64_t n_entries = 0;
	struct error *err;

	if (made) {
		*tree_out = *made;
		return NULL;
	}
	err = capture_gather_dir(&gather, root, 0, &n_entries);
	if (!err) {
		tree_message_encode(gather.all[0], gather.all + 1, gather.n - 1, true,
				    &message);
		err = capture_keep_tree(capture, root, buf_slice(&message), tree_out);
	}
	htab_deinit(&gather.seen);
	arena_deinit(&gather.arena);
	free(gather.all);
	return err;
}
