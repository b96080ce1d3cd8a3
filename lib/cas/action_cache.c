/*
 * Owns the SQLite file of the action cache: one connection, its statements prepared once,
 * all behind one lock, since each takes some ten microseconds. WAL without an fsync a
 * commit: a crash of the machine may cost the newest entries, which are only a cache.
 *
 * What bounds it is entries and bytes: the file's pages in use (database_bytes()).
 */
#define LOG_MODULE "actions"

#include "lib/cas/action_cache.h"

#include <sqlite3.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/database.h"
#include "lib/base/log.h"
#include "lib/base/sync.h"

struct action_cache {
	struct sync_mutex mutex;
	sqlite3 *db SYNC_GUARDED_BY(&mutex);
	sqlite3_stmt *get SYNC_GUARDED_BY(&mutex);
	sqlite3_stmt *put SYNC_GUARDED_BY(&mutex);
	sqlite3_stmt *prune SYNC_GUARDED_BY(&mutex);
	char *path;
	int64_t max_bytes;
	int64_t n_entries SYNC_GUARDED_BY(&mutex);
	int64_t n_unseen SYNC_GUARDED_BY(
		&mutex); /* bytes written since the file's size was looked at */
};

static const char cache_schema[] =
	"CREATE TABLE IF NOT EXISTS results ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT," /* grows: the smallest is the oldest */
	" instance TEXT NOT NULL, hash BLOB NOT NULL, size INTEGER NOT NULL,"
	" result BLOB NOT NULL, UNIQUE (instance, hash, size));";

static struct error *cache_prepare(struct action_cache *cache, const char *sql,
				   sqlite3_stmt **out) SYNC_REQUIRES(&cache->mutex)
{
	return database_prepare(cache->path, cache->db, sql, out);
}

static struct error *cache_count(struct action_cache *cache) SYNC_REQUIRES(&cache->mutex)
{
	return database_ask(cache->path, cache->db, "SELECT COUNT(*) FROM results",
			    &cache->n_entries);
}

static struct error *cache_bytes(struct action_cache *cache, int64_t *out)
	SYNC_REQUIRES(&cache->mutex)
{
	return database_bytes(cache->path, cache->db, out);
}

static struct error *cache_load(struct action_cache *cache) SYNC_REQUIRES(&cache->mutex)
{
	struct error *err = database_open(cache->path, &cache->db);

	if (err)
		return err;
	if (sqlite3_exec(cache->db, cache_schema, NULL, NULL, NULL) != SQLITE_OK)
		return database_error(cache->path, cache->db, "open");
	err = cache_prepare(cache,
			    "SELECT result FROM results"
			    " WHERE instance=?1 AND hash=?2 AND size=?3",
			    &cache->get);
	if (!err)
		err = cache_prepare(cache,
				    "REPLACE INTO results (instance, hash, size, result)"
				    " VALUES (?1, ?2, ?3, ?4)",
				    &cache->put);
	if (!err)
		err = cache_prepare(cache,
				    "DELETE FROM results WHERE id IN"
				    " (SELECT id FROM results ORDER BY id LIMIT ?1)",
				    &cache->prune);
	return err ? err : cache_count(cache);
}

static void cache_unload(struct action_cache *cache) SYNC_REQUIRES(&cache->mutex)
{
	(void)sqlite3_finalize(cache->get);
	(void)sqlite3_finalize(cache->put);
	(void)sqlite3_finalize(cache->prune);
	(void)sqlite3_close(cache->db);
	cache->get = cache->put = cache->prune = NULL;
	cache->db = NULL;
}

/* The oldest entries, as many as n. */
static struct error *cache_prune(struct action_cache *cache, int64_t n)
	SYNC_REQUIRES(&cache->mutex)
{
	struct error *err = NULL;

	(void)sqlite3_bind_int64(cache->prune, 1, n);
	if (sqlite3_step(cache->prune) != SQLITE_DONE)
		err = database_error(cache->path, cache->db, "prune");
	database_reset(cache->prune);
	return err ? err : cache_count(cache);
}

