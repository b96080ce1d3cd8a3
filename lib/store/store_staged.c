/*
 * Owns what is being written. A file is staged without a name (O_TMPFILE, in the
 * directory where it will be; ext4 finds an inode there faster than in one directory that
 * all writes share), hashed as it grows, and gets its name by one link if the hash is
 * right; else it is gone when its descriptor is closed, whoever closes it. Where the file
 * system has no nameless files, and for files that come by rename, it is a name in our
 * own staging directory, which the next to open the store empties after kill -9.
 *
 * A small blob costs open, write, link and close; the index hears of it later, from the
 * store's thread (store_batch.c). A torn file in the blob's place is replaced: storing
 * the blob again heals it.
 *
 * Threads: a staged is one thread's at a time; the store's functions are any thread's.
 */
#include "lib/store/store_staged.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/units.h"
#include "lib/store/store_durable_impl.h"
#include "lib/store/store_entry.h"
#include "lib/store/store_evict.h"
#include "lib/store/store_impl.h"
#include "lib/tree/hasher.h"

#define STAGED_ROOM_MIN                                                                  \
	((int64_t)16 << 20) /* what a full disk makes us evict, at least */

/* A file that is no blob yet. */
struct staged_file {
	int fd;
	char path[STORE_PATH_MAX]; /* "" where it has no name */
};

struct staged {
	struct store *store;
	struct digest want;
	struct hasher *hasher;
	struct staged_file file;
	int64_t size;
	bool may_evict;
};

static const char *staged_name(struct store *store, char path[static STORE_PATH_MAX])
{
	(void)snprintf(path, STORE_PATH_MAX, "%.70s/%x", store->staging_path,
		       atomic_fetch_add(&store->staging_count, 1));
	return path;
}

/* Fails where the whole store could not hold so many bytes. */
static struct error *staged_check_bytes(const struct store *store, int64_t bytes,
					const char *name)
{
	char limit[UNITS_TEXT_MAX];

	if (bytes <= store->blob_limit)
		return NULL;
	return error_new(ERROR_RESOURCE_EXHAUSTED,
			 "%s is larger than all of %s may be (%s)", name, store->dir,
			 units_format_size(store->blob_limit, limit));
}

static struct error *staged_check_size(struct store *store, const struct digest *digest)
{
	char text[DIGEST_STRING_MAX];
	struct error *err =
		staged_check_bytes(store, digest->size, digest_format(digest, text));

	return err ? err : store_evict_check_room(store, digest->size);
}

/* Closes, and unlinks what has a name. */
static void staged_drop(struct store *store, struct staged_file *file)
{
	if (file->path[0])
		(void)unlinkat(store->dir_fd, file->path, 0);
	if (file->fd >= 0)
		(void)close(file->fd);
	*file = (struct staged_file){.fd = -1};
}

