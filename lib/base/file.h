/*
 * Files: whole reads and writes, copies that share extents where they can, trees made and
 * removed without following a symbolic link. Paths are bytes; dir_fd is as in openat(2).
 * All of it blocks on the disk: never on a FUSE or gRPC thread.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "lib/base/buf.h"
#include "lib/base/error.h"

/* "a FIFO": what something is that is no file, directory or link, for people. */
const char *file_kind(mode_t mode);

/* Some bytes from there on, at most max; none at the end. */
struct error *file_pread(int fd, void *to, size_t max, off_t at, size_t *n_out);
/* The whole file, appended to out. INVALID_ARGUMENT where it is longer than limit. */
struct error *file_read_all(int dir_fd, const char *path, size_t limit, struct buf *out);
/* The same from an open file's start (pread: the offset stays). */
struct error *file_read_fd(int fd, size_t limit, struct buf *out);
struct error *file_write_all(int fd, const void *data, size_t len);
/* A name beside path, for what will be renamed to it. The caller frees it. */
char *file_temporary(const char *path);
/* Writes a temporary file beside it and renames it over path: all of it or nothing. */
struct error *file_replace(int dir_fd, const char *path, const void *data, size_t len,
			   mode_t mode);
/* src's bytes from their start to dst's end: reflink, else copy_file_range, else by hand.
 */
struct error *file_copy(int src_fd, int dst_fd);
/* The same from an offset of src_fd on, appended where dst_fd is. */
struct error *file_copy_from(int src_fd, off_t from, int dst_fd);
struct error *file_mkdirs(int dir_fd, const char *path, mode_t mode); /* as mkdir -p */
/* Removes path and all below it, on its own file system only; absence is success. */
struct error *file_remove_tree(int dir_fd, const char *path);
/* openat2(2) with its RESOLVE_ flags: a descriptor, or -1 and errno. Tries again where
 * the kernel says EAGAIN: on a ".." it cannot be sure while anybody renames or mounts
 * anything, anywhere on the machine. */
int file_open_resolved(int dir_fd, const char *path, int flags, mode_t mode,
		       uint64_t resolve);
/* Opens path beneath dir_fd only: no symbolic link, no "..", no mount crossed outwards.
 */
struct error *file_open_beneath(int dir_fd, const char *path, int flags, mode_t mode,
				int *fd_out);
/* The same where the kernel has no openat2 (before 5.6), as strict; path is "." or has no
 * empty, "." or ".." component. */
struct error *file_open_beneath_by_hand(int dir_fd, const char *path, int flags,
					mode_t mode, int *fd_out);
/* Makes the directories of path ("" is dir_fd itself) and opens the last. What else
 * stands in the way of one, a symbolic link too, is removed; nothing is ever followed. */
struct error *file_mkdirs_beneath(int dir_fd, const char *path, mode_t mode, int *fd_out);
/* The same for a directory whose path may be longer than any that the kernel takes: made
 * by whoever changed directory on the way. "": dir_fd itself. */
struct error *file_open_deep(int dir_fd, const char *path, int *fd_out);
/* dir_fd itself duplicated as a directory, or a directory below it. */
struct error *file_open_dir(int dir_fd, const char *path, int *fd_out);

/* Which file a path was when it was looked at, for those that read one again. */
struct file_stamp {
	dev_t dev;
	ino_t inode;
	off_t size;
	struct timespec changed;
};
/* True: path is another file than *stamp says, or has changed; *stamp is it now. A path
 * that is not there changes nothing. Zeroed: none was seen. */
bool file_stamp_update(struct file_stamp *stamp, const char *path);

/* True for "", absolute paths, and those with an empty, "." or ".." component. */
bool file_path_escapes(const char *path);
/* A relative path as people write it ("./out//x/") in its one form ("out/x"; "" is the
 * directory itself); the caller frees it. INVALID_ARGUMENT where it is absolute or has a
 * ".." component. */
struct error *file_path_clean(const char *path, char **clean_out);
/* Where path leads to from base, a clean directory below some root ("" is the root), as a
 * clean path below that root. ".." leads upwards. INVALID_ARGUMENT where path is absolute
 * or leaves the root. */
struct error *file_path_join(const char *base, const char *path, char **clean_out);
/* The way from base to path, both clean and below one root: "../x"; "" is base itself.
 * The caller frees it. */
char *file_path_relative(const char *base, const char *path);
