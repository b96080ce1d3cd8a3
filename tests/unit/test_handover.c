/* Outputs that others name, on their way into a directory: what they ask for, and no
 * more. */
#include "tests/unit/shop_fixture.h"

#include <errno.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static struct digest one_file(struct shop *shop, const char *name, const char *text)
{
	_cleanup_(treebuild_freep) struct treebuild *build = treebuild_new(NULL, NULL);

	put(shop, build, name, text);
	return finish(shop, build);
}

static struct digest one_link(struct shop *shop, const char *name, const char *target)
{
	_cleanup_(treebuild_freep) struct treebuild *build = treebuild_new(NULL, NULL);

	expect_ok(treebuild_put_symlink(build, name, target, NULL));
	return finish(shop, build);
}

/* The destination is scratch/dest; scratch/elsewhere must never change. */
static struct handover *begin(struct shop *shop, int *fd_out)
{
	expect_ok(file_mkdirs(shop->scratch->fd, "dest", 0755));
	scratch_write(shop->scratch, "elsewhere/kept", "kept", 0644);
	expect_ok(file_open_dir(shop->scratch->fd, "dest", fd_out));
	return handover_new(&shop->config, *fd_out);
}

static void expect_nothing_elsewhere(struct shop *shop)
{
	_cleanup_free_ char *command = alloc_printf(
		"test \"$(ls -A %s/elsewhere)\" = kept", shop->scratch->path);

	assert_int_equal(system(command), 0);
	scratch_expect(shop->scratch, "elsewhere/kept", "kept");
	assert_true(is_tidy(shop));
}

