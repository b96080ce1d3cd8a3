/*
 * Owns nothing; every function opens and closes what it needs. Any thread that may block
 * on the disk. A name under blobs/ is made of a digest only, never of text.
 *
 * Staging directories are locked by flock(2): the kernel drops the lock when its owner
 * dies, however it dies and whichever pid namespace it lived in, so a directory whose
 * lock can be had is rubbish.
 */
#include "lib/store/store_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>

#include "lib/base/clock.h"
#include "lib/base/file.h"

#define STORE_FAN_OUT 256

const char *store_file_path(const struct digest *digest, char path[static STORE_PATH_MAX])
{
	char hex[DIGEST_HEX_MAX];

	(void)digest_hex(digest, hex);
	memcpy(path, "blobs/", 6);
	memcpy(path + 6, hex, 2);
	path[8] = '/';
	memcpy(path + 9, hex, sizeof(hex));
	return path;
}

const char *store_file_dir(const struct digest *digest, char path[static STORE_PATH_MAX])
{
	(void)snprintf(path, STORE_PATH_MAX, "blobs/%02x", digest->hash[0]);
	return path;
}

/*
 * Asks ext4 to spread the directories over the disk. It puts files near their directory,
 * and steps over each inode freed in the last minutes one by one: with all in one place,
 * a store that evicts as it writes becomes ten times slower. Elsewhere the flag means
 * nothing.
 */
