/* Owns the file until it is named. */
#include "lib/base/newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"

struct error *newfile_open(const char *path, struct newfile *out)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = !slash ? alloc_string(".")
				   : slash == path
					   ? alloc_string("/")
					   : alloc_string_n(path, (size_t)(slash - path));
	_cleanup_free_ char *temporary = NULL;
	int fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
		temporary = file_temporary(path);
		fd = open(temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	}
	if (fd < 0)
		return error_errno(errno, "create %s", path);
	*out = (struct newfile){alloc_string(path), take(temporary), fd};
	return NULL;
}

/* A name for what has none; 0, or -1 and errno. */
static int newfile_link(const struct newfile *file, const char *name)
{
	char proc[64];

	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", file->fd);
	return linkat(AT_FDCWD, proc, AT_FDCWD, name, AT_SYMLINK_FOLLOW);
}

/* Replaces nothing. */
static int newfile_place(const struct newfile *file)
{
	if (!file->temporary)
		return newfile_link(file, file->path);
	if (renameat2(AT_FDCWD, file->temporary, AT_FDCWD, file->path,
		      RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* a file system that knows no flags */
	return link(file->temporary, file->path) < 0 ? -1 : unlink(file->temporary);
}

static int newfile_replace(struct newfile *file)
{
	_cleanup_free_ char *temporary = NULL;

	if (!file->temporary) {
		temporary = file_temporary(file->path);
		if (newfile_link(file, temporary) < 0)
			return -1;
		file->temporary = take(temporary);
	}
	return rename(file->temporary, file->path);
}

struct error *newfile_name(struct newfile *file, bool is_forced)
{
	mode_t mask = umask(0);

	(void)umask(mask);
	if (fchmod(file->fd, 0666 & ~mask) < 0)
		return error_errno(errno, "chmod %s", file->path);
	if ((is_forced ? newfile_replace(file) : newfile_place(file)) == 0) {
		free(take(file->temporary));
		return NULL;
	}
	return errno == EEXIST ? error_new(ERROR_ALREADY_EXISTS, "%s is there meanwhile",
					   file->path)
			       : error_errno(errno, "rename to %s", file->path);
}

void newfile_deinit(struct newfile *file)
{
	if (file->temporary)
		(void)unlink(file->temporary);
	cleanup_fd(&file->fd);
	file->fd = -1;
	free(take(file->temporary));
	free(take(file->path));
}
