/*
 * Owns what is being written: a file in our own staging directory, hashed as it grows. It
 * becomes visible by one rename and only if the hash is right; on any other way it is
 * unlinked, and after kill -9 the next to open the store does that.
 *
 * A small blob costs open, write, close and rename; the index hears of it later, from the
 * store's thread (store_sync.c). A rename also replaces: a torn file in the blob's place
 * is healed by storing the blob again.
 *
 * Threads: a staged is one thread's at a time; the store's functions are any thread's.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/units.h"
#include "lib/cas/hasher.h"
#include "lib/cas/store_impl.h"

#define STAGED_ROOM_MIN                                                                  \
	((int64_t)16 << 20) /* what a full disk makes us evict, at least */

struct staged {
	struct store *store;
	struct digest want;
	struct hasher *hasher;
	int fd;
	int64_t size;
	char path[STORE_PATH_MAX]; /* "" once it is no longer ours to unlink */
};

const char *store_staging_name(struct store *store, char path[static STORE_PATH_MAX])
{
	(void)snprintf(path, STORE_PATH_MAX, "%.70s/%x", store->staging_path,
		       atomic_fetch_add(&store->staging_count, 1));
	return path;
}

/* Fails where the whole store could not hold the blob. */
static struct error *staged_check_size(const struct store *store,
				       const struct digest *digest)
{
	char text[DIGEST_STRING_MAX];
	char limit[UNITS_TEXT_MAX];

	if (digest->size <= store->size_limit)
		return NULL;
	return error_new(ERROR_RESOURCE_EXHAUSTED,
			 "%s is larger than all of %s may be (%s)",
			 digest_format(digest, text), store->dir,
			 units_format_size(store->size_limit, limit));
}

static struct error *staged_create(struct store *store, const char *path, int *fd_out)
{
	int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
	_cleanup_fd_ int fd = openat(store->dir_fd, path, flags, 0444);

	if (fd < 0 && (errno == ENOSPC || errno == EDQUOT) &&
	    store_make_room(store, STAGED_ROOM_MIN))
		fd = openat(store->dir_fd, path, flags, 0444);
	if (fd < 0)
		return error_errno(errno, "create %s/%s", store->dir, path);
	if (store->mode_fix && fchmod(fd, 0444) < 0)
		return error_errno(errno, "chmod %s/%s", store->dir, path);
	*fd_out = take_fd(fd);
	return NULL;
}

/* Writes all, and once makes room where the disk is full. */
static struct error *staged_write_fd(struct store *store, int fd, const uint8_t *data,
				     size_t len)
{
	bool may_evict = true;

	while (len) {
		ssize_t n = write(fd, data, len);
		int errnum = n < 0 ? errno : 0;

		if (errnum == EINTR)
			continue;
		if ((errnum == ENOSPC || errnum == EDQUOT) && may_evict) {
			int64_t need = (int64_t)len;

			may_evict = false;
			if (store_make_room(store, need > STAGED_ROOM_MIN
							   ? need
							   : STAGED_ROOM_MIN))
				continue;
		}
		if (errnum)
			return error_errno(errnum, "write to %s", store->dir);
		data += n;
		len -= (size_t)n;
	}
	return NULL;
}

/* Makes a staged file the blob's: it was verified. Consumes the file on failure too. */
struct error *store_keep(struct store *store, const char *staged,
			 const struct digest *digest)
{
	char path[STORE_PATH_MAX];
	struct store_entry *entry;
	struct error *err = NULL;

	store_lock_name(store, digest);
	if (renameat(store->dir_fd, staged, store->dir_fd,
		     store_file_path(digest, path)) < 0)
		err = error_errno(errno, "rename %s/%s to %s", store->dir, staged, path);
	if (err) {
		(void)unlinkat(store->dir_fd, staged, 0);
		store_unlock_name(store, digest);
		return err;
	}
	store_lock(store);
	entry = store_entry_get(store, digest);
	/* what stood there had the wrong size */
	if (entry->state != ENTRY_ABSENT && entry->digest.size != digest->size)
		store_entry_set(store, entry, ENTRY_ABSENT);
	entry->digest = *digest;
	entry->used_ns = clock_wall_ns();
	store_entry_set(store, entry, ENTRY_GOOD);
	store_entry_dirty(store, entry, true);
	store_unlock(store);
	store_unlock_name(store, digest);
	store_hold_limit(store, digest);
	return NULL;
}

struct error *store_put(struct store *store, const struct digest *digest,
			const void *data, size_t len)
{
	char path[STORE_PATH_MAX];
	char want[DIGEST_STRING_MAX];
	char is[DIGEST_STRING_MAX];
	_cleanup_fd_ int fd = -1;
	struct digest got;
	struct error *err;

	hasher_digest(data, len, &got);
	if (!digest_equal(&got, digest))
		return error_new(ERROR_INVALID_ARGUMENT, "the bytes sent as %s are %s",
				 digest_format(digest, want), digest_format(&got, is));
	if (store_has(store, digest))
		return NULL;
	err = staged_check_size(store, digest);
	if (!err)
		err = staged_create(store, store_staging_name(store, path), &fd);
	if (err)
		return err;
	err = staged_write_fd(store, fd, data, len);
	if (err) {
		(void)unlinkat(store->dir_fd, path, 0);
		return err;
	}
	return store_keep(store, path, digest);
}

struct error *staged_open(struct store *store, const struct digest *want,
			  struct staged **staged_out)
{
	_cleanup_(staged_freep) struct staged *staged = alloc_new(struct staged);
	struct error *err = staged_check_size(store, want);

	staged->store = store;
	staged->want = *want;
	staged->fd = -1;
	staged->hasher = hasher_new();
	if (!err)
		err = staged_create(store, store_staging_name(store, staged->path),
				    &staged->fd);
	if (err)
		return err;
	*staged_out = take(staged);
	return NULL;
}

