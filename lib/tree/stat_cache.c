/*
 * Owns the database and the rows loaded from it. The whole of a tree's rows is read at
 * once by a range of paths; what changed goes back in one transaction. Nothing here is
 * trusted by itself: import compares each record with the file's own numbers.
 *
 * Threads: the table is only read while import's threads look into it; a row's is_used is
 * written by the one thread that has that directory.
 */
#include "lib/tree/stat_cache.h"

#include <sqlite3.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/arena.h"
#include "lib/base/database.h"
#include "lib/base/htab.h"
#include "lib/base/list.h"

#define STAT_CACHE_VERSION 1

struct stat_row {
	struct hnode node;
	struct slice dir;
	struct slice records;
	bool is_used;
};

struct stat_change {
	struct list link;
	struct slice dir;
	struct slice records;
};

struct stat_cache {
	char *path;
	sqlite3 *db;
	struct arena arena;
	struct htab rows;
	struct list changes;
};

static struct error *stat_cache_exec(const struct stat_cache *cache, const char *sql)
{
	if (sqlite3_exec(cache->db, sql, NULL, NULL, NULL) != SQLITE_OK)
		return database_error(cache->path, cache->db, "set up");
	return NULL;
}

static struct slice stat_cache_column(struct stat_cache *cache, sqlite3_stmt *statement,
				      int column)
{
	size_t len = (size_t)sqlite3_column_bytes(statement, column);

	return (struct slice){
		arena_memdup(&cache->arena, sqlite3_column_blob(statement, column), len),
		len};
}

static struct error *stat_cache_load(struct stat_cache *cache, const char *root)
{
	_cleanup_free_ char *first = alloc_printf("%s/", root);
	_cleanup_free_ char *end = alloc_printf("%s0", root); /* '0' comes after '/' */
	sqlite3_stmt *statement = NULL;
	struct error *err = NULL;
	int step;

	if (sqlite3_prepare_v2(
		    cache->db,
		    "SELECT dir, records FROM dirs WHERE dir=?1"
		    " UNION ALL SELECT dir, records FROM dirs WHERE dir>=?2 AND dir<?3",
		    -1, &statement, NULL) != SQLITE_OK)
		return database_error(cache->path, cache->db, "read");
	(void)sqlite3_bind_blob(statement, 1, root, (int)strlen(root), SQLITE_STATIC);
	(void)sqlite3_bind_blob(statement, 2, first, (int)strlen(first), SQLITE_STATIC);
	(void)sqlite3_bind_blob(statement, 3, end, (int)strlen(end), SQLITE_STATIC);
	while ((step = sqlite3_step(statement)) == SQLITE_ROW) {
		struct stat_row *row = arena_zero(&cache->arena, sizeof(*row));

		if (row) {
			row->dir = stat_cache_column(cache, statement, 0);
			row->records = stat_cache_column(cache, statement, 1);
		}
		if (cache->arena.is_full) {
			err = arena_error("the cache of what was hashed");
			break;
		}
		htab_insert(&cache->rows, &row->node, slice_hash(row->dir));
	}
	if (!err && step != SQLITE_DONE)
		err = database_error(cache->path, cache->db, "read");
	(void)sqlite3_finalize(statement);
	return err;
}

static struct error *stat_cache_connect(struct stat_cache *cache, const char *root)
{
	sqlite3_stmt *statement = NULL;
	int version = -1;
	struct error *err = database_open(cache->path, &cache->db);

	if (!err)
		err = stat_cache_exec(
			cache, "CREATE TABLE IF NOT EXISTS dirs(dir BLOB PRIMARY KEY,"
			       " records BLOB NOT NULL) WITHOUT ROWID;");
	if (err)
		return err;
	if (sqlite3_prepare_v2(cache->db, "PRAGMA user_version", -1, &statement, NULL) ==
		    SQLITE_OK &&
	    sqlite3_step(statement) == SQLITE_ROW)
		version = sqlite3_column_int(statement, 0);
	(void)sqlite3_finalize(statement);
	if (version == 0)
		err = stat_cache_exec(cache, "PRAGMA user_version=1");
	else if (version != STAT_CACHE_VERSION)
		err = error_new(ERROR_DATA_LOSS, "%s has the unknown version %d",
				cache->path, version);
	return err ? err : stat_cache_load(cache, root);
}

static void stat_cache_reset(struct stat_cache *cache)
{
	(void)sqlite3_close(cache->db);
	cache->db = NULL;
	htab_deinit(&cache->rows);
	arena_deinit(&cache->arena);
}

struct error *stat_cache_open(const char *path, const char *root,
			      struct stat_cache **cache_out)
{
	_cleanup_(stat_cache_closep) struct stat_cache *cache =
		alloc_new(struct stat_cache);
	struct error *err;

	cache->path = alloc_string(path);
	cache->arena = ARENA_INIT(SIZE_MAX);
	list_init(&cache->changes);
	err = stat_cache_connect(cache, root);
	if (error_code(err) == ERROR_DATA_LOSS) {
		error_free(err);
		stat_cache_reset(cache);
		database_remove(cache->path);
		err = stat_cache_connect(cache, root);
	}
	if (err)
		return err;
	*cache_out = take(cache);
	return NULL;
}

