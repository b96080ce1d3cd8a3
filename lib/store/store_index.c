/*
 * Owns the database DIR/index.sqlite in WAL mode: one connection that writes, in batches,
 * and one that answers single lookups. Statements are prepared once. synchronous=NORMAL:
 * a power failure may lose the last batches but never tear the database, and a lost row
 * only means that a file is hashed again.
 *
 * Threads: any. Several processes may have the database open: a busy one is waited for.
 */
#include "lib/store/store_index.h"

#include <sqlite3.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/database.h"
#include "lib/base/sync.h"

#define STORE_INDEX_VERSION "1"

enum {
	INDEX_PUT,
	INDEX_ADD,
	INDEX_USE,
	INDEX_DELETE,
	INDEX_EACH,
	INDEX_TOTALS,
	INDEX_NOTE,
	INDEX_SET_NOTE,
	INDEX_N,
};

static const char *const store_index_sql[INDEX_N] = {
	[INDEX_PUT] =
		"INSERT INTO blobs(hash, size, used, stamp, state) VALUES(?1,?2,?3,?4,?5)"
		" ON CONFLICT(hash) DO UPDATE SET size=?2, used=?3, stamp=?4, state=?5",
	[INDEX_ADD] =
		"INSERT INTO blobs(hash, size, used, stamp, state) VALUES(?1,?2,?3,?4,?5)"
		" ON CONFLICT(hash) DO NOTHING",
	[INDEX_USE] = "UPDATE blobs SET used=?2 WHERE hash=?1",
	[INDEX_DELETE] = "DELETE FROM blobs WHERE hash=?1",
	[INDEX_EACH] = "SELECT hash, size, used, stamp, state FROM blobs"
		       " WHERE (used, hash) > (?1, ?2) ORDER BY used, hash LIMIT ?3",
	[INDEX_TOTALS] = "SELECT n, bytes FROM totals",
	[INDEX_NOTE] = "SELECT value FROM notes WHERE name=?1",
	[INDEX_SET_NOTE] = "INSERT OR REPLACE INTO notes(name, value) VALUES(?1,?2)",
};

static const char store_index_schema[] =
	"BEGIN IMMEDIATE;"
	"CREATE TABLE IF NOT EXISTS blobs(hash BLOB PRIMARY KEY, size INTEGER NOT NULL,"
	" used INTEGER NOT NULL, stamp INTEGER NOT NULL, state INTEGER NOT NULL)"
	" WITHOUT ROWID;"
	"CREATE INDEX IF NOT EXISTS blobs_used ON blobs(used);"
	"CREATE TABLE IF NOT EXISTS notes(name TEXT PRIMARY KEY, value TEXT) WITHOUT "
	"ROWID;"
	"CREATE TABLE IF NOT EXISTS totals(id INTEGER PRIMARY KEY, n INTEGER, bytes "
	"INTEGER);"
	"INSERT OR IGNORE INTO totals VALUES(0, 0, 0);"
	"CREATE TRIGGER IF NOT EXISTS blobs_insert AFTER INSERT ON blobs BEGIN"
	" UPDATE totals SET n=n+1, bytes=bytes+new.size; END;"
	"CREATE TRIGGER IF NOT EXISTS blobs_delete AFTER DELETE ON blobs BEGIN"
	" UPDATE totals SET n=n-1, bytes=bytes-old.size; END;"
	"CREATE TRIGGER IF NOT EXISTS blobs_resize AFTER UPDATE OF size ON blobs"
	" WHEN new.size<>old.size BEGIN"
	" UPDATE totals SET bytes=bytes+new.size-old.size; END;"
	"PRAGMA user_version=" STORE_INDEX_VERSION ";"
	"COMMIT;";

_Static_assert(INDEX_N == STORE_INDEX_STATEMENTS, "one statement each");

static struct error *store_index_prepare(struct store_index *index, sqlite3 *db,
					 const char *sql, sqlite3_stmt **out)
{
	if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) !=
	    SQLITE_OK)
		return database_error(index->path, db, "prepare");
	return NULL;
}

static int store_index_version_row(void *version, int n, char **values, char **names)
{
	(void)names;
	if (n == 1 && values[0])
		*(int *)version = atoi(values[0]);
	return 0;
}

static struct error *store_index_make(struct store_index *index)
	SYNC_REQUIRES(&index->write_mutex)
{
	int version = 0;

	if (sqlite3_exec(index->db, "PRAGMA user_version", store_index_version_row,
			 &version, NULL) != SQLITE_OK)
		return database_error(index->path, index->db, "read the version");
	if (version == atoi(STORE_INDEX_VERSION))
		return NULL;
	if (version != 0)
		return error_new(ERROR_DATA_LOSS, "%s has the unknown version %d",
				 index->path, version);
	if (sqlite3_exec(index->db, store_index_schema, NULL, NULL, NULL) != SQLITE_OK)
		return database_error(index->path, index->db, "make the tables");
	return NULL;
}

