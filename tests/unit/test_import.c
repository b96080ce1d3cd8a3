/* Local files as a tree: what it says of them, and what the stat cache saves and must not
 * hide. */
#include "tests/unit/cas_fixture.h"

#include <sys/time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/tree/import.h"
#include "lib/tree/stat_cache.h"
#include "lib/tree/treebuild.h"

#define _cleanup_import_ _cleanup_(import_freep)

static struct pool *pool;

static int pool_make(void **state)
{
	struct error *err = pool_new("test", 2, &pool);

	(void)state;
	return err != NULL;
}

static int pool_drop(void **state)
{
	(void)state;
	pool = pool_free(pool);
	return 0;
}

static struct import *import_of(const struct scratch *scratch, const char *path,
				const char *cache)
{
	_cleanup_free_ char *full = alloc_printf("%s/%s", scratch->path, path);
	_cleanup_free_ char *db =
		cache ? alloc_printf("%s/%s", scratch->path, cache) : NULL;
	struct import_config config = {.pool = pool, .stat_cache = db};
	struct import *import = NULL;

	expect_ok(import_run(&config, full, &import));
	return import;
}

static struct import_stats stats_of(const struct import *import)
{
	struct import_stats stats;

	import_stats(import, &stats);
	return stats;
}

/* Files are made a minute old, so that the cache may trust them (their ctime is set back
 * by nobody, so what is imported must rest for as long as the rule says, or be asked
 * again). */
static void let_settle(void)
{
	clock_sleep_ms(2100);
}

static struct error *drop_emitted(void *ctx, const struct digest *digest,
				  struct slice bytes)
{
	(void)ctx;
	(void)digest;
	(void)bytes;
	return NULL;
}

static void make_sample(const struct scratch *scratch)
{
	scratch_write(scratch, "t/a", "one", 0644);
	scratch_write(scratch, "t/run", "two", 0755);
	scratch_write(scratch, "t/d/e/deep", "three", 0644);
	scratch_write(scratch, "t/twin/e/deep", "three", 0644);
	scratch_write(scratch, "t/empty", "", 0644);
	expect_ok(file_mkdirs(scratch->fd, "t/void", 0755));
	assert_int_equal(symlinkat("../nowhere", scratch->fd, "t/link"), 0);
	assert_int_equal(symlinkat("d", scratch->fd, "t/dirlink"), 0);
	scratch_write(scratch, "t/\xff\xfe name", "four", 0644);
}

static struct digest sample_digest(void)
{
	_cleanup_(treebuild_freep) struct treebuild *build = treebuild_new(NULL, NULL);
	struct digest digests[] = {digest_of("one"), digest_of("two"), digest_of("three"),
				   digest_of(""), digest_of("four")};
	struct digest root = {0};

	expect_ok(treebuild_put_file(build, "a", &digests[0], false, NULL));
	expect_ok(treebuild_put_file(build, "run", &digests[1], true, NULL));
	expect_ok(treebuild_put_file(build, "d/e/deep", &digests[2], false, NULL));
	expect_ok(treebuild_put_file(build, "twin/e/deep", &digests[2], false, NULL));
	expect_ok(treebuild_put_file(build, "empty", &digests[3], false, NULL));
	expect_ok(treebuild_put_dir(build, "void", NULL));
	expect_ok(treebuild_put_symlink(build, "link", "../nowhere", NULL));
	expect_ok(treebuild_put_symlink(build, "dirlink", "d", NULL));
	expect_ok(treebuild_put_file(build, "\xff\xfe name", &digests[4], false, NULL));
	expect_ok(treebuild_finish(build, drop_emitted, NULL, &root));
	return root;
}

static void test_import_makes_the_same_tree_as_treebuild(void **state)
{
	const struct scratch *scratch = *state;
	struct digest want = sample_digest();

	make_sample(scratch);
	_cleanup_import_ struct import *import = import_of(scratch, "t", NULL);
	struct import_stats stats = stats_of(import);

	assert_true(digest_equal(import_digest(import), &want));
	assert_int_equal(import_kind(import), TREE_DIR);
	assert_int_equal(stats.n_files, 6);
	assert_int_equal(stats.n_dirs, 5);
	assert_int_equal(stats.n_symlinks, 2);
	assert_int_equal(stats.bytes, 3 + 3 + 5 + 5 + 0 + 4);
	assert_int_equal(stats.n_hashed, 6);
}

