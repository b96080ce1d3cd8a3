/* Owns nothing: each call opens and closes what it needs. Any thread that may block. */
#include "lib/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "lib/base/alloc.h"

#define FILE_READ_CHUNK   ((size_t)65536)
#define FILE_REMOVE_DEPTH 64
#define FILE_COPY_CHUNK   ((size_t)1 << 20)
#define FILE_OPEN_TRIES   1000

const char *file_kind(mode_t mode)
{
	if (S_ISSOCK(mode))
		return "a socket";
	return S_ISFIFO(mode) ? "a FIFO" : "a device";
}

struct error *file_pread(int fd, void *to, size_t max, off_t at, size_t *n_out)
{
	ssize_t n;

	do {
		n = pread(fd, to, max, at);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_errno(errno, "read");
	*n_out = (size_t)n;
	return NULL;
}

struct error *file_read_fd(int fd, size_t limit, struct buf *out)
{
	size_t start = out->len;

	for (;;) {
		struct error *err;
		size_t n = 0;

		buf_reserve(out, FILE_READ_CHUNK);
		err = file_pread(fd, out->data + out->len, FILE_READ_CHUNK,
				 (off_t)(out->len - start), &n);
		if (err || n == 0)
			return err;
		out->len += n;
		out->data[out->len] = '\0';
		if (out->len - start > limit)
			return error_new(ERROR_INVALID_ARGUMENT, "longer than %zu bytes",
					 limit);
	}
}

struct error *file_read_all(int dir_fd, const char *path, size_t limit, struct buf *out)
{
	_cleanup_fd_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(errno, "open %s", path);
	return error_wrap(file_read_fd(fd, limit, out), "%s", path);
}

struct error *file_write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(errno, "write");
		p += n;
		len -= (size_t)n;
	}
	return NULL;
}

char *file_temporary(const char *path)
{
	uint64_t chance = (uint64_t)getpid();

	/* in a directory for all, others may wait at a name that they can foresee */
	(void)!getrandom(&chance, sizeof(chance), GRND_NONBLOCK);
	return alloc_printf("%s.%016" PRIx64 "~", path, chance);
}

struct error *file_replace(int dir_fd, const char *path, const void *data, size_t len,
			   mode_t mode)
{
	_cleanup_free_ char *temporary = file_temporary(path);
	_cleanup_fd_ int fd =
		openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	struct error *err;

	if (fd < 0)
		return error_errno(errno, "create %s", temporary);
	err = file_write_all(fd, data, len);
	if (!err && renameat(dir_fd, temporary, dir_fd, path) < 0)
		err = error_errno(errno, "rename %s to %s", temporary, path);
	if (err)
		(void)unlinkat(dir_fd, temporary, 0);
	return error_wrap(err, "write %s", path);
}

static struct error *file_copy_by_hand(int src_fd, int dst_fd, off_t done)
{
	_cleanup_free_ uint8_t *chunk = alloc_array(FILE_COPY_CHUNK, 1);

	for (;;) {
		size_t n = 0;
		struct error *err = file_pread(src_fd, chunk, FILE_COPY_CHUNK, done, &n);

		if (!err && n > 0)
			err = file_write_all(dst_fd, chunk, n);
		if (err || n == 0)
			return err;
		done += (off_t)n;
	}
}

struct error *file_copy(int src_fd, int dst_fd)
{
	if (ioctl(dst_fd, FICLONE, src_fd) == 0)
		return NULL;
	return file_copy_from(src_fd, 0, dst_fd);
}

struct error *file_copy_from(int src_fd, off_t from, int dst_fd)
{
	for (;;) {
		ssize_t n =
			copy_file_range(src_fd, &from, dst_fd, NULL, (size_t)1 << 30, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
			return error_errno(errno, "copy");
		/* 0 may also mean a file system that cannot (procfs, FUSE): check by hand
		 */
		if (n <= 0)
			return file_copy_by_hand(src_fd, dst_fd, from);
	}
}

struct error *file_mkdirs(int dir_fd, const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = alloc_string(path);

	for (char *p = copy;;) {
		char *slash = strchr(*p == '/' ? p + 1 : p, '/');

		if (slash)
			*slash = '\0';
		if (*copy && mkdirat(dir_fd, copy, mode) < 0 && errno != EEXIST)
			return error_errno(errno, "make directory %s", copy);
		if (!slash)
			return NULL;
		*slash = '/';
		p = slash + 1;
	}
}

/*
 * Removing a tree that somebody else made: it may be deeper than descriptors or paths
 * reach. Each level holds a descriptor, so at FILE_REMOVE_DEPTH a directory is first
 * moved up to the top, under a name of ours, and its turn comes again from there.
 */
struct file_removal {
	int top_fd; /* the directory that all of it lies below; -1: the first level */
	unsigned int depth;
	unsigned int n_moved;
	bool has_moved; /* something came up: the top must be read again */
};

static struct error *file_remove_entries(struct file_removal *removal, int fd,
					 const char *path);

static struct error *file_remove_up(struct file_removal *removal, int dir_fd,
				    const char *name)
{
	char moved[32];

	(void)snprintf(moved, sizeof(moved), ".lazyroot-deep-%u", removal->n_moved++);
	if (renameat2(dir_fd, name, removal->top_fd, moved, RENAME_NOREPLACE) < 0)
		return error_errno(errno, "move directory %s up", name);
	removal->has_moved = true;
	return NULL;
}

static struct error *file_remove_one(struct file_removal *removal, int dir_fd,
				     const char *name)
{
	_cleanup_fd_ int fd = -1;
	struct error *err;

	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
		return NULL;
	if (errno != EISDIR && errno != EPERM)
		return error_errno(errno, "remove %s", name);
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0)
		return NULL;
	if (removal->depth >= FILE_REMOVE_DEPTH)
		return file_remove_up(removal, dir_fd, name);
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == EACCES && fchmodat(dir_fd, name, 0700, 0) == 0)
		fd = openat(dir_fd, name,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_errno(errno, "open directory %s", name);
	(void)fchmod(fd, 0700);
	removal->depth++;
	err = file_remove_entries(removal, fd, name);
	removal->depth--;
	if (err)
		return err;
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return error_errno(errno, "remove directory %s", name);
	return NULL;
}

