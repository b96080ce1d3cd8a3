/*
 * SQLite files as all of ours are: WAL without an fsync a commit (a crash of the machine
 * may cost the newest rows, which can be made again), waited for where another process
 * has them.
 *
 * Threads: any; a connection belongs to whoever holds its owner's lock.
 */
#pragma once

#include "lib/base/error.h"

struct sqlite3;
struct sqlite3_stmt;

/* Made where it is missing. The caller closes it (sqlite3_close), also after an error of
 * its own. */
struct error *database_open(const char *path, struct sqlite3 **db_out);
/* What the connection's last call says of itself: DATA_LOSS where the file is damaged,
 * RESOURCE_EXHAUSTED on a full disk, UNAVAILABLE where it stays locked. db NULL: it could
 * not even be made. */
struct error *database_error(const char *path, struct sqlite3 *db, const char *what);
/* A statement that is used many times; the caller finalizes it. */
struct error *database_prepare(const char *path, struct sqlite3 *db, const char *sql,
			       struct sqlite3_stmt **out);
/* Ready for its next use: what was bound is forgotten. */
void database_reset(struct sqlite3_stmt *stmt);
/* The one number that a statement answers. */
struct error *database_ask(const char *path, struct sqlite3 *db, const char *sql,
			   int64_t *out);
/* Of the file's pages in use, which SQLite knows without reading them. Pages that were
 * freed are used again, so the file stays about as large as it was allowed to become. */
struct error *database_bytes(const char *path, struct sqlite3 *db, int64_t *out);
/* The file and what belongs to it; nobody may have it open. */
void database_remove(const char *path);
/* The same of a damaged one, which stays as PATH.damaged for who wants to look at it. */
void database_set_aside(const char *path);
