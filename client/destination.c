/* Owns nothing. */
#include "client/destination.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/cas/handover.h"

#define DESTINATION_READER_NS (5 * NS_PER_S)
#define DESTINATION_LOOK_MS   20

/*
 * What DEST is called without links, where it is there. The kernel follows them, and not
 * realpath(3), which knows nothing of links that it refuses (fs.protected_symlinks). The
 * last is looked at whatever the kernel does: in a directory for all, others may have
 * been there first with a link that leads to what only we may replace.
 */
static struct error *destination_real(const char *dest, char **path_out)
{
	_cleanup_fd_ int fd = -1;
	char proc[64];
	char path[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (lstat(dest, &st) == 0 && S_ISLNK(st.st_mode) && st.st_uid != geteuid() &&
	    st.st_uid != 0)
		return error_new(ERROR_PERMISSION_DENIED,
				 "%s is a link of another user, %u: name what it leads "
				 "to, if you mean that",
				 dest, st.st_uid);
	fd = open(dest, O_PATH | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT)
		return error_errno(errno, "open %s", dest);
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	n = fd < 0 ? -1 : readlink(proc, path, sizeof(path));
	*path_out = n > 0 && n < (ssize_t)sizeof(path) ? alloc_string_n(path, (size_t)n)
						       : alloc_string(dest);
	return NULL;
}

/* The parent of what destination_real() found, open, and its last name. */
static struct error *destination_split(const char *real, int *parent_out, char **name_out)
{
	_cleanup_free_ char *path = alloc_string(real);
	struct error *err;
	char *slash;

	while (strlen(path) > 1 && path[strlen(path) - 1] == '/')
		path[strlen(path) - 1] = '\0';
	slash = strrchr(path, '/');
	if (!slash) {
		*name_out = alloc_string(path);
		return file_open_dir(AT_FDCWD, ".", parent_out);
	}
	*slash = '\0';
	err = file_mkdirs(AT_FDCWD, *path ? path : "/", 0777);
	if (!err)
		err = file_open_dir(AT_FDCWD, *path ? path : "/", parent_out);
	if (!err)
		*name_out = alloc_string(slash + 1);
	return err;
}

/* Of what is not there: empty. */
static struct error *destination_is_empty(const char *dest, bool *out)
{
	DIR *dir = opendir(dest);
	struct dirent *entry;
	bool is_empty = true;

	if (!dir && errno == ENOTDIR)
		return error_new(ERROR_ALREADY_EXISTS,
				 "%s is there and is no directory: --force replaces it",
				 dest);
	if (!dir && errno != ENOENT)
		return error_errno(errno, "open %s", dest);
	while (dir && is_empty && (entry = readdir(dir)))
		is_empty = strcmp(entry->d_name, ".") == 0 ||
			   strcmp(entry->d_name, "..") == 0;
	if (dir)
		(void)closedir(dir);
	*out = is_empty;
	return NULL;
}

struct error *destination_check(const char *dest, const char *wish)
{
	bool is_empty;
	struct error *err = destination_is_empty(dest, &is_empty);

	if (err || is_empty)
		return err;
	return error_new(ERROR_ALREADY_EXISTS, "%s is not empty: %s", dest, wish);
}

/* ---- what is no other directory's to replace --------------------------------------- */

static bool destination_is_mounted(const char *path)
{
	struct statx st;

	return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st) == 0 &&
	       (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

/* The working directory, or above it: whoever stands there would stand nowhere. */
static bool destination_holds_us(const char *path)
{
	_cleanup_free_ char *here = realpath(".", NULL);
	size_t len = strlen(path);

	return here && strncmp(here, path, len) == 0 &&
	       (!here[len] || here[len] == '/' || path[len - 1] == '/');
}

/* Why a directory stays what it is, or NULL. */
static const char *destination_stays(const char *path)
{
	if (destination_is_mounted(path))
		return "a mount point";
	return destination_holds_us(path) ? "where this command runs" : NULL;
}

/* Into the directory itself, which must be empty: all that could be said before. */
static struct error *destination_fill(const struct checkout_config *config,
				      const struct digest *root, const char *path,
				      const char *why)
{
	_cleanup_(handover_freep) struct handover *handover = NULL;
	_cleanup_fd_ int fd = -1;
	bool is_empty;
	struct error *err = destination_is_empty(path, &is_empty);

	if (!err && !is_empty)
		err = error_new(ERROR_FAILED_PRECONDITION,
				"%s is %s, and is not replaced while it holds anything: "
				"empty it, or name another directory",
				path, why);
	if (!err)
		err = file_open_dir(AT_FDCWD, path, &fd);
	if (err)
		return err;
	handover = handover_new(config, fd);
	err = handover_add_tree(handover, "", root);
	return err ? err : handover_run(handover);
}

/* ---- a tree ------------------------------------------------------------------------ */

struct error *destination_put_tree(const struct checkout_config *config,
				   const struct digest *root, bool is_forced,
				   const char *dest)
{
	_cleanup_(handover_freep) struct handover *handover = NULL;
	_cleanup_free_ char *real = NULL;
	_cleanup_free_ char *name = NULL;
	_cleanup_fd_ int parent = -1;
	const char *why;
	struct stat st;
	struct error *err = destination_real(dest, &real);

	if (err)
		return err;
	why = destination_stays(real);
	if (why)
		return destination_fill(config, root, real, why);
	if (stat(real, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)))
		return error_new(ERROR_FAILED_PRECONDITION,
				 "%s is a device, and no directory takes its place",
				 dest);
	err = destination_split(real, &parent, &name);
	if (err)
		return err;
	handover = handover_new(config, parent);
	if (!is_forced)
		handover_spare(handover);
	err = handover_add_tree(handover, name, root);
	return err ? err : handover_run(handover);
}

/* ---- bytes ------------------------------------------------------------------------- */

/* Of a path that stands for one of our descriptors; -1: it does not. */
static int destination_number(const char *path)
{
	static const char *const names[] = {"/dev/stdin", "/dev/stdout", "/dev/stderr"};
	static const char *const dirs[] = {"/dev/fd/", "/proc/self/fd/"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(path, names[i]) == 0)
			return (int)i;
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		size_t len = strlen(dirs[i]);
		char *end;
		long n;

		if (strncmp(path, dirs[i], len) != 0)
			continue;
		n = strtol(path + len, &end, 10);
		return end == path + len || *end || n < 0 || n > INT_MAX ? -1 : (int)n;
	}
	return -1;
}

/* A FIFO's reader may come a little later; one that never comes holds nobody. */
static int destination_open_writer(const char *path)
{
	int64_t until_ns = clock_mono_ns() + DESTINATION_READER_NS;
	int fd;

	while ((fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) < 0 &&
	       errno == ENXIO && clock_mono_ns() < until_ns)
		clock_sleep_ms(DESTINATION_LOOK_MS);
	if (fd >= 0 && fcntl(fd, F_SETFL, 0) < 0) {
		(void)close(fd);
		return -1;
	}
	return fd;
}

struct error *destination_open_stream(const char *path, int *fd_out)
{
	int number = destination_number(path);
	struct stat st;
	int fd = -1;

	*fd_out = -1;
	if (number >= 0)
		fd = fcntl(number, F_DUPFD_CLOEXEC, 0);
	else if (stat(path, &st) < 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
		return NULL;
	else
		fd = destination_open_writer(path);
	if (fd < 0)
		return errno == ENXIO ? error_errno(errno, "nobody reads %s", path)
				      : error_errno(errno, "open %s", path);
	*fd_out = fd;
	return NULL;
}
