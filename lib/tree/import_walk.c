/*
 * The first phase of an import: listing, spread over the pool.
 *
 * What is gone when it is looked at was never there. What has become of another kind
 * makes the import begin anew (ABORTED).
 *
 * Nothing is followed out of the tree: directories and files are opened beneath the root
 * without symbolic links, whatever is swapped in meanwhile. Names are bytes.
 *
 * Threads: the pool's and the caller's, see import_impl.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "lib/tree/import_impl.h"

#define IMPORT_NOTES_MAX 1000

void import_fail(struct import *import, struct error *err)
{
	atomic_store(&import->is_failed, true);
	sync_lock(&import->mutex);
	if (import->err)
		error_free(err);
	else
		import->err = err;
	sync_unlock(&import->mutex);
}

static void import_skip(struct import *import, const char *path)
{
	atomic_fetch_add(&import->n_skipped, 1);
	sync_lock(&import->mutex);
	if (import->n_notes < IMPORT_NOTES_MAX) {
		import->notes = alloc_grow(import->notes, &import->notes_cap,
					   import->n_notes + 1, sizeof(char *));
		import->notes[import->n_notes++] = alloc_printf(
			"%s/%s is no file, directory or symbolic link: left out",
			import->root, path);
	}
	sync_unlock(&import->mutex);
}

void import_progress(struct import *import, int64_t n_files, int64_t bytes_hashed)
{
	int64_t files = atomic_fetch_add(&import->files_done, n_files) + n_files;
	int64_t bytes =
		atomic_fetch_add(&import->bytes_hashed, bytes_hashed) + bytes_hashed;

	if (import->config.progress)
		import->config.progress(import->config.ctx, files, bytes);
}

static struct import_dir *import_dir_new(const char *path)
{
	struct import_dir *dir = alloc_new(struct import_dir);

	dir->arena = ARENA_INIT(IMPORT_NAMES_MAX);
	dir->path = path;
	return dir;
}

void import_entry_deinit(struct import_entry *entry)
{
	buf_deinit(&entry->bytes);
	if (entry->fd >= 0)
		(void)close(entry->fd);
}

void import_dir_free(struct import_dir *dir)
{
	for (size_t i = 0; i < dir->n; i++)
		import_entry_deinit(&dir->entries[i]);
	arena_deinit(&dir->arena);
	free(dir->entries);
	buf_deinit(&dir->bytes);
	buf_deinit(&dir->records);
	free(dir);
}

/* List */

