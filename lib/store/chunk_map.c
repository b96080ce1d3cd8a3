/*
 * Owns the SQLite file of chunks: one connection behind one lock. A blob is a row of maps
 * with its list as bytes, and a row of places for each chunk; the places go with the blob
 * by a trigger.
 */
#define LOG_MODULE "chunks"

#include "lib/store/chunk_map.h"

#include <sqlite3.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/database.h"
#include "lib/base/log.h"
#include "lib/base/sync.h"
#include "lib/tree/hasher.h"

#define CHUNK_ROW                                                                        \
	(DIGEST_HASH_SIZE + 4)        /* bytes of a chunk in a list: a hash, a size      \
				       */
#define CHUNK_USED_NS (60 * NS_PER_S) /* how exactly the last use is known */

enum chunk_statement {
	CHUNK_BEGIN,
	CHUNK_COMMIT,
	CHUNK_ROLLBACK,
	CHUNK_GET,
	CHUNK_PUT,
	CHUNK_USE,
	CHUNK_DROP,
	CHUNK_PLACE,
	CHUNK_FIND,
	CHUNK_PRUNE,
	CHUNK_STATEMENTS,
};

static const char *const chunk_sql[CHUNK_STATEMENTS] = {
	[CHUNK_BEGIN] = "BEGIN IMMEDIATE",
	[CHUNK_COMMIT] = "COMMIT",
	[CHUNK_ROLLBACK] = "ROLLBACK",
	[CHUNK_GET] = "SELECT list, sum, used FROM maps WHERE hash=?1 AND size=?2",
	[CHUNK_PUT] = "INSERT INTO maps (hash, size, used, list, sum)"
		      " VALUES (?1, ?2, ?3, ?4, ?5)",
	[CHUNK_USE] = "UPDATE maps SET used=?3 WHERE hash=?1 AND size=?2",
	[CHUNK_DROP] = "DELETE FROM maps WHERE hash=?1",
	[CHUNK_PLACE] = "INSERT OR IGNORE INTO places (hash, map, size, at)"
			" VALUES (?1, ?2, ?3, ?4)",
	[CHUNK_FIND] = "SELECT maps.hash, maps.size, places.at"
		       " FROM places JOIN maps ON maps.id=places.map"
		       " WHERE places.hash=?1 AND places.size=?2"
		       " ORDER BY places.map DESC LIMIT ?3",
	[CHUNK_PRUNE] = "DELETE FROM maps WHERE id IN"
			" (SELECT id FROM maps ORDER BY used LIMIT ?1)",
};

static const char chunk_schema[] =
	"PRAGMA cache_size=-16384;" /* KiB: hashes come in no order */
	"CREATE TABLE IF NOT EXISTS maps ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE,"
	" size INTEGER NOT NULL, used INTEGER NOT NULL, list BLOB NOT NULL,"
	" sum BLOB NOT NULL);"
	"CREATE INDEX IF NOT EXISTS maps_by_use ON maps (used);"
	"CREATE TABLE IF NOT EXISTS places ("
	" hash BLOB NOT NULL, map INTEGER NOT NULL, size INTEGER NOT NULL,"
	" at INTEGER NOT NULL, PRIMARY KEY (hash, map)) WITHOUT ROWID;"
	"CREATE INDEX IF NOT EXISTS places_of_map ON places (map);"
	"CREATE TRIGGER IF NOT EXISTS unplaced AFTER DELETE ON maps"
	" BEGIN DELETE FROM places WHERE map=OLD.id; END;";

struct chunk_map {
	struct sync_mutex mutex; /* a leaf */
	sqlite3 *db SYNC_GUARDED_BY(&mutex);
	sqlite3_stmt *statements[CHUNK_STATEMENTS] SYNC_GUARDED_BY(&mutex);
	char *path;
	int64_t max_bytes, min_size;
	int64_t n_maps SYNC_GUARDED_BY(&mutex);
	int64_t n_unseen SYNC_GUARDED_BY(
		&mutex); /* bytes written since the file's size was looked at */
};

/* ---- rows ----------------------------------------------------------------------- */

/* Runs a statement that answers nothing, with what is bound. */
static struct error *chunk_run(struct chunk_map *map, enum chunk_statement which)
	SYNC_REQUIRES(&map->mutex)
{
	struct error *err = NULL;

	if (sqlite3_step(map->statements[which]) != SQLITE_DONE)
		err = database_error(map->path, map->db, "write");
	database_reset(map->statements[which]);
	return err;
}