void *stat_cache_close(struct stat_cache *cache)
{
	if (!cache)
		return NULL;
	stat_cache_reset(cache);
	free(cache->path);
	free(cache);
	return NULL;
}

struct slice stat_cache_get(struct stat_cache *cache, struct slice dir)
{
	uint64_t hash = slice_hash(dir);

	for (struct hnode *n = htab_first(&cache->rows, hash); n;
	     n = htab_next(n, hash)) {
		struct stat_row *row = container_of(n, struct stat_row, node);

		if (slice_equal(row->dir, dir)) {
			row->is_used = true;
			return row->records;
		}
	}
	return (struct slice){0};
}

void stat_cache_put(struct stat_cache *cache, struct slice dir, struct slice records)
{
	struct stat_change *change = arena_zero(&cache->arena, sizeof(*change));

	if (change) {
		change->dir = (struct slice){
			arena_memdup(&cache->arena, dir.data, dir.len), dir.len};
		change->records = (struct slice){
			arena_memdup(&cache->arena, records.data, records.len),
			records.len};
	}
	if (cache->arena.is_full)
		return; /* it is hashed again next time */
	list_push(&cache->changes, &change->link);
}

/* A directory that was not asked for is gone: its row is deleted, as one without records.
 */
static void stat_cache_drop_unused(struct hnode *node, void *ctx)
{
	struct stat_row *row = container_of(node, struct stat_row, node);

	if (!row->is_used)
		stat_cache_put(ctx, row->dir, (struct slice){0});
}

static struct error *stat_cache_write(struct stat_cache *cache, sqlite3_stmt *put,
				      sqlite3_stmt *drop)
{
	list_for_each (link, &cache->changes) {
		const struct stat_change *change =
			container_of(link, struct stat_change, link);
		sqlite3_stmt *statement = change->records.len ? put : drop;

		(void)sqlite3_bind_blob64(statement, 1, change->dir.data, change->dir.len,
					  SQLITE_STATIC);
		if (change->records.len)
			(void)sqlite3_bind_blob64(statement, 2, change->records.data,
						  change->records.len, SQLITE_STATIC);
		if (sqlite3_step(statement) != SQLITE_DONE)
			return database_error(cache->path, cache->db, "write");
		(void)sqlite3_reset(statement);
	}
	return NULL;
}

struct error *stat_cache_save(struct stat_cache *cache)
{
	sqlite3_stmt *put = NULL;
	sqlite3_stmt *drop = NULL;
	struct error *err;

	htab_each(&cache->rows, stat_cache_drop_unused, cache);
	if (list_is_empty(&cache->changes))
		return NULL;
	err = stat_cache_exec(cache, "BEGIN IMMEDIATE");
	if (err)
		return err;
	if (sqlite3_prepare_v2(cache->db, "INSERT OR REPLACE INTO dirs VALUES(?1, ?2)",
			       -1, &put, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(cache->db, "DELETE FROM dirs WHERE dir=?1", -1, &drop,
			       NULL) != SQLITE_OK)
		err = database_error(cache->path, cache->db, "write");
	if (!err)
		err = stat_cache_write(cache, put, drop);
	(void)sqlite3_finalize(put);
	(void)sqlite3_finalize(drop);
	if (!err)
		return stat_cache_exec(cache, "COMMIT");
	(void)sqlite3_exec(cache->db, "ROLLBACK", NULL, NULL, NULL);
	return err;
}

/* A record's numbers as they are in memory (the database never leaves the machine), then
 * the length of the name and the name. */
#define STAT_RECORD_NUMBERS 5
struct stat_record_head {
	uint64_t numbers[STAT_RECORD_NUMBERS];
	uint8_t hash[DIGEST_HASH_SIZE];
	uint64_t name_len;
};

void stat_record_pack(const struct stat_record *record, struct buf *out)
{
	struct stat_record_head head = {
		.numbers = {record->dev, record->ino, (uint64_t)record->size,
			    (uint64_t)record->mtime_ns, (uint64_t)record->ctime_ns},
		.name_len = record->name.len,
	};

	memcpy(head.hash, record->hash, DIGEST_HASH_SIZE);
	buf_add(out, &head, sizeof(head));
	buf_add(out, record->name.data, record->name.len);
}

bool stat_record_unpack(struct slice *records, struct stat_record *out)
{
	struct stat_record_head head;

	if (records->len < sizeof(head))
		return false;
	memcpy(&head, records->data, sizeof(head));
	if (head.name_len > records->len - sizeof(head))
		return false;
	*out = (struct stat_record){
		.name = {records->data + sizeof(head), head.name_len},
		.dev = head.numbers[0],
		.ino = head.numbers[1],
		.size = (int64_t)head.numbers[2],
		.mtime_ns = (int64_t)head.numbers[3],
		.ctime_ns = (int64_t)head.numbers[4],
	};
	memcpy(out->hash, head.hash, DIGEST_HASH_SIZE);
	records->data += sizeof(head) + head.name_len;
	records->len -= sizeof(head) + head.name_len;
	return true;
}
