/*
 * Owns nothing: the list is read and written as a whole. Several commands may do so at
 * once: a line is appended by one write, and of a list that is too long the newer half is
 * kept, by rename. Main thread.
 */
#include "client/output_places.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"

#define LOG_MODULE "client"
#include "lib/base/log.h"

#define PLACED_MAX (1 << 20) /* bytes of the list; past it the older half goes */

static struct error *output_places_shorten(const char *list)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct error *err = file_read_all(AT_FDCWD, list, 2 * PLACED_MAX, &text);
	const uint8_t *cut;

	if (err || text.len <= PLACED_MAX)
		return err;
	cut = memchr(text.data + text.len / 2, '\0', text.len - text.len / 2);
	if (!cut)
		cut = text.data + text.len - 1;
	cut++;
	return file_replace(AT_FDCWD, list, cut, (size_t)(text.data + text.len - cut),
			    0600);
}

static struct error *output_places_append(struct client *client, struct slice paths)
{
	_cleanup_free_ char *list = NULL;
	_cleanup_fd_ int fd = -1;
	struct error *err = local_path(&client->local, "placed", &list);

	if (err)
		return err;
	fd = open(list, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_errno(errno, "open %s", list);
	err = file_write_all(fd, paths.data, paths.len);
	return err ? err : output_places_shorten(list);
}

void output_places_note(struct client *client, struct slice paths)
{
	if (paths.len && paths.len <= PLACED_MAX / 2)
		log_drop(LOG_DEBUG, output_places_append(client, paths),
			 "where outputs were put is not noted");
}

bool output_places_is_below(struct client *client, const char *path)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	_cleanup_free_ char *list = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_error_ struct error *err = NULL;
	size_t len = real ? strlen(real) : 0;
	struct stat st;

	if (!real)
		return false;
	err = local_path(&client->local, "placed", &list);
	if (!err)
		err = file_read_all(AT_FDCWD, list, 2 * PLACED_MAX, &text);
	if (err) /* none were put anywhere */
		return false;
	for (size_t at = 0; at < text.len; at += strlen((char *)text.data + at) + 1) {
		const char *noted = (const char *)text.data + at;

		if (strncmp(noted, real, len) == 0 &&
		    (len == 1 || noted[len] == '/' || noted[len] == '\0') &&
		    lstat(noted, &st) == 0)
			return true;
	}
	return false;
}