static void chunk_bind_digest(sqlite3_stmt *stmt, const struct digest *digest)
{
	(void)sqlite3_bind_blob(stmt, 1, digest->hash, sizeof(digest->hash),
				SQLITE_STATIC);
	(void)sqlite3_bind_int64(stmt, 2, digest->size);
}

/* What a row is checked by: the blob and its list. */
static void chunk_sum(const struct digest *blob, struct slice list, struct digest *out)
{
	_cleanup_(hasher_freep) struct hasher *hasher = hasher_new();

	hasher_add(hasher, blob->hash, sizeof(blob->hash));
	hasher_add(hasher, list.data, list.len);
	hasher_end(hasher, out);
}

static uint8_t *chunk_encode(const struct chunk_list *list)
{
	uint8_t *bytes = alloc_array(list->n, CHUNK_ROW);

	for (size_t i = 0; i < list->n; i++) {
		const struct digest *digest = &list->items[i].digest;
		uint32_t size = (uint32_t)digest->size;

		memcpy(bytes + i * CHUNK_ROW, digest->hash, DIGEST_HASH_SIZE);
		memcpy(bytes + i * CHUNK_ROW + DIGEST_HASH_SIZE, &size, sizeof(size));
	}
	return bytes;
}

/* False: the row is none of ours, or damaged. */
static bool chunk_decode(const struct digest *blob, struct slice bytes, struct slice sum,
			 struct chunk_list *out)
{
	struct digest want;

	chunk_sum(blob, bytes, &want);
	if (bytes.len % CHUNK_ROW || bytes.len / CHUNK_ROW > CHUNK_MAP_CHUNKS ||
	    sum.len != sizeof(want.hash) || memcmp(sum.data, want.hash, sum.len) != 0)
		return false;
	for (size_t i = 0; i < bytes.len; i += CHUNK_ROW) {
		struct digest digest;
		uint32_t size;

		memcpy(digest.hash, bytes.data + i, DIGEST_HASH_SIZE);
		memcpy(&size, bytes.data + i + DIGEST_HASH_SIZE, sizeof(size));
		digest.size = size;
		if (size == 0)
			return false;
		chunk_list_add(out, &digest);
	}
	return chunk_list_size(out) == blob->size;
}

static struct slice chunk_column(sqlite3_stmt *stmt, int column)
{
	return (struct slice){sqlite3_column_blob(stmt, column),
			      (size_t)sqlite3_column_bytes(stmt, column)};
}

/* ---- bounds --------------------------------------------------------------------- */

static struct error *chunk_count(struct chunk_map *map) SYNC_REQUIRES(&map->mutex)
{
	return database_ask(map->path, map->db, "SELECT COUNT(*) FROM maps",
			    &map->n_maps);
}

/* Those used longest ago, as many as n. */
static struct error *chunk_prune(struct chunk_map *map, int64_t n)
	SYNC_REQUIRES(&map->mutex)
{
	struct error *err;

	(void)sqlite3_bind_int64(map->statements[CHUNK_PRUNE], 1, n);
	err = chunk_run(map, CHUNK_PRUNE);
	return err ? err : chunk_count(map);
}

/* Down to nine tenths of the bytes, where there are more than all of them. */
static struct error *chunk_hold_bytes(struct chunk_map *map) SYNC_REQUIRES(&map->mutex)
{
	int64_t bytes = 0, before = map->n_maps;
	struct error *err = database_bytes(map->path, map->db, &bytes);

	map->n_unseen = 0;
	if (err || bytes <= map->max_bytes)
		return err;
	while (!err && bytes > map->max_bytes - map->max_bytes / 10 && map->n_maps > 0) {
		err = chunk_prune(map, 1 + map->n_maps / 20);
		if (!err)
			err = database_bytes(map->path, map->db, &bytes);
	}
	if (!err)
		log_info(
			"the chunks of %lld of %lld blobs were forgotten: they took more "
			"than %lld bytes",
			(long long)(before - map->n_maps), (long long)before,
			(long long)map->max_bytes);
	return err;
}

/* ---- from open to close --------------------------------------------------------- */

static struct error *chunk_load(struct chunk_map *map) SYNC_REQUIRES(&map->mutex)
{
	struct error *err = database_open(map->path, &map->db);

