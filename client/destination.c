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
#include "lib/base/file.h"
#include "lib/cas/handover.h"

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

/* DEST's parent, open, and its last name; a DEST that is there is itself, not a link to
 * it. */
static struct error *destination_split(const char *dest, int *parent_out, char **name_out)
{
	_cleanup_free_ char *path = NULL;
	char *slash;
	struct error *err = destination_real(dest, &path);

	if (err)
		return err;
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

struct error *destination_check(const char *dest, const char *wish)
{
	DIR *dir = opendir(dest);
	struct dirent *entry;
	bool is_empty = true;

	if (!dir && errno == ENOENT)
		return NULL;
	if (!dir && errno == ENOTDIR)
		return error_new(ERROR_ALREADY_EXISTS,
				 "%s is there and is no directory: --force replaces it",
				 dest);
	if (!dir)
		return error_errno(errno, "open %s", dest);
	while (is_empty && (entry = readdir(dir)))
		is_empty = strcmp(entry->d_name, ".") == 0 ||
			   strcmp(entry->d_name, "..") == 0;
	(void)closedir(dir);
	return is_empty ? NULL
			: error_new(ERROR_ALREADY_EXISTS, "%s is not empty: %s", dest,
				    wish);
}

struct error *destination_put_tree(const struct checkout_config *config,
				   const struct digest *root, bool is_forced,
				   const char *dest)
{
	_cleanup_(handover_freep) struct handover *handover = NULL;
	_cleanup_free_ char *name = NULL;
	_cleanup_fd_ int parent = -1;
	struct error *err = destination_split(dest, &parent, &name);

	if (err)
		return err;
	handover = handover_new(config, parent);
	if (!is_forced)
		handover_spare(handover);
	err = handover_add_tree(handover, name, root);
	return err ? err : handover_run(handover);
}
