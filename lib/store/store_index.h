/*
 * The store's index: an SQLite database of what the store would rather not find out
 * again. It says nothing that the files could not say, so losing it loses only ages.
 *
 * Threads: any; two connections with a lock each, so that a lookup never waits for a
 * batch.
 */
#pragma once

#include "lib/base/sync.h"
#include "lib/tree/digest.h"

struct sqlite3;
struct sqlite3_stmt;

#define STORE_INDEX_STATEMENTS 8

/* Its fields are store_index.c's alone; they stand here so that the compiler can check
 * who holds the lock. */
struct store_index {
	char *path;
	struct sync_mutex write_mutex;
	struct sqlite3 *db SYNC_GUARDED_BY(&write_mutex);
	struct sqlite3_stmt *statements[STORE_INDEX_STATEMENTS] SYNC_GUARDED_BY(
		&write_mutex);
	struct sync_mutex read_mutex;
	struct sqlite3 *read_db SYNC_GUARDED_BY(&read_mutex);
	struct sqlite3_stmt *find SYNC_GUARDED_BY(&read_mutex);
};

enum store_state {
	STORE_SUSPECT = 0, /* hash it before use */
	STORE_WHOLE = 1,   /* good as long as the machine does not crash */
	STORE_DURABLE = 2, /* good, and known to be on the disk */
};

struct store_row {
	struct digest digest;
	int64_t used_ns;
	int64_t stamp; /* store_file_stamp() of the file that state speaks of */
	enum store_state state;
};

/* The database in the directory dir, made where it is missing. DATA_LOSS where the file
 * is no such database: remove it with store_index_wipe(). */
struct error *store_index_open(const char *dir, struct store_index **index_out);
void *store_index_close(struct store_index *index);
CLEANUP_DEFINE(struct store_index, store_index_close)
void store_index_wipe(const char *dir);

/* One transaction at a time. begin takes the lock even where it fails, and end must
 * follow it always: it commits or, where err is set, rolls back, and gives the lock back.
 * end consumes err and returns it, or its own. */
struct error *store_index_begin(struct store_index *index)
	SYNC_ACQUIRES(&index->write_mutex);
struct error *store_index_end(struct store_index *index, struct error *err)
	SYNC_RELEASES(&index->write_mutex);

/* The rest within a transaction. Reads the whole database for damage (DATA_LOSS): after
 * an unclean stop. */
struct error *store_index_check(struct store_index *index)
	SYNC_REQUIRES(&index->write_mutex);
struct error *store_index_put(struct store_index *index, const struct store_row *row)
	SYNC_REQUIRES(&index->write_mutex);
/* Only where there is no row yet. */
struct error *store_index_add(struct store_index *index, const struct store_row *row)
	SYNC_REQUIRES(&index->write_mutex);
struct error *store_index_use(struct store_index *index, const struct digest *digest,
			      int64_t used_ns) SYNC_REQUIRES(&index->write_mutex);
struct error *store_index_delete(struct store_index *index, const struct digest *digest)
	SYNC_REQUIRES(&index->write_mutex);
struct error *store_index_demote(struct store_index *index)
	SYNC_REQUIRES(&index->write_mutex); /* WHOLE becomes SUSPECT */
/* Rows in order of their last use, those after *after (NULL: all)
 * SYNC_REQUIRES(&index->write_mutex); stops after n_max. */
struct error *store_index_each(struct store_index *index, const struct store_row *after,
			       int64_t n_max,
			       void (*each)(void *ctx, const struct store_row *row),
			       void *ctx) SYNC_REQUIRES(&index->write_mutex);
struct error *store_index_totals(struct store_index *index, int64_t *n_out,
				 int64_t *bytes_out) SYNC_REQUIRES(&index->write_mutex);
/* Named notes: "boot", "clean". An unknown one is "". */
struct error *store_index_note(struct store_index *index, const char *name,
			       struct buf *out) SYNC_REQUIRES(&index->write_mutex);
struct error *store_index_set_note(struct store_index *index, const char *name,
				   const char *value) SYNC_REQUIRES(&index->write_mutex);

/* By itself, on the second connection. *found_out false: no row of that hash. */
struct error *store_index_find(struct store_index *index, const struct digest *digest,
			       bool *found_out, struct store_row *row_out)
	SYNC_EXCLUDES(&index->read_mutex);
/* Many of them in one transaction, which sees the index as it was at its first. */
void store_index_find_many(struct store_index *index, bool begins)
	SYNC_EXCLUDES(&index->read_mutex);
