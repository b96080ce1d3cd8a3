/*
 * Owns the reading of upper directories: turns what overlayfs writes there into entries,
 * each resolved as far as that needs no file's bytes. What overlayfs writes:
 *
 *   whiteout   a character device 0:0 (hard-linked, so its inode says nothing), or in a
 *              directory with opaque=x an empty file with the whiteout attribute
 *   opaque=y   the directory hides what is below it
 *   redirect   the lower counterpart stands elsewhere: "/a/b" from the root of the lower
 *              layer, "b" beside the own name in the parent's lower directory
 *   metacopy   only metadata was copied up: the bytes are those of the lower counterpart
 *
 * An attribute that cannot be read is an error: guessing would make wrong outputs.
 *
 * Threads: the capture's.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "fuse/capture_impl.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/text.h"

#define CAPTURE_XATTR_MAX 4096

/* The overlay attributes of one entry. */
struct capture_xattrs {
	char redirect[CAPTURE_XATTR_MAX]; /* "": none */
	char opaque;                      /* 'y', 'x' or 0 */
	bool is_metacopy;
	bool is_whiteout;
};

static void closedirp(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

int capture_open_dir(const struct capture *capture, const struct capture_dir *dir)
{
	_cleanup_error_ struct error *err = NULL;
	int fd = -1;

	err = file_open_deep(capture->config.upper_fd, dir->path, &fd);
	if (err)
		errno = error_errnum(err);
	return fd;
}

/* Reads one of the overlay's attributes as text; *has_out false where there is none. */
static struct error *capture_get_xattr(const struct capture *capture, const char *path,
				       const char *what,
				       char value[static CAPTURE_XATTR_MAX],
				       bool *has_out)
{
	char key[32];
	ssize_t n;

	(void)snprintf(key, sizeof(key), "%s.overlay.%s",
		       capture->has_user_xattrs ? "user" : "trusted", what);
	n = lgetxattr(path, key, value, CAPTURE_XATTR_MAX - 1);
	if (n < 0 && (errno == ENODATA || errno == EOPNOTSUPP)) {
		*has_out = false;
		return NULL;
	}
	if (n < 0)
		return error_errno(errno, "read attribute %s", key);
	value[n] = '\0';
	*has_out = true;
	return NULL;
}

static struct error *capture_read_xattrs(const struct capture *capture, int dir_fd,
					 const char *name, struct capture_xattrs *out)
{
	char path[64 + TREE_NAME_MAX];
	char value[CAPTURE_XATTR_MAX];
	struct error *err;
	bool has;

	*out = (struct capture_xattrs){0};
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir_fd, name);
	/* most of what a command writes has no attribute at all */
	if (capture->config.staged || llistxattr(path, NULL, 0) == 0)
		return NULL;
	err = capture_get_xattr(capture, path, "redirect", value, &has);
	if (!err && has)
		memcpy(out->redirect, value, sizeof(value));
	if (!err)
		err = capture_get_xattr(capture, path, "metacopy", value,
					&out->is_metacopy);
	if (!err)
		err = capture_get_xattr(capture, path, "whiteout", value,
					&out->is_whiteout);
	if (!err)
		err = capture_get_xattr(capture, path, "opaque", value, &has);
	if (!err && has)
		out->opaque = value[0];
	return err;
}

struct error *capture_lower(struct capture *capture, const struct digest *digest,
			    struct tree_dir **dir_out)
{
	struct tree_dir *dir;
	struct error *err = dircache_get(capture->config.dirs, digest, NULL, &dir);

	if (err)
		return err;
	capture->lowers = alloc_grow(capture->lowers, &capture->lowers_cap,
				     capture->n_lowers + 1, sizeof(struct tree_dir *));
	capture->lowers[capture->n_lowers++] = dir;
	capture->stats.n_dirs++;
	*dir_out = dir;
	return NULL;
}

/* The lower layer's entry at a path from its root, or NULL. */
static struct error *capture_lower_at(struct capture *capture, const char *path,
				      const struct tree_node **node_out)
{
	const struct tree_node *node = NULL;
	struct digest digest = capture->root_digest;

	for (;;) {
		struct tree_dir *dir;
		struct error *err;
		size_t len;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (!len)
			break;
		if (node && node->kind != TREE_DIR) {
			node = NULL;
			break;
		}
		err = capture_lower(capture, &digest, &dir);
		if (err)
			return err;
		node = tree_dir_find(dir, (struct slice){(const uint8_t *)path, len});
		if (!node)
			break;
		digest = node->digest;
		path += len;
	}
	*node_out = node;
	return NULL;
}