static void test_import_items_are_what_they_say(void **state)
{
	const struct scratch *scratch = *state;
	size_t n = 0;
	size_t n_dirs = 0;

	make_sample(scratch);
	_cleanup_import_ struct import *import = import_of(scratch, "t", NULL);
	const struct blob_source *items = import_items(import, &n);

	for (size_t i = 0; i < n; i++) {
		_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
		_cleanup_fd_ int fd = -1;
		struct digest got;

		if (items[i].from == BLOB_PATH) {
			fd = openat(import_dir_fd(import), items[i].path, O_RDONLY);
			expect_ok(hasher_verify_fd(fd, &items[i].digest));
			continue;
		}
		hasher_digest(items[i].bytes.data, items[i].bytes.len, &got);
		assert_true(digest_equal(&got, &items[i].digest));
		expect_ok(import_load(import, &got, &dir));
		n_dirs++;
	}
	/* root, d = twin, e of both, void */
	assert_int_equal(n_dirs, 4);
	assert_int_equal(n - n_dirs, 6);
	_cleanup_(tree_dir_unrefp) struct tree_dir *none = NULL;
	struct digest other = digest_of("other");

	expect_error(import_load(import, &other, &none), ERROR_NOT_FOUND, "/5");
}

static void test_import_of_one_file(void **state)
{
	const struct scratch *scratch = *state;
	struct digest want = digest_of("two");
	size_t n = 0;

	make_sample(scratch);
	assert_int_equal(symlinkat("t/run", scratch->fd, "to-run"), 0);
	_cleanup_import_ struct import *import = import_of(scratch, "to-run", "db");
	const struct blob_source *items = import_items(import, &n);

	assert_int_equal(import_kind(import), TREE_FILE);
	assert_true(import_is_executable(import));
	assert_true(digest_equal(import_digest(import), &want));
	assert_int_equal(n, 1);
	_cleanup_fd_ int fd = openat(import_dir_fd(import), items[0].path, O_RDONLY);

	expect_ok(hasher_verify_fd(fd, &want));
	assert_int_equal(stats_of(import).n_files, 1);
}

static void test_import_leaves_out_what_is_no_content(void **state)
{
	const struct scratch *scratch = *state;

	scratch_write(scratch, "t/d/a", "one", 0644);
	assert_int_equal(mkfifoat(scratch->fd, "t/d/fifo", 0644), 0);
	_cleanup_import_ struct import *import = import_of(scratch, "t", NULL);

	assert_int_equal(stats_of(import).n_skipped, 1);
	assert_int_equal(import_n_notes(import), 1);
	assert_non_null(strstr(import_note(import, 0), "/t/d/fifo"));
	assert_int_equal(stats_of(import).n_files, 1);
}

static void test_import_names_what_it_cannot_have(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_free_ char *none = alloc_printf("%s/none", scratch->path);
	_cleanup_free_ char *fifo = alloc_printf("%s/fifo", scratch->path);
	struct import_config config = {.pool = pool};
	struct import *import = NULL;

	assert_int_equal(mkfifoat(scratch->fd, "fifo", 0644), 0);
	expect_error(import_run(&config, none, &import), ERROR_NOT_FOUND, none);
	expect_error(import_run(&config, fifo, &import), ERROR_INVALID_ARGUMENT, fifo);
	assert_null(import);
}

/* A file that is to be held comes back in what was read of it, whatever its name says
 * now. */
