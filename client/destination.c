/* Owns nothing. */
#include "client/destination.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/cas/handover.h"

/* DEST's parent, open, and its last name; a DEST that is there is itself, not a link to
 * it. */
static struct error *destination_split(const char *dest, int *parent_out, char **name_out)
{
	_cleanup_free_ char *real = realpath(dest, NULL);
	_cleanup_free_ char *path = alloc_string(real ? real : dest);
	char *slash;
	struct error *err;

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
				   const struct digest *root, const char *dest)
{
	_cleanup_(handover_freep) struct handover *handover = NULL;
	_cleanup_free_ char *name = NULL;
	_cleanup_fd_ int parent = -1;
	struct error *err = destination_split(dest, &parent, &name);

	if (err)
		return err;
	handover = handover_new(config, parent);
	err = handover_add_tree(handover, name, root);
	return err ? err : handover_run(handover);
}