static int64_t import_time_ns(struct timespec t)
{
	return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

struct stat_record import_record_of(const struct stat *st)
{
	return (struct stat_record){
		.dev = st->st_dev,
		.ino = st->st_ino,
		.size = st->st_size,
		.mtime_ns = import_time_ns(st->st_mtim),
		.ctime_ns = import_time_ns(st->st_ctim),
	};
}

bool import_same_record(const struct stat_record *a, const struct stat_record *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

struct error *import_other_kind(struct error *err)
{
	switch (error_errnum(err)) {
	case ENOTDIR:
	case ELOOP:
	case EINVAL: /* readlink */
	case ENXIO:  /* a socket */
		return error_recode(err, ERROR_ABORTED);
	default:
		return err;
	}
}

static int import_compare_paths(const void *a, const void *b)
{
	return strcmp(a, *(char *const *)b);
}

bool import_wants_held(const struct import *import, const char *path)
{
	_cleanup_free_ char *full = NULL;

	if (!import->config.n_held)
		return false;
	full = alloc_printf("%s/%s", import->root, path);
	return bsearch(full, import->config.held, import->config.n_held, sizeof(char *),
		       import_compare_paths) != NULL;
}

/* It is dropped where it is gone. */
static struct error *import_read_link(struct import_dir *dir, int fd,
				      struct import_entry *entry)
{
	char target[PATH_MAX];
	ssize_t len = readlinkat(fd, (const char *)entry->node.name.data, target,
				 sizeof(target));

	if (len < 0 && errno == ENOENT) {
		dir->n--;
		return NULL;
	}
	if (len < 0)
		return import_other_kind(
			error_errno(errno, "read the symbolic link %s", entry->path));
	entry->node.target = (struct slice){
		arena_memdup(&dir->arena, target, (size_t)len), (size_t)len};
	return dir->arena.is_full ? arena_error("a directory's list of links") : NULL;
}

/* By its name: what compilers and interpreters leave beside their sources. */
static bool import_is_product(const char *name)
{
	static const char *const endings[] = {".o",    ".obj", ".lo",   ".a",     ".la",
					      ".so",   ".pyc", ".pyo",  ".class", ".gch",
					      ".pch",  ".cmi", ".cmo",  ".cmx",   ".hi",
					      ".beam", ".elc", ".rlib", ".rmeta"};
	const char *dot = strrchr(name, '.');

	if (strstr(name, ".so."))
		return true;
	for (size_t i = 0; dot && dot != name && i < ARRAY_SIZE(endings); i++) {
		if (strcmp(dot, endings[i]) == 0)
			return true;
	}
	return strcmp(name, ".ninja_log") == 0;
}

/* By its first bytes: what a linker made, which has no ending (PROG of make's PROG:
 * main.c). */
static bool import_is_linked(int dir, const char *name)
{
	_cleanup_fd_ int fd =
		openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char magic[4];

	return fd >= 0 && read(fd, magic, sizeof(magic)) == (ssize_t)sizeof(magic) &&
	       memcmp(magic, "\177ELF", sizeof(magic)) == 0;
}

/* One name of a directory. A name that is gone by now was never there. */
static struct error *import_add(struct import *import, struct import_dir *dir, int fd,
				const struct dirent *dirent, size_t *cap)
{
	struct import_entry *entry;
	struct stat st = {.st_mode = (mode_t)DTTOIF(dirent->d_type)};
	const char *name = arena_string(&dir->arena, dirent->d_name);
	const char *path = arena_printf(&dir->arena, "%s%s%s", dir->path,
					*dir->path ? "/" : "", dirent->d_name);

	if (dir->arena.is_full)
		return arena_error("a directory's list of names");
	if (atomic_fetch_add(&import->n_entries, 1) >= import->config.entries_max)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "there are more than %" PRId64
				 " entries, which is the limit (--entries-max)",
				 import->config.entries_max);
	if (!S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode) &&
	    fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? NULL : error_errno(errno, "stat %s", path);
	if (!S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode) && !S_ISREG(st.st_mode)) {
		import_skip(import, path);
		return NULL;
	}
	dir->entries = alloc_grow(dir->entries, cap, dir->n + 1, sizeof(*dir->entries));
	entry = &dir->entries[dir->n++];
	*entry = (struct import_entry){
		.node.name = slice_of(name), .path = path, .fd = -1};
	if (S_ISREG(st.st_mode)) {
		entry->node.kind = TREE_FILE;
		entry->node.is_executable = (st.st_mode & S_IXUSR) != 0;
		entry->record = import_record_of(&st);
		entry->is_held = import_wants_held(import, path);
		if (!atomic_load(&import->has_products) &&
		    (import_is_product(name) ||
		     (entry->node.is_executable && import_is_linked(fd, name))))
			atomic_store(&import->has_products, true);
	} else if (S_ISDIR(st.st_mode)) {
		entry->node.kind = TREE_DIR;
		dir->n_dirs++;
	} else {
		entry->node.kind = TREE_SYMLINK;
		return import_read_link(dir, fd, entry);
	}
	return NULL;
}