static void test_import_holds_what_it_read(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_buf_ struct buf large = BUF_INIT;
	_cleanup_free_ char *root = alloc_printf("%s/t", scratch->path);
	char *held[] = {alloc_printf("%s/t/big", scratch->path),
			alloc_printf("%s/t/d/small", scratch->path)};
	struct import_config config = {
		.pool = pool, .held = held, .n_held = ARRAY_SIZE(held)};
	struct import *import = NULL;
	size_t n = 0;
	int n_held = 0;

	buf_reserve(&large, (size_t)IMPORT_HELD_SMALL + 2);
	memset(large.data, 'L', (size_t)IMPORT_HELD_SMALL + 1);
	large.data[IMPORT_HELD_SMALL + 1] = '\0';
	scratch_write(scratch, "t/big", (const char *)large.data, 0644);
	scratch_write(scratch, "t/d/small", "one", 0644);
	scratch_write(scratch, "t/d/other", "two", 0644);
	expect_ok(import_run(&config, root, &import));
	assert_int_equal(unlinkat(scratch->fd, "t/big", 0), 0);
	scratch_write(scratch, "t/d/small", "1", 0644);
	const struct blob_source *items = import_items(import, &n);

	for (size_t i = 0; i < n; i++) {
		struct digest got;

		if (!items[i].path || strcmp(items[i].path, "d/other") == 0)
			continue;
		n_held++;
		if (items[i].from == BLOB_FD) {
			expect_ok(hasher_verify_fd(items[i].fd, &items[i].digest));
			continue;
		}
		assert_int_equal(items[i].from, BLOB_BYTES);
		hasher_digest(items[i].bytes.data, items[i].bytes.len, &got);
		assert_true(digest_equal(&got, &items[i].digest));
		assert_int_equal(got.size, 3);
	}
	assert_int_equal(n_held, 2);
	import_free(import);
	free(held[0]);
	free(held[1]);
}

/* The stat cache */

static void test_import_reads_unchanged_files_once(void **state)
{
	const struct scratch *scratch = *state;
	struct digest want = sample_digest();

	make_sample(scratch);
	let_settle();
	for (int i = 0; i < 3; i++) {
		_cleanup_import_ struct import *import = import_of(scratch, "t", "db");

		assert_int_equal(stats_of(import).n_hashed, i ? 0 : 6);
		assert_int_equal(stats_of(import).n_files, 6);
		assert_int_equal(stats_of(import).bytes, 20);
		assert_true(digest_equal(import_digest(import), &want));
	}
}

static void test_import_sees_every_kind_of_change(void **state)
{
	const struct scratch *scratch = *state;
	struct timespec times[2];
	struct stat st;

	scratch_write(scratch, "t/same-size", "aaa", 0644);
	scratch_write(scratch, "t/back-dated", "aaa", 0644);
	scratch_write(scratch, "t/replaced", "aaa", 0644);
	scratch_write(scratch, "t/mode", "aaa", 0644);
	scratch_write(scratch, "t/quiet", "aaa", 0644);
	scratch_write(scratch, "t/gone/f", "aaa", 0644);
	let_settle();
	import_free(import_of(scratch, "t", "db"));
	scratch_write(scratch, "t/same-size", "bbb", 0644);
	/* the same size and mtime: only the ctime tells */
	assert_int_equal(fstatat(scratch->fd, "t/back-dated", &st, 0), 0);
	scratch_write(scratch, "t/back-dated", "bbb", 0644);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	assert_int_equal(utimensat(scratch->fd, "t/back-dated", times, 0), 0);
	scratch_write(scratch, "other", "bbb", 0644);
	assert_int_equal(renameat(scratch->fd, "other", scratch->fd, "t/replaced"), 0);
	assert_int_equal(fchmodat(scratch->fd, "t/mode", 0755, 0), 0);
	expect_ok(file_remove_tree(scratch->fd, "t/gone"));
	_cleanup_import_ struct import *with = import_of(scratch, "t", "db");
	_cleanup_import_ struct import *without = import_of(scratch, "t", NULL);

	assert_true(digest_equal(import_digest(with), import_digest(without)));
	assert_int_equal(stats_of(with).n_hashed, 4); /* all but quiet */
	assert_int_equal(stats_of(with).n_files, 5);
}