	if (!err && sqlite3_exec(map->db, chunk_schema, NULL, NULL, NULL) != SQLITE_OK)
		err = database_error(map->path, map->db, "open");
	for (size_t i = 0; i < CHUNK_STATEMENTS && !err; i++)
		err = database_prepare(map->path, map->db, chunk_sql[i],
				       &map->statements[i]);
	return err ? err : chunk_count(map);
}

static void chunk_unload(struct chunk_map *map) SYNC_REQUIRES(&map->mutex)
{
	for (size_t i = 0; i < CHUNK_STATEMENTS; i++) {
		(void)sqlite3_finalize(map->statements[i]);
		map->statements[i] = NULL;
	}
	(void)sqlite3_close(map->db);
	map->db = NULL;
}

struct error *chunk_map_open(const char *dir, int64_t max_bytes, int64_t min_size,
			     struct chunk_map **map_out)
{
	struct chunk_map *map = alloc_new(struct chunk_map);
	struct error *err;

	sync_mutex_init(&map->mutex);
	map->path = alloc_printf("%s/chunks.sqlite", dir);
	map->max_bytes =
		max_bytes > CHUNK_MAP_BYTES_MIN ? max_bytes : CHUNK_MAP_BYTES_MIN;
	map->min_size = min_size;
	sync_lock(&map->mutex);
	err = chunk_load(map);
	if (error_code(err) == ERROR_DATA_LOSS) {
		log_drop(LOG_WARN, err, "what is known of chunks begins anew");
		chunk_unload(map);
		database_remove(map->path);
		err = chunk_load(map);
	}
	if (!err)
		err = chunk_hold_bytes(map);
	sync_unlock(&map->mutex);
	if (err) {
		chunk_map_close(map);
		return err;
	}
	*map_out = map;
	return NULL;
}

void *chunk_map_close(struct chunk_map *map)
{
	if (!map)
		return NULL;
	sync_lock(&map->mutex);
	chunk_unload(map);
	sync_unlock(&map->mutex);
	sync_mutex_deinit(&map->mutex);
	free(map->path);
	free(map);
	return NULL;
}

bool chunk_map_is_empty(struct chunk_map *map)
{
	bool is_empty;

	sync_lock(&map->mutex);
	is_empty = map->n_maps == 0;
	sync_unlock(&map->mutex);
	return is_empty;
}

/* ---- telling -------------------------------------------------------------------- */

static struct error *chunk_drop(struct chunk_map *map, const struct digest *blob)
	SYNC_REQUIRES(&map->mutex)
{
	(void)sqlite3_bind_blob(map->statements[CHUNK_DROP], 1, blob->hash,
				sizeof(blob->hash), SQLITE_STATIC);
	return chunk_run(map, CHUNK_DROP);
}

static struct error *chunk_put_list(struct chunk_map *map, const struct digest *blob,
				    struct slice list) SYNC_REQUIRES(&map->mutex)
{
	sqlite3_stmt *put = map->statements[CHUNK_PUT];
	struct digest sum;

	chunk_sum(blob, list, &sum);
	chunk_bind_digest(put, blob);
	(void)sqlite3_bind_int64(put, 3, clock_wall_ns());
	(void)sqlite3_bind_blob64(put, 4, list.data, list.len, SQLITE_STATIC);
	(void)sqlite3_bind_blob(put, 5, sum.hash, sizeof(sum.hash), SQLITE_STATIC);
	return chunk_run(map, CHUNK_PUT);
}

static struct error *chunk_write(struct chunk_map *map, const struct digest *blob,
				 const struct chunk_list *list, struct slice bytes)
	SYNC_REQUIRES(&map->mutex)
{
	sqlite3_stmt *place = map->statements[CHUNK_PLACE];
	struct error *err = chunk_drop(map, blob);
	int64_t id = 0;

	if (!err)
		err = chunk_put_list(map, blob, bytes);
	if (!err)
		id = sqlite3_last_insert_rowid(map->db);
	for (size_t i = 0; i < list->n && !err; i++) {
		const struct digest *chunk = &list->items[i].digest;

		if (chunk->size < map->min_size)
			continue;
		(void)sqlite3_bind_blob(place, 1, chunk->hash, sizeof(chunk->hash),
					SQLITE_STATIC);
		(void)sqlite3_bind_int64(place, 2, id);
		(void)sqlite3_bind_int64(place, 3, chunk->size);
		(void)sqlite3_bind_int64(place, 4, list->items[i].at);
		err = chunk_run(map, CHUNK_PLACE);
	}
	return err;
}

