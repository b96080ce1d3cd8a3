/*
 * Owns the database of profiles: one row a profile, by its key, with when it was last
 * used. Nothing here fails the worker: what cannot be read is not known, what cannot be
 * written is learned again.
 */
#include "predict/profile_db.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/database.h"
#include "lib/base/sync.h"

#define LOG_MODULE "profiles"
#include "lib/base/log.h"

#define PROFILE_DB_PRUNE_EVERY 256 /* puts */
#define PROFILE_DB_KEYS_MAX    8   /* asked for at once */

struct profile_db {
	char *path;
	struct sync_mutex mutex; /* of the connection, held while SQLite works */
	sqlite3 *db SYNC_GUARDED_BY(&mutex);
	sqlite3_stmt *get SYNC_GUARDED_BY(&mutex);
	sqlite3_stmt *put SYNC_GUARDED_BY(&mutex);
	sqlite3_stmt *use SYNC_GUARDED_BY(&mutex);
	sqlite3_stmt *prune SYNC_GUARDED_BY(&mutex);
	unsigned int n_puts SYNC_GUARDED_BY(&mutex);
};

static const char profile_db_schema[] =
	"CREATE TABLE IF NOT EXISTS profiles(key BLOB PRIMARY KEY, used INTEGER NOT NULL,"
	" body BLOB NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX IF NOT EXISTS profiles_used ON profiles(used);";

static void profile_db_unload(struct profile_db *db) SYNC_REQUIRES(&db->mutex)
{
	(void)sqlite3_finalize(db->get);
	(void)sqlite3_finalize(db->put);
	(void)sqlite3_finalize(db->use);
	(void)sqlite3_finalize(db->prune);
	(void)sqlite3_close(db->db);
	db->get = db->put = db->use = db->prune = NULL;
	db->db = NULL;
}

static struct error *profile_db_load(struct profile_db *db) SYNC_REQUIRES(&db->mutex)
{
	const struct {
		const char *sql;
		sqlite3_stmt **out;
	} statements[] = {
		{"SELECT key, body FROM profiles"
		 " WHERE key IN (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
		 &db->get},
		{"INSERT OR REPLACE INTO profiles(key, used, body) VALUES(?1, ?2, ?3)",
		 &db->put},
		{"UPDATE profiles SET used = ?2 WHERE key = ?1", &db->use},
		{"DELETE FROM profiles WHERE key IN (SELECT key FROM profiles"
		 " ORDER BY used DESC LIMIT -1 OFFSET ?1)",
		 &db->prune},
	};
	struct error *err = database_open(db->path, &db->db);

	if (err)
		return err;
	if (sqlite3_exec(db->db, profile_db_schema, NULL, NULL, NULL) != SQLITE_OK)
		return database_error(db->path, db->db, "open");
	for (size_t i = 0; i < ARRAY_SIZE(statements); i++)
		if (sqlite3_prepare_v3(db->db, statements[i].sql, -1,
				       SQLITE_PREPARE_PERSISTENT, statements[i].out,
				       NULL) != SQLITE_OK)
			return database_error(db->path, db->db, "prepare");
	return NULL;
}

/* Puts the file where somebody may look at it, and begins anew. */
static struct error *profile_db_set_aside(struct profile_db *db, struct error *why)
	SYNC_REQUIRES(&db->mutex)
{
	struct error *err;

	log_warn("%s; it is kept as %s.damaged, and what was learned is lost",
		 error_text(why), db->path);
	error_free(why);
	profile_db_unload(db);
	database_set_aside(db->path);
	err = profile_db_load(db);
	if (err)
		profile_db_unload(db);
	return err;
}

struct error *profile_db_open(const char *path, struct profile_db **out)
{
	_cleanup_(profile_db_closep) struct profile_db *db = alloc_new(struct profile_db);
	struct error *err;

	db->path = alloc_string(path);
	sync_mutex_init(&db->mutex);
	sync_alone(&db->mutex);
	err = profile_db_load(db);
	if (err)
		err = profile_db_set_aside(db, err);
	if (err)
		return err;
	*out = take(db);
	return NULL;
}

void *profile_db_close(struct profile_db *db)
{
	if (!db)
		return NULL;
	sync_alone(&db->mutex);
	profile_db_unload(db);
	sync_mutex_deinit(&db->mutex);
	free(db->path);
	free(db);
	return NULL;
}

