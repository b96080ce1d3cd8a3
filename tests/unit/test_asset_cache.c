/* The file of assets: what names stand for, when they end, what bounds them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/tree/hasher.h"
#include "server/asset_cache.h"

#define NAMES_MAX 100

struct fixture {
	char dir[64];
	struct asset_cache *cache;
};

static void reopen(struct fixture *fixture)
{
	const struct asset_cache_limits limits = {.names = NAMES_MAX};

	fixture->cache = asset_cache_close(fixture->cache);
	assert_null(asset_cache_open(fixture->dir, &limits, &fixture->cache));
}

static int setup(void **state)
{
	struct fixture *fixture = alloc_new(struct fixture);

	(void)snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/lazyroot-test-XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	reopen(fixture);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	asset_cache_close(fixture->cache);
	assert_null(file_remove_tree(AT_FDCWD, fixture->dir));
	free(fixture);
	return 0;
}

static struct digest name_of(int i)
{
	struct digest digest;

	hasher_digest(&i, sizeof(i), &digest);
	return digest;
}

/* A push of one name: the content's size tells which it was. */
static void push(struct fixture *fixture, int name, int64_t content)
{
	struct digest key = name_of(name);
	struct asset asset = {.digest.size = content, .expire_ns = CLOCK_NEVER};

	assert_null(asset_cache_put(fixture->cache, &key, 1, &asset));
}

static void assert_name(struct fixture *fixture, int name, int64_t want, int64_t now_ns)
{
	struct digest key = name_of(name);
	struct asset asset = {0};
	bool is_found = false;

	assert_null(asset_cache_get(fixture->cache, &key, now_ns, &asset, &is_found));
	assert_int_equal(is_found, want >= 0);
	if (want >= 0)
		assert_int_equal(asset.digest.size, want);
	asset_deinit(&asset);
}

static int64_t file_size(const struct fixture *fixture)
{
	_cleanup_free_ char *path = alloc_printf("%s/assets.sqlite", fixture->dir);
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static void test_assets_come_back_whole(void **state)
{
	struct fixture *fixture = *state;
	struct digest keys[] = {name_of(1), name_of(2), name_of(1)};
	struct digest references[] = {name_of(3), name_of(4), name_of(5)};
	const struct asset asset = {name_of(6), 1000, 2000, true, references, 2, 3};
	struct asset got;
	bool is_found = false;

	assert_null(asset_cache_put(fixture->cache, keys, ARRAY_SIZE(keys), &asset));
	reopen(fixture);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		/* what had expired went as the file was opened */
		assert_name(fixture, (int)i + 1, -1, 1500);
	}
	assert_null(asset_cache_put(fixture->cache, keys, ARRAY_SIZE(keys), &asset));
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		assert_null(
			asset_cache_get(fixture->cache, &keys[i], 1999, &got, &is_found));
		assert_true(is_found);
		assert_true(digest_equal(&got.digest, &asset.digest));
		assert_int_equal(got.pushed_ns, 1000);
		assert_int_equal(got.expire_ns, 2000);
		assert_true(got.is_name_only);
		assert_int_equal(got.n_blobs, 2);
		assert_int_equal(got.n_references, 3);
		assert_memory_equal(got.references, references, sizeof(references));
		asset_deinit(&got);
		assert_null(
			asset_cache_get(fixture->cache, &keys[i], 2000, &got, &is_found));
		assert_false(is_found);
	}
}

static void test_assets_newest_push_counts(void **state)
{
	struct fixture *fixture = *state;
	struct digest both[] = {name_of(1), name_of(2)};
	const struct asset asset = {.digest.size = 10, .expire_ns = CLOCK_NEVER};

	assert_null(asset_cache_put(fixture->cache, both, 2, &asset));
	push(fixture, 1, 11);
	assert_name(fixture, 1, 11, 0);
	assert_name(fixture, 2, 10, 0);
	push(fixture, 2, 12);
	assert_name(fixture, 1, 11, 0);
	assert_name(fixture, 2, 12, 0);
	reopen(fixture);
	assert_name(fixture, 1, 11, 0);
	assert_name(fixture, 2, 12, 0);
	assert_name(fixture, 3, -1, 0);
}

/* The same names many times over leave nothing behind; of many names the oldest go. */
static void test_assets_are_bounded_by_number(void **state)
{
	struct fixture *fixture = *state;

	for (int i = 0; i < 3 * NAMES_MAX; i++)
		push(fixture, i % 10, i);
	for (int i = 0; i < 10; i++)
		assert_name(fixture, i, 3 * NAMES_MAX - 10 + i, 0);
	for (int i = 0; i < 3 * NAMES_MAX; i++)
		push(fixture, 1000 + i, i);
	assert_name(fixture, 0, -1, 0);
	assert_name(fixture, 1000, -1, 0);
	assert_name(fixture, 1000 + 2 * NAMES_MAX - 1, -1, 0);
	assert_name(fixture, 1000 + 3 * NAMES_MAX - 1, 3 * NAMES_MAX - 1, 0);
	assert_name(fixture, 1000 + 3 * NAMES_MAX - NAMES_MAX / 2,
		    3 * NAMES_MAX - NAMES_MAX / 2, 0);
}

/* 160 MB of references, within 64 MB: the newest stay. */
static void test_assets_are_bounded_by_bytes(void **state)
{
	struct fixture *fixture = *state;
	const size_t n = 100000;
	_cleanup_free_ struct digest *references = alloc_array(n, sizeof(*references));
	const struct asset asset = {.digest.size = 7,
				    .expire_ns = CLOCK_NEVER,
				    .references = references,
				    .n_references = n};

	for (int i = 0; i < 40; i++) {
		struct digest key = name_of(i);

		assert_null(asset_cache_put(fixture->cache, &key, 1, &asset));
	}
	assert_name(fixture, 0, -1, 0);
	assert_name(fixture, 39, 7, 0);
	assert_true(file_size(fixture) < ASSET_CACHE_BYTES_MIN * 3 / 2);
}

static void test_assets_file_that_is_no_database_begins_anew(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *path = alloc_printf("%s/assets.sqlite", fixture->dir);
	int fd;

	push(fixture, 1, 1);
	fixture->cache = asset_cache_close(fixture->cache);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_null(file_write_all(
		fd, "this is no database at all, but it is long enough\n", 50));
	(void)close(fd);
	reopen(fixture);
	assert_name(fixture, 1, -1, 0);
	push(fixture, 1, 2);
	assert_name(fixture, 1, 2, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_assets_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(come_back_whole),
		T(newest_push_counts),
		T(are_bounded_by_number),
		T(are_bounded_by_bytes),
		T(file_that_is_no_database_begins_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
