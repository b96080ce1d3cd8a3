/*
 * Owns one archive while it is written. Two walks: the first brings the blobs, many at
 * once; the second writes, and finds them in the local store, or asks again for what gave
 * way there.
 *
 * Threads: main; the fetcher's count what came.
 */
#include "client/tarball.h"

#include <string.h>
#include <unistd.h>

#include "client/libarchive.h"
#include "fuse/view.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "lib/cas/treeload.h"

#define TARBALL_AT_ONCE  256
#define TARBALL_PIECE    ((size_t)1 << 16)
#define TARBALL_DIRS_MAX ((size_t)1 << 30) /* bytes of Directories asked for ahead */

struct tarball {
	struct client *client;
	const struct digest *root;
	const char *name; /* whose suffix says how it is compressed */
	struct libarchive lib;
	struct archive *archive;
	struct buf path;
	int64_t n_entries;
	bool is_written; /* the second walk */
	int fd;
	struct sync_mutex mutex;
	struct sync_cond cond;
	unsigned int n_coming SYNC_GUARDED_BY(&mutex);
	struct error *err SYNC_GUARDED_BY(&mutex);
};

static void tarball_deinit(struct tarball *tarball)
{
	if (tarball->archive)
		(void)tarball->lib.archive_write_free(tarball->archive);
	buf_deinit(&tarball->path);
	sync_alone(&tarball->mutex);
	error_free(tarball->err);
	sync_cond_deinit(&tarball->cond);
	sync_mutex_deinit(&tarball->mutex);
}

/* Bringing */

static void tarball_came(void *ctx, struct error *err, int fd)
{
	struct tarball *tarball = ctx;

	if (fd >= 0)
		(void)close(fd);
	sync_lock(&tarball->mutex);
	if (tarball->err)
		error_free(err);
	else
		tarball->err = err;
	tarball->n_coming--;
	sync_signal(&tarball->cond);
	sync_unlock(&tarball->mutex);
}

/* Until at most so many are under way; false: one has failed. */
static bool tarball_await(struct tarball *tarball, unsigned int n)
{
	bool is_fine;

	sync_lock(&tarball->mutex);
	while (tarball->n_coming > n)
		sync_wait(&tarball->cond, &tarball->mutex);
	is_fine = !tarball->err;
	if (is_fine && n)
		tarball->n_coming++;
	sync_unlock(&tarball->mutex);
	return is_fine;
}

static void tarball_bring(struct tarball *tarball, const struct tree_node *node)
{
	if (node->kind == TREE_FILE && tarball_await(tarball, TARBALL_AT_ONCE))
		fetch_start(tarball->client->fetch, &node->digest, NULL, tarball_came,
			    tarball);
}

/* Writing */

/* EPIPE and the like keep their errno. Consumes nothing. */
static struct error *tarball_failure(const struct tarball *tarball)
{
	int number = tarball->lib.archive_errno(tarball->archive);
	const char *text = tarball->lib.archive_error_string(tarball->archive);

	if (number > 0)
		return error_errno(number, "write the archive");
	return error_new(ERROR_INTERNAL, "write the archive: %s", text ? text : "");
}

static struct error *tarball_data(struct tarball *tarball, const struct tree_node *node)
{
	_cleanup_fd_ int fd = -1;
	uint8_t piece[TARBALL_PIECE];
	struct error *err = fetch_fd(tarball->client->fetch, &node->digest, NULL, &fd);
	off_t at = 0;
	size_t n = 1;

	while (!err && n) {
		err = file_pread(fd, piece, sizeof(piece), at, &n);
		if (!err && n &&
		    tarball->lib.archive_write_data(tarball->archive, piece, n) < 0)
			err = tarball_failure(tarball);
		at += (off_t)n;
	}
	return err;
}

static void tarball_describe(const struct tarball *tarball, const struct tree_node *node,
			     const struct tree_props *props, struct archive_entry *entry)
{
	mode_t mode = node->kind == TREE_DIR || node->is_executable ? 0755 : 0644;

	if (node->kind == TREE_SYMLINK)
		mode = 0777;
	if (props && props->has_unix_mode)
		mode = props->unix_mode & 0777;
	tarball->lib.archive_entry_set_perm(entry, mode);
	tarball->lib.archive_entry_set_filetype(entry, node->kind == TREE_FILE ? AE_IFREG
						       : node->kind == TREE_DIR
							       ? AE_IFDIR
							       : AE_IFLNK);
	if (props && props->has_mtime)
		tarball->lib.archive_entry_set_mtime(entry, props->mtime_s,
						     props->mtime_ns);
	else
		tarball->lib.archive_entry_set_mtime(entry, VIEW_DEFAULT_MTIME_S, 0);
}

static struct error *tarball_entry(struct tarball *tarball, const struct tree_node *node,
				   const struct tree_props *props)
{
	struct archive_entry *entry = tarball->lib.archive_entry_new();
	struct error *err = NULL;

	if (!entry)
		return error_new(ERROR_RESOURCE_EXHAUSTED, "no memory for the archive");
	tarball_describe(tarball, node, props, entry);
	tarball->lib.archive_entry_copy_pathname(entry, buf_string(&tarball->path));
	if (node->kind == TREE_FILE)
		tarball->lib.archive_entry_set_size(entry, node->digest.size);
	if (node->kind == TREE_SYMLINK) {
		_cleanup_free_ char *target =
			alloc_string_n((const char *)node->target.data, node->target.len);

		tarball->lib.archive_entry_copy_symlink(entry, target);
	}
	if (tarball->lib.archive_write_header(tarball->archive, entry) < ARCHIVE_WARN)
		err = tarball_failure(tarball);
	tarball->lib.archive_entry_free(entry);
	if (!err && node->kind == TREE_FILE)
		err = tarball_data(tarball, node);
	return err;
}

