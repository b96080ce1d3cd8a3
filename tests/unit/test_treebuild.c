/* Building trees from paths, files and known trees. */
#include "tests/unit/cas_fixture.h"

#include "lib/tree/treebuild.h"

#define SHELF_MAX 64

/* Directories by digest: what load() finds, and what emit() brings. */
struct shelf {
	struct {
		struct digest digest;
		struct buf bytes;
	} items[SHELF_MAX];
	size_t n;
	size_t n_loads;
};

static void shelf_deinit(struct shelf *shelf)
{
	for (size_t i = 0; i < shelf->n; i++)
		buf_deinit(&shelf->items[i].bytes);
}

static const struct buf *shelf_find(const struct shelf *shelf,
				    const struct digest *digest)
{
	for (size_t i = 0; i < shelf->n; i++)
		if (digest_equal(&shelf->items[i].digest, digest))
			return &shelf->items[i].bytes;
	return NULL;
}

static struct error *shelf_load(void *ctx, const struct digest *digest,
				struct tree_dir **dir_out)
{
	struct shelf *shelf = ctx;
	const struct buf *bytes = shelf_find(shelf, digest);
	struct buf copy = BUF_INIT;

	shelf->n_loads++;
	if (!bytes)
		return error_new(ERROR_NOT_FOUND, "no such Directory");
	buf_add(&copy, bytes->data, bytes->len);
	return tree_dir_decode(&copy, dir_out);
}

static struct error *shelf_emit(void *ctx, const struct digest *digest,
				struct slice bytes)
{
	struct shelf *shelf = ctx;

	assert_true(shelf->n < SHELF_MAX);
	assert_null(shelf_find(shelf, digest));
	shelf->items[shelf->n].digest = *digest;
	buf_add(&shelf->items[shelf->n++].bytes, bytes.data, bytes.len);
	return NULL;
}

#define _cleanup_shelf_ _cleanup_(shelf_deinit)
#define _cleanup_build_ _cleanup_(treebuild_freep)

static void put(struct treebuild *build, const char *path, const char *text)
{
	struct digest digest = digest_of(text);

	expect_ok(treebuild_put_file(build, path, &digest, false, NULL));
}

static struct digest finish(struct treebuild *build, struct shelf *shelf)
{
	struct digest root = {0};

	expect_ok(treebuild_finish(build, shelf_emit, shelf, &root));
	return root;
}

static struct digest make_tree(struct shelf *shelf, const char *const *paths, size_t n)
{
	_cleanup_build_ struct treebuild *build = treebuild_new(NULL, NULL);

	for (size_t i = 0; i < n; i++)
		put(build, paths[i], paths[i]);
	return finish(build, shelf);
}

static void test_treebuild_of_nothing_is_the_empty_directory(void **state)
{
	_cleanup_shelf_ struct shelf shelf = {0};
	_cleanup_build_ struct treebuild *build = treebuild_new(NULL, NULL);
	struct digest root = finish(build, &shelf);

	(void)state;
	assert_true(digest_equal(&root, &digest_of_empty));
	assert_int_equal(shelf.n, 1);
}

static void test_treebuild_does_not_depend_on_the_order(void **state)
{
	_cleanup_shelf_ struct shelf one = {0};
	_cleanup_shelf_ struct shelf two = {0};
	struct digest a = make_tree(&one, (const char *[]){"a/b/c", "a/d", "e"}, 3);
	struct digest b = make_tree(&two, (const char *[]){"e", "a/d", "a/b/c"}, 3);

	(void)state;
	assert_true(digest_equal(&a, &b));
	assert_int_equal(one.n, 3);
	/* children come before their parents */
	assert_true(digest_equal(&one.items[2].digest, &a));
}

static void test_treebuild_emits_equal_directories_once(void **state)
{
	_cleanup_shelf_ struct shelf shelf = {0};
	_cleanup_build_ struct treebuild *build = treebuild_new(NULL, NULL);

	(void)state;
	put(build, "x/same", "1");
	put(build, "y/same", "1");
	put(build, "z/same", "2");
	finish(build, &shelf);
	assert_int_equal(shelf.n, 3);
}

