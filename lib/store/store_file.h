/*
 * The store's files: their paths, and the few things done to them, without any lock: its
 * callers hold the lock of a file's name where store_impl.h asks for it. All but the
 * paths blocks on the local disk. dir_fd is the store's directory. Threads: any.
 */
#pragma once

#include <sys/stat.h>

#include "lib/tree/digest.h"

#define STORE_PATH_MAX 96

/* "blobs/HH/HASH", relative to the store's directory. */
const char *store_file_path(const struct digest *digest,
			    char path[static STORE_PATH_MAX]);
const char *store_file_dir(const struct digest *digest, char path[static STORE_PATH_MAX]);
/* Makes blobs/ with its 256 directories, and staging/, where they are missing. */
struct error *store_file_layout(int dir_fd);
/* Changes whenever the file is replaced or written to: its inode and time of change. */
int64_t store_file_stamp(const struct stat *st);

/* The blob's file for reading, -1 where there is none. */
struct error *store_file_open(int dir_fd, const struct digest *digest, int *fd_out,
			      struct stat *st_out);
/* False where there is none (or it is no regular file). */
bool store_file_stat(int dir_fd, const struct digest *digest, struct stat *st_out);
/* The empty blob's, made where it is missing. */
struct error *store_file_open_empty(int dir_fd, int *fd_out);

/* Each file under blobs/ whose name is a hash; size is what is on disk. */
struct error *store_file_scan(int dir_fd,
			      void (*each)(void *ctx, const struct digest *digest),
			      void *ctx);

/* DIR/lock for this process's life: exclusive, or with the others of a shared store. */
struct error *store_file_lock(int dir_fd, const char *dir, bool is_shared,
			      int *lock_fd_out);

/*
 * A staging directory of our own, "staging/PID.N", locked while we live, and the removal
 * of those whose owners do not: *found_dead_out tells whether there were any.
 */
struct error *store_file_staging(int dir_fd, char path[static STORE_PATH_MAX],
				 int *fd_out);
struct error *store_file_sweep(int dir_fd, bool *found_dead_out);