/* Both walks */

static struct error *tarball_dir(struct tarball *tarball, const struct tree_node *node,
				 unsigned int depth);

static struct error *tarball_child(struct tarball *tarball, const struct tree_node *node,
				   unsigned int depth)
{
	size_t len = tarball->path.len;
	struct error *err = NULL;

	if (++tarball->n_entries > tarball->client->entries_max)
		return treeload_too_many(tarball->root, tarball->client->entries_max);
	buf_add(&tarball->path, node->name.data, node->name.len);
	if (node->kind == TREE_DIR)
		err = tarball_dir(tarball, node, depth + 1);
	else if (tarball->is_written)
		err = tarball_entry(tarball, node, node->props);
	else
		tarball_bring(tarball, node);
	if (err)
		return err;
	tarball->path.len = len;
	tarball->path.data[len] = '\0';
	return NULL;
}

static struct error *tarball_dir(struct tarball *tarball, const struct tree_node *node,
				 unsigned int depth)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	struct error *err = NULL;

	if (depth > TREE_DEPTH_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the tree is deeper than %d levels", TREE_DEPTH_MAX);
	err = dircache_get(tarball->client->dirs, &node->digest, NULL, &dir);
	buf_add_byte(&tarball->path, '/');
	if (!err && tarball->is_written)
		err = tarball_entry(tarball, node, dir->props);
	for (uint32_t i = 0; !err && i < dir->n_nodes; i++)
		err = tarball_child(tarball, &dir->nodes[i], depth);
	return err;
}

static struct error *tarball_walk(struct tarball *tarball, bool is_written)
{
	const struct tree_node root = {.kind = TREE_DIR, .digest = *tarball->root};

	tarball->is_written = is_written;
	tarball->n_entries = 0;
	buf_clear(&tarball->path);
	buf_add_byte(&tarball->path, '.');
	return tarball_dir(tarball, &root, 0);
}

/* As the archive's name says; the same bytes whenever it is made. */
static struct error *tarball_compress(struct tarball *tarball)
{
	const struct libarchive *lib = &tarball->lib;
	const struct {
		const char *suffix;
		int (*add)(struct archive *archive);
	} kinds[] = {{".gz", lib->archive_write_add_filter_gzip},
		     {".tgz", lib->archive_write_add_filter_gzip},
		     {".bz2", lib->archive_write_add_filter_bzip2},
		     {".xz", lib->archive_write_add_filter_xz},
		     {".zst", lib->archive_write_add_filter_zstd}};
	size_t len = strlen(tarball->name);

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t suffix = strlen(kinds[i].suffix);

		if (len < suffix ||
		    strcmp(tarball->name + len - suffix, kinds[i].suffix) != 0)
			continue;
		if (kinds[i].add(tarball->archive) != ARCHIVE_OK)
			return tarball_failure(tarball);
		(void)lib->archive_write_set_filter_option(tarball->archive, "gzip",
							   "timestamp", NULL);
	}
	return NULL;
}

static struct error *tarball_open(struct tarball *tarball)
{
	struct error *err;

	tarball->archive = tarball->lib.archive_write_new();
	if (!tarball->archive)
		return error_new(ERROR_RESOURCE_EXHAUSTED, "no memory for the archive");
	err = tarball_compress(tarball);
	if (err)
		return err;
	/* padded alike, whether to a file or a pipe */
	if (tarball->lib.archive_write_set_format_pax_restricted(tarball->archive) !=
		    ARCHIVE_OK ||
	    tarball->lib.archive_write_set_bytes_in_last_block(tarball->archive, 1) !=
		    ARCHIVE_OK ||
	    tarball->lib.archive_write_open_fd(tarball->archive, tarball->fd) !=
		    ARCHIVE_OK)
		return tarball_failure(tarball);
	return NULL;
}

static struct error *tarball_run(struct tarball *tarball)
{
	struct dircache *dirs = tarball->client->dirs;
	struct error *err = libarchive_load(&tarball->lib);

	if (!err)
		err = treeload_run(dirs, tarball->root, TARBALL_DIRS_MAX, NULL);
	if (!err)
		err = treeload_check_entries(dirs, tarball->root,
					     tarball->client->entries_max);
	if (!err)
		err = tarball_walk(tarball, false);
	(void)tarball_await(tarball, 0);
	sync_lock(&tarball->mutex);
	if (!err)
		err = take(tarball->err);
	sync_unlock(&tarball->mutex);
	if (!err)
		err = tarball_open(tarball);
	if (!err)
		err = tarball_walk(tarball, true);
	if (!err && tarball->lib.archive_write_close(tarball->archive) != ARCHIVE_OK)
		err = tarball_failure(tarball);
	return err;
}

struct error *tarball_write(struct client *client, const struct digest *root,
			    const char *name, int fd)
{
	_cleanup_(tarball_deinit) struct tarball tarball = {
		.client = client, .root = root, .name = name, .fd = fd};

	sync_mutex_init(&tarball.mutex);
	sync_cond_init(&tarball.cond);
	return tarball_run(&tarball);
}