/* What the lower layer has for an entry of dir, or NULL. */
static struct error *capture_counterpart(struct capture *capture,
					 const struct capture_dir *dir, const char *name,
					 const char *redirect,
					 const struct tree_node **node_out)
{
	if (redirect[0] == '/')
		return capture_lower_at(capture, redirect, node_out);
	*node_out = dir->lower ? tree_dir_find(dir->lower,
					       slice_of(redirect[0] ? redirect : name))
			       : NULL;
	return NULL;
}

/* What an entry of a plain directory was staged as; NULL: nothing, or it is no such
 * directory. */
static const struct tree_node *capture_staged(const struct capture *capture,
					      const struct stat *st)
{
	const struct capture_config *config = &capture->config;

	return config->staged ? config->staged(config->staged_ctx, st) : NULL;
}

static struct error *capture_props(struct capture *capture, const struct stat *st,
				   const struct tree_props **props_out)
{
	const struct tree_node *node = capture_staged(capture, st);
	bool with_mode = capture->config.with_unix_mode && S_ISREG(st->st_mode);
	struct tree_props *props;

	if (node) { /* it came with them */
		*props_out = node->props;
		return NULL;
	}
	if (!capture->config.with_mtime && !with_mode)
		return NULL;
	props = arena_new(&capture->arena, struct tree_props);
	if (!props)
		return capture_full(capture);
	props->has_mtime = capture->config.with_mtime;
	if (props->has_mtime) {
		props->mtime_s = st->st_mtim.tv_sec;
		props->mtime_ns = (int32_t)st->st_mtim.tv_nsec;
	}
	props->has_unix_mode = with_mode;
	if (with_mode)
		props->unix_mode = st->st_mode & 07777;
	*props_out = props;
	return NULL;
}

static struct error *capture_scan_dir(struct capture *capture,
				      const struct capture_dir *dir,
				      const struct capture_xattrs *xattrs,
				      const struct stat *st, struct capture_entry *entry)
{
	const struct tree_node *node = capture_staged(capture, st);
	struct capture_dir *child = arena_new(&capture->arena, struct capture_dir);
	char *path = arena_printf(&capture->arena, "%s%s%s", dir->path,
				  *dir->path ? "/" : "", entry->name);
	struct error *err;

	if (!child || !path)
		return capture_full(capture);
	child->path = path;
	child->depth = dir->depth + 1;
	if (child->depth > TREE_DEPTH_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "more than %d levels of directories", TREE_DEPTH_MAX);
	child->is_whiteout_dir = xattrs->opaque == 'x';
	if (xattrs->opaque != 'y' && !capture->config.staged) {
		err = capture_counterpart(capture, dir, entry->name, xattrs->redirect,
					  &node);
		if (err)
			return err;
	}
	if (node && node->kind == TREE_DIR) {
		child->has_lower = true;
		child->lower_digest = node->digest;
	}
	entry->kind = CAPTURE_ENTRY_DIR;
	entry->dir = child;
	return NULL;
}

static struct error *capture_scan_file(struct capture *capture,
				       const struct capture_dir *dir,
				       const struct capture_xattrs *xattrs,
				       const struct stat *st, struct capture_entry *entry)
{
	const struct tree_node *node = capture_staged(capture, st);
	struct error *err;

	entry->kind = CAPTURE_ENTRY_FILE;
	entry->is_executable = node ? node->is_executable : st->st_mode & S_IXUSR;
	entry->size = st->st_size;
	err = capture_props(capture, st, &entry->props);
	if (!err && node) {
		entry->has_digest = true;
		entry->digest = node->digest;
	}
	if (err || !xattrs->is_metacopy)
		return err;
	err = capture_counterpart(capture, dir, entry->name, xattrs->redirect, &node);
	if (err)
		return err;
	if (!node || node->kind != TREE_FILE)
		return error_new(ERROR_INTERNAL,
				 "its bytes are to come from %s, where the "
				 "input root has no file",
				 xattrs->redirect[0] ? xattrs->redirect : entry->name);
	entry->has_digest = true;
	entry->digest = node->digest;
	return NULL;
}

static struct error *capture_scan_symlink(struct capture *capture, int dir_fd,
					  const struct stat *st,
					  struct capture_entry *entry)
{
	char target[TREE_TARGET_MAX + 1];
	ssize_t n = readlinkat(dir_fd, entry->name, target, sizeof(target));

	if (n < 0)
		return error_errno(errno, "read a link");
	entry->kind = CAPTURE_ENTRY_SYMLINK;
	entry->target.data = arena_memdup(&capture->arena, target, (size_t)n);
	if (!entry->target.data)
		return capture_full(capture);
	entry->target.len = (size_t)n;
	return capture_props(capture, st, &entry->props);
}