void *staged_free(struct staged *staged)
{
	if (!staged)
		return NULL;
	if (staged->fd >= 0) {
		(void)close(staged->fd);
		if (staged->path[0])
			(void)unlinkat(staged->store->dir_fd, staged->path, 0);
	}
	hasher_free(staged->hasher);
	free(staged);
	return NULL;
}

struct error *staged_write(struct staged *staged, const void *data, size_t len)
{
	char text[DIGEST_STRING_MAX];
	struct error *err;

	if (len > (uint64_t)(staged->want.size - staged->size))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "more bytes were sent than %s has",
				 digest_format(&staged->want, text));
	err = staged_write_fd(staged->store, staged->fd, data, len);
	if (err)
		return err;
	hasher_add(staged->hasher, data, len);
	staged->size += (int64_t)len;
	return NULL;
}

int64_t staged_size(const struct staged *staged)
{
	return staged->size;
}

struct error *staged_commit(struct staged *staged_in, int *fd_out)
{
	_cleanup_(staged_freep) struct staged *staged = staged_in;
	struct store *store = staged->store;
	_cleanup_fd_ int fd = -1;
	char want[DIGEST_STRING_MAX];
	char is[DIGEST_STRING_MAX];
	struct digest got;
	struct error *err;

	hasher_end(staged->hasher, &got);
	if (!digest_equal(&got, &staged->want))
		return error_new(ERROR_INVALID_ARGUMENT, "the bytes sent as %s are %s",
				 digest_format(&staged->want, want),
				 digest_format(&got, is));
	/* what is there already stays: its pages are cached, and on the disk perhaps */
	err = store_get(store, &got, &fd);
	if (err)
		return err;
	if (fd >= 0) {
		if (fd_out)
			*fd_out = take_fd(fd);
		return NULL;
	}
	if (fd_out) {
		/* not the descriptor that wrote: executing the file would be ETXTBSY */
		fd = openat(store->dir_fd, staged->path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return error_errno(errno, "open %s/%s", store->dir, staged->path);
	}
	err = store_keep(store, staged->path, &staged->want);
	staged->path[0] = '\0';
	if (err)
		return err;
	if (fd_out)
		*fd_out = take_fd(fd);
	return NULL;
}

/* Taking files of ours over. */

/* A copy of the file in staging; reflinked where the file systems can. */
static struct error *store_adopt_copy(struct store *store, int src_fd, const char *path)
{
	_cleanup_fd_ int fd = -1;
	struct error *err = staged_create(store, path, &fd);
	struct stat st;

	if (err)
		return err;
	err = file_copy(src_fd, fd);
	if (error_code(err) == ERROR_RESOURCE_EXHAUSTED && fstat(src_fd, &st) == 0 &&
	    store_make_room(store, st.st_size) && ftruncate(fd, 0) == 0) {
		error_free(err);
		err = lseek(fd, 0, SEEK_SET) < 0 ? error_errno(errno, "seek")
						 : file_copy(src_fd, fd);
	}
	if (err)
		(void)unlinkat(store->dir_fd, path, 0);
	return err;
}

/*
 * The file itself, renamed into staging and made ours, so that whoever wrote it cannot
 * change it any more. *is_moved_out false: it must be copied.
 */
static struct error *store_adopt_move(struct store *store, int dir_fd, const char *name,
				      int fd, const char *path, bool *is_moved_out)
{
	struct error *err = NULL;
	struct stat st;

	*is_moved_out = false;
	if (fstat(fd, &st) < 0)
		return error_errno(errno, "stat %s", name);
	if (st.st_nlink != 1 || renameat(dir_fd, name, store->dir_fd, path) < 0)
		return NULL;
	if (st.st_uid != geteuid() && fchown(fd, geteuid(), getegid()) < 0)
		err = error_errno(errno, "chown %s", name);
	else if (fchmod(fd, 0444) < 0)
		err = error_errno(errno, "chmod %s", name);
	if (err)
		(void)unlinkat(store->dir_fd, path, 0);
	else
		*is_moved_out = true;
	return err;
}

/* The staged file at path becomes a blob; its digest is found out. Consumes the file. */
static struct error *store_adopt_staged(struct store *store, const char *path,
					struct digest *digest_out)
{
	_cleanup_fd_ int fd =
		openat(store->dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct digest digest;
	struct error *err;

	err = fd < 0 ? error_errno(errno, "open %s/%s", store->dir, path)
		     : hasher_digest_fd(fd, &digest);
	if (!err)
		err = staged_check_size(store, &digest);
	if (err || store_has(store, &digest))
		(void)unlinkat(store->dir_fd, path, 0);
	else
		err = store_keep(store, path, &digest);
	if (!err)
		*digest_out = digest;
	return err;
}

struct error *store_adopt(struct store *store, int dir_fd, const char *name,
			  bool is_moved, struct digest *digest_out)
{
	_cleanup_fd_ int fd =
		openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char path[STORE_PATH_MAX];
	bool is_in_place = false;
	struct error *err = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(errno, "open %s", name);
	if (!S_ISREG(st.st_mode))
		return error_new(ERROR_INVALID_ARGUMENT, "%s is no regular file", name);
	(void)store_staging_name(store, path);
	if (is_moved)
		err = store_adopt_move(store, dir_fd, name, fd, path, &is_in_place);
	if (!err && !is_in_place)
		err = store_adopt_copy(store, fd, path);
	if (!err)
		err = store_adopt_staged(store, path, digest_out);
	if (is_moved && !is_in_place)
		(void)unlinkat(dir_fd, name, 0);
	return error_wrap(err, "adopt %s", name);
}