static void closedirp(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

static struct error *file_remove_entries(struct file_removal *removal, int fd,
					 const char *path)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	_cleanup_(closedirp) DIR *dir = own < 0 ? NULL : fdopendir(own);
	bool is_top = removal->top_fd < 0;
	struct dirent *entry;

	if (!dir)
		return error_errno(errno, "read directory %s", path);
	if (is_top)
		removal->top_fd = fd;
	do {
		removal->has_moved = removal->has_moved && !is_top;
		rewinddir(dir);
		while ((entry = readdir(dir))) {
			struct error *err;

			if (strcmp(entry->d_name, ".") == 0 ||
			    strcmp(entry->d_name, "..") == 0)
				continue;
			err = file_remove_one(removal, fd, entry->d_name);
			if (err)
				return error_wrap(err, "in %s", path);
		}
	} while (is_top && removal->has_moved);
	return NULL;
}

struct error *file_remove_tree(int dir_fd, const char *path)
{
	struct file_removal removal = {.top_fd = -1};

	return file_remove_one(&removal, dir_fd, path);
}

struct error *file_open_beneath_by_hand(int dir_fd, const char *path, int flags,
					mode_t mode, int *fd_out)
{
	_cleanup_free_ char *copy = alloc_string(path);
	_cleanup_fd_ int fd = -1;
	char *at = copy;

	if (strcmp(path, ".") != 0 && file_path_escapes(path))
		return error_errno(EXDEV, "open %s", path);
	for (;;) {
		char *slash = strchr(at, '/');
		int next;

		if (slash)
			*slash = '\0';
		next = openat(fd < 0 ? dir_fd : fd, at,
			      O_NOFOLLOW | O_CLOEXEC |
				      (slash ? O_PATH | O_DIRECTORY : flags),
			      mode);
		if (next < 0)
			return error_errno(errno, "open %s", path);
		cleanup_fd(&fd);
		fd = next;
		if (!slash)
			break;
		at = slash + 1;
	}
	*fd_out = take_fd(fd);
	return NULL;
}