static void test_treebuild_leaves_a_known_tree_alone(void **state)
{
	_cleanup_shelf_ struct shelf shelf = {0};
	_cleanup_build_ struct treebuild *build = treebuild_new(shelf_load, &shelf);
	struct digest known = digest_of("nobody has this Directory");
	struct digest root;

	(void)state;
	expect_ok(treebuild_put_tree(build, "", &known));
	expect_ok(treebuild_put_tree(build, "", &known));
	expect_ok(treebuild_put_dir(build, "", NULL));
	root = finish(build, &shelf);
	assert_true(digest_equal(&root, &known));
	assert_int_equal(shelf.n, 0);
	assert_int_equal(shelf.n_loads, 0);
	/* only now must it be looked into */
	expect_error(treebuild_put_tree(build, "in/side", &known), ERROR_NOT_FOUND,
		     "in/side");
}

static void test_treebuild_opens_only_what_is_entered(void **state)
{
	_cleanup_shelf_ struct shelf shelf = {0};
	_cleanup_shelf_ struct shelf expected = {0};
	_cleanup_build_ struct treebuild *build = treebuild_new(shelf_load, &shelf);
	_cleanup_build_ struct treebuild *by_hand = treebuild_new(NULL, NULL);
	struct digest base =
		make_tree(&shelf, (const char *[]){"lib/a", "bin/b", "c"}, 3);
	size_t n_before = shelf.n;
	struct digest want;
	struct digest root;

	(void)state;
	put(by_hand, "t/lib/a", "lib/a");
	put(by_hand, "t/bin/b", "bin/b");
	put(by_hand, "t/c", "c");
	put(by_hand, "t/lib/new", "new");
	want = finish(by_hand, &expected);
	expect_ok(treebuild_put_tree(build, "t", &base));
	put(build, "t/lib/new", "new");
	root = finish(build, &shelf);
	assert_true(digest_equal(&root, &want));
	assert_int_equal(shelf.n_loads, 2); /* t and t/lib, not t/bin */
	assert_int_equal(shelf.n - n_before, 3);
}

static void test_treebuild_merges_trees(void **state)
{
	_cleanup_shelf_ struct shelf shelf = {0};
	_cleanup_build_ struct treebuild *build = treebuild_new(shelf_load, &shelf);
	struct digest one =
		make_tree(&shelf, (const char *[]){"d/a", "d/same", "only1"}, 3);
	_cleanup_shelf_ struct shelf shelf2 = {0};
	struct digest two =
		make_tree(&shelf2, (const char *[]){"d/b", "d/same", "only2"}, 3);
	_cleanup_shelf_ struct shelf all = {0};
	struct digest want = make_tree(
		&all, (const char *[]){"d/a", "d/b", "d/same", "only1", "only2"}, 5);
	struct digest root;

	(void)state;
	for (size_t i = 0; i < shelf2.n; i++)
		expect_ok(shelf_emit(&shelf, &shelf2.items[i].digest,
				     buf_slice(&shelf2.items[i].bytes)));
	expect_ok(treebuild_put_tree(build, "", &one));
	expect_ok(treebuild_put_tree(build, "", &two));
	root = finish(build, &shelf);
	assert_true(digest_equal(&root, &want));
}

static void test_treebuild_clash_names_the_path(void **state)
{
	_cleanup_shelf_ struct shelf shelf = {0};
	_cleanup_build_ struct treebuild *build = treebuild_new(shelf_load, &shelf);
	struct digest tree = make_tree(&shelf, (const char *[]){"in/file"}, 1);
	struct digest digest = digest_of("1");
	struct tree_props props = {.has_unix_mode = true, .unix_mode = 0700};

	(void)state;
	put(build, "d/f", "1");
	put(build, "d/f", "1");
	expect_error(treebuild_put_file(build, "d/f", &digest, true, NULL),
		     ERROR_ALREADY_EXISTS, "d/f");
	expect_error(treebuild_put_file(build, "d/f", &digest, false, &props),
		     ERROR_ALREADY_EXISTS, "d/f");
	expect_error(treebuild_put_symlink(build, "d/f", "t", NULL), ERROR_ALREADY_EXISTS,
		     "d/f");
	expect_error(treebuild_put_file(build, "d", &digest, false, NULL),
		     ERROR_ALREADY_EXISTS, "\"d\"");
	expect_error(treebuild_put_file(build, "d/f/g", &digest, false, NULL),
		     ERROR_ALREADY_EXISTS, "d/f");
	expect_error(treebuild_put_dir(build, "d/f", NULL), ERROR_ALREADY_EXISTS, "d/f");
	expect_ok(treebuild_put_symlink(build, "l", "d", NULL));
	expect_ok(treebuild_put_symlink(build, "l", "d", NULL));
	expect_error(treebuild_put_file(build, "l/x", &digest, false, NULL),
		     ERROR_ALREADY_EXISTS, "\"l\"");
	put(build, "in/file", "another text");
	expect_error(treebuild_put_tree(build, "", &tree), ERROR_ALREADY_EXISTS,
		     "in/file");
}