struct error *store_index_open(const char *dir, struct store_index **index_out)
{
	_cleanup_(store_index_closep) struct store_index *index =
		alloc_new(struct store_index);
	struct error *err;

	sync_mutex_init(&index->write_mutex);
	sync_mutex_rank(&index->write_mutex, 3);
	sync_mutex_init(&index->read_mutex);
	sync_alone(&index->write_mutex);
	sync_alone(&index->read_mutex);
	index->path = alloc_printf("%s/index.sqlite", dir);
	err = database_open(index->path, &index->db);
	if (!err)
		err = store_index_make(index);
	for (int i = 0; i < INDEX_N && !err; i++)
		err = store_index_prepare(index, index->db, store_index_sql[i],
					  &index->statements[i]);
	if (!err)
		err = database_open(index->path, &index->read_db);
	if (!err)
		err = store_index_prepare(
			index, index->read_db,
			"SELECT size, used, stamp, state FROM blobs WHERE hash=?1",
			&index->find);
	if (err)
		return err;
	*index_out = take(index);
	return NULL;
}

void *store_index_close(struct store_index *index)
{
	if (!index)
		return NULL;
	sync_alone(&index->write_mutex);
	sync_alone(&index->read_mutex);
	for (int i = 0; i < INDEX_N; i++)
		(void)sqlite3_finalize(index->statements[i]);
	(void)sqlite3_finalize(index->find);
	(void)sqlite3_close(index->read_db);
	(void)sqlite3_close(index->db);
	sync_mutex_deinit(&index->write_mutex);
	sync_mutex_deinit(&index->read_mutex);
	free(index->path);
	free(index);
	return NULL;
}

void store_index_wipe(const char *dir)
{
	_cleanup_free_ char *path = alloc_printf("%s/index.sqlite", dir);

	database_remove(path);
}

static int store_index_check_row(void *is_good, int n, char **values, char **names)
{
	(void)names;
	*(bool *)is_good = n == 1 && values[0] && strcmp(values[0], "ok") == 0;
	return 0;
}

struct error *store_index_check(struct store_index *index)
{
	bool is_good = false;

	if (sqlite3_exec(index->db, "PRAGMA quick_check(1)", store_index_check_row,
			 &is_good, NULL) != SQLITE_OK)
		return database_error(index->path, index->db, "check");
	if (!is_good)
		return error_new(ERROR_DATA_LOSS, "%s is damaged", index->path);
	return NULL;
}

