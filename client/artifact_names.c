/*
 * Owns the database. A name that is over counts as none, and goes with the next that is
 * put. Main thread; other processes may write at the same time.
 */
#include "client/artifact_names.h"

#include <sqlite3.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/database.h"

#define LOG_MODULE "artifacts"
#include "lib/base/log.h"

struct artifact_names {
	char *path;
	sqlite3 *db;
};

void *artifact_names_close(struct artifact_names *names)
{
	if (!names)
		return NULL;
	(void)sqlite3_close(names->db);
	free(names->path);
	free(names);
	return NULL;
}

static struct error *artifact_names_connect(struct artifact_names *names)
{
	static const char sql[] =
		"CREATE TABLE IF NOT EXISTS names(name TEXT PRIMARY KEY,"
		" hash BLOB NOT NULL, size INTEGER NOT NULL,"
		" made INTEGER NOT NULL, expires INTEGER NOT NULL)"
		" WITHOUT ROWID";
	struct error *err = database_open(names->path, &names->db);

	if (!err && sqlite3_exec(names->db, sql, NULL, NULL, NULL) != SQLITE_OK)
		err = database_error(names->path, names->db, "set up");
	return err;
}

struct error *artifact_names_open(struct local *local, struct artifact_names **out)
{
	_cleanup_(artifact_names_closep) struct artifact_names *names =
		alloc_new(struct artifact_names);
	struct error *err = local_path(local, "artifacts.sqlite", &names->path);

	if (!err)
		err = artifact_names_connect(names);
	if (error_code(err) == ERROR_DATA_LOSS) {
		log_drop(LOG_WARN, err, "the names of artifacts are lost");
		(void)sqlite3_close(take(names->db));
		database_set_aside(names->path);
		err = artifact_names_connect(names);
	}
	if (err)
		return err;
	*out = take(names);
	return NULL;
}

static void artifact_names_bind(sqlite3_stmt *statement, int column, const char *name)
{
	(void)sqlite3_bind_text(statement, column, name, (int)strlen(name),
				SQLITE_STATIC);
}

/* Runs a statement that answers nothing, and ends it. */
static struct error *artifact_names_run(struct artifact_names *names,
					sqlite3_stmt *statement)
{
	int step = sqlite3_step(statement);
	struct error *err = NULL;

	if (step != SQLITE_DONE)
		err = database_error(names->path, names->db, "write");
	(void)sqlite3_finalize(statement);
	return err;
}

static int64_t artifact_names_now(void)
{
	return clock_wall_ns() / NS_PER_S;
}

struct error *artifact_names_put(struct artifact_names *names,
				 const struct artifact_name *name)
{
	sqlite3_stmt *statement = NULL;
	struct error *err = database_prepare(
		names->path, names->db,
		"DELETE FROM names WHERE expires<>0 AND expires<=?1", &statement);

	if (err)
		return err;
	(void)sqlite3_bind_int64(statement, 1, artifact_names_now());
	err = artifact_names_run(names, statement);
	if (!err)
		err = database_prepare(
			names->path, names->db,
			"INSERT OR REPLACE INTO names VALUES(?1, ?2, ?3, ?4, ?5)",
			&statement);
	if (err)
		return err;
	artifact_names_bind(statement, 1, name->name);
	(void)sqlite3_bind_blob(statement, 2, name->root.hash, DIGEST_HASH_SIZE,
				SQLITE_STATIC);
	(void)sqlite3_bind_int64(statement, 3, name->root.size);
	(void)sqlite3_bind_int64(statement, 4, name->made_s);
	(void)sqlite3_bind_int64(statement, 5, name->expires_s);
	return artifact_names_run(names, statement);
}

struct artifact_names_found {
	struct artifact_name *out;
	bool *found;
};

static struct error *artifact_names_note(void *ctx, const struct artifact_name *name)
{
	struct artifact_names_found *found = ctx;
	const char *asked = found->out->name;

	*found->out = *name;
	found->out->name = asked;
	*found->found = true;
	return NULL;
}

static struct error *artifact_names_rows(
	struct artifact_names *names, sqlite3_stmt *statement,
	struct error *(*fn)(void *ctx, const struct artifact_name *), void *ctx)
{
	struct error *err = NULL;
	int step = SQLITE_DONE;

	while (!err && (step = sqlite3_step(statement)) == SQLITE_ROW) {
		struct artifact_name name = {
			.name = (const char *)sqlite3_column_text(statement, 0),
			.root.size = sqlite3_column_int64(statement, 2),
			.made_s = sqlite3_column_int64(statement, 3),
			.expires_s = sqlite3_column_int64(statement, 4)};

		if (!name.name || name.root.size < 0 ||
		    sqlite3_column_bytes(statement, 1) != DIGEST_HASH_SIZE)
			continue; /* of no use, and not ours */
		memcpy(name.root.hash, sqlite3_column_blob(statement, 1),
		       DIGEST_HASH_SIZE);
		err = fn(ctx, &name);
	}
	if (!err && step != SQLITE_DONE)
		err = database_error(names->path, names->db, "read");
	(void)sqlite3_finalize(statement);
	return err;
}

#define ARTIFACT_NAMES_SELECT                                                            \
	"SELECT name, hash, size, made, expires FROM names"                              \
	" WHERE (expires=0 OR expires>?1)"

struct error *artifact_names_get(struct artifact_names *names, const char *name,
				 struct artifact_name *out, bool *found_out)
{
	struct artifact_names_found found = {.out = out, .found = found_out};
	sqlite3_stmt *statement = NULL;
	struct error *err = database_prepare(
		names->path, names->db, ARTIFACT_NAMES_SELECT " AND name=?2", &statement);

	if (err)
		return err;
	*found_out = false;
	out->name = name;
	(void)sqlite3_bind_int64(statement, 1, artifact_names_now());
	artifact_names_bind(statement, 2, name);
	return artifact_names_rows(names, statement, artifact_names_note, &found);
}

struct error *artifact_names_remove(struct artifact_names *names, const char *name,
				    bool *found_out)
{
	sqlite3_stmt *statement = NULL;
	struct error *err = database_prepare(
		names->path, names->db, "DELETE FROM names WHERE name=?1", &statement);

	if (err)
		return err;
	artifact_names_bind(statement, 1, name);
	err = artifact_names_run(names, statement);
	if (!err)
		*found_out = sqlite3_changes(names->db) > 0;
	return err;
}

struct error *artifact_names_each(struct artifact_names *names,
				  struct error *(*fn)(void *ctx,
						      const struct artifact_name *name),
				  void *ctx)
{
	sqlite3_stmt *statement = NULL;
	struct error *err =
		database_prepare(names->path, names->db,
				 ARTIFACT_NAMES_SELECT " ORDER BY name", &statement);

	if (err)
		return err;
	(void)sqlite3_bind_int64(statement, 1, artifact_names_now());
	return artifact_names_rows(names, statement, fn, ctx);
}
