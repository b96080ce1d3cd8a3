/*
 * Owns the file of operations and the thread that writes it. A row is a record of the
 * queue's (queue_record.h): its id, which is never used again, its kind, and its bytes;
 * what they say is the queue's matter.
 *
 * The file is foreign when it is opened, since anybody may have written it: it has our
 * one table and nothing else (no trigger, no view), SQLite finds it whole, and no row is
 * larger than a message; else it is set aside. WAL without an fsync a commit.
 *
 * Threads: the opener until the thread runs; from then on only that touches the file. The
 * queue's wake comes under the queue's lock and only sets a flag.
 */
#define LOG_MODULE "journal"

#include "server/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/database.h"
#include "lib/base/log.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "lib/rpc/rpc.h"
#include "server/queue_journal.h"
#include "server/queue_restore.h"

#define JOURNAL_WRITE_NS     (50 * NS_PER_MS)
#define JOURNAL_RETRY_MIN_NS NS_PER_S
#define JOURNAL_RETRY_MAX_NS (10 * NS_PER_S)
#define JOURNAL_BATCHES_MAX  1024             /* of one transaction */
#define JOURNAL_FILE_MAX     ((off_t)2 << 30) /* what the queue may hold, twice */
#define JOURNAL_ROW_MAX      (RPC_MESSAGE_MAX + (8 << 20)) /* a response, an action */
#define JOURNAL_ROWS_MAX     (2 * QUEUE_OPERATIONS_MAX + QUEUE_SESSIONS_MAX)

enum journal_statement {
	JOURNAL_BEGIN,
	JOURNAL_COMMIT,
	JOURNAL_ROLLBACK,
	JOURNAL_CLEAR,
	JOURNAL_PUT,
	JOURNAL_DROP,
	JOURNAL_STATEMENTS,
};

static const char *const journal_sql[JOURNAL_STATEMENTS] = {
	[JOURNAL_BEGIN] = "BEGIN IMMEDIATE",
	[JOURNAL_COMMIT] = "COMMIT",
	[JOURNAL_ROLLBACK] = "ROLLBACK",
	[JOURNAL_CLEAR] = "DELETE FROM records",
	[JOURNAL_PUT] = "REPLACE INTO records VALUES (?1, ?2, ?3, ?4)",
	[JOURNAL_DROP] = "DELETE FROM records WHERE id=?1",
};

#define JOURNAL_TABLE                                                                    \
	"CREATE TABLE records (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL,"           \
	" head BLOB NOT NULL, response BLOB NOT NULL)"

struct journal {
	struct queue *queue;
	char *path;
	sqlite3 *db;
	sqlite3_stmt *statements[JOURNAL_STATEMENTS];
	pthread_t thread;
	bool has_thread;
	int64_t retry_ns; /* 0: the last write went well */
	int64_t wrote_ns; /* when that was */

	struct sync_mutex mutex; /* a leaf */
	struct sync_cond cond;
	bool is_woken SYNC_GUARDED_BY(&mutex);
	bool is_stopping SYNC_GUARDED_BY(&mutex);
};

/* ---- the file ------------------------------------------------------------------- */

static struct error *journal_error(const struct journal *journal, const char *what)
{
	return database_error(journal->path, journal->db, what);
}

static struct error *journal_foreign(const struct journal *journal, const char *what)
{
	return error_new(ERROR_DATA_LOSS, "%s: %s", journal->path, what);
}