struct error *store_index_begin(struct store_index *index)
{
	sync_lock(&index->write_mutex);
	if (sqlite3_exec(index->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK)
		return NULL;
	return database_error(index->path, index->db, "begin");
}

struct error *store_index_end(struct store_index *index, struct error *err)
{
	if (!err && sqlite3_exec(index->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
		err = database_error(index->path, index->db, "commit");
	if (err)
		(void)sqlite3_exec(index->db, "ROLLBACK", NULL, NULL, NULL);
	sync_unlock(&index->write_mutex);
	return err;
}

static sqlite3_stmt *store_index_bind_hash(sqlite3_stmt *statement,
					   const struct digest *digest)
{
	(void)sqlite3_bind_blob(statement, 1, digest->hash, DIGEST_HASH_SIZE,
				SQLITE_STATIC);
	return statement;
}

/* Runs a statement that gives no rows. */
static struct error *store_index_run(struct store_index *index, sqlite3_stmt *statement)
	SYNC_REQUIRES(&index->write_mutex)
{
	struct error *err = NULL;

	if (sqlite3_step(statement) != SQLITE_DONE)
		err = database_error(index->path, index->db, "write");
	(void)sqlite3_reset(statement);
	(void)sqlite3_clear_bindings(statement);
	return err;
}

static struct error *store_index_write_row(struct store_index *index,
					   sqlite3_stmt *statement,
					   const struct store_row *row)
	SYNC_REQUIRES(&index->write_mutex)
{
	(void)store_index_bind_hash(statement, &row->digest);
	(void)sqlite3_bind_int64(statement, 2, row->digest.size);
	(void)sqlite3_bind_int64(statement, 3, row->used_ns);
	(void)sqlite3_bind_int64(statement, 4, row->stamp);
	(void)sqlite3_bind_int(statement, 5, (int)row->state);
	return store_index_run(index, statement);
}

struct error *store_index_put(struct store_index *index, const struct store_row *row)
{
	return store_index_write_row(index, index->statements[INDEX_PUT], row);
}

struct error *store_index_add(struct store_index *index, const struct store_row *row)
{
	return store_index_write_row(index, index->statements[INDEX_ADD], row);
}

struct error *store_index_use(struct store_index *index, const struct digest *digest,
			      int64_t used_ns)
{
	sqlite3_stmt *statement = index->statements[INDEX_USE];

	(void)sqlite3_bind_int64(statement, 2, used_ns);
	return store_index_run(index, store_index_bind_hash(statement, digest));
}

struct error *store_index_delete(struct store_index *index, const struct digest *digest)
{
	return store_index_run(
		index, store_index_bind_hash(index->statements[INDEX_DELETE], digest));
}

struct error *store_index_demote(struct store_index *index)
{
	if (sqlite3_exec(index->db, "UPDATE blobs SET state=0 WHERE state=1", NULL, NULL,
			 NULL) != SQLITE_OK)
		return database_error(index->path, index->db, "write");
	return NULL;
}

/* A row from five columns, or without the hash from four. False: no row of ours. */
static bool store_index_read_row(sqlite3_stmt *statement, int column,
				 struct store_row *row)
{
	int state = sqlite3_column_int(statement, column + 3);

	row->digest.size = sqlite3_column_int64(statement, column);
	row->used_ns = sqlite3_column_int64(statement, column + 1);
	row->stamp = sqlite3_column_int64(statement, column + 2);
	row->state = state == STORE_WHOLE     ? STORE_WHOLE
		     : state == STORE_DURABLE ? STORE_DURABLE
					      : STORE_SUSPECT;
	return row->digest.size >= 0;
}

struct error *store_index_each(struct store_index *index, const struct store_row *after,
			       int64_t n_max,
			       void (*each)(void *ctx, const struct store_row *row),
			       void *ctx)
{
	sqlite3_stmt *statement = index->statements[INDEX_EACH];
	struct store_row row;
	struct error *err = NULL;
	int step;

	(void)sqlite3_bind_int64(statement, 1, after ? after->used_ns : INT64_MIN);
	(void)sqlite3_bind_blob(statement, 2,
				after ? after->digest.hash : (const uint8_t *)"",
				after ? DIGEST_HASH_SIZE : 0, SQLITE_TRANSIENT);
	(void)sqlite3_bind_int64(statement, 3, n_max);
	while ((step = sqlite3_step(statement)) == SQLITE_ROW) {
		if (sqlite3_column_bytes(statement, 0) != DIGEST_HASH_SIZE)
			continue;
		memcpy(row.digest.hash, sqlite3_column_blob(statement, 0),
		       DIGEST_HASH_SIZE);
		if (store_index_read_row(statement, 1, &row))
			each(ctx, &row);
	}
	if (step != SQLITE_DONE)
		err = database_error(index->path, index->db, "read");
	(void)sqlite3_reset(statement);
	return err;
}

struct error *store_index_totals(struct store_index *index, int64_t *n_out,
				 int64_t *bytes_out)
{
	sqlite3_stmt *statement = index->statements[INDEX_TOTALS];
	struct error *err = NULL;

	if (sqlite3_step(statement) == SQLITE_ROW) {
		*n_out = sqlite3_column_int64(statement, 0);
		*bytes_out = sqlite3_column_int64(statement, 1);
	} else {
		err = database_error(index->path, index->db, "read totals");
	}
	(void)sqlite3_reset(statement);
	return err;
}

struct error *store_index_note(struct store_index *index, const char *name,
			       struct buf *out)
{
	sqlite3_stmt *statement = index->statements[INDEX_NOTE];
	struct error *err = NULL;
	int step;

	(void)sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	step = sqlite3_step(statement);
	if (step == SQLITE_ROW)
		buf_add(out, sqlite3_column_text(statement, 0),
			(size_t)sqlite3_column_bytes(statement, 0));
	else if (step != SQLITE_DONE)
		err = database_error(index->path, index->db, "read notes");
	(void)sqlite3_reset(statement);
	return err;
}

struct error *store_index_set_note(struct store_index *index, const char *name,
				   const char *value)
{
	sqlite3_stmt *statement = index->statements[INDEX_SET_NOTE];

	(void)sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
	(void)sqlite3_bind_text(statement, 2, value, -1, SQLITE_STATIC);
	return store_index_run(index, statement);
}

struct error *store_index_find(struct store_index *index, const struct digest *digest,
			       bool *found_out, struct store_row *row_out)
{
	struct store_row row = {.digest = *digest};
	struct error *err = NULL;
	bool is_found = false;
	int step;

	sync_lock(&index->read_mutex);
	step = sqlite3_step(store_index_bind_hash(index->find, digest));
	if (step == SQLITE_ROW)
		is_found = store_index_read_row(index->find, 0, &row);
	else if (step != SQLITE_DONE)
		err = database_error(index->path, index->read_db, "look up");
	(void)sqlite3_reset(index->find);
	sync_unlock(&index->read_mutex);
	if (err)
		return err;
	*found_out = is_found;
	*row_out = row;
	return NULL;
}

/* Where it fails each is a transaction, as before. */
void store_index_find_many(struct store_index *index, bool begins)
{
	sync_lock(&index->read_mutex);
	(void)sqlite3_exec(index->read_db, begins ? "BEGIN" : "COMMIT", NULL, NULL, NULL);
	sync_unlock(&index->read_mutex);
}