struct error *chunk_map_put(struct chunk_map *map, const struct digest *blob,
			    const struct chunk_list *list)
{
	_cleanup_free_ uint8_t *bytes = chunk_encode(list);
	struct slice slice = {bytes, list->n * CHUNK_ROW};
	struct error *err;

	require(list->n <= CHUNK_MAP_CHUNKS && chunk_list_size(list) == blob->size);
	sync_lock(&map->mutex);
	err = chunk_run(map, CHUNK_BEGIN);
	if (!err) {
		err = chunk_write(map, blob, list, slice);
		if (!err)
			err = chunk_run(map, CHUNK_COMMIT);
		if (err)
			error_free(chunk_run(map, CHUNK_ROLLBACK));
	}
	map->n_maps += !err; /* at most: it may have been there */
	map->n_unseen += (int64_t)(list->n * 4 * CHUNK_ROW);
	if (!err && map->n_maps > CHUNK_MAP_MAX)
		err = chunk_count(map);
	if (!err && map->n_maps > CHUNK_MAP_MAX)
		err = chunk_prune(map, 1 + CHUNK_MAP_MAX / 10);
	if (!err && map->n_unseen > map->max_bytes / 64)
		err = chunk_hold_bytes(map);
	sync_unlock(&map->mutex);
	return err;
}

void chunk_map_drop(struct chunk_map *map, const struct digest *blob)
{
	struct error *err;

	sync_lock(&map->mutex);
	err = chunk_drop(map, blob);
	if (!err)
		err = chunk_count(map);
	sync_unlock(&map->mutex);
	if (err)
		log_drop(LOG_WARN, err, "forget chunks");
}

/* ---- asking --------------------------------------------------------------------- */

/* The last use, where what is known of it is old. */
static struct error *chunk_use(struct chunk_map *map, const struct digest *blob,
			       int64_t used_ns) SYNC_REQUIRES(&map->mutex)
{
	int64_t now_ns = clock_wall_ns();

	if (now_ns >= used_ns && now_ns - used_ns < CHUNK_USED_NS)
		return NULL;
	chunk_bind_digest(map->statements[CHUNK_USE], blob);
	(void)sqlite3_bind_int64(map->statements[CHUNK_USE], 3, now_ns);
	return chunk_run(map, CHUNK_USE);
}

struct error *chunk_map_get(struct chunk_map *map, const struct digest *blob,
			    struct chunk_list *out, bool *found_out)
{
	struct error *err = NULL;
	bool is_row = false, is_good = false;
	int64_t used_ns = 0;
	sqlite3_stmt *get;

	sync_lock(&map->mutex);
	get = map->statements[CHUNK_GET];
	chunk_bind_digest(get, blob);
	switch (sqlite3_step(get)) {
	case SQLITE_ROW:
		is_row = true;
		is_good = chunk_decode(blob, chunk_column(get, 0), chunk_column(get, 1),
				       out);
		used_ns = sqlite3_column_int64(get, 2);
		break;
	case SQLITE_DONE:
		break;
	default:
		err = database_error(map->path, map->db, "read");
		break;
	}
	database_reset(get);
	if (is_good)
		err = chunk_use(map, blob, used_ns);
	else if (is_row)
		err = chunk_drop(map, blob);
	sync_unlock(&map->mutex);
	if (!is_good || err)
		chunk_list_deinit(out);
	if (!err)
		*found_out = is_good;
	return err;
}

size_t chunk_map_find(struct chunk_map *map, const struct digest *chunk,
		      struct chunk_place places[static CHUNK_MAP_PLACES])
{
	sqlite3_stmt *find;
	size_t n = 0;

	if (chunk->size < map->min_size)
		return 0;
	sync_lock(&map->mutex);
	find = map->statements[CHUNK_FIND];
	chunk_bind_digest(find, chunk);
	(void)sqlite3_bind_int64(find, 3, CHUNK_MAP_PLACES);
	while (n < CHUNK_MAP_PLACES && sqlite3_step(find) == SQLITE_ROW) {
		struct chunk_place *place = &places[n];
		struct slice hash = chunk_column(find, 0);

		place->blob.size = sqlite3_column_int64(find, 1);
		place->at = sqlite3_column_int64(find, 2);
		if (hash.len != DIGEST_HASH_SIZE || place->at < 0 ||
		    place->blob.size < chunk->size ||
		    place->at > place->blob.size - chunk->size)
			continue;
		memcpy(place->blob.hash, hash.data, hash.len);
		n++;
	}
	database_reset(find);
	sync_unlock(&map->mutex);
	return n;
}
