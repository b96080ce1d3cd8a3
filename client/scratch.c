/*
 * Owns the directory and its lock. A name is made before its lock is taken, so another
 * command may find it unlocked and remove it: then the next name is tried.
 */
#include "client/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"

#define LOG_MODULE "client"
#include "lib/base/log.h"

#define SCRATCH_TRIES 16

static void closedirp(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

static void scratch_sweep_one(int dir_fd, const char *name)
{
	_cleanup_fd_ int fd =
		openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		log_drop(LOG_WARN, file_remove_tree(dir_fd, name),
			 "remove what a killed command left");
}

static void scratch_sweep(const char *base)
{
	_cleanup_(closedirp) DIR *dir = opendir(base);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			scratch_sweep_one(dirfd(dir), entry->d_name);
}

/* Whether the locked directory still has its name. */
static bool scratch_is_there(const char *path, int fd)
{
	struct stat named;
	struct stat held;

	return stat(path, &named) == 0 && fstat(fd, &held) == 0 &&
	       named.st_ino == held.st_ino && named.st_dev == held.st_dev;
}

struct error *scratch_open(struct scratch *scratch, struct local *local)
{
	_cleanup_free_ char *base = NULL;
	struct error *err = local_path(local, "scratch", &base);

	if (!err)
		err = file_mkdirs(AT_FDCWD, base, 0755);
	if (err)
		return err;
	scratch_sweep(base);
	for (int i = 0; i < SCRATCH_TRIES; i++) {
		_cleanup_free_ char *path = alloc_printf("%s/%d-XXXXXX", base, getpid());
		_cleanup_fd_ int fd = -1;

		if (!mkdtemp(path))
			return error_errno(errno, "make a directory in %s", base);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 ||
		    !scratch_is_there(path, fd))
			continue;
		if (fchmod(fd, 0755) < 0)
			return error_errno(errno, "open %s for others", path);
		scratch->path = take(path);
		scratch->fd = take_fd(fd);
		return NULL;
	}
	return error_new(ERROR_ABORTED, "no directory in %s stays", base);
}

void scratch_deinit(struct scratch *scratch)
{
	if (scratch->path)
		log_drop(LOG_WARN, file_remove_tree(AT_FDCWD, scratch->path),
			 "remove a command's directory");
	cleanup_fd(&scratch->fd);
	scratch->fd = -1;
	free(take(scratch->path));
}
