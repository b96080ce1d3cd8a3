/* Databases that several processes open at once, also for the first time. */
#include "tests/unit/cas_fixture.h"

#include <pthread.h>
#include <sqlite3.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/database.h"

#define HELD_MS 300

struct other {
	sqlite3 *db;
	int64_t until_ns;
};

static void must_exec(sqlite3 *db, const char *sql)
{
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void *other_thread(void *arg)
{
	struct other *other = arg;

	clock_sleep_ms(HELD_MS);
	other->until_ns = clock_mono_ns();
	must_exec(other->db, "COMMIT");
	return NULL;
}

/* The other one is at the point where SQLite does not wait by itself: both have read the
 * file, and one begins to write. */
static void test_database_waits_for_another_first_opener(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_free_ char *path = alloc_printf("%s/db", scratch->path);
	struct other other = {0};
	sqlite3 *db = NULL;
	pthread_t thread;

	assert_int_equal(sqlite3_open(path, &other.db), SQLITE_OK);
	must_exec(other.db, "BEGIN IMMEDIATE; CREATE TABLE theirs(a);");
	assert_int_equal(pthread_create(&thread, NULL, other_thread, &other), 0);
	expect_ok(database_open(path, &db));
	assert_true(clock_mono_ns() >= other.until_ns);
	assert_int_equal(pthread_join(thread, NULL), 0);
	must_exec(db, "CREATE TABLE ours(a); INSERT INTO ours VALUES(1);");
	must_exec(other.db, "INSERT INTO theirs SELECT a FROM ours;");
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	assert_int_equal(sqlite3_close(other.db), SQLITE_OK);
}

static void test_database_says_what_is_wrong(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_free_ char *path = alloc_printf("%s/db", scratch->path);
	_cleanup_free_ char *nowhere = alloc_printf("%s/no/db", scratch->path);
	sqlite3 *db = NULL;

	expect_error(database_open(nowhere, &db), ERROR_INTERNAL, nowhere);
	expect_ok(file_replace(scratch->fd, "db",
			       "no database, but as long as one's head,"
			       " which is a hundred bytes, and then more",
			       80, 0644));
	expect_error(database_open(path, &db), ERROR_DATA_LOSS, path);
	assert_null(db);
	database_remove(path);
	assert_int_equal(access(path, F_OK), -1);
	expect_ok(database_open(path, &db));
	assert_int_equal(sqlite3_exec(db, "no words of SQL", NULL, NULL, NULL),
			 SQLITE_ERROR);
	expect_error(database_error(path, db, "speak"), ERROR_INTERNAL, "speak");
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	expect_error(database_error(path, NULL, "open"), ERROR_INTERNAL, "memory");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = {
		TEST(test_database_waits_for_another_first_opener),
		TEST(test_database_says_what_is_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