static void closedirp(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

static int import_compare(const void *a, const void *b)
{
	return slice_compare(((const struct import_entry *)a)->node.name,
			     ((const struct import_entry *)b)->node.name);
}

static struct error *import_read_dir(struct import *import, struct import_dir *dir)
{
	_cleanup_(closedirp) DIR *list = NULL;
	_cleanup_fd_ int fd = -1;
	struct dirent *dirent;
	struct error *err;
	size_t cap = 0;

	err = file_open_beneath(import->dir_fd, *dir->path ? dir->path : ".",
				O_RDONLY | O_DIRECTORY, 0, &fd);
	if (error_errnum(err) == ENOENT && *dir->path) {
		dir->is_gone = true;
		return error_free(err);
	}
	if (err)
		return import_other_kind(err);
	list = fdopendir(fd);
	if (!list)
		return error_errno(errno, "read directory %s", dir->path);
	fd = -1;
	for (errno = 0; !err && (dirent = readdir(list)); errno = 0) {
		if (strcmp(dirent->d_name, ".") == 0 || strcmp(dirent->d_name, "..") == 0)
			continue;
		err = import_add(import, dir, dirfd(list), dirent, &cap);
	}
	if (!err && errno)
		err = error_errno(errno, "read directory %s", dir->path);
	if (!err && dir->n)
		qsort(dir->entries, dir->n, sizeof(*dir->entries), import_compare);
	return err;
}

char *import_cache_key(const struct import *import, const char *path)
{
	return alloc_printf("%s%s%s", import->root, *path ? "/" : "", path);
}

/* Both the records and the entries are in order of name. */
static void import_look_up(struct import *import, struct import_dir *dir)
{
	_cleanup_free_ char *key = import_cache_key(import, dir->path);
	struct stat_record record;
	struct slice rest;
	size_t i = 0;

	if (!import->cache)
		return;
	dir->old_records = stat_cache_get(import->cache, slice_of(key));
	rest = dir->old_records;
	while (i < dir->n && stat_record_unpack(&rest, &record)) {
		while (i < dir->n &&
		       slice_compare(dir->entries[i].node.name, record.name) < 0)
			i++;
		if (i == dir->n)
			return;
		struct import_entry *entry = &dir->entries[i];

		if (entry->node.kind != TREE_FILE || entry->is_held ||
		    !slice_equal(entry->node.name, record.name) ||
		    !import_same_record(&entry->record, &record))
			continue;
		memcpy(entry->node.digest.hash, record.hash, DIGEST_HASH_SIZE);
		entry->node.digest.size = record.size;
		entry->has_digest = true;
		entry->is_settled = true;
	}
}

static void import_count(struct import *import, const struct import_dir *dir)
{
	int64_t n_known = 0;

	for (size_t i = 0; i < dir->n; i++) {
		const struct import_entry *entry = &dir->entries[i];

		n_known += entry->has_digest;
		if (entry->node.kind == TREE_SYMLINK)
			atomic_fetch_add(&import->n_symlinks, 1);
	}
	atomic_fetch_add(&import->n_dirs, (int64_t)dir->n_dirs);
	import_progress(import, n_known, 0);
}

static void import_list(void *ctx, size_t i)
{
	struct import *import = ctx;
	struct import_dir *dir = import->levels[import->at_level].dirs[i];
	struct error *err;

	if (atomic_load(&import->is_failed))
		return;
	err = import_read_dir(import, dir);
	if (err) {
		import_fail(import, error_wrap(err, "import %s", import->root));
		return;
	}
	import_look_up(import, dir);
	import_count(import, dir);
}

/* The directories found on the newest level become the next one; false where there is
 * none. */
static bool import_descend(struct import *import)
{
	struct import_level next = {0};
	struct import_level *level = &import->levels[import->n_levels - 1];

	for (size_t i = 0; i < level->n; i++)
		next.n += level->dirs[i]->n_dirs;
	if (!next.n)
		return false;
	next.dirs = alloc_array(next.n, sizeof(struct import_dir *));
	next.n = 0;
	for (size_t i = 0; i < level->n; i++)
		for (size_t j = 0; j < level->dirs[i]->n; j++) {
			struct import_entry *entry = &level->dirs[i]->entries[j];

			if (entry->node.kind != TREE_DIR)
				continue;
			entry->dir = import_dir_new(entry->path);
			next.dirs[next.n++] = entry->dir;
		}
	import->levels = alloc_grow(import->levels, &import->levels_cap,
				    import->n_levels + 1, sizeof(*import->levels));
	import->levels[import->n_levels++] = next;
	return true;
}

struct error *import_walk(struct import *import)
{
	struct import_level *level;

	import->levels =
		alloc_grow(NULL, &import->levels_cap, 1, sizeof(*import->levels));
	level = &import->levels[0];
	level->dirs = alloc_array(1, sizeof(struct import_dir *));
	level->dirs[0] = import_dir_new("");
	level->n = 1;
	import->n_levels = 1;
	do {
		if (import->n_levels > TREE_DEPTH_MAX)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "%s is more than %d directories deep",
					 import->root, TREE_DEPTH_MAX);
		import->at_level = import->n_levels - 1;
		level = &import->levels[import->at_level];
		pool_for_each(import->config.pool, level->n, import_list, import);
	} while (!atomic_load(&import->is_failed) && import_descend(import));
	return take(import->err);
}