static void store_file_spread(int dir_fd)
{
	_cleanup_fd_ int fd = openat(dir_fd, "blobs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int flags = 0;

	if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return;
	flags |= FS_TOPDIR_FL;
	(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

struct error *store_file_layout(int dir_fd)
{
	char path[STORE_PATH_MAX];

	if (mkdirat(dir_fd, "staging", 0700) < 0 && errno != EEXIST)
		return error_errno(errno, "make directory staging");
	if (mkdirat(dir_fd, "blobs", 0755) < 0 && errno != EEXIST)
		return error_errno(errno, "make directory blobs");
	/* ff is made last: where it stands, all do */
	if (faccessat(dir_fd, "blobs/ff", F_OK, 0) == 0)
		return NULL;
	store_file_spread(dir_fd);
	for (unsigned int i = 0; i < STORE_FAN_OUT; i++) {
		(void)snprintf(path, sizeof(path), "blobs/%02x", i);
		if (mkdirat(dir_fd, path, 0755) < 0 && errno != EEXIST)
			return error_errno(errno, "make directory %s", path);
	}
	return NULL;
}

int64_t store_file_stamp(const struct stat *st)
{
	uint64_t stamp = (uint64_t)st->st_ino * 0x9e3779b97f4a7c15u;

	stamp ^= (uint64_t)st->st_mtim.tv_sec * (uint64_t)NS_PER_S +
		 (uint64_t)st->st_mtim.tv_nsec;
	return (int64_t)stamp;
}

struct error *store_file_open(int dir_fd, const struct digest *digest, int *fd_out,
			      struct stat *st_out)
{
	char path[STORE_PATH_MAX];
	_cleanup_fd_ int fd = openat(dir_fd, store_file_path(digest, path),
				     O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0 && errno != ENOENT && errno != ELOOP)
		return error_errno(errno, "open %s", path);
	if (fd >= 0 && fstat(fd, st_out) < 0)
		return error_errno(errno, "stat %s", path);
	*fd_out = fd >= 0 && S_ISREG(st_out->st_mode) ? take_fd(fd) : -1;
	return NULL;
}

bool store_file_stat(int dir_fd, const struct digest *digest, struct stat *st_out)
{
	char path[STORE_PATH_MAX];

	return fstatat(dir_fd, store_file_path(digest, path), st_out,
		       AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st_out->st_mode);
}

struct error *store_file_open_empty(int dir_fd, int *fd_out)
{
	char path[STORE_PATH_MAX];
	struct stat st;

	(void)store_file_path(&digest_of_empty, path);
	for (int tries = 0; tries < 3; tries++) {
		_cleanup_fd_ int fd = openat(
			dir_fd, path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0444);

		if (fd < 0)
			return error_errno(errno, "open %s", path);
		if (fstat(fd, &st) == 0 && st.st_size == 0) {
			*fd_out = take_fd(fd);
			return NULL;
		}
		(void)unlinkat(dir_fd, path, 0);
	}
	return error_new(ERROR_DATA_LOSS, "%s is not empty and cannot be replaced", path);
}

static void closedirp(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

static struct error *store_file_open_list(int dir_fd, const char *path, DIR **dir_out)
{
	_cleanup_fd_ int fd =
		openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return error_errno(errno, "open directory %s", path);
	*dir_out = fdopendir(fd);
	if (!*dir_out)
		return error_errno(errno, "open directory %s", path);
	(void)take_fd(fd);
	return NULL;
}

struct error *store_file_scan(int dir_fd,
			      void (*each)(void *ctx, const struct digest *digest),
			      void *ctx)
{
	char path[STORE_PATH_MAX];
	struct stat st;

	for (unsigned int i = 0; i < STORE_FAN_OUT; i++) {
		_cleanup_(closedirp) DIR *list = NULL;
		struct dirent *entry;
		struct error *err;

		(void)snprintf(path, sizeof(path), "blobs/%02x", i);
		err = store_file_open_list(dir_fd, path, &list);
		if (err)
			return err;
		while ((entry = readdir(list))) {
			struct digest digest;
			_cleanup_error_ struct error *no_hash =
				digest_parse_hash(entry->d_name, 0, &digest);

			if (no_hash || digest.hash[0] != i ||
			    digest_equal(&digest, &digest_of_empty))
				continue;
			if (fstatat(dirfd(list), entry->d_name, &st,
				    AT_SYMLINK_NOFOLLOW) < 0 ||
			    !S_ISREG(st.st_mode))
				continue;
			digest.size = st.st_size;
			each(ctx, &digest);
		}
	}
	return NULL;
}

struct error *store_file_lock(int dir_fd, const char *dir, bool is_shared,
			      int *lock_fd_out)
{
	_cleanup_fd_ int fd = openat(dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	char pid[24] = "";
	ssize_t n;

	if (fd < 0)
		return error_errno(errno, "open %s/lock", dir);
	if (flock(fd, (is_shared ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return error_errno(errno, "lock %s/lock", dir);
		n = pread(fd, pid, sizeof(pid) - 1, 0);
		if (n <= 0)
			return error_new(ERROR_FAILED_PRECONDITION,
					 "%s is in use by lazyroot commands", dir);
		pid[strcspn(pid, "\n")] = '\0';
		return error_new(ERROR_FAILED_PRECONDITION, "%s is in use by process %s",
				 dir, pid);
	}
	if (ftruncate(fd, 0) < 0)
		return error_errno(errno, "truncate %s/lock", dir);
	if (!is_shared && dprintf(fd, "%d\n", getpid()) < 0)
		return error_errno(errno, "write %s/lock", dir);
	*lock_fd_out = take_fd(fd);
	return NULL;
}

struct error *store_file_staging(int dir_fd, char path[static STORE_PATH_MAX],
				 int *fd_out)
{
	for (;;) {
		_cleanup_fd_ int fd = -1;
		struct stat ours;
		struct stat there;

		(void)snprintf(path, STORE_PATH_MAX, "staging/%d.%" PRIx64, getpid(),
			       (uint64_t)clock_mono_ns());
		if (mkdirat(dir_fd, path, 0700) < 0 && errno != EEXIST)
			return error_errno(errno, "make directory %s", path);
		fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 && errno != ENOENT)
			return error_errno(errno, "open directory %s", path);
		/* A sweeper may have come between: then it is not there any more. */
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &ours) < 0 ||
		    fstatat(dir_fd, path, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
		    ours.st_ino != there.st_ino)
			continue;
		*fd_out = take_fd(fd);
		return NULL;
	}
}

struct error *store_file_sweep(int dir_fd, bool *found_dead_out)
{
	_cleanup_(closedirp) DIR *list = NULL;
	struct dirent *entry;
	struct error *err = store_file_open_list(dir_fd, "staging", &list);
	bool found = false;

	if (err)
		return err;
	while (!err && (entry = readdir(list))) {
		_cleanup_fd_ int fd = -1;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		fd = openat(dirfd(list), entry->d_name,
			    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
			continue;
		found = true;
		err = file_remove_tree(dirfd(list), entry->d_name);
	}
	if (!err)
		*found_dead_out = found;
	return error_wrap(err, "clean the staging directory");
}
