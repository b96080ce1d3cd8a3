/*
 * Owns one file system of an action's own. What must stay true:
 *
 * - It is mounted in the worker's mount namespace, and a loop device clears itself with
 *   its last user, so that whatever way the worker ends both are gone; a file that is
 * left lies in the cache's directory of actions, which is emptied at the next start.
 * - Of an ext4 there is a little more than the limit, for its tables; what of that is not
 *   needed in the end is taken by a file of ours (upper_settle()).
 */
#include "worker/action/upper.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/loop.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"

#define LOG_MODULE "upper"
#include "lib/base/log.h"

#define UPPER_MKFS        "mkfs.ext4"
#define UPPER_INODE_BYTES 4096 /* one inode for so many, as every file takes a block */
#define UPPER_INODES_MIN  1024
#define UPPER_OWN_BYTES   ((int64_t)8 << 20) /* of a small ext4's own */
#define UPPER_TRIES       64                 /* others take loop devices, too */
#define UPPER_PROBE_BYTES ((int64_t)1 << 20)

struct upper {
	enum upper_kind kind;
	int64_t bytes;
	char *point;
	char *overlay;
	char *tmp;
	char *shm;
	int fd;
	bool is_mounted;
};

bool upper_parse(const char *name, enum upper_kind *kind_out)
{
	static const char *const names[] = {"dir", "tmpfs", "loop"};

	for (enum upper_kind kind = UPPER_DIR; kind < ARRAY_SIZE(names); kind++) {
		if (strcmp(name, names[kind]) != 0)
			continue;
		*kind_out = kind;
		return true;
	}
	return false;
}

static int64_t upper_n_inodes(int64_t bytes)
{
	int64_t n = bytes / UPPER_INODE_BYTES;

	return n > UPPER_INODES_MIN ? n : UPPER_INODES_MIN;
}

static struct error *upper_mount(struct upper *upper, const char *source,
				 const char *type, const char *options)
{
	if (mount(source, upper->point, type, MS_NOSUID | MS_NODEV | MS_NOATIME,
		  options) < 0)
		return error_errno(errno, "mount %s on %s", type, upper->point);
	upper->is_mounted = true;
	return NULL;
}

static struct error *upper_mount_tmpfs(struct upper *upper)
{
	/* pages of directories and attributes are not counted by tmpfs */
	_cleanup_free_ char *options =
		alloc_printf("mode=0755,size=%" PRId64 ",nr_inodes=%" PRId64,
			     upper->bytes, upper_n_inodes(upper->bytes));

	return upper_mount(upper, "lazyroot", "tmpfs", options);
}

/* An ext4 without a journal: nothing of it outlives the action. */
static struct error *upper_make_ext4(const char *path, int64_t n_inodes)
{
	_cleanup_free_ char *inodes = alloc_printf("%" PRId64, n_inodes);
	char *argv[] = {(char[]){UPPER_MKFS},
			(char[]){"-qFm0"},
			(char[]){"-b4096"},
			(char[]){"-N"},
			inodes,
			(char[]){"-O"},
			(char[]){"^has_journal,^resize_inode,^metadata_csum"},
			(char[]){"-E"},
			(char[]){"lazy_itable_init=1,nodiscard,root_owner=0:0"},
			(char *)(uintptr_t)path,
			NULL};
	char *environment[] = {(char[]){"PATH=/usr/sbin:/sbin:/usr/bin:/bin"}, NULL};
	posix_spawnattr_t attr;
	sigset_t none;
	int status;
	int errnum;
	pid_t pid;

	(void)sigemptyset(&none);
	(void)posix_spawnattr_init(&attr);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	errnum = posix_spawnp(&pid,
			      access("/usr/sbin/" UPPER_MKFS, X_OK) == 0
				      ? "/usr/sbin/" UPPER_MKFS
				      : UPPER_MKFS,
			      NULL, &attr, argv, environment);
	(void)posix_spawnattr_destroy(&attr);
	if (errnum)
		return error_errno(errnum, "start " UPPER_MKFS " (package e2fsprogs)");
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return error_errno(errno, "wait for " UPPER_MKFS);
	if (status)
		return error_new(ERROR_INTERNAL, UPPER_MKFS " failed with status %d",
				 status);
	return NULL;
}

/* The file as a block device that is gone with its last user. */
static struct error *upper_loop(int file_fd, char path[static 32], int *loop_out)
{
	_cleanup_fd_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config config = {
		.fd = (unsigned int)file_fd,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};

	if (control < 0)
		return error_errno(errno, "open /dev/loop-control");
	for (int i = 0; i < UPPER_TRIES; i++) {
		_cleanup_fd_ int fd = -1;
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		if (number < 0)
			return error_errno(errno, "find a free loop device");
		(void)snprintf(path, 32, "/dev/loop%d", number);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return error_errno(errno, "open %s", path);
		if (ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
			*loop_out = take_fd(fd);
			return NULL;
		}
		if (errno != EBUSY)
			return error_errno(errno, "set up %s", path);
	}
	return error_new(ERROR_UNAVAILABLE, "others take each loop device that is free");
}