/* Messages hold names as strings, which are UTF-8; files may be called anything. */
static void capture_leave_out(struct capture_entry *entry)
{
	bool is_link = entry->kind == CAPTURE_ENTRY_SYMLINK;

	if (entry->kind == CAPTURE_ENTRY_WHITEOUT)
		return;
	if (!text_is_utf8(slice_of(entry->name)))
		entry->what = "its name is not UTF-8";
	else if (is_link && !text_is_utf8(entry->target))
		entry->what = "a link whose target is not UTF-8";
	else
		return;
	entry->kind = CAPTURE_ENTRY_OTHER;
}

static struct error *capture_scan_entry(struct capture *capture,
					const struct capture_dir *dir, int dir_fd,
					struct capture_entry *entry)
{
	struct capture_xattrs xattrs;
	struct stat st;
	struct error *err;

	if (fstatat(dir_fd, entry->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(errno, "stat");
	if (S_ISLNK(st.st_mode))
		return capture_scan_symlink(capture, dir_fd, &st, entry);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
		bool is_whiteout = !capture->config.staged && S_ISCHR(st.st_mode) &&
				   st.st_rdev == makedev(0, 0);

		entry->kind = is_whiteout ? CAPTURE_ENTRY_WHITEOUT : CAPTURE_ENTRY_OTHER;
		entry->what = file_kind(st.st_mode);
		return NULL;
	}
	err = capture_read_xattrs(capture, dir_fd, entry->name, &xattrs);
	if (err)
		return err;
	if (S_ISDIR(st.st_mode))
		return capture_scan_dir(capture, dir, &xattrs, &st, entry);
	if (dir->is_whiteout_dir && xattrs.is_whiteout) {
		entry->kind = CAPTURE_ENTRY_WHITEOUT;
		return NULL;
	}
	return capture_scan_file(capture, dir, &xattrs, &st, entry);
}

static int capture_compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct capture_entry *)a)->name,
		      ((const struct capture_entry *)b)->name);
}

/* The names of a directory, as entries without more, sorted. */
static struct error *capture_scan_names(struct capture *capture, struct capture_dir *dir,
					DIR *stream)
{
	_cleanup_free_ struct capture_entry *entries = NULL;
	const char *name;
	struct dirent *d;
	size_t cap = 0;
	size_t n = 0;

	while ((errno = 0, d = readdir(stream))) {
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if ((int64_t)++capture->stats.n_scanned > capture->config.entries_max)
			return capture_too_many(capture, "the outputs have");
		name = arena_string(&capture->arena, d->d_name);
		if (!name)
			return capture_full(capture);
		entries = alloc_grow(entries, &cap, n + 1, sizeof(*entries));
		entries[n++] = (struct capture_entry){.name = name};
	}
	if (errno)
		return error_errno(errno, "list");
	if (n) {
		qsort(entries, n, sizeof(*entries), capture_compare_entries);
		dir->entries = arena_array(&capture->arena, n, sizeof(*entries));
		if (!dir->entries)
			return capture_full(capture);
		memcpy(dir->entries, entries, n * sizeof(*entries));
	}
	dir->n_entries = n;
	return NULL;
}

struct error *capture_scan(struct capture *capture, struct capture_dir *dir)
{
	_cleanup_(closedirp) DIR *stream = NULL;
	struct error *err;
	struct stat st;
	int fd;

	if (dir->is_scanned)
		return NULL;
	fd = capture_open_dir(capture, dir);
	stream = fd < 0 ? NULL : fdopendir(fd);
	if (!stream)
		return error_errno(errno, "open the written directory %s", dir->path);
	if (fstat(fd, &st) < 0)
		return error_errno(errno, "look at the written directory %s", dir->path);
	dir->mtime = st.st_mtim;
	err = capture_scan_names(capture, dir, stream);
	if (!err && dir->has_lower &&
	    (dir->n_entries || capture->config.with_mtime || capture->config.staged))
		err = capture_lower(capture, &dir->lower_digest, &dir->lower);
	for (size_t i = 0; i < dir->n_entries && !err; i++) {
		err = capture_scan_entry(capture, dir, fd, &dir->entries[i]);
		err = error_wrap(err, "output %s", dir->entries[i].name);
		if (!err)
			capture_leave_out(&dir->entries[i]);
	}
	if (err)
		return *dir->path ? error_wrap(err, "in %.200s", dir->path) : err;
	dir->is_scanned = true;
	return NULL;
}

struct capture_entry *capture_find(const struct capture_dir *dir, const char *name)
{
	struct capture_entry key = {.name = name};

	if (!dir->n_entries)
		return NULL;
	return bsearch(&key, dir->entries, dir->n_entries, sizeof(key),
		       capture_compare_entries);
}