static int staged_open_file(const struct store *store, const char *path)
{
	return store->has_nameless
		       ? openat(store->dir_fd, path, O_RDWR | O_TMPFILE | O_CLOEXEC, 0444)
		       : openat(store->dir_fd, path,
				O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
}

/* near: a digest whose directory is a good place for a file without a name. */
static struct error *staged_create(struct store *store, const struct digest *near,
				   bool may_evict, struct staged_file *out)
{
	struct staged_file file = {.fd = -1};
	char path[STORE_PATH_MAX];

	if (store->has_nameless)
		(void)store_file_dir(near, path);
	else
		(void)staged_name(store, path);
	file.fd = staged_open_file(store, path);
	if (file.fd < 0 && (errno == ENOSPC || errno == EDQUOT) && may_evict &&
	    store_evict_for_room(store, STAGED_ROOM_MIN))
		file.fd = staged_open_file(store, path);
	if (file.fd < 0)
		return error_errno(errno, "create a file in %s/%s", store->dir, path);
	if (!store->has_nameless)
		memcpy(file.path, path, strlen(path) + 1);
	if (store->mode_fix && fchmod(file.fd, 0444) < 0) {
		int errnum = errno;

		staged_drop(store, &file);
		return error_errno(errnum, "chmod a file in %s", store->dir);
	}
	*out = file;
	return NULL;
}

/* Gives the file its name as a blob. Another process of a shared store may do the same:
 * what stands there then is as good. */
static struct error *staged_publish(struct store *store, const struct staged_file *file,
				    const char *path)
{
	char from[32], named[STORE_PATH_MAX];
	struct error *err;

	if (file->path[0]) {
		if (renameat(store->dir_fd, file->path, store->dir_fd, path) == 0)
			return NULL;
		return error_errno(errno, "rename %s/%s to %s", store->dir, file->path,
				   path);
	}
	(void)snprintf(from, sizeof(from), "/proc/self/fd/%d", file->fd);
	if (linkat(AT_FDCWD, from, store->dir_fd, path, AT_SYMLINK_FOLLOW) == 0)
		return NULL;
	if (errno == EEXIST) {
		/* a file of another name takes its place, so that it is there all the
		 * time */
		(void)staged_name(store, named);
		if (linkat(AT_FDCWD, from, store->dir_fd, named, AT_SYMLINK_FOLLOW) < 0)
			return error_errno(errno, "link %s/%s", store->dir, named);
		if (renameat(store->dir_fd, named, store->dir_fd, path) == 0)
			return NULL;
		err = error_errno(errno, "rename %s/%s to %s", store->dir, named, path);
		(void)unlinkat(store->dir_fd, named, 0);
		return err;
	}
	return error_errno(errno, "link %s/%s", store->dir, path);
}

bool store_staged_can_be_nameless(struct store *store)
{
	struct staged_file file = {.fd = -1};
	char path[STORE_PATH_MAX];
	struct error *err;

	file.fd = openat(store->dir_fd, store->staging_path,
			 O_RDWR | O_TMPFILE | O_CLOEXEC, 0444);
	if (file.fd < 0)
		return false;
	err = staged_publish(store, &file, staged_name(store, path));
	(void)unlinkat(store->dir_fd, path, 0);
	(void)close(file.fd);
	error_free(err);
	return !err;
}

/* Writes all, and once makes room where the disk is full. */
static struct error *staged_write_fd(struct store *store, int fd, bool may_evict,
				     const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);
		int errnum = n < 0 ? errno : 0;

		if (errnum == EINTR)
			continue;
		if ((errnum == ENOSPC || errnum == EDQUOT) && may_evict) {
			int64_t need = (int64_t)len;

			may_evict = false;
			if (store_evict_for_room(store, need > STAGED_ROOM_MIN
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

/* Makes a file the blob's: it was verified. Consumes the file on failure too. */
static struct error *staged_keep(struct store *store, struct staged_file *file,
				 const struct digest *digest)
{
	struct sync_mutex *name = store_name_mutex(store, digest);
	char path[STORE_PATH_MAX];
	struct store_entry *entry;
	struct error *err;
	struct stat st;
	bool has_stat;

	err = store_evict_make_room(store, digest->size); /* others wrote meanwhile */
	if (err) {
		staged_drop(store, file);
		return err;
	}
	sync_lock(name);
	has_stat = file->fd >= 0 && fstat(file->fd, &st) == 0;
	err = staged_publish(store, file, store_file_path(digest, path));
	if (err) {
		sync_unlock(name);
		staged_drop(store, file);
		return err;
	}
	store_lock(store);
	entry = store_entry_get(store, digest);
	/* what stood there had the wrong size */
	if (entry->state != ENTRY_ABSENT && entry->digest.size != digest->size)
		store_entry_set(store, entry, ENTRY_ABSENT);
	entry->digest = *digest;
	entry->used_ns = clock_wall_ns();
	entry->stamp = has_stat ? store_file_stamp(&st) : 0;
	store_entry_set(store, entry, ENTRY_GOOD);
	store_entry_dirty(store, entry, true);
	store_durable_note(store, entry);
	store_unlock(store);
	sync_unlock(name);
	file->path[0] = '\0';
	staged_drop(store, file);
	store_evict_over_limit(store, digest);
	return NULL;
}

struct error *store_put(struct store *store, const struct digest *digest,
			const void *data, size_t len)
{
	struct staged_file file = {.fd = -1};
	char want[DIGEST_STRING_MAX];
	char is[DIGEST_STRING_MAX];
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
		err = staged_create(store, digest, true, &file);
	if (err)
		return err;
	err = staged_write_fd(store, file.fd, true, data, len);
	if (err) {
		staged_drop(store, &file);
		return err;
	}
	return staged_keep(store, &file, digest);
}

struct error *staged_open(struct store *store, const struct digest *want, bool may_evict,
			  struct staged **staged_out)
{
	_cleanup_(staged_freep) struct staged *staged = alloc_new(struct staged);
	struct error *err = staged_check_size(store, want);

	staged->store = store;
	staged->want = *want;
	staged->may_evict = may_evict;
	staged->file.fd = -1;
	staged->hasher = hasher_new();
	if (!err)
		err = staged_create(store, want, may_evict, &staged->file);
	if (err)
		return err;
	*staged_out = take(staged);
	return NULL;
}

void *staged_free(struct staged *staged)
{
	if (!staged)
		return NULL;
	staged_drop(staged->store, &staged->file);
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
	err = staged_write_fd(staged->store, staged->file.fd, staged->may_evict, data,
			      len);
	if (err)
		return err;
	hasher_add(staged->hasher, data, len);
	staged->size += (int64_t)len;
	return NULL;
}

void staged_spare(struct staged *staged)
{
	staged->may_evict = false;
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
		char path[32];

		/* not the descriptor that wrote: executing the file would be ETXTBSY */
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", staged->file.fd);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return error_errno(errno, "open a file of %s again", store->dir);
	}
	err = staged_keep(store, &staged->file, &staged->want);
	if (err)
		return err;
	if (fd_out)
		*fd_out = take_fd(fd);
	return NULL;
}

/* Taking files of ours over. */

/* A copy of the file; reflinked where the file systems can. */
static struct error *store_adopt_copy(struct store *store, int src_fd,
				      struct staged_file *file_out)
{
	struct staged_file file;
	/* what it will be is not known yet: any directory is as good */
	struct error *err = staged_create(store, &digest_of_empty, true, &file);
	struct stat st;

	if (err)
		return err;
	err = file_copy(src_fd, file.fd);
	if (error_code(err) == ERROR_RESOURCE_EXHAUSTED && fstat(src_fd, &st) == 0 &&
	    store_evict_for_room(store, st.st_size) && ftruncate(file.fd, 0) == 0) {
		error_free(err);
		err = lseek(file.fd, 0, SEEK_SET) < 0 ? error_errno(errno, "seek")
						      : file_copy(src_fd, file.fd);
	}
	if (err)
		staged_drop(store, &file);
	else
		*file_out = file;
	return err;
}

/*
 * The file itself, renamed into staging and made ours, so that whoever wrote it cannot
 * change it any more. file_out->fd stays -1 where it must be copied.
 */
static struct error *store_adopt_move(struct store *store, int dir_fd, const char *name,
				      int fd, const struct stat *st,
				      struct staged_file *file_out)
{
	struct staged_file file = {.fd = -1};
	struct error *err = NULL;

	(void)staged_name(store, file.path);
	if (st->st_nlink != 1 || renameat(dir_fd, name, store->dir_fd, file.path) < 0)
		return NULL;
	if (st->st_uid != geteuid() && fchown(fd, geteuid(), getegid()) < 0)
		err = error_errno(errno, "chown %s", name);
	else if (fchmod(fd, 0444) < 0)
		err = error_errno(errno, "chmod %s", name);
	else if ((file.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
		err = error_errno(errno, "duplicate a descriptor");
	if (err)
		staged_drop(store, &file);
	else
		*file_out = file;
	return err;
}

/* The file becomes a blob; its digest is found out. Consumes the file. */
static struct error *store_adopt_staged(struct store *store, struct staged_file *file,
					struct digest *digest_out)
{
	struct digest digest;
	struct error *err = hasher_digest_fd(file->fd, &digest);

	if (!err)
		err = staged_check_size(store, &digest);
	if (err || store_has(store, &digest))
		staged_drop(store, file);
	else
		err = staged_keep(store, file, &digest);
	if (!err)
		*digest_out = digest;
	return err;
}

struct error *store_adopt(struct store *store, int dir_fd, const char *name,
			  bool is_moved, struct digest *digest_out)
{
	_cleanup_fd_ int fd =
		openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct staged_file file = {.fd = -1};
	bool is_in_place = false;
	struct error *err = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(errno, "open %s", name);
	if (!S_ISREG(st.st_mode))
		return error_new(ERROR_INVALID_ARGUMENT, "%s is no regular file", name);
	/* before it is hashed: a sparse file may be as large as it likes */
	err = staged_check_bytes(store, st.st_size, name);
	if (err)
		return err;
	if (is_moved)
		err = store_adopt_move(store, dir_fd, name, fd, &st, &file);
	is_in_place = file.fd >= 0;
	if (!err && !is_in_place)
		err = store_adopt_copy(store, fd, &file);
	if (!err)
		err = store_adopt_staged(store, &file, digest_out);
	if (is_moved && !is_in_place)
		(void)unlinkat(dir_fd, name, 0);
	return error_wrap(err, "adopt %s", name);
}