int file_open_resolved(int dir_fd, const char *path, int flags, mode_t mode,
		       uint64_t resolve)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned int)(flags | O_CLOEXEC),
		.mode = flags & (O_CREAT | __O_TMPFILE) ? mode : 0,
		.resolve = resolve,
	};
	int fd = -1;

	for (int i = 0; i < FILE_OPEN_TRIES; i++) {
		fd = (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	return fd;
}

struct error *file_open_beneath(int dir_fd, const char *path, int flags, mode_t mode,
				int *fd_out)
{
	int fd = file_open_resolved(dir_fd, path, flags, mode,
				    RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					    RESOLVE_NO_MAGICLINKS);

	if (fd < 0 && errno == ENOSYS)
		return file_open_beneath_by_hand(dir_fd, path, flags, mode, fd_out);
	if (fd < 0)
		return error_errno(errno, "open %s", path);
	*fd_out = fd;
	return NULL;
}

/* Something else than a directory stands at name: it gives way. */
static struct error *file_replace_by_dir(int dir_fd, const char *name, mode_t mode)
{
	if (unlinkat(dir_fd, name, 0) < 0 || mkdirat(dir_fd, name, mode) < 0)
		return error_errno(errno, "replace %s by a directory", name);
	return NULL;
}

struct error *file_mkdirs_beneath(int dir_fd, const char *path, mode_t mode, int *fd_out)
{
	_cleanup_free_ char *copy = alloc_string(path);
	_cleanup_fd_ int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *save = NULL;

	if (fd < 0)
		return error_errno(errno, "open the directory above %s", path);
	if (*path && file_path_escapes(path))
		return error_errno(EXDEV, "make directory %s", path);
	for (char *name = strtok_r(copy, "/", &save); name;
	     name = strtok_r(NULL, "/", &save)) {
		const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
		int next = openat(fd, name, flags);
		struct error *err = NULL;

		if (next < 0 && errno == ENOENT) {
			if (mkdirat(fd, name, mode) < 0 && errno != EEXIST)
				return error_errno(errno, "make directory %s", path);
		} else if (next < 0 && (errno == ENOTDIR || errno == ELOOP)) {
			err = file_replace_by_dir(fd, name, mode);
		}
		if (err)
			return error_wrap(err, "make directory %s", path);
		if (next < 0)
			next = openat(fd, name, flags);
		if (next < 0)
			return error_errno(errno, "open directory %s", path);
		cleanup_fd(&fd);
		fd = next;
	}
	*fd_out = take_fd(fd);
	return NULL;
}

struct error *file_open_deep(int dir_fd, const char *path, int *fd_out)
{
	const char *rest = path;
	_cleanup_fd_ int at = -1;

	do {
		size_t len = strlen(rest);
		char piece[PATH_MAX];
		struct error *err;
		int fd = -1;

		if (len >= sizeof(piece))
			for (len = sizeof(piece) - 1; rest[len] != '/';)
				len--;
		memcpy(piece, rest, len);
		piece[len] = '\0';
		err = file_open_beneath(at < 0 ? dir_fd : at, len ? piece : ".",
					O_RDONLY | O_DIRECTORY, 0, &fd);
		if (err)
			return err;
		cleanup_fd(&at);
		at = fd;
		rest += len + (rest[len] == '/');
	} while (*rest);
	*fd_out = take_fd(at);
	return NULL;
}

struct error *file_open_dir(int dir_fd, const char *path, int *fd_out)
{
	int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(errno, "open directory %s", path);
	*fd_out = fd;
	return NULL;
}

bool file_path_escapes(const char *path)
{
	for (;;) {
		size_t len = strcspn(path, "/");

		if (len == 0 || (len == 1 && path[0] == '.') ||
		    (len == 2 && path[0] == '.' && path[1] == '.'))
			return true;
		if (!path[len])
			return false;
		path += len + 1;
	}
}

static bool file_path_up(struct buf *path)
{
	char *slash;

	if (!path->len)
		return false;
	slash = strrchr((char *)path->data, '/');
	path->len = slash ? (size_t)(slash - (char *)path->data) : 0;
	path->data[path->len] = '\0';
	return true;
}

/* Adds path, component by component, to a clean path below some root. ".." leads upwards
 * where that is allowed, but never above the root. */
static struct error *file_path_add(struct buf *clean, const char *path, bool may_climb)
{
	if (*path == '/')
		return error_new(ERROR_INVALID_ARGUMENT,
				 "\"%s\" is absolute, it must be relative", path);
	for (const char *at = path; *at;) {
		size_t len = strcspn(at, "/");

		if (len == 2 && at[0] == '.' && at[1] == '.') {
			if (!may_climb || !file_path_up(clean))
				return error_new(ERROR_INVALID_ARGUMENT,
						 "\"%s\" leads upwards%s", path,
						 may_climb ? ", out of the root"
							   : " by \"..\"");
		} else if (len && !(len == 1 && at[0] == '.')) {
			if (clean->len)
				buf_add_byte(clean, '/');
			buf_add(clean, at, len);
		}
		at += len;
		at += strspn(at, "/");
	}
	return NULL;
}

struct error *file_path_clean(const char *path, char **clean_out)
{
	_cleanup_buf_ struct buf clean = BUF_INIT;
	struct error *err = file_path_add(&clean, path, false);

	if (err)
		return err;
	*clean_out = buf_steal_string(&clean);
	return NULL;
}

struct error *file_path_join(const char *base, const char *path, char **clean_out)
{
	_cleanup_buf_ struct buf clean = BUF_INIT;
	struct error *err;

	buf_add_string(&clean, base);
	err = file_path_add(&clean, path, true);
	if (err)
		return err;
	*clean_out = buf_steal_string(&clean);
	return NULL;
}

char *file_path_relative(const char *base, const char *path)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	/* what both begin with, component by component */
	for (;;) {
		size_t n = strcspn(base, "/");
		size_t len = strcspn(path, "/");

		if (!n || n != len || strncmp(base, path, n) != 0)
			break;
		base += n + (base[n] == '/');
		path += len + (path[len] == '/');
	}
	for (; *base; base += strspn(base, "/")) {
		buf_add_string(&out, out.len ? "/.." : "..");
		base += strcspn(base, "/");
	}
	if (*path)
		buf_printf(&out, "%s%s", out.len ? "/" : "", path);
	return buf_steal_string(&out);
}

bool file_stamp_update(struct file_stamp *stamp, const char *path)
{
	struct file_stamp now;
	struct stat st;

	if (stat(path, &st) < 0)
		return false;
	now = (struct file_stamp){st.st_dev, st.st_ino, st.st_size, st.st_mtim};
	if (now.dev == stamp->dev && now.inode == stamp->inode &&
	    now.size == stamp->size && now.changed.tv_sec == stamp->changed.tv_sec &&
	    now.changed.tv_nsec == stamp->changed.tv_nsec)
		return false;
	*stamp = now;
	return true;
}