/* Names of operations and sessions are all that proves whose they are. */
static struct error *journal_touch(const struct journal *journal)
{
	int fd = open(journal->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat st;

	if (fd < 0)
		return error_errno(errno, "%s", journal->path);
	if (fstat(fd, &st) < 0 || ((st.st_mode & 077) && fchmod(fd, 0600) < 0))
		st.st_size = 0;
	(void)close(fd);
	return st.st_size > JOURNAL_FILE_MAX
		       ? journal_foreign(journal, "it is larger than ours ever are")
		       : NULL;
}

/* The answer of a statement that gives one text, compared with what it must be. */
static struct error *journal_expect(const struct journal *journal, const char *sql,
				    const char *wanted)
{
	sqlite3_stmt *ask = NULL;
	struct error *err = database_prepare(journal->path, journal->db, sql, &ask);
	const char *text;

	if (!err && sqlite3_step(ask) != SQLITE_ROW)
		err = journal_error(journal, "check");
	if (!err) {
		text = (const char *)sqlite3_column_text(ask, 0);
		if (!text || strcmp(text, wanted) != 0)
			err = journal_foreign(journal, "it is damaged, or none of ours");
	}
	(void)sqlite3_finalize(ask);
	return err;
}

static struct error *journal_check(struct journal *journal)
{
	static const char names[] = "SELECT group_concat(sql, ';') FROM sqlite_master";
	int64_t n = 0;
	struct error *err = database_ask(journal->path, journal->db,
					 "SELECT COUNT(*) FROM sqlite_master", &n);

	if (!err && n == 0 &&
	    sqlite3_exec(journal->db, JOURNAL_TABLE, NULL, NULL, NULL) != SQLITE_OK)
		err = journal_error(journal, "make");
	if (!err)
		err = journal_expect(journal, names, JOURNAL_TABLE);
	return err ? err : journal_expect(journal, "PRAGMA quick_check(1)", "ok");
}

static struct error *journal_load(struct journal *journal)
{
	struct error *err = journal_touch(journal);

	if (!err)
		err = database_open(journal->path, &journal->db);
	if (err)
		return err;
	(void)sqlite3_limit(journal->db, SQLITE_LIMIT_LENGTH, JOURNAL_ROW_MAX);
	err = journal_check(journal);
	for (size_t i = 0; i < JOURNAL_STATEMENTS && !err; i++)
		err = database_prepare(journal->path, journal->db, journal_sql[i],
				       &journal->statements[i]);
	return err;
}

static void journal_unload(struct journal *journal)
{
	for (size_t i = 0; i < JOURNAL_STATEMENTS; i++) {
		(void)sqlite3_finalize(journal->statements[i]);
		journal->statements[i] = NULL;
	}
	(void)sqlite3_close(journal->db);
	journal->db = NULL;
}

/* Consumes why. */
static struct error *journal_begin_anew(struct journal *journal, struct error *why)
{
	log_drop(LOG_WARN, why,
		 "operations begin anew, the file is kept with .damaged at its end");
	journal_unload(journal);
	database_set_aside(journal->path);
	return journal_load(journal);
}

/* ---- reading -------------------------------------------------------------------- */

static struct slice journal_column(sqlite3_stmt *row, int column)
{
	const uint8_t *data = sqlite3_column_blob(row, column);

	return (struct slice){data, (size_t)sqlite3_column_bytes(row, column)};
}

static struct error *journal_read(struct journal *journal, struct queue_restore *restore)
{
	static const char rows[] = "SELECT kind, id, head, response FROM records"
				   " WHERE kind=?1 ORDER BY id LIMIT ?2";
	sqlite3_stmt *all = NULL;
	struct error *err = database_prepare(journal->path, journal->db, rows, &all);
	int code = SQLITE_DONE;

