/* Trees out of a filled store into a directory, without any remote. */
#include "tests/unit/shop_fixture.h"

#include <pthread.h>
#include <unistd.h>

static mode_t mode_of(const struct shop *shop, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(shop->scratch->fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_mode;
}

static void test_checkout_brings_everything(void **state)
{
	struct shop *shop = *state;
	_cleanup_(treebuild_freep) struct treebuild *build = treebuild_new(NULL, NULL);
	struct digest run = keep(shop, "run me");
	char target[16] = "";
	struct digest root;

	put(shop, build, "a", "one");
	put(shop, build, "d/e/f", "two");
	put(shop, build, "d/g", "one");
	put(shop, build, "nothing", "");
	expect_ok(treebuild_put_file(build, "run", &run, true, NULL));
	expect_ok(treebuild_put_dir(build, "void", NULL));
	expect_ok(treebuild_put_symlink(build, "link", "../../out", NULL));
	root = finish(shop, build);
	expect_ok(checkout_tree(&shop->config, &root, shop->scratch->fd, "x/y"));
	scratch_expect(shop->scratch, "x/y/a", "one");
	scratch_expect(shop->scratch, "x/y/d/e/f", "two");
	scratch_expect(shop->scratch, "x/y/d/g", "one");
	scratch_expect(shop->scratch, "x/y/nothing", "");
	assert_true(S_ISDIR(mode_of(shop, "x/y/void")));
	assert_true(mode_of(shop, "x/y/run") & 0100);
	assert_false(mode_of(shop, "x/y/a") & 0111);
	assert_true(mode_of(shop, "x/y/a") & 0200); /* the user's own, to be written */
	assert_int_equal(readlinkat(shop->scratch->fd, "x/y/link", target, 15), 9);
	assert_string_equal(target, "../../out");
	assert_true(is_tidy(shop));
	/* writing to it does not change the store's blob */
	scratch_write(shop->scratch, "x/y/a", "ONE", 0644);
	expect_ok(checkout_tree(&shop->config, &root, shop->scratch->fd, "again"));
	scratch_expect(shop->scratch, "again/a", "one");
}

static void test_checkout_replaces_file_by_file(void **state)
{
	struct shop *shop = *state;
	_cleanup_(treebuild_freep) struct treebuild *build = treebuild_new(NULL, NULL);
	struct digest root;

	put(shop, build, "file", "new");
	put(shop, build, "was-link", "new");
	put(shop, build, "dir/f", "new");
	put(shop, build, "was-file/f", "new");
	expect_ok(treebuild_put_symlink(build, "link", "new", NULL));
	root = finish(shop, build);
	scratch_write(shop->scratch, "out/file", "old and longer", 0400);
	scratch_write(shop->scratch, "out/mine", "stays", 0644);
	scratch_write(shop->scratch, "out/was-file", "old", 0644);
	scratch_write(shop->scratch, "secret", "secret", 0644);
	scratch_write(shop->scratch, "elsewhere/f", "secret", 0644);
	assert_int_equal(symlinkat("../secret", shop->scratch->fd, "out/was-link"), 0);
	assert_int_equal(symlinkat("../elsewhere", shop->scratch->fd, "out/dir"), 0);
	assert_int_equal(symlinkat("old", shop->scratch->fd, "out/link"), 0);
	expect_ok(checkout_tree(&shop->config, &root, shop->scratch->fd, "out"));
	scratch_expect(shop->scratch, "out/file", "new");
	scratch_expect(shop->scratch, "out/mine", "stays");
	scratch_expect(shop->scratch, "out/was-file/f", "new");
	assert_true(S_ISREG(mode_of(shop, "out/was-link")));
	assert_true(S_ISDIR(mode_of(shop, "out/dir")));
	/* nothing went through a link */
	scratch_expect(shop->scratch, "secret", "secret");
	scratch_expect(shop->scratch, "elsewhere/f", "secret");
	assert_true(is_tidy(shop));
}

static void test_checkout_does_not_replace_directories(void **state)
{
	struct shop *shop = *state;
	_cleanup_(treebuild_freep) struct treebuild *build = treebuild_new(NULL, NULL);
	struct digest root;

	put(shop, build, "d/name", "new");
	root = finish(shop, build);
	scratch_write(shop->scratch, "out/d/name/precious", "stays", 0644);
	expect_error(checkout_tree(&shop->config, &root, shop->scratch->fd, "out"),
		     ERROR_FAILED_PRECONDITION, "d/name");
	scratch_expect(shop->scratch, "out/d/name/precious", "stays");
	assert_true(is_tidy(shop));
}

static void test_checkout_names_what_is_missing(void **state)
{
	struct shop *shop = *state;
	_cleanup_(treebuild_freep) struct treebuild *build = treebuild_new(NULL, NULL);
	struct digest absent = digest_of("absent");
	struct digest root;

	for (int i = 0; i < 300; i++) {
		_cleanup_free_ char *path = alloc_printf("d%d/f", i);

		put(shop, build, path, path);
	}
	expect_ok(treebuild_put_file(build, "d/lost", &absent, false, NULL));
	root = finish(shop, build);
	expect_error(checkout_tree(&shop->config, &root, shop->scratch->fd, "out"),
		     ERROR_NOT_FOUND, "d/lost");
	assert_true(is_tidy(shop));
	expect_error(checkout_tree(&shop->config, &absent, shop->scratch->fd, "out2"),
		     ERROR_NOT_FOUND, NULL);
}

static void test_checkout_refuses_a_directory_that_is_none(void **state)
{
	struct shop *shop = *state;
	struct digest text = keep(shop, "just text, no Directory at all");

	expect_error(checkout_tree(&shop->config, &text, shop->scratch->fd, "out"),
		     ERROR_INVALID_ARGUMENT, NULL);
}

static void test_checkout_honours_properties(void **state)
{
	struct shop *shop = *state;
	_cleanup_(treebuild_freep) struct treebuild *build = treebuild_new(NULL, NULL);
	struct tree_props props = {.has_mtime = true,
				   .mtime_s = 1000000000,
				   .mtime_ns = 7,
				   .has_unix_mode = true,
				   .unix_mode = 04550};
	struct digest digest = keep(shop, "text");
	struct digest root;
	struct stat st;

	expect_ok(treebuild_put_dir(build, "d", &props));
	expect_ok(treebuild_put_file(build, "d/f", &digest, false, &props));
	root = finish(shop, build);
	expect_ok(checkout_tree(&shop->config, &root, shop->scratch->fd, "out"));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			fstatat(shop->scratch->fd, i ? "out/d" : "out/d/f", &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0550); /* never set-user-id */
		assert_int_equal(st.st_mtim.tv_sec, 1000000000);
		assert_int_equal(st.st_mtim.tv_nsec, 7);
	}
}

