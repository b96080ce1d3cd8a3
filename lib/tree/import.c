/*
 * Owns one import: its directories, level by level, and what becomes of them. Three
 * phases, each spread over the pool:
 *
 *   list    a level of directories at a time: entries, their stat, their digest where the
 *           stat cache knows it
 *   hash    all files that remain, large ones first so that no thread is left alone with
 *           one
 *   encode  the levels again, deepest first, without what vanished meanwhile; then the
 *           stat cache's rows are compared and only those that differ are written
 *
 * The first two are in import_walk.c and import_read.c. An import that met something of
 * another kind than it was listed as begins anew, IMPORT_RUNS_MAX times at most. Threads:
 * see import_impl.h; a finished import is only read.
 */
#include "lib/tree/import.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "lib/tree/hasher.h"
#include "lib/tree/import_impl.h"

#define IMPORT_RUNS_MAX 6

#define LOG_MODULE "import"
#include "lib/base/log.h"

bool import_has_mtimes(const struct import *import)
{
	return import->config.mtimes == IMPORT_MTIMES_ALWAYS ||
	       (import->config.mtimes == IMPORT_MTIMES_AUTO &&
		atomic_load(&import->has_products));
}

void import_set_props(const struct import *import, struct import_entry *entry)
{
	int64_t ns = entry->record.mtime_ns % NS_PER_S;

	if (!import_has_mtimes(import))
		return;
	ns = ns < 0 ? ns + NS_PER_S : ns;
	entry->props = (struct tree_props){
		.has_mtime = true,
		.mtime_s = (entry->record.mtime_ns - ns) / NS_PER_S,
		.mtime_ns = (int32_t)ns,
	};
	entry->node.props = &entry->props;
}

/* A file's part in its directory: its size, its node, and its record where that is to be
 * kept. */
static void import_encode_file(struct import *import, struct import_dir *dir,
			       struct import_entry *entry)
{
	atomic_fetch_add(&import->bytes, entry->node.digest.size);
	memcpy(entry->record.hash, entry->node.digest.hash, DIGEST_HASH_SIZE);
	entry->record.name = entry->node.name;
	import_set_props(import, entry);
	if (import->cache && entry->is_settled)
		stat_record_pack(&entry->record, &dir->records);
}

