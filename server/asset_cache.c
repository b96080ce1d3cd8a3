/*
 * Owns the SQLite file of assets: one connection behind one lock, as action_cache.c. A
 * push is a row of pushes, and each of its names a row of names; a push without names
 * goes by a trigger. WAL without an fsync a commit: a crash of the machine may cost the
 * newest names, as it may cost results of actions.
 */
#define LOG_MODULE "assets"

#include "server/asset_cache.h"

#include <sqlite3.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/database.h"
#include "lib/base/log.h"
#include "lib/base/sync.h"

enum asset_statement {
	ASSET_BEGIN,
	ASSET_COMMIT,
	ASSET_ROLLBACK,
	ASSET_GET,
	ASSET_PUSH,
	ASSET_UNNAME,
	ASSET_NAME,
	ASSET_PRUNE,
	ASSET_EXPIRE,
	ASSET_STATEMENTS,
};

static const char *const asset_sql[ASSET_STATEMENTS] = {
	[ASSET_BEGIN] = "BEGIN IMMEDIATE",
	[ASSET_COMMIT] = "COMMIT",
	[ASSET_ROLLBACK] = "ROLLBACK",
	[ASSET_GET] = "SELECT digest, pushed, expires, name_only, n_blobs, refs"
		      " FROM names JOIN pushes ON pushes.id = names.push"
		      " WHERE name=?1 AND expires>?2",
	[ASSET_PUSH] = "INSERT INTO pushes (digest, pushed, expires, name_only, n_blobs,"
		       " refs) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
	[ASSET_UNNAME] = "DELETE FROM names WHERE name=?1",
	[ASSET_NAME] = "INSERT INTO names (name, push) VALUES (?1, ?2)",
	[ASSET_PRUNE] = "DELETE FROM names WHERE push IN"
			" (SELECT id FROM pushes ORDER BY id LIMIT ?1)",
	[ASSET_EXPIRE] = "DELETE FROM names WHERE push IN"
			 " (SELECT id FROM pushes WHERE expires<=?1)",
};

#define ASSET_DIGEST_BYTES (DIGEST_HASH_SIZE + 8) /* of one in a row */

static const char asset_schema[] =
	"CREATE TABLE IF NOT EXISTS pushes ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT," /* grows: the smallest is the oldest */
	" digest BLOB NOT NULL, pushed INTEGER NOT NULL, expires INTEGER NOT NULL,"
	" name_only INTEGER NOT NULL, n_blobs INTEGER NOT NULL, refs BLOB NOT NULL);"
	"CREATE TABLE IF NOT EXISTS names ("
	" name BLOB PRIMARY KEY, push INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX IF NOT EXISTS names_of_push ON names (push);"
	"CREATE TRIGGER IF NOT EXISTS nameless AFTER DELETE ON names"
	" WHEN NOT EXISTS (SELECT 1 FROM names WHERE push=OLD.push)"
	" BEGIN DELETE FROM pushes WHERE id=OLD.push; END;";

struct asset_cache {
	struct sync_mutex mutex; /* a leaf */
	sqlite3 *db SYNC_GUARDED_BY(&mutex);
	sqlite3_stmt *statements[ASSET_STATEMENTS] SYNC_GUARDED_BY(&mutex);
	char *path;
	struct asset_cache_limits max;
	int64_t n_names SYNC_GUARDED_BY(&mutex);
	int64_t n_unseen SYNC_GUARDED_BY(
		&mutex); /* bytes written since the file's size was looked at */
};

void asset_deinit(struct asset *asset)
{
	free(asset->references);
	*asset = (struct asset){0};
}

/* ---- rows ----------------------------------------------------------------------- */

static void asset_put_digest(const struct digest *digest,
			     uint8_t out[static ASSET_DIGEST_BYTES])
{
	memcpy(out, digest->hash, DIGEST_HASH_SIZE);
	memcpy(out + DIGEST_HASH_SIZE, &digest->size, sizeof(digest->size));
}

static void asset_get_digest(const uint8_t bytes[static ASSET_DIGEST_BYTES],
			     struct digest *out)
{
	memcpy(out->hash, bytes, DIGEST_HASH_SIZE);
	memcpy(&out->size, bytes + DIGEST_HASH_SIZE, sizeof(out->size));
}

/* False: the row is none of ours. */
static bool asset_of_row(sqlite3_stmt *row, struct asset *out)
{
	const uint8_t *digest = sqlite3_column_blob(row, 0);
	size_t digest_len = (size_t)sqlite3_column_bytes(row, 0);
	const uint8_t *refs = sqlite3_column_blob(row, 5);
	size_t n = (size_t)sqlite3_column_bytes(row, 5) / ASSET_DIGEST_BYTES;
	int64_t n_blobs = sqlite3_column_int64(row, 4);

	if (!digest || digest_len != ASSET_DIGEST_BYTES || n_blobs < 0 ||
	    (uint64_t)n_blobs > n)
		return false;
	asset_get_digest(digest, &out->digest);
	out->pushed_ns = sqlite3_column_int64(row, 1);
	out->expire_ns = sqlite3_column_int64(row, 2);
	out->is_name_only = sqlite3_column_int64(row, 3);
	out->n_blobs = (size_t)n_blobs;
	out->n_references = n;
	out->references = alloc_array(n, sizeof(*out->references));
	for (size_t i = 0; i < n; i++)
		asset_get_digest(refs + i * ASSET_DIGEST_BYTES, &out->references[i]);
	return true;
}