static bool is_there(struct shop *shop, const char *path)
{
	struct stat st;

	return fstatat(shop->scratch->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_handover_puts_everything_in_its_place(void **state)
{
	struct shop *shop = *state;
	_cleanup_fd_ int fd = -1;
	struct handover *handover = begin(shop, &fd);
	struct digest file = keep(shop, "file");
	struct digest tree = one_file(shop, "in", "inside");
	char target[8] = "";
	struct stat st;

	expect_ok(handover_add_file(handover, "./a//b/f", &file, true, NULL));
	expect_ok(handover_add_link(handover, "l", "nowhere"));
	expect_ok(handover_add_tree(handover, "t/", &tree));
	expect_ok(handover_run(handover));
	handover_free(handover);
	scratch_expect(shop->scratch, "dest/a/b/f", "file");
	scratch_expect(shop->scratch, "dest/t/in", "inside");
	assert_int_equal(fstatat(fd, "a/b/f", &st, 0), 0);
	assert_true(st.st_mode & S_IXUSR);
	assert_int_equal(readlinkat(fd, "l", target, sizeof(target)), 7);
	expect_nothing_elsewhere(shop);
}

/* The attack that this module is for: d/x is a link in one output and a directory in
 * another. */
static void test_handover_goes_through_no_link_of_its_own(void **state)
{
	struct shop *shop = *state;
	_cleanup_fd_ int fd = -1;
	struct handover *handover = begin(shop, &fd);
	struct digest link = one_link(shop, "x", "../../elsewhere");
	struct digest tree = one_file(shop, "evil", "evil");

	expect_ok(handover_add_tree(handover, "d", &link));
	expect_ok(handover_add_tree(handover, "d/x", &tree));
	expect_error(handover_run(handover), ERROR_INVALID_ARGUMENT, "d/x");
	handover_free(handover);
	assert_false(is_there(shop, "dest/d"));
	expect_nothing_elsewhere(shop);
}

static void test_handover_refuses_what_contradicts_itself(void **state)
{
	struct shop *shop = *state;
	struct digest file = keep(shop, "file");
	struct digest other = keep(shop, "other");
	struct digest tree = one_file(shop, "f", "file");
	struct {
		const char *first, *second;
		enum tree_kind first_kind;
		struct digest digest;
	} cases[] = {
		{"l", "l/f", TREE_SYMLINK, file}, {"f", "f/x", TREE_FILE, file},
		{"f", "f", TREE_FILE, other},     {"d", "d/f", TREE_DIR, other},
		{"d", "d/g", TREE_DIR, file},     {"d", "d/f/x", TREE_DIR, file},
		{"", "f", TREE_DIR, other},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_fd_ int fd = -1;
		struct handover *handover = begin(shop, &fd);

		if (cases[i].first_kind == TREE_SYMLINK)
			expect_ok(handover_add_link(handover, cases[i].first,
						    "../elsewhere"));
		else if (cases[i].first_kind == TREE_FILE)
			expect_ok(handover_add_file(handover, cases[i].first, &file,
						    false, NULL));
		else
			expect_ok(handover_add_tree(handover, cases[i].first, &tree));
		expect_ok(handover_add_file(handover, cases[i].second, &cases[i].digest,
					    false, NULL));
		expect_error(handover_run(handover), ERROR_INVALID_ARGUMENT,
			     cases[i].second);
		handover_free(handover);
		assert_false(is_there(shop, "dest/f"));
		assert_false(is_there(shop, "dest/l"));
		assert_false(is_there(shop, "dest/d"));
	}
	expect_nothing_elsewhere(shop);
}

static void test_handover_takes_an_output_within_another_once(void **state)
{
	struct shop *shop = *state;
	_cleanup_fd_ int fd = -1;
	struct handover *handover = begin(shop, &fd);
	_cleanup_(treebuild_freep) struct treebuild *build = treebuild_new(NULL, NULL);
	struct digest file = keep(shop, "file");
	struct digest below = one_file(shop, "f", "file");
	struct digest tree;

	put(shop, build, "s/f", "file");
	put(shop, build, "g", "other");
	tree = finish(shop, build);
	expect_ok(handover_add_file(handover, "d/s/f", &file, false, NULL));
	expect_ok(handover_add_tree(handover, "d/s", &below));
	expect_ok(handover_add_tree(handover, "d", &tree));
	expect_ok(handover_add_tree(handover, "d", &tree));
	expect_ok(handover_run(handover));
	handover_free(handover);
	scratch_expect(shop->scratch, "dest/d/s/f", "file");
	scratch_expect(shop->scratch, "dest/d/g", "other");
	assert_true(is_tidy(shop));
}

static void test_handover_refuses_paths_that_leave(void **state)
{
	static const char *const paths[] = {"/etc/x",    "..",   "../x",
					    "a/../../x", "a/..", ""};
	struct shop *shop = *state;
	struct digest file = keep(shop, "file");
	_cleanup_fd_ int fd = -1;
	struct handover *handover = begin(shop, &fd);

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		expect_error(handover_add_file(handover, paths[i], &file, false, NULL),
			     ERROR_INVALID_ARGUMENT, paths[i]);
	expect_ok(handover_run(handover));
	handover_free(handover);
	expect_nothing_elsewhere(shop);
}

/* What stands in the way gives way, whatever it is; links are replaced, not followed. */
static void test_handover_replaces_what_stands_there(void **state)
{
	static const char *const ways[] = {
		"mkdir -p o/stale && echo x > o/stale/x",
		"echo x > o",
		"mkdir o",
		"ln -s ../elsewhere o",
		"ln -s nowhere o",
		"true",
	};
	struct shop *shop = *state;
	struct digest file = keep(shop, "file");
	struct digest tree = one_file(shop, "f", "file");

	for (size_t i = 0; i < ARRAY_SIZE(ways) * 3; i++) {
		_cleanup_fd_ int fd = -1;
		struct handover *handover = begin(shop, &fd);
		_cleanup_free_ char *command = alloc_printf(
			"cd %s/dest && rm -rf o && %s", shop->scratch->path, ways[i / 3]);

		assert_int_equal(system(command), 0);
		if (i % 3 == 0) /* the output itself, its parent, or as a tree */
			expect_ok(handover_add_file(handover, "o", &file, false, NULL));
		else if (i % 3 == 1)
			expect_ok(handover_add_file(handover, "o/f", &file, false, NULL));
		else
			expect_ok(handover_add_tree(handover, "o", &tree));
		expect_ok(handover_run(handover));
		handover_free(handover);
		scratch_expect(shop->scratch, i % 3 ? "dest/o/f" : "dest/o", "file");
		if (i % 3 == 2)
			assert_false(is_there(shop, "dest/o/stale"));
		expect_nothing_elsewhere(shop);
	}
}

static void test_handover_changes_nothing_where_something_is_lost(void **state)
{
	struct shop *shop = *state;
	_cleanup_fd_ int fd = -1;
	struct handover *handover = begin(shop, &fd);
	struct digest file = keep(shop, "file");
	struct digest lost = digest_of("nobody has this");

	scratch_write(shop->scratch, "dest/a", "before", 0644);
	expect_ok(handover_add_file(handover, "a", &file, false, NULL));
	expect_ok(handover_add_file(handover, "new/b", &file, false, NULL));
	expect_ok(handover_add_file(handover, "z", &lost, false, NULL));
	expect_error(handover_run(handover), ERROR_NOT_FOUND, "z");
	handover_free(handover);
	scratch_expect(shop->scratch, "dest/a", "before");
	assert_false(is_there(shop, "dest/new"));
	expect_nothing_elsewhere(shop);
}

static void test_handover_removes_what_a_killed_one_left(void **state)
{
	struct shop *shop = *state;
	_cleanup_fd_ int fd = -1;
	struct handover *handover = begin(shop, &fd);
	struct digest file = keep(shop, "file");

	scratch_write(shop->scratch, "dest/.lazyroot-1.0~/0/x", "left", 0644);
	expect_ok(handover_add_file(handover, "a", &file, false, NULL));
	expect_ok(handover_run(handover));
	handover_free(handover);
	expect_nothing_elsewhere(shop);
}

/* Only root can mount; without, the test is of another machine. */
static void test_handover_works_below_what_cannot_be_written(void **state)
{
	struct shop *shop = *state;
	_cleanup_free_ char *mount =
		alloc_printf("cd %s && mkdir -p dest && mount -t tmpfs none dest && "
			     "mkdir dest/open && "
			     "mount -t tmpfs none dest/open && echo old > dest/open/f && "
			     "mount -o remount,ro dest",
			     shop->scratch->path);
	_cleanup_free_ char *umount = alloc_printf(
		"cd %s && umount dest/open && umount dest", shop->scratch->path);
	struct digest file = keep(shop, "file");
	struct digest tree = one_file(shop, "in", "inside");
	struct handover *handover;
	int fd = -1;

	if (geteuid() != 0)
		skip();
	assert_int_equal(system(mount), 0);
	expect_ok(file_open_dir(shop->scratch->fd, "dest", &fd));
	handover = handover_new(&shop->config, fd);
	expect_ok(handover_add_file(handover, "open/f", &file, false, NULL));
	expect_ok(handover_add_tree(handover, "open/d", &tree));
	expect_ok(handover_run(handover));
	handover_free(handover);
	(void)close(fd);
	scratch_expect(shop->scratch, "dest/open/f", "file");
	scratch_expect(shop->scratch, "dest/open/d/in", "inside");
	assert_true(is_tidy(shop));
	assert_int_equal(system(umount), 0);
}

static void test_handover_counts_entries(void **state)
{
	struct shop *shop = *state;
	_cleanup_(treebuild_freep) struct treebuild *build = treebuild_new(NULL, NULL);
	_cleanup_fd_ int fd = -1;
	struct handover *handover;
	struct digest tree;

	put(shop, build, "a", "1");
	put(shop, build, "b", "2");
	put(shop, build, "c", "3");
	tree = finish(shop, build);
	shop->config.entries_max = 2;
	handover = begin(shop, &fd);
	expect_ok(handover_add_tree(handover, "d", &tree));
	expect_error(handover_run(handover), ERROR_RESOURCE_EXHAUSTED, "--entries-max");
	handover_free(handover);
	assert_false(is_there(shop, "dest/d"));
	expect_nothing_elsewhere(shop);
}

/* The way for kernels without openat2 refuses what openat2 refuses. */
static void test_open_by_hand_is_as_strict(void **state)
{
	static const struct {
		const char *path;
		bool is_fine;
	} cases[] = {
		{"d/f", true},  {"d", true},     {".", true},      {"link/f", false},
		{"d/l", false}, {"../x", false}, {"/etc", false},  {"d/../d", false},
		{"", false},    {"none", false}, {"d/f/x", false},
	};
	struct shop *shop = *state;
	_cleanup_free_ char *command = alloc_printf(
		"cd %s && mkdir d && echo x > d/f && ln -s d link && ln -s f d/l",
		shop->scratch->path);

	assert_int_equal(system(command), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (int by_hand = 0; by_hand < 2; by_hand++) {
			_cleanup_error_ struct error *err = NULL;
			_cleanup_fd_ int fd = -1;

			err = by_hand ? file_open_beneath_by_hand(shop->scratch->fd,
								  cases[i].path, O_RDONLY,
								  0, &fd)
				      : file_open_beneath(shop->scratch->fd,
							  cases[i].path, O_RDONLY, 0,
							  &fd);
			/* openat2 lets ".." pass that stays below: by hand it does not */
			if (!by_hand && strcmp(cases[i].path, "d/../d") == 0)
				continue;
			if (!err != cases[i].is_fine)
				fail_msg("%s (%d): %s", cases[i].path, by_hand,
					 error_text(err));
		}
	}
}

static atomic_bool is_renaming;
static atomic_int n_renamed;

static void *rename_on(void *ctx)
{
	const struct shop *shop = ctx;

	while (is_renaming) {
		(void)renameat(shop->scratch->fd, "moving", shop->scratch->fd, "moved");
		(void)renameat(shop->scratch->fd, "moved", shop->scratch->fd, "moving");
		n_renamed++;
	}
	return NULL;
}

/* Whatever is renamed anywhere, the kernel's "try again" is nobody's answer. */
static void test_open_resolved_while_others_rename(void **state)
{
	struct shop *shop = *state;
	pthread_t thread;

	scratch_write(shop->scratch, "moving", "x", 0644);
	scratch_write(shop->scratch, "d/f", "x", 0644);
	is_renaming = true;
	assert_int_equal(pthread_create(&thread, NULL, rename_on, shop), 0);
	for (int i = 0; i < 20000 || n_renamed < 20000; i++) {
		_cleanup_fd_ int fd = file_open_resolved(
			shop->scratch->fd, "d/../d/../d/f", O_PATH, 0, RESOLVE_IN_ROOT);

		if (fd < 0)
			fail_msg("open %d: %s", i, strerror(errno));
	}
	is_renaming = false;
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_paths_have_one_form(void **state)
{
	static const char *const cases[][2] = {
		{"out", "out"},       {"out/", "out"},
		{"./out", "out"},     {"a//b", "a/b"},
		{"./a/./b/.", "a/b"}, {".", ""},
		{"./", ""},           {"", ""},
		{"...", "..."},       {".a/..b", ".a/..b"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *clean = NULL;

		expect_ok(file_path_clean(cases[i][0], &clean));
		assert_string_equal(clean, cases[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define WITH_SHOP(test) cmocka_unit_test_setup_teardown(test, shop_make, shop_drop)
		WITH_SHOP(test_handover_puts_everything_in_its_place),
		WITH_SHOP(test_handover_goes_through_no_link_of_its_own),
		WITH_SHOP(test_handover_refuses_what_contradicts_itself),
		WITH_SHOP(test_handover_takes_an_output_within_another_once),
		WITH_SHOP(test_handover_refuses_paths_that_leave),
		WITH_SHOP(test_handover_replaces_what_stands_there),
		WITH_SHOP(test_handover_changes_nothing_where_something_is_lost),
		WITH_SHOP(test_handover_removes_what_a_killed_one_left),
		WITH_SHOP(test_handover_works_below_what_cannot_be_written),
		WITH_SHOP(test_handover_counts_entries),
		WITH_SHOP(test_open_by_hand_is_as_strict),
		WITH_SHOP(test_open_resolved_while_others_rename),
		cmocka_unit_test(test_paths_have_one_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