/* A directory that lost something may have been on its way out itself. */
static bool import_is_gone(const struct import *import, struct import_dir *dir)
{
	struct stat st;

	if (dir->has_lost && *dir->path &&
	    fstatat(import->dir_fd, dir->path, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno == ENOENT)
		dir->is_gone = true;
	return dir->is_gone;
}

static void import_encode(void *ctx, size_t i)
{
	struct import *import = ctx;
	struct import_dir *dir = import->levels[import->at_level].dirs[i];
	_cleanup_free_ struct tree_node *nodes = alloc_array(dir->n, sizeof(*nodes));
	struct error *err;
	size_t n = 0;

	for (size_t j = 0; j < dir->n; j++) {
		struct import_entry *entry = &dir->entries[j];

		if (entry->node.kind == TREE_DIR) {
			entry->node.digest = entry->dir->digest;
			entry->is_gone = entry->dir->is_gone;
		}
		dir->has_lost = dir->has_lost || entry->is_gone;
		if (entry->is_gone)
			continue;
		if (entry->node.kind == TREE_FILE)
			import_encode_file(import, dir, entry);
		nodes[n++] = entry->node;
	}
	if (import_is_gone(import, dir))
		return;
	err = tree_encode(nodes, n, NULL, &dir->bytes);
	if (err)
		import_fail(import,
			    error_wrap(err, "import %s/%s", import->root, dir->path));
	else
		hasher_digest(dir->bytes.data, dir->bytes.len, &dir->digest);
}

static struct error *import_encode_all(struct import *import)
{
	for (size_t l = import->n_levels; l-- && !atomic_load(&import->is_failed);) {
		import->at_level = l;
		pool_for_each(import->config.pool, import->levels[l].n, import_encode,
			      import);
	}
	import->digest = import->levels[0].dirs[0]->digest;
	return take(import->err);
}

static struct blob_source import_item(const struct import_entry *entry)
{
	struct blob_source item = {
		.digest = entry->node.digest, .from = BLOB_PATH, .path = entry->path};

	if (entry->is_held) {
		item.from = entry->fd >= 0 ? BLOB_FD : BLOB_BYTES;
		item.fd = entry->fd;
		item.bytes = buf_slice(&entry->bytes);
	}
	return item;
}

static void import_collect_dir(struct import *import, const struct import_dir *dir)
{
	if (dir->is_gone)
		return;
	for (size_t i = 0; i < dir->n; i++) {
		if (dir->entries[i].node.kind == TREE_FILE && !dir->entries[i].is_gone)
			import->items[import->n_items++] = import_item(&dir->entries[i]);
	}
	if (dirset_add(&import->dirs, &dir->digest, buf_slice(&dir->bytes)))
		import->items[import->n_items++] =
			dirset_item(&import->dirs, import->dirs.n - 1);
}

static void import_save_dir(struct import *import, const struct import_dir *dir)
{
	_cleanup_free_ char *key = import_cache_key(import, dir->path);

	if (!slice_equal(buf_slice(&dir->records), dir->old_records))
		stat_cache_put(import->cache, slice_of(key), buf_slice(&dir->records));
}

/* The items, children before parents, and the stat cache's changes. */
static void import_collect(struct import *import)
{
	size_t n_items = 0;

	for (size_t l = 0; l < import->n_levels; l++)
		for (size_t i = 0; i < import->levels[l].n; i++)
			n_items += import->levels[l].dirs[i]->n + 1;
	import->items = alloc_array(n_items, sizeof(*import->items));
	for (size_t l = import->n_levels; l--;)
		for (size_t i = 0; i < import->levels[l].n; i++) {
			import_collect_dir(import, import->levels[l].dirs[i]);
			if (import->cache)
				import_save_dir(import, import->levels[l].dirs[i]);
		}
}

static struct error *import_tree(struct import *import)
{
	struct error *err = import_walk(import);

	if (!err)
		err = import_hash_all(import);
	if (!err)
		err = import_encode_all(import);
	if (!err)
		import_collect(import);
	return err;
}

/* No directory has such a key: an import of a tree around the file leaves it alone. */
static char *import_single_key(const struct import *import, const char *name)
{
	return alloc_printf("file:%s/%s", import->root, name);
}

/* A file by itself: a tree of one, so to speak, with a row of its own in the cache. */
static struct error *import_single(struct import *import, const char *name,
				   const struct stat *st)
{
	_cleanup_free_ char *key = import_single_key(import, name);
	_cleanup_buf_ struct buf packed = BUF_INIT;
	struct import_entry *entry = alloc_new(struct import_entry);
	struct stat_record old;
	struct slice records = {0};
	struct error *err = NULL;

	import->single = entry;
	entry->path = name;
	entry->fd = -1;
	entry->is_held = import_wants_held(import, name);
	entry->record = import_record_of(st);
	entry->node.is_executable = (st->st_mode & S_IXUSR) != 0;
	if (import->cache)
		records = stat_cache_get(import->cache, slice_of(key));
	if (!entry->is_held && stat_record_unpack(&records, &old) &&
	    import_same_record(&entry->record, &old)) {
		memcpy(entry->node.digest.hash, old.hash, DIGEST_HASH_SIZE);
		entry->node.digest.size = old.size;
		import_progress(import, 1, 0);
	} else {
		err = import_hash_file(import, entry);
		if (err)
			return error_wrap(err, "import %s", import->root);
		if (entry->is_gone) /* its name may be about to come back */
			return error_new(ERROR_ABORTED, "%s/%s is gone", import->root,
					 name);
		atomic_fetch_add(&import->n_hashed, 1);
		import_progress(import, 1, entry->node.digest.size);
		memcpy(entry->record.hash, entry->node.digest.hash, DIGEST_HASH_SIZE);
		if (entry->is_settled)
			stat_record_pack(&entry->record, &packed);
		if (import->cache)
			stat_cache_put(import->cache, slice_of(key), buf_slice(&packed));
	}
	import_set_props(import, entry);
	atomic_store(&import->bytes, entry->node.digest.size);
	import->is_executable = entry->node.is_executable;
	import->digest = entry->node.digest;
	import->items = alloc_new(struct blob_source);
	import->items[import->n_items++] = import_item(entry);
	return NULL;
}

static void import_open_cache(struct import *import)
{
	_cleanup_free_ char *key = import->name ? import_single_key(import, import->name)
						: alloc_string(import->root);
	struct error *err;

	if (!import->config.stat_cache)
		return;
	err = stat_cache_open(import->config.stat_cache, key, &import->cache);
	if (err)
		log_drop(LOG_WARN, err, "import reads all files");
}

static void import_save_cache(struct import *import)
{
	struct error *err = import->cache ? stat_cache_save(import->cache) : NULL;

	if (err)
		log_drop(LOG_WARN, err, "the next import will read files again");
}

static struct error *import_run_real(struct import *import, char *real)
{
	char *slash = strrchr(real, '/');
	struct error *err;
	struct stat st;

	if (lstat(real, &st) < 0)
		return error_errno(errno, "import %s", real);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return error_new(ERROR_INVALID_ARGUMENT, "%s is %s, no file or directory",
				 real, file_kind(st.st_mode));
	if (S_ISDIR(st.st_mode)) {
		import->kind = TREE_DIR;
		import->root = alloc_string(slash[1] ? real : "");
	} else {
		import->kind = TREE_FILE;
		import->root = alloc_string_n(real, (size_t)(slash - real));
	}
	err = file_open_dir(AT_FDCWD, *import->root ? import->root : "/",
			    &import->dir_fd);
	if (err)
		return err;
	import->name = import->kind == TREE_FILE ? alloc_string(slash + 1) : NULL;
	import_open_cache(import);
	err = import->name ? import_single(import, import->name, &st)
			   : import_tree(import);
	if (!err)
		import_save_cache(import);
	return err;
}

static struct error *import_run_once(const struct import_config *config, const char *path,
				     struct import **import_out)
{
	_cleanup_(import_freep) struct import *import = alloc_new(struct import);
	_cleanup_free_ char *real = realpath(path, NULL);
	struct error *err;

	import->config = *config;
	if (!import->config.entries_max)
		import->config.entries_max = TREE_ENTRIES_MAX;
	import->dir_fd = -1;
	sync_mutex_init(&import->mutex);
	if (!real)
		return error_errno(errno, "import %s", path);
	err = import_run_real(import, real);
	import->cache = stat_cache_close(import->cache);
	if (err)
		return err;
	*import_out = take(import);
	return NULL;
}

struct error *import_run(const struct import_config *config, const char *path,
			 struct import **import_out)
{
	for (int runs = 1;; runs++) {
		struct error *err = import_run_once(config, path, import_out);

		if (error_code(err) != ERROR_ABORTED || runs == IMPORT_RUNS_MAX)
			return error_code(err) == ERROR_ABORTED
				       ? error_recode(err, ERROR_FAILED_PRECONDITION)
				       : err;
		error_free(err);
		clock_sleep_ms((int64_t)1 << runs);
	}
}

void *import_free(struct import *import)
{
	if (!import)
		return NULL;
	for (size_t l = 0; l < import->n_levels; l++) {
		for (size_t i = 0; i < import->levels[l].n; i++)
			import_dir_free(import->levels[l].dirs[i]);
		free(import->levels[l].dirs);
	}
	free(import->levels);
	free(import->files);
	if (import->single)
		import_entry_deinit(import->single);
	free(import->single);
	free(import->items);
	dirset_deinit(&import->dirs);
	stat_cache_close(import->cache);
	sync_alone(&import->mutex);
	error_free(import->err);
	for (size_t i = 0; i < import->n_notes; i++)
		free(import->notes[i]);
	free(import->notes);
	if (import->dir_fd >= 0)
		(void)close(import->dir_fd);
	sync_mutex_deinit(&import->mutex);
	free(import->name);
	free(import->root);
	free(import);
	return NULL;
}

enum tree_kind import_kind(const struct import *import)
{
	return import->kind;
}

const struct digest *import_digest(const struct import *import)
{
	return &import->digest;
}

bool import_is_executable(const struct import *import)
{
	return import->is_executable;
}

const struct tree_props *import_props(const struct import *import)
{
	return import->single ? import->single->node.props : NULL;
}

const struct blob_source *import_items(const struct import *import, size_t *n_out)
{
	*n_out = import->n_items;
	return import->items;
}

char *import_item_path(const struct import *import, const struct blob_source *item)
{
	return alloc_printf("%s/%s", import->root, item->path);
}

int import_dir_fd(const struct import *import)
{
	return import->dir_fd;
}

struct error *import_load(void *ctx, const struct digest *digest, struct tree_dir **out)
{
	const struct import *import = ctx;

	return dirset_load(&import->dirs, digest, out);
}

void import_stats(const struct import *import, struct import_stats *out)
{
	*out = (struct import_stats){
		.n_files = import->files_done,
		.n_dirs = import->n_dirs,
		.n_symlinks = import->n_symlinks,
		.bytes = import->bytes,
		.n_hashed = import->n_hashed,
		.n_skipped = import->n_skipped,
	};
}

size_t import_n_notes(const struct import *import)
{
	sync_alone(&import->mutex);
	return import->n_notes;
}

const char *import_note(const struct import *import, size_t i)
{
	sync_alone(&import->mutex);
	return import->notes[i];
}