/* Down to nine tenths of the bytes, where there are more than all of them. */
static struct error *cache_hold_bytes(struct action_cache *cache)
	SYNC_REQUIRES(&cache->mutex)
{
	int64_t before = cache->n_entries, bytes = 0;
	struct error *err = cache_bytes(cache, &bytes);

	cache->n_unseen = 0;
	if (err || bytes <= cache->max_bytes)
		return err;
	err = cache_count(cache);
	while (!err && bytes > cache->max_bytes - cache->max_bytes / 10 &&
	       cache->n_entries > 0) {
		err = cache_prune(cache, 1 + cache->n_entries / 20);
		if (!err)
			err = cache_bytes(cache, &bytes);
	}
	if (!err)
		log_info("%lld of %lld results were forgotten: they took more than %lld "
			 "bytes",
			 (long long)(before - cache->n_entries), (long long)before,
			 (long long)cache->max_bytes);
	return err;
}

struct error *action_cache_open(const char *dir, int64_t max_bytes,
				struct action_cache **cache_out)
{
	struct action_cache *cache = alloc_new(struct action_cache);
	struct error *err;

	sync_mutex_init(&cache->mutex);
	cache->path = alloc_printf("%s/actions.sqlite", dir);
	cache->max_bytes =
		max_bytes > ACTION_CACHE_BYTES_MIN ? max_bytes : ACTION_CACHE_BYTES_MIN;
	sync_lock(&cache->mutex);
	err = cache_load(cache);
	if (error_code(err) == ERROR_DATA_LOSS) {
		log_drop(LOG_WARN, err, "the action cache begins anew");
		cache_unload(cache);
		database_remove(cache->path);
		err = cache_load(cache);
	}
	if (!err)
		err = cache_hold_bytes(cache);
	sync_unlock(&cache->mutex);
	if (err) {
		action_cache_close(cache);
		return err;
	}
	*cache_out = cache;
	return NULL;
}

void *action_cache_close(struct action_cache *cache)
{
	if (!cache)
		return NULL;
	sync_lock(&cache->mutex);
	cache_unload(cache);
	sync_unlock(&cache->mutex);
	sync_mutex_deinit(&cache->mutex);
	free(cache->path);
	free(cache);
	return NULL;
}

static void cache_bind_key(sqlite3_stmt *stmt, const char *instance,
			   const struct digest *action)
{
	(void)sqlite3_bind_text(stmt, 1, instance, -1, SQLITE_STATIC);
	(void)sqlite3_bind_blob(stmt, 2, action->hash, sizeof(action->hash),
				SQLITE_STATIC);
	(void)sqlite3_bind_int64(stmt, 3, action->size);
}

struct error *action_cache_get(struct action_cache *cache, const char *instance,
			       const struct digest *action, struct buf *out,
			       bool *found_out)
{
	struct error *err = NULL;
	bool is_found = false;

	sync_lock(&cache->mutex);
	cache_bind_key(cache->get, instance, action);
	switch (sqlite3_step(cache->get)) {
	case SQLITE_ROW:
		is_found = true;
		buf_add(out, sqlite3_column_blob(cache->get, 0),
			(size_t)sqlite3_column_bytes(cache->get, 0));
		break;
	case SQLITE_DONE:
		break;
	default:
		err = database_error(cache->path, cache->db, "read");
		break;
	}
	database_reset(cache->get);
	sync_unlock(&cache->mutex);
	if (!err)
		*found_out = is_found;
	return err;
}

struct error *action_cache_put(struct action_cache *cache, const char *instance,
			       const struct digest *action, struct slice result)
{
	struct error *err = NULL;

	sync_lock(&cache->mutex);
	cache_bind_key(cache->put, instance, action);
	(void)sqlite3_bind_blob64(cache->put, 4,
				  result.len ? (const void *)result.data : "", result.len,
				  SQLITE_STATIC);
	if (sqlite3_step(cache->put) != SQLITE_DONE)
		err = database_error(cache->path, cache->db, "write");
	database_reset(cache->put);
	cache->n_unseen += (int64_t)result.len;
	if (!err && ++cache->n_entries > ACTION_CACHE_MAX)
		err = cache_prune(cache, ACTION_CACHE_MAX / 10);
	if (!err && cache->n_unseen > cache->max_bytes / 64)
		err = cache_hold_bytes(cache);
	sync_unlock(&cache->mutex);
	return err;
}