	for (int kind = QUEUE_KIND_SESSION; kind <= QUEUE_KIND_OPERATION && !err;
	     kind++) {
		(void)sqlite3_bind_int(all, 1, kind);
		(void)sqlite3_bind_int(all, 2, JOURNAL_ROWS_MAX);
		while ((code = sqlite3_step(all)) == SQLITE_ROW)
			(void)queue_restore_row(
				restore, (enum queue_kind)sqlite3_column_int(all, 0),
				(uint64_t)sqlite3_column_int64(all, 1),
				journal_column(all, 2), journal_column(all, 3));
		if (code != SQLITE_DONE)
			err = journal_error(journal, "read");
		database_reset(all);
	}
	(void)sqlite3_finalize(all);
	return err;
}

static int64_t journal_wall_ahead(void)
{
	return clock_wall_ns() - clock_mono_ns();
}

/* *is_behind_out: the file says other things than the queue. */
static struct error *journal_restore(struct journal *journal,
				     const struct option_list *instances,
				     const struct queue_ended *ended, bool *is_behind_out)
{
	const struct queue_restore_config config = {
		.queue = journal->queue,
		.instances = instances,
		.now_ns = clock_mono_ns(),
		.wall_ahead_ns = journal_wall_ahead(),
		.ended = *ended,
	};
	struct queue_restore *restore = queue_restore_new(&config);
	struct error *err = journal_read(journal, restore);
	struct queue_restored restored;

	queue_restore_end(restore, &restored);
	if (restored.n_queued + restored.n_running + restored.n_completed > 0)
		log_info("operations of before: %zu jobs wait, %zu run, %zu operations "
			 "are over",
			 restored.n_queued, restored.n_running, restored.n_completed);
	if (restored.n_left_out > 0)
		log_warn("%zu records of %s are not taken: they are damaged, of an "
			 "instance that is no more, or too many",
			 restored.n_left_out, journal->path);
	*is_behind_out = err || restored.n_left_out > 0;
	return err;
}

/* ---- writing -------------------------------------------------------------------- */

/* Under the queue's lock. */
static void journal_wake(void *ctx)
{
	struct journal *journal = ctx;

	sync_lock(&journal->mutex);
	journal->is_woken = true;
	sync_signal(&journal->cond);
	sync_unlock(&journal->mutex);
}

static struct error *journal_run(const struct journal *journal,
				 enum journal_statement which)
{
	struct error *err = NULL;

	if (sqlite3_step(journal->statements[which]) != SQLITE_DONE)
		err = journal_error(journal, "write");
	database_reset(journal->statements[which]);
	return err;
}

static struct error *journal_put(const struct journal *journal,
				 const struct queue_record *record)
{
	sqlite3_stmt *put = journal->statements[JOURNAL_PUT];
	const struct queue_bytes *response = record->response;

	(void)sqlite3_bind_int64(put, 1, (int64_t)record->id);
	(void)sqlite3_bind_int(put, 2, (int)record->kind);
	(void)sqlite3_bind_blob64(put, 3,
				  record->head.len ? (const void *)record->head.data : "",
				  record->head.len, SQLITE_STATIC);
	(void)sqlite3_bind_blob64(
		put, 4, response && response->len ? (const void *)response->data : "",
		response ? response->len : 0, SQLITE_STATIC);
	return journal_run(journal, JOURNAL_PUT);
}

static struct error *journal_put_batch(const struct journal *journal,
				       const struct queue_batch *batch)
{
	struct error *err = batch->is_all ? journal_run(journal, JOURNAL_CLEAR) : NULL;

	for (size_t i = 0; i < batch->n && !err; i++)
		err = journal_put(journal, &batch->records[i]);
	for (size_t i = 0; i < batch->n_gone && !err; i++) {
		(void)sqlite3_bind_int64(journal->statements[JOURNAL_DROP], 1,
					 (int64_t)batch->gone[i]);
		err = journal_run(journal, JOURNAL_DROP);
	}
	return err;
}

/* All that changed, in one transaction: records name each other. */
static struct error *journal_put_all(struct journal *journal)
{
	struct error *err = journal_run(journal, JOURNAL_BEGIN);
	bool has_more = true;