static struct error *upper_mount_loop(struct upper *upper, const char *dir)
{
	_cleanup_free_ char *path = alloc_printf("%s/disk", dir);
	_cleanup_fd_ int file_fd =
		open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	_cleanup_fd_ int loop_fd = -1;
	int64_t n_inodes = upper_n_inodes(upper->bytes);
	char device[32];
	struct error *err;

	if (file_fd < 0)
		return error_errno(errno, "make %s", path);
	/* inodes are 256 bytes, bitmaps less than a thousandth */
	if (ftruncate(file_fd, upper->bytes + upper->bytes / 50 + n_inodes * 256 +
				       UPPER_OWN_BYTES) < 0)
		return error_errno(errno, "size %s", path);
	err = upper_make_ext4(path, n_inodes);
	if (!err)
		err = upper_loop(file_fd, device, &loop_fd);
	/* its name is not needed any more */
	(void)unlink(path);
	if (err)
		return err;
	return upper_mount(upper, device, "ext4", "noinit_itable,nobarrier");
}

static struct error *upper_make_shared(const char *path)
{
	if (mkdir(path, 01777) < 0 || chmod(path, 01777) < 0)
		return error_errno(errno, "make %s", path);
	return NULL;
}

struct error *upper_new(const struct upper_config *config, struct upper **out)
{
	_cleanup_(upper_freep) struct upper *upper = NULL;
	struct error *err;

	if (config->kind == UPPER_DIR)
		return NULL;
	if (mkdir(config->point, 0755) < 0)
		return error_errno(errno, "make directory %s", config->point);
	upper = alloc_new(struct upper);
	upper->kind = config->kind;
	upper->bytes = config->bytes;
	upper->fd = -1;
	upper->point = alloc_string(config->point);
	upper->overlay = alloc_printf("%s/fs", config->point);
	upper->tmp = alloc_printf("%s/tmp", config->point);
	upper->shm = alloc_printf("%s/shm", config->point);
	err = config->kind == UPPER_TMPFS ? upper_mount_tmpfs(upper)
					  : upper_mount_loop(upper, config->dir);
	if (!err)
		err = upper_make_shared(upper->tmp);
	if (!err)
		err = upper_make_shared(upper->shm);
	if (!err)
		err = file_open_dir(AT_FDCWD, upper->point, &upper->fd);
	if (err)
		return error_wrap(err, "a file system of the action's own");
	*out = take(upper);
	return NULL;
}

struct error *upper_settle(struct upper *upper)
{
	_cleanup_fd_ int fd = -1;
	struct statfs fs;
	int64_t rest;

	if (!upper || upper->kind != UPPER_LOOP)
		return NULL;
	if (fstatfs(upper->fd, &fs) < 0)
		return error_errno(errno, "look at %s", upper->point);
	rest = (int64_t)fs.f_bavail * fs.f_bsize - upper->bytes;
	if (rest <= 0)
		return NULL;
	fd = openat(upper->fd, "rest", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || fallocate(fd, 0, 0, rest) < 0)
		return error_errno(errno, "fill up %s", upper->point);
	/* the list of its extents may have taken a block */
	if (fstatfs(upper->fd, &fs) == 0 &&
	    (int64_t)fs.f_bavail * fs.f_bsize < upper->bytes &&
	    ftruncate(fd, rest - (upper->bytes - (int64_t)fs.f_bavail * fs.f_bsize)) < 0)
		return error_errno(errno, "fill up %s", upper->point);
	return NULL;
}

void *upper_free(struct upper *upper)
{
	if (!upper)
		return NULL;
	if (upper->fd >= 0)
		(void)close(upper->fd);
	if (upper->is_mounted && umount2(upper->point, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		log_error("unmount %s: %s", upper->point, strerror(errno));
	if (rmdir(upper->point) < 0)
		log_warn("remove %s: %s", upper->point, strerror(errno));
	free(upper->point);
	free(upper->overlay);
	free(upper->tmp);
	free(upper->shm);
	free(upper);
	return NULL;
}

const char *upper_overlay(const struct upper *upper)
{
	return upper->overlay;
}

const char *upper_tmp(const struct upper *upper)
{
	return upper->tmp;
}

const char *upper_shm(const struct upper *upper)
{
	return upper->shm;
}

int upper_fd(const struct upper *upper)
{
	return upper->fd;
}

struct error *upper_probe(enum upper_kind kind, const char *dir, const char *point)
{
	struct upper_config config = {
		.kind = kind, .bytes = UPPER_PROBE_BYTES, .dir = dir, .point = point};
	_cleanup_(upper_freep) struct upper *upper = NULL;

	return error_recode(error_wrap(upper_new(&config, &upper), "--upper"),
			    ERROR_FAILED_PRECONDITION);
}