static void test_treebuild_rejects_paths_that_escape(void **state)
{
	static const char *const bad[] = {"/a",  "a//b", "../a", "a/../b",
					  "./a", "a/.",  "a/",   ""};
	_cleanup_build_ struct treebuild *build = treebuild_new(NULL, NULL);
	struct digest digest = digest_of("1");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		expect_error(treebuild_put_file(build, bad[i], &digest, false, NULL),
			     ERROR_INVALID_ARGUMENT, bad[i]);
}

static void test_treebuild_clears_what_is_replaced(void **state)
{
	static const char *const paths[] = {"a/b/c", "a/d", "e"};
	_cleanup_shelf_ struct shelf shelf = {0};
	_cleanup_shelf_ struct shelf other = {0};
	_cleanup_shelf_ struct shelf made = {0};
	struct digest known = make_tree(&shelf, paths, 3);
	_cleanup_build_ struct treebuild *build = treebuild_new(shelf_load, &shelf);
	struct digest want = make_tree(&other, (const char *[]){"a/d", "e/below"}, 2);
	struct digest root;

	(void)state;
	expect_ok(treebuild_put_tree(build, "", &known));
	expect_ok(treebuild_clear(build, "none/at/all"));
	expect_ok(treebuild_clear(build, "e/below")); /* a file stands in the way */
	put(build, "e/below", "e/below");
	expect_ok(treebuild_clear(build, "a/b"));
	root = finish(build, &made);
	assert_true(digest_equal(&root, &want));
	expect_ok(treebuild_clear(build, ""));
	root = finish(build, &made);
	assert_true(digest_equal(&root, &digest_of_empty));
}

static void test_treebuild_keeps_properties(void **state)
{
	_cleanup_shelf_ struct shelf shelf = {0};
	_cleanup_build_ struct treebuild *build = treebuild_new(NULL, NULL);
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	struct tree_props props = {.has_unix_mode = true, .unix_mode = 0700};
	struct tree_props others = {.has_unix_mode = true, .unix_mode = 0755};
	struct digest digest = digest_of("1");
	struct digest root;

	(void)state;
	expect_ok(treebuild_put_dir(build, "", &props));
	expect_ok(treebuild_put_dir(build, "", NULL));
	expect_ok(treebuild_put_dir(build, "", &props));
	expect_error(treebuild_put_dir(build, "", &others), ERROR_ALREADY_EXISTS, NULL);
	expect_ok(treebuild_put_file(build, "f", &digest, true, &props));
	root = finish(build, &shelf);
	expect_ok(shelf_load(&shelf, &root, &dir));
	assert_int_equal(dir->props->unix_mode, 0700);
	assert_int_equal(dir->nodes[0].props->unix_mode, 0700);
	assert_true(dir->nodes[0].is_executable);
}

static void test_treebuild_refuses_too_deep_trees(void **state)
{
	_cleanup_build_ struct treebuild *build = treebuild_new(NULL, NULL);
	_cleanup_buf_ struct buf path = BUF_INIT;
	struct digest digest = digest_of("1");

	(void)state;
	for (int i = 0; i < TREE_DEPTH_MAX - 1; i++)
		buf_add_string(&path, "d/");
	buf_add_string(&path, "f");
	expect_ok(treebuild_put_file(build, buf_string(&path), &digest, false, NULL));
	path.len--;
	buf_add_string(&path, "d/f");
	expect_error(treebuild_put_file(build, buf_string(&path), &digest, false, NULL),
		     ERROR_INVALID_ARGUMENT, "deep");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_treebuild_of_nothing_is_the_empty_directory),
		cmocka_unit_test(test_treebuild_does_not_depend_on_the_order),
		cmocka_unit_test(test_treebuild_emits_equal_directories_once),
		cmocka_unit_test(test_treebuild_leaves_a_known_tree_alone),
		cmocka_unit_test(test_treebuild_opens_only_what_is_entered),
		cmocka_unit_test(test_treebuild_merges_trees),
		cmocka_unit_test(test_treebuild_clash_names_the_path),
		cmocka_unit_test(test_treebuild_rejects_paths_that_escape),
		cmocka_unit_test(test_treebuild_clears_what_is_replaced),
		cmocka_unit_test(test_treebuild_keeps_properties),
		cmocka_unit_test(test_treebuild_refuses_too_deep_trees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