	for (size_t i = 0; i < JOURNAL_BATCHES_MAX && has_more && !err; i++) {
		_cleanup_(queue_batch_deinit) struct queue_batch batch = {0};

		queue_journal_take(journal->queue, journal_wall_ahead(), &batch);
		has_more = batch.has_more;
		err = journal_put_batch(journal, &batch);
	}
	if (!err)
		err = journal_run(journal, JOURNAL_COMMIT);
	if (err)
		error_free(journal_run(journal, JOURNAL_ROLLBACK));
	else if (has_more)
		journal_wake(journal);
	return err;
}

/* What was taken is lost: all is written again later. Said once. Consumes err. */
static void journal_failed(struct journal *journal, struct error *err)
{
	queue_journal_fail(journal->queue);
	if (error_code(err) == ERROR_DATA_LOSS)
		err = journal_begin_anew(journal, err);
	if (journal->retry_ns == 0 && err)
		log_drop(LOG_WARN, err,
			 "operations are not kept for now: a server that is started anew "
			 "would not know them");
	else
		error_free(err);
	journal->retry_ns =
		journal->retry_ns == 0 ? JOURNAL_RETRY_MIN_NS : 2 * journal->retry_ns;
	if (journal->retry_ns > JOURNAL_RETRY_MAX_NS)
		journal->retry_ns = JOURNAL_RETRY_MAX_NS;
}

static void journal_write(struct journal *journal)
{
	struct error *err = NULL;

	if (!journal->statements[JOURNAL_DROP]) { /* a damaged one could not be replaced
						   */
		journal_unload(journal);
		err = journal_load(journal);
	}
	if (!err)
		err = journal_put_all(journal);
	if (err) {
		journal_failed(journal, err);
		return;
	}
	if (journal->retry_ns > 0)
		log_info("operations are kept again");
	journal->retry_ns = 0;
}

/* Until there is something to write, which after a rest is written at once, and else
 * after a while in which more may come; false: it is the last. */
static bool journal_wait(struct journal *journal)
{
	bool is_last;
	int64_t until_ns;

	sync_lock(&journal->mutex);
	while (!journal->is_woken && !journal->is_stopping && journal->retry_ns == 0)
		sync_wait(&journal->cond, &journal->mutex);
	until_ns = journal->wrote_ns +
		   (journal->retry_ns ? journal->retry_ns : JOURNAL_WRITE_NS);
	while (!journal->is_stopping &&
	       sync_wait_until(&journal->cond, &journal->mutex, until_ns))
		continue;
	journal->is_woken = false;
	is_last = journal->is_stopping;
	sync_unlock(&journal->mutex);
	return !is_last;
}

static void *journal_thread(void *arg)
{
	struct journal *journal = arg;

	while (journal_wait(journal)) {
		journal_write(journal);
		journal->wrote_ns = clock_mono_ns();
	}
	journal_write(journal);
	return NULL;
}

/* ---- from open to close --------------------------------------------------------- */

static struct error *journal_start(struct journal *journal,
				   const struct option_list *instances,
				   const struct queue_ended *ended)
{
	bool is_behind = false;
	struct error *err = journal_load(journal);

	/* INTERNAL: what stands there is a database, but none that our words fit */
	if (error_code(err) == ERROR_DATA_LOSS || error_code(err) == ERROR_INTERNAL)
		err = journal_begin_anew(journal, err);
	if (err)
		return err;
	err = journal_restore(journal, instances, ended, &is_behind);
	if (err)
		err = journal_begin_anew(journal, err);
	if (err)
		return err;
	queue_journal_begin(journal->queue, is_behind, journal_wake, journal);
	err = thread_start("journal", journal_thread, journal, &journal->thread);
	journal->has_thread = !err;
	return err;
}

struct error *journal_open(const char *dir, struct queue *queue,
			   const struct option_list *instances,
			   const struct queue_ended *ended, struct journal **journal_out)
{
	struct journal *journal = alloc_new(struct journal);
	struct error *err;

	sync_mutex_init(&journal->mutex);
	sync_cond_init(&journal->cond);
	journal->queue = queue;
	journal->path = alloc_printf("%s/operations.sqlite", dir);
	err = journal_start(journal, instances, ended);
	if (err) {
		journal_close(journal);
		return err;
	}
	*journal_out = journal;
	return NULL;
}

void *journal_close(struct journal *journal)
{
	if (!journal)
		return NULL;
	if (journal->has_thread) {
		sync_lock(&journal->mutex);
		journal->is_stopping = true;
		sync_broadcast(&journal->cond);
		sync_unlock(&journal->mutex);
		(void)pthread_join(journal->thread, NULL);
	}
	queue_journal_end(journal->queue);
	journal_unload(journal);
	sync_cond_deinit(&journal->cond);
	sync_mutex_deinit(&journal->mutex);
	free(journal->path);
	free(journal);
	return NULL;
}
