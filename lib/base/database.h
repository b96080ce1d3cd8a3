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

/* Made where it is missing. The caller closes it (sqlite3_close), also after an error of
 * its own. */
struct error *database_open(const char *path, struct sqlite3 **db_out);
/* What the connection's last call says of itself: DATA_LOSS where the file is damaged,
 * RESOURCE_EXHAUSTED on a full disk, UNAVAILABLE where it stays locked. db NULL: it could
 * not even be made. */
struct error *database_error(const char *path, struct sqlite3 *db, const char *what);
/* The file and what belongs to it; nobody may have it open. */
void database_remove(const char *path);
