/* Owns nothing: connections are their openers'. */
#include "lib/base/database.h"

#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"

#define DATABASE_BUSY_MS  60000
#define DATABASE_RETRY_MS 5

struct error *database_error(const char *path, struct sqlite3 *db, const char *what)
{
	enum error_code kind = ERROR_INTERNAL;

	switch (db ? sqlite3_errcode(db) : SQLITE_NOMEM) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		kind = ERROR_DATA_LOSS;
		break;
	case SQLITE_FULL:
		kind = ERROR_RESOURCE_EXHAUSTED;
		break;
	case SQLITE_BUSY:
		kind = ERROR_UNAVAILABLE;
		break;
	default:
		break;
	}
	return error_new(kind, "%s: %s: %s", path, what,
			 db ? sqlite3_errmsg(db) : "out of memory");
}

/*
 * To make a new file WAL, SQLite turns a lock that it shares into one that it has alone;
 * where two do that at once, it tells one of them that the file is busy without waiting,
 * since both might wait for ever.
 */
static struct error *database_set_up(const char *path, struct sqlite3 *db)
{
	int64_t until = clock_mono_ns() + DATABASE_BUSY_MS * NS_PER_MS;
	int code;

	(void)sqlite3_busy_timeout(db, DATABASE_BUSY_MS);
	while ((code = sqlite3_exec(db,
				    "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
				    "PRAGMA temp_store=MEMORY;",
				    NULL, NULL, NULL)) == SQLITE_BUSY &&
	       clock_mono_ns() < until)
		clock_sleep_ms(DATABASE_RETRY_MS);
	return code == SQLITE_OK ? NULL : database_error(path, db, "set up");
}

struct error *database_open(const char *path, struct sqlite3 **db_out)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
	struct sqlite3 *db = NULL;
	struct error *err;

	if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK)
		err = database_error(path, db, "open");
	else
		err = database_set_up(path, db);
	if (err) {
		(void)sqlite3_close(db);
		return err;
	}
	*db_out = db;
	return NULL;
}

struct error *database_prepare(const char *path, struct sqlite3 *db, const char *sql,
			       struct sqlite3_stmt **out)
{
	if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) !=
	    SQLITE_OK)
		return database_error(path, db, "prepare");
	return NULL;
}

void database_reset(struct sqlite3_stmt *stmt)
{
	(void)sqlite3_reset(stmt);
	(void)sqlite3_clear_bindings(stmt);
}

struct error *database_ask(const char *path, struct sqlite3 *db, const char *sql,
			   int64_t *out)
{
	sqlite3_stmt *ask = NULL;
	struct error *err = database_prepare(path, db, sql, &ask);

	if (!err && sqlite3_step(ask) != SQLITE_ROW)
		err = database_error(path, db, "ask");
	if (!err)
		*out = sqlite3_column_int64(ask, 0);
	(void)sqlite3_finalize(ask);
	return err;
}

struct error *database_bytes(const char *path, struct sqlite3 *db, int64_t *out)
{
	int64_t n_pages = 0, n_free = 0, size = 0;
	struct error *err = database_ask(path, db, "PRAGMA page_count", &n_pages);

	if (!err)
		err = database_ask(path, db, "PRAGMA freelist_count", &n_free);
	if (!err)
		err = database_ask(path, db, "PRAGMA page_size", &size);
	if (!err)
		*out = (n_pages - n_free) * size;
	return err;
}

void database_remove(const char *path)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		_cleanup_free_ char *name = alloc_printf("%s%s", path, suffixes[i]);

		(void)unlink(name);
	}
}

void database_set_aside(const char *path)
{
	_cleanup_free_ char *aside = alloc_printf("%s.damaged", path);

	(void)rename(path, aside);
	database_remove(path);
}