static void test_checkout_of_one_file(void **state)
{
	struct shop *shop = *state;
	struct digest digest = keep(shop, "text");
	struct digest absent = digest_of("absent");

	expect_ok(checkout_file(&shop->config, &digest, true, NULL, shop->scratch->fd,
				"new/dir/f"));
	scratch_expect(shop->scratch, "new/dir/f", "text");
	assert_true(mode_of(shop, "new/dir/f") & 0100);
	expect_ok(checkout_file(&shop->config, &digest, false, NULL, shop->scratch->fd,
				"g"));
	expect_ok(checkout_file(&shop->config, &digest, false, NULL, shop->scratch->fd,
				"new/dir/f"));
	assert_false(mode_of(shop, "new/dir/f") & 0100);
	expect_error(checkout_file(&shop->config, &absent, false, NULL, shop->scratch->fd,
				   "g"),
		     ERROR_NOT_FOUND, "/6");
	scratch_expect(shop->scratch, "g", "text");
	expect_error(checkout_file(&shop->config, &digest, false, NULL, shop->scratch->fd,
				   "new"),
		     ERROR_FAILED_PRECONDITION, "new");
	assert_true(is_tidy(shop));
}

struct progress {
	pthread_mutex_t mutex;
	int64_t n_done;
	int64_t bytes_done;
	bool is_odd;
};

static void count_progress(void *ctx, int64_t n_done, int64_t n_total, int64_t bytes_done)
{
	struct progress *progress = ctx;

	(void)pthread_mutex_lock(&progress->mutex);
	progress->is_odd |= n_done < 1 || (n_total && n_done > n_total) || n_total > 500;
	if (n_done > progress->n_done) {
		progress->n_done = n_done;
		progress->bytes_done = bytes_done;
	}
	(void)pthread_mutex_unlock(&progress->mutex);
}

static void test_checkout_reports_progress(void **state)
{
	struct shop *shop = *state;
	_cleanup_(treebuild_freep) struct treebuild *build = treebuild_new(NULL, NULL);
	struct progress progress = {.mutex = PTHREAD_MUTEX_INITIALIZER};
	struct digest root;

	for (int i = 0; i < 500; i++) {
		_cleanup_free_ char *path = alloc_printf("d%d/%03d", i % 7, i);

		put(shop, build, path, "12345");
	}
	root = finish(shop, build);
	shop->config.progress = count_progress;
	shop->config.ctx = &progress;
	expect_ok(checkout_tree(&shop->config, &root, shop->scratch->fd, "out"));
	assert_false(progress.is_odd);
	assert_int_equal(progress.n_done, 500);
	assert_int_equal(progress.bytes_done, 2500);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, shop_make, shop_drop)
	const struct CMUnitTest tests[] = {
		TEST(test_checkout_brings_everything),
		TEST(test_checkout_replaces_file_by_file),
		TEST(test_checkout_does_not_replace_directories),
		TEST(test_checkout_names_what_is_missing),
		TEST(test_checkout_refuses_a_directory_that_is_none),
		TEST(test_checkout_honours_properties),
		TEST(test_checkout_of_one_file),
		TEST(test_checkout_reports_progress),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