/* After a statement that failed: a damaged file is set aside, else it is only said. */
static void profile_db_failed(struct profile_db *db, const char *what)
	SYNC_REQUIRES(&db->mutex)
{
	struct error *err = database_error(db->path, db->db, what);

	if (error_code(err) == ERROR_DATA_LOSS)
		err = profile_db_set_aside(db, err);
	log_drop(LOG_WARN, err, "profiles");
}

static void profile_db_row(struct profile_db *db, const struct digest *keys, size_t n,
			   struct profile *profiles) SYNC_REQUIRES(&db->mutex)
{
	const void *key = sqlite3_column_blob(db->get, 0);
	size_t key_len = (size_t)sqlite3_column_bytes(db->get, 0);
	struct slice body = {sqlite3_column_blob(db->get, 1),
			     (size_t)sqlite3_column_bytes(db->get, 1)};
	struct error *err;

	for (size_t i = 0; i < n; i++) {
		if (key_len != sizeof(keys[i].hash) ||
		    memcmp(key, keys[i].hash, key_len) != 0 || profiles[i].n)
			continue;
		err = profile_decode(body, &profiles[i]);
		log_drop(LOG_DEBUG, err, "a profile is passed over");
	}
}

static void profile_db_touch(struct profile_db *db, const struct digest *key)
	SYNC_REQUIRES(&db->mutex)
{
	(void)sqlite3_bind_blob(db->use, 1, key->hash, sizeof(key->hash), SQLITE_STATIC);
	(void)sqlite3_bind_int64(db->use, 2, clock_wall_ns());
	(void)sqlite3_step(db->use);
	(void)sqlite3_reset(db->use);
}

static void profile_db_select(struct profile_db *db, const struct digest *keys, size_t n,
			      struct profile *profiles) SYNC_REQUIRES(&db->mutex)
{
	int code = SQLITE_DONE;

	if (!db->get)
		return;
	for (size_t i = 0; i < n; i++)
		(void)sqlite3_bind_blob(db->get, (int)i + 1, keys[i].hash,
					sizeof(keys[i].hash), SQLITE_STATIC);
	while ((code = sqlite3_step(db->get)) == SQLITE_ROW)
		profile_db_row(db, keys, n, profiles);
	(void)sqlite3_reset(db->get);
	(void)sqlite3_clear_bindings(db->get);
	if (code != SQLITE_DONE) {
		profile_db_failed(db, "read");
		return;
	}
	for (size_t i = 0; i < n; i++)
		if (profiles[i].n)
			profile_db_touch(db, &keys[i]);
}

void profile_db_get(struct profile_db *db, const struct digest *keys, size_t n,
		    struct profile *profiles)
{
	require(n <= PROFILE_DB_KEYS_MAX);
	for (size_t i = 0; i < n; i++)
		profiles[i] = PROFILE_INIT;
	sync_lock(&db->mutex);
	profile_db_select(db, keys, n, profiles);
	sync_unlock(&db->mutex);
}

static void profile_db_insert(struct profile_db *db, const struct digest *key,
			      struct slice body) SYNC_REQUIRES(&db->mutex)
{
	int code;

	if (!db->put)
		return;
	(void)sqlite3_bind_blob(db->put, 1, key->hash, sizeof(key->hash), SQLITE_STATIC);
	(void)sqlite3_bind_int64(db->put, 2, clock_wall_ns());
	(void)sqlite3_bind_blob64(db->put, 3, body.data, body.len, SQLITE_STATIC);
	code = sqlite3_step(db->put);
	(void)sqlite3_reset(db->put);
	(void)sqlite3_clear_bindings(db->put);
	if (code == SQLITE_DONE && ++db->n_puts % PROFILE_DB_PRUNE_EVERY == 0) {
		(void)sqlite3_bind_int(db->prune, 1, PROFILE_DB_MAX);
		code = sqlite3_step(db->prune);
		(void)sqlite3_reset(db->prune);
	}
	if (code != SQLITE_DONE)
		profile_db_failed(db, "write");
}

void profile_db_put(struct profile_db *db, const struct digest *key,
		    const struct profile *profile)
{
	_cleanup_buf_ struct buf body = BUF_INIT;

	profile_encode(profile, &body);
	sync_lock(&db->mutex);
	profile_db_insert(db, key, buf_slice(&body));
	sync_unlock(&db->mutex);
}
