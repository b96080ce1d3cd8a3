/* predict/resolve: paths of an input root are followed as a command would, and no
 * further. */
#include <string.h>

#include "lib/base/alloc.h"
#include "tests/unit/grove_fixture.h"

/* The outcome, and where it is found the path without links. */
static void expect(struct grove *grove, const char *base, const char *path,
		   enum resolve_outcome outcome, const char *want)
{
	struct resolved found;
	enum resolve_outcome got =
		resolve_path(&grove->resolve, &grove->root, base, slice_of(path), &found);

	if (got != outcome)
		fail_msg("%s from \"%s\": %d, not %d", path, base, (int)got,
			 (int)outcome);
	if (outcome != RESOLVE_FOUND)
		return;
	assert_string_equal(found.path, want);
	/* which names the same thing by itself */
	if (strcmp(path, want) != 0)
		expect(grove, "", want, RESOLVE_FOUND, want);
}

static void grow(struct grove *grove)
{
	grove_init(grove);
	grove_file(grove, "a/b/file", NULL);
	grove_file(grove, "a/other", NULL);
	grove_file(grove, "top", NULL);
	grove_link(grove, "a/up", "../top");
	grove_link(grove, "a/abs", "/a/b");
	grove_link(grove, "a/dir", "b/");
	grove_link(grove, "out", "../../../../a/other");
	grove_link(grove, "absout", "/../../top");
	grove_link(grove, "nowhere", "/none");
	grove_link(grove, "self", "self");
	grove_link(grove, "x", "y");
	grove_link(grove, "y", "./x");
	grove_finish(grove);
}

static void test_resolve_follows_links(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grow(&grove);
	expect(&grove, "", "a/b/file", RESOLVE_FOUND, "a/b/file");
	expect(&grove, "a", "b/file", RESOLVE_FOUND, "a/b/file");
	expect(&grove, "a", "/top", RESOLVE_FOUND, "top");
	expect(&grove, "", "a/up", RESOLVE_FOUND, "top");
	expect(&grove, "", "a/abs/file", RESOLVE_FOUND, "a/b/file");
	expect(&grove, "", "a/dir/file", RESOLVE_FOUND, "a/b/file");
	expect(&grove, "", "a/dir/../other", RESOLVE_FOUND, "a/other");
	expect(&grove, "a/abs", "..", RESOLVE_FOUND, "a");
	expect(&grove, "", "a/./b//file", RESOLVE_FOUND, "a/b/file");
	expect(&grove, "", "", RESOLVE_FOUND, "");
	expect(&grove, "a", "", RESOLVE_FOUND, "a");
	expect(&grove, "a", ".", RESOLVE_FOUND, "a");
	expect(&grove, "", "nowhere", RESOLVE_ABSENT, NULL);
	expect(&grove, "", "a/none", RESOLVE_ABSENT, NULL);
}

static void test_resolve_says_what_it_found(void **state)
{
	_cleanup_grove_ struct grove grove;
	struct resolved found;

	(void)state;
	grow(&grove);
	assert_int_equal(
		resolve_path(&grove.resolve, &grove.root, "", slice_of("a/dir"), &found),
		RESOLVE_FOUND);
	assert_int_equal(found.kind, TREE_DIR);
	assert_int_equal(
		resolve_path(&grove.resolve, &grove.root, "", slice_of("top"), &found),
		RESOLVE_FOUND);
	assert_int_equal(found.kind, TREE_FILE);
	assert_int_equal(found.digest.size, 3);
}

static void test_resolve_never_leaves_the_root(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grow(&grove);
	expect(&grove, "", "../../top", RESOLVE_FOUND, "top");
	expect(&grove, "", "a/../../../top", RESOLVE_FOUND, "top");
	expect(&grove, "a/b", "../../../../../a/other", RESOLVE_FOUND, "a/other");
	expect(&grove, "", "out", RESOLVE_FOUND, "a/other");
	expect(&grove, "", "absout", RESOLVE_FOUND, "top");
	expect(&grove, "", "..", RESOLVE_FOUND, "");
}

static void test_resolve_ends_where_links_go_round(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grow(&grove);
	expect(&grove, "", "self", RESOLVE_ABSENT, NULL);
	expect(&grove, "", "x", RESOLVE_ABSENT, NULL);
	expect(&grove, "", "y/a", RESOLVE_ABSENT, NULL);
}

/* As Linux has it: forty links on one way, and not one more. */
static void test_resolve_follows_forty_links(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "l0", NULL);
	for (unsigned int i = 1; i <= RESOLVE_LINKS_MAX + 1; i++) {
		_cleanup_free_ char *name = alloc_printf("l%u", i);
		_cleanup_free_ char *target = alloc_printf("l%u", i - 1);

		grove_link(&grove, name, target);
	}
	grove_finish(&grove);
	expect(&grove, "", "l40", RESOLVE_FOUND, "l0");
	expect(&grove, "", "l41", RESOLVE_ABSENT, NULL);
}

