/* The action cache's file: what comes back, what is replaced, what a broken file does. */
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
#include "lib/base/file.h"
#include "lib/tree/hasher.h"
#include "lib/cas/action_cache.h"

struct fixture {
	char dir[64];
	struct action_cache *cache;
	struct digest action;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	(void)snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/lazyroot-test-XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	assert_null(action_cache_open(fixture->dir, 0, &fixture->cache));
	hasher_digest("a", 1, &fixture->action);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	action_cache_close(fixture->cache);
	assert_null(file_remove_tree(AT_FDCWD, fixture->dir));
	free(fixture);
	return 0;
}

static void assert_entry(struct fixture *fixture, const char *instance, const char *want)
{
	_cleanup_buf_ struct buf got = BUF_INIT;
	bool is_found = false;

	assert_null(action_cache_get(fixture->cache, instance, &fixture->action, &got,
				     &is_found));
	assert_int_equal(is_found, want != NULL);
	if (want)
		assert_string_equal(buf_string(&got), want);
}

static void put(struct fixture *fixture, const char *instance, const char *result)
{
	assert_null(action_cache_put(fixture->cache, instance, &fixture->action,
				     slice_of(result)));
}

static void test_cache_gives_back_the_newest(void **state)
{
	assert_entry(*state, "", NULL);
	put(*state, "", "one");
	assert_entry(*state, "", "one");
	put(*state, "", "two");
	assert_entry(*state, "", "two");
	put(*state, "", "");
	assert_entry(*state, "", "");
}

/* 300 MB of results, within 64 MB: the newest stay. */
static void test_cache_is_bounded_by_bytes(void **state)
{
	struct fixture *fixture = *state;
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ char *text = NULL;
	const size_t len = (size_t)3 << 20;
	struct stat st;

	text = calloc(1, len + 1);
	assert_non_null(text);
	memset(text, 'x', len);
	for (int i = 0; i < 100; i++) {
		hasher_digest(&i, sizeof(i), &fixture->action);
		put(fixture, "", text);
	}
	assert_entry(fixture, "", text);
	path = alloc_printf("%s/actions.sqlite", fixture->dir);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < ACTION_CACHE_BYTES_MIN * 3 / 2);
}

static void test_cache_instances_do_not_share(void **state)
{
	put(*state, "a", "one");
	assert_entry(*state, "b", NULL);
	assert_entry(*state, "", NULL);
}

static void test_cache_size_is_part_of_the_name(void **state)
{
	struct fixture *fixture = *state;

	put(fixture, "", "one");
	fixture->action.size++;
	assert_entry(fixture, "", NULL);
}

static void test_cache_outlives_its_process(void **state)
{
	struct fixture *fixture = *state;

	put(fixture, "", "one");
	fixture->cache = action_cache_close(fixture->cache);
	assert_null(action_cache_open(fixture->dir, 0, &fixture->cache));
	assert_entry(fixture, "", "one");
}

static void test_cache_that_is_no_database_begins_anew(void **state)
{
	struct fixture *fixture = *state;
	char path[96];
	int fd;

	put(fixture, "", "one");
	fixture->cache = action_cache_close(fixture->cache);
	(void)snprintf(path, sizeof(path), "%s/actions.sqlite", fixture->dir);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_null(file_write_all(
		fd, "this is no database at all, but it is long enough\n", 50));
	(void)close(fd);
	assert_null(action_cache_open(fixture->dir, 0, &fixture->cache));
	assert_entry(fixture, "", NULL);
	put(fixture, "", "two");
	assert_entry(fixture, "", "two");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_cache_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(gives_back_the_newest),  T(is_bounded_by_bytes),
		T(instances_do_not_share), T(size_is_part_of_the_name),
		T(outlives_its_process),   T(that_is_no_database_begins_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
