/* Owns the list of what it made. */
#include "client/plain_root.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"

#define LOG_MODULE "client"
#include "lib/base/log.h"

static const struct plain_root_entry {
	const char *path;
	unsigned int minor; /* of a device of memory (major 1); 0: a directory */
	mode_t mode;
} plain_root_entries[] = {
	{"tmp", 0, 01777},        {"dev", 0, 0755},      {"dev/null", 3, 0666},
	{"dev/zero", 5, 0666},    {"dev/full", 7, 0666}, {"dev/random", 8, 0666},
	{"dev/urandom", 9, 0666},
};

static int plain_root_make_one(int root_fd, const struct plain_root_entry *entry)
{
	const char *slash = strrchr(entry->path, '/');
	const char *name = slash ? slash + 1 : entry->path;
	_cleanup_free_ char *parent =
		slash ? alloc_string_n(entry->path, (size_t)(slash - entry->path))
		      : alloc_string(".");
	_cleanup_fd_ int fd = -1;
	struct error *err =
		file_open_beneath(root_fd, parent, O_PATH | O_DIRECTORY, 0, &fd);
	int made;

	if (err) { /* a link, or a file: the command has what it brought */
		error_free(err);
		errno = EEXIST;
		return -1;
	}
	made = entry->minor ? mknodat(fd, name, S_IFCHR | entry->mode,
				      makedev(1, entry->minor))
			    : mkdirat(fd, name, entry->mode);
	return made < 0 ? made : fchmodat(fd, name, entry->mode, 0);
}

struct error *plain_root_make(struct plain_root *root, int root_fd)
{
	for (size_t i = 0; i < ARRAY_SIZE(plain_root_entries); i++) {
		const struct plain_root_entry *entry = &plain_root_entries[i];

		require(root->n_made < PLAIN_ROOT_MADE_MAX);
		if (plain_root_make_one(root_fd, entry) == 0)
			root->made[root->n_made++] = entry->path;
		else if (errno != EEXIST)
			return error_errno(errno, "make /%s in the input root",
					   entry->path);
	}
	return NULL;
}

void plain_root_tidy(struct plain_root *root, int root_fd)
{
	while (root->n_made) {
		const char *path = root->made[--root->n_made];
		const char *slash = strrchr(path, '/');
		_cleanup_free_ char *parent =
			slash ? alloc_string_n(path, (size_t)(slash - path))
			      : alloc_string(".");
		_cleanup_fd_ int fd = -1;
		struct error *err =
			file_open_beneath(root_fd, parent, O_PATH | O_DIRECTORY, 0, &fd);

		/* a command may have put something else in its place, or its parent's */
		if (!err)
			err = file_remove_tree(fd, slash ? slash + 1 : path);
		log_drop(LOG_DEBUG, err, "remove /%s again", path);
	}
}

void plain_root_deinit(struct plain_root *root)
{
	root->n_made = 0;
}