static void test_resolve_finds_no_file_as_a_directory(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grow(&grove);
	expect(&grove, "", "top/x", RESOLVE_ABSENT, NULL);
	expect(&grove, "", "top/.", RESOLVE_ABSENT, NULL);
	expect(&grove, "", "top/..", RESOLVE_ABSENT, NULL);
	expect(&grove, "", "a/up/x", RESOLVE_ABSENT, NULL);
	expect(&grove, "top", "x", RESOLVE_ABSENT, NULL);
	/* a slash behind a name asks for a directory */
	expect(&grove, "", "top/", RESOLVE_ABSENT, NULL);
	expect(&grove, "", "a/up/", RESOLVE_ABSENT, NULL);
	expect(&grove, "", "a/b/", RESOLVE_FOUND, "a/b");
	expect(&grove, "", "a/dir///", RESOLVE_FOUND, "a/b");
	expect(&grove, "", "/", RESOLVE_FOUND, "");
}

static void test_resolve_waits_for_directories(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grow(&grove);
	grove_show_dirs(&grove, false);
	expect(&grove, "", "a/b/file", RESOLVE_UNKNOWN, NULL);
	expect(&grove, "", "none", RESOLVE_UNKNOWN, NULL);
	expect(&grove, "", "", RESOLVE_FOUND, "");
	grove_show_dir(&grove, "", true);
	expect(&grove, "", "none", RESOLVE_ABSENT, NULL);
	expect(&grove, "", "a", RESOLVE_FOUND, "a");
	expect(&grove, "", "a/none", RESOLVE_UNKNOWN, NULL);
	grove_show_dir(&grove, "a", true);
	expect(&grove, "", "a/none", RESOLVE_ABSENT, NULL);
	expect(&grove, "", "a/dir/file", RESOLVE_UNKNOWN, NULL);
	grove_show_dir(&grove, "a/b", true);
	expect(&grove, "", "a/dir/file", RESOLVE_FOUND, "a/b/file");
}

/* "d/d/d…", n of them. */
static char *deep(size_t n)
{
	struct buf path = BUF_INIT;

	for (size_t i = 0; i < n; i++)
		buf_add_string(&path, i ? "/d" : "d");
	return buf_steal_string(&path);
}

static void test_resolve_is_bounded_in_depth(void **state)
{
	_cleanup_grove_ struct grove grove;
	_cleanup_free_ char *all = deep(300);
	_cleanup_free_ char *most = deep(127);
	_cleanup_free_ char *over = deep(128);

	(void)state;
	grove_init(&grove);
	grove_dir(&grove, all);
	grove_finish(&grove);
	expect(&grove, "", most, RESOLVE_FOUND, most);
	expect(&grove, "", over, RESOLVE_ABSENT, NULL);
	expect(&grove, "", all, RESOLVE_ABSENT, NULL);
}

static void test_resolve_is_bounded_in_length(void **state)
{
	_cleanup_grove_ struct grove grove;
	_cleanup_buf_ struct buf path = BUF_INIT;
	_cleanup_buf_ struct buf name = BUF_INIT;
	struct resolved found;

	(void)state;
	grow(&grove);
	while (path.len < RESOLVE_PATH_MAX - 4)
		buf_add_byte(&path, '/');
	buf_add_string(&path, "top");
	expect(&grove, "", buf_string(&path), RESOLVE_FOUND, "top");
	buf_add_byte(&path, '/');
	expect(&grove, "", buf_string(&path), RESOLVE_ABSENT, NULL);
	/* links that make it longer and longer: each is put in front of what is left */
	grove_deinit(&grove);
	grove_init(&grove);
	while (name.len < 3000)
		buf_add_string(&name, "./");
	buf_add_string(&name, "long");
	grove_link(&grove, "long", buf_string(&name));
	grove_finish(&grove);
	buf_clear(&path);
	while (path.len < 4000)
		buf_add_string(&path, "long/");
	assert_int_equal(
		resolve_path(&grove.resolve, &grove.root, "", buf_slice(&path), &found),
		RESOLVE_ABSENT);
}

static void test_resolve_dir_gives_directories(void **state)
{
	_cleanup_grove_ struct grove grove;
	struct tree_dir *dir;

	(void)state;
	grow(&grove);
	assert_int_equal(resolve_dir(&grove.resolve, &grove.root, "a/b", &dir),
			 RESOLVE_FOUND);
	assert_int_equal(dir->n_nodes, 1);
	tree_dir_unref(dir);
	assert_int_equal(resolve_dir(&grove.resolve, &grove.root, "top", &dir),
			 RESOLVE_ABSENT);
	assert_null(dir);
	grove_show_dir(&grove, "a/b", false);
	assert_int_equal(resolve_dir(&grove.resolve, &grove.root, "a/b", &dir),
			 RESOLVE_UNKNOWN);
	assert_null(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resolve_follows_links),
		cmocka_unit_test(test_resolve_says_what_it_found),
		cmocka_unit_test(test_resolve_never_leaves_the_root),
		cmocka_unit_test(test_resolve_ends_where_links_go_round),
		cmocka_unit_test(test_resolve_follows_forty_links),
		cmocka_unit_test(test_resolve_finds_no_file_as_a_directory),
		cmocka_unit_test(test_resolve_waits_for_directories),
		cmocka_unit_test(test_resolve_is_bounded_in_depth),
		cmocka_unit_test(test_resolve_is_bounded_in_length),
		cmocka_unit_test(test_resolve_dir_gives_directories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