/* Runs a statement that answers nothing, with what is bound. */
static struct error *asset_run(struct asset_cache *cache, enum asset_statement which)
	SYNC_REQUIRES(&cache->mutex)
{
	struct error *err = NULL;

	if (sqlite3_step(cache->statements[which]) != SQLITE_DONE)
		err = database_error(cache->path, cache->db, "write");
	database_reset(cache->statements[which]);
	return err;
}

static struct error *asset_run_with(struct asset_cache *cache, enum asset_statement which,
				    int64_t value) SYNC_REQUIRES(&cache->mutex)
{
	(void)sqlite3_bind_int64(cache->statements[which], 1, value);
	return asset_run(cache, which);
}

static struct error *asset_run_named(struct asset_cache *cache,
				     enum asset_statement which,
				     const struct digest *name)
	SYNC_REQUIRES(&cache->mutex)
{
	(void)sqlite3_bind_blob(cache->statements[which], 1, name->hash,
				sizeof(name->hash), SQLITE_STATIC);
	return asset_run(cache, which);
}

/* ---- bounds --------------------------------------------------------------------- */

static struct error *asset_count(struct asset_cache *cache) SYNC_REQUIRES(&cache->mutex)
{
	return database_ask(cache->path, cache->db, "SELECT COUNT(*) FROM names",
			    &cache->n_names);
}

/* The oldest pushes, as many as n. */
static struct error *asset_prune(struct asset_cache *cache, int64_t n)
	SYNC_REQUIRES(&cache->mutex)
{
	struct error *err = asset_run_with(cache, ASSET_PRUNE, n);

	return err ? err : asset_count(cache);
}

/* Down to nine tenths of the bytes, where there are more than all of them. */
static struct error *asset_hold_bytes(struct asset_cache *cache)
	SYNC_REQUIRES(&cache->mutex)
{
	int64_t bytes = 0, before = cache->n_names;
	struct error *err = database_bytes(cache->path, cache->db, &bytes);

	cache->n_unseen = 0;
	if (err || bytes <= cache->max.bytes)
		return err;
	while (!err && bytes > cache->max.bytes - cache->max.bytes / 10 &&
	       cache->n_names > 0) {
		err = asset_prune(cache, 1 + cache->n_names / 20);
		if (!err)
			err = database_bytes(cache->path, cache->db, &bytes);
	}
	if (!err)
		log_info("%lld of %lld assets were forgotten: they took more than %lld "
			 "bytes",
			 (long long)(before - cache->n_names), (long long)before,
			 (long long)cache->max.bytes);
	return err;
}

/* ---- from open to close --------------------------------------------------------- */

static struct error *asset_load(struct asset_cache *cache) SYNC_REQUIRES(&cache->mutex)
{
	struct error *err = database_open(cache->path, &cache->db);

	if (!err && sqlite3_exec(cache->db, asset_schema, NULL, NULL, NULL) != SQLITE_OK)
		err = database_error(cache->path, cache->db, "open");
	for (size_t i = 0; i < ASSET_STATEMENTS && !err; i++)
		err = database_prepare(cache->path, cache->db, asset_sql[i],
				       &cache->statements[i]);
	if (!err)
		err = asset_run_with(cache, ASSET_EXPIRE, clock_wall_ns());
	return err ? err : asset_count(cache);
}

static void asset_unload(struct asset_cache *cache) SYNC_REQUIRES(&cache->mutex)
{
	for (size_t i = 0; i < ASSET_STATEMENTS; i++) {
		(void)sqlite3_finalize(cache->statements[i]);
		cache->statements[i] = NULL;
	}
	(void)sqlite3_close(cache->db);
	cache->db = NULL;
}

struct error *asset_cache_open(const char *dir, const struct asset_cache_limits *limits,
			       struct asset_cache **cache_out)
{
	struct asset_cache *cache = alloc_new(struct asset_cache);
	struct error *err;

	sync_mutex_init(&cache->mutex);
	cache->path = alloc_printf("%s/assets.sqlite", dir);
	cache->max = *limits;
	if (cache->max.bytes < ASSET_CACHE_BYTES_MIN)
		cache->max.bytes = ASSET_CACHE_BYTES_MIN;
	sync_lock(&cache->mutex);
	err = asset_load(cache);
	if (error_code(err) == ERROR_DATA_LOSS) {
		log_drop(LOG_WARN, err, "the names of assets begin anew");
		asset_unload(cache);
		database_remove(cache->path);
		err = asset_load(cache);
	}
	if (!err)
		err = asset_hold_bytes(cache);
	sync_unlock(&cache->mutex);
	if (err) {
		asset_cache_close(cache);
		return err;
	}
	*cache_out = cache;
	return NULL;
}