/*
 * A file that was written just before it was hashed is read again next time: a second
 * write within the same tick of the clock would leave the same times behind. Such a write
 * is played here with the record that a careless cache would have kept.
 */
static void test_import_does_not_trust_fresh_times(void **state)
{
	const struct scratch *scratch = *state;
	_cleanup_free_ char *root = alloc_printf("%s/t", scratch->path);
	_cleanup_free_ char *db = alloc_printf("%s/db", scratch->path);
	_cleanup_(stat_cache_closep) struct stat_cache *cache = NULL;

	scratch_write(scratch, "t/fresh", "aaa", 0644);
	for (int i = 0; i < 2; i++) {
		_cleanup_import_ struct import *import = import_of(scratch, "t", "db");

		assert_int_equal(stats_of(import).n_hashed, 1);
	}
	expect_ok(stat_cache_open(db, root, &cache));
	assert_int_equal(stat_cache_get(cache, slice_of(root)).len, 0);
}

static void test_import_keeps_trees_apart_in_one_cache(void **state)
{
	const struct scratch *scratch = *state;

	scratch_write(scratch, "t/f", "one", 0644);
	scratch_write(scratch, "t0/f", "two", 0644);
	scratch_write(scratch, "t-x/f", "three", 0644);
	let_settle();
	import_free(import_of(scratch, "t0", "db"));
	import_free(import_of(scratch, "t-x", "db"));
	import_free(import_of(scratch, "t", "db"));
	import_free(import_of(scratch, "t/f", "db"));
	for (int i = 0; i < 4; i++) {
		static const char *const trees[] = {"t", "t0", "t-x", "t/f"};
		_cleanup_import_ struct import *import =
			import_of(scratch, trees[i], "db");

		assert_int_equal(stats_of(import).n_hashed, 0);
	}
}

static void test_import_survives_a_damaged_cache(void **state)
{
	const struct scratch *scratch = *state;
	struct digest want = sample_digest();

	make_sample(scratch);
	let_settle();
	scratch_write(scratch, "db", "this is no database, and never was one", 0644);
	_cleanup_import_ struct import *first = import_of(scratch, "t", "db");
	_cleanup_import_ struct import *second = import_of(scratch, "t", "db");
	_cleanup_import_ struct import *none = import_of(scratch, "t", "no/such/dir/db");

	assert_true(digest_equal(import_digest(first), &want));
	assert_int_equal(stats_of(second).n_hashed, 0);
	assert_true(digest_equal(import_digest(none), &want));
}

/* A record in the cache must not be taken for longer or shorter than it is. */
static void test_stat_records_survive_cuts(void **state)
{
	_cleanup_buf_ struct buf packed = BUF_INIT;
	struct stat_record record = {.name = slice_of("name"), .size = 7, .mtime_ns = -1};
	struct stat_record got;

	(void)state;
	stat_record_pack(&record, &packed);
	for (size_t len = 0; len < packed.len; len++) {
		struct slice cut = {packed.data, len};

		assert_false(stat_record_unpack(&cut, &got));
	}
	struct slice all = buf_slice(&packed);

	assert_true(stat_record_unpack(&all, &got));
	assert_true(slice_is(got.name, "name"));
	assert_int_equal(got.mtime_ns, -1);
	assert_int_equal(all.len, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_drop)
	const struct CMUnitTest tests[] = {
		TEST(test_import_makes_the_same_tree_as_treebuild),
		TEST(test_import_items_are_what_they_say),
		TEST(test_import_of_one_file),
		TEST(test_import_leaves_out_what_is_no_content),
		TEST(test_import_names_what_it_cannot_have),
		TEST(test_import_holds_what_it_read),
		TEST(test_import_reads_unchanged_files_once),
		TEST(test_import_sees_every_kind_of_change),
		TEST(test_import_does_not_trust_fresh_times),
		TEST(test_import_keeps_trees_apart_in_one_cache),
		TEST(test_import_survives_a_damaged_cache),
		TEST(test_stat_records_survive_cuts),
	};

	return cmocka_run_group_tests(tests, pool_make, pool_drop);
}