void *asset_cache_close(struct asset_cache *cache)
{
	if (!cache)
		return NULL;
	sync_lock(&cache->mutex);
	asset_unload(cache);
	sync_unlock(&cache->mutex);
	sync_mutex_deinit(&cache->mutex);
	free(cache->path);
	free(cache);
	return NULL;
}

/* ---- asking and telling --------------------------------------------------------- */

struct error *asset_cache_get(struct asset_cache *cache, const struct digest *name,
			      int64_t now_ns, struct asset *out, bool *found_out)
{
	struct error *err = NULL;
	bool is_found = false;
	sqlite3_stmt *get;

	sync_lock(&cache->mutex);
	get = cache->statements[ASSET_GET];
	(void)sqlite3_bind_blob(get, 1, name->hash, sizeof(name->hash), SQLITE_STATIC);
	(void)sqlite3_bind_int64(get, 2, now_ns);
	switch (sqlite3_step(get)) {
	case SQLITE_ROW:
		is_found = asset_of_row(get, out);
		break;
	case SQLITE_DONE:
		break;
	default:
		err = database_error(cache->path, cache->db, "read");
		break;
	}
	database_reset(get);
	sync_unlock(&cache->mutex);
	if (!err)
		*found_out = is_found;
	return err;
}

static struct error *asset_push(struct asset_cache *cache, const struct asset *asset,
				struct slice refs) SYNC_REQUIRES(&cache->mutex)
{
	sqlite3_stmt *push = cache->statements[ASSET_PUSH];
	uint8_t digest[ASSET_DIGEST_BYTES];

	asset_put_digest(&asset->digest, digest);
	(void)sqlite3_bind_blob(push, 1, digest, sizeof(digest), SQLITE_STATIC);
	(void)sqlite3_bind_int64(push, 2, asset->pushed_ns);
	(void)sqlite3_bind_int64(push, 3, asset->expire_ns);
	(void)sqlite3_bind_int64(push, 4, asset->is_name_only);
	(void)sqlite3_bind_int64(push, 5, (int64_t)asset->n_blobs);
	(void)sqlite3_bind_blob64(push, 6, refs.len ? (const void *)refs.data : "",
				  refs.len, SQLITE_STATIC);
	return asset_run(cache, ASSET_PUSH);
}

static bool asset_is_again(const struct digest *names, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (digest_equal(&names[k], &names[i]))
			return true;
	}
	return false;
}

static struct error *asset_write(struct asset_cache *cache, const struct digest *names,
				 size_t n, const struct asset *asset, struct slice refs)
	SYNC_REQUIRES(&cache->mutex)
{
	struct error *err = asset_push(cache, asset, refs);
	int64_t id = sqlite3_last_insert_rowid(cache->db);

	for (size_t i = 0; i < n && !err; i++) {
		if (asset_is_again(names, i))
			continue;
		err = asset_run_named(cache, ASSET_UNNAME, &names[i]);
		if (err)
			break;
		(void)sqlite3_bind_int64(cache->statements[ASSET_NAME], 2, id);
		err = asset_run_named(cache, ASSET_NAME, &names[i]);
	}
	return err;
}

/* With all names or none: a push of several is one thing to who asks. */
static struct error *asset_commit(struct asset_cache *cache, const struct digest *names,
				  size_t n, const struct asset *asset, struct slice refs)
	SYNC_REQUIRES(&cache->mutex)
{
	struct error *err = asset_run(cache, ASSET_BEGIN);

	if (err)
		return err;
	err = asset_write(cache, names, n, asset, refs);
	if (!err)
		err = asset_run(cache, ASSET_COMMIT);
	if (err)
		error_free(asset_run(cache, ASSET_ROLLBACK));
	return err;
}

struct error *asset_cache_put(struct asset_cache *cache, const struct digest *names,
			      size_t n, const struct asset *asset)
{
	size_t len = asset->n_references * ASSET_DIGEST_BYTES;
	_cleanup_free_ uint8_t *refs = alloc_array(len, 1);
	struct error *err;

	for (size_t i = 0; i < asset->n_references; i++)
		asset_put_digest(&asset->references[i], refs + i * ASSET_DIGEST_BYTES);
	sync_lock(&cache->mutex);
	err = asset_commit(cache, names, n, asset, (struct slice){refs, len});
	cache->n_names += (int64_t)n; /* at most: some had been there */
	cache->n_unseen += (int64_t)(len + n * 128);
	if (!err && cache->n_names > cache->max.names)
		err = asset_count(cache);
	if (!err && cache->n_names > cache->max.names)
		err = asset_prune(cache, 1 + cache->max.names / 10);
	if (!err && cache->n_unseen > cache->max.bytes / 64)
		err = asset_hold_bytes(cache);
	sync_unlock(&cache->mutex);
	return err;
}
