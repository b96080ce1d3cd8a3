/* The walk that adds up disk space: complete in small steps, and out of its tree never.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "worker/sandbox/disk_walk.h"

struct fixture {
	char path[64];
	int fd;
};

static int setup(void **state)
{
	struct fixture *fixture = alloc_new(struct fixture);

	(void)snprintf(fixture->path, sizeof(fixture->path),
		       "/var/tmp/lazyroot-walk-XXXXXX");
	if (!mkdtemp(fixture->path))
		return -1;
	fixture->fd = open(fixture->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = fixture;
	return fixture->fd < 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	struct error *err;

	(void)close(fixture->fd);
	err = file_remove_tree(AT_FDCWD, fixture->path);
	error_free(err);
	free(fixture);
	return err != NULL;
}

static int64_t make_file(const struct fixture *fixture, const char *name, size_t len)
{
	static const char block[4096];
	_cleanup_fd_ int fd = openat(fixture->fd, name, O_WRONLY | O_CREAT, 0644);
	struct stat st;

	assert_true(fd >= 0);
	for (; len >= sizeof(block); len -= sizeof(block))
		assert_true(write(fd, block, sizeof(block)) == (ssize_t)sizeof(block));
	assert_true(write(fd, block, len) == (ssize_t)len);
	assert_int_equal(fsync(fd), 0); /* blocks are given late, else */
	assert_int_equal(fstat(fd, &st), 0);
	return st.st_blocks * 512;
}

static void make_dir(const struct fixture *fixture, const char *name)
{
	assert_int_equal(mkdirat(fixture->fd, name, 0755), 0);
}

static int64_t space_of(const struct fixture *fixture, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(fixture->fd, name, &st, 0), 0);
	return st.st_blocks * 512;
}

static void test_disk_walk_adds_up_all_below(void **state)
{
	struct fixture *fixture = *state;
	struct disk_walk walk;
	int64_t bytes = 0;
	int steps = 0;

	make_dir(fixture, "d");
	make_dir(fixture, "d/deep");
	bytes += make_file(fixture, "d/deep/f", 100000);
	for (int i = 0; i < 500; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "d/%d", i);
		bytes += make_file(fixture, name, 1);
	}
	/* directories grow with what is in them */
	bytes += space_of(fixture, "d") + space_of(fixture, "d/deep");
	disk_walk_init(&walk, fixture->fd);
	while (!disk_walk_step(&walk, 0))
		steps++;
	assert_true(steps > 3); /* no step did it all */
	assert_true(walk.bytes == bytes);
	assert_true(walk.largest == 100000);
	disk_walk_deinit(&walk);
}

static void test_disk_walk_counts_space_not_length(void **state)
{
	struct fixture *fixture = *state;
	struct disk_walk walk;
	_cleanup_fd_ int fd = openat(fixture->fd, "sparse", O_WRONLY | O_CREAT, 0644);

	assert_int_equal(ftruncate(fd, (off_t)1 << 33), 0);
	disk_walk_init(&walk, fixture->fd);
	assert_true(disk_walk_step(&walk, INT32_MAX));
	assert_true(walk.bytes < 1 << 20);
	assert_true(walk.largest == (int64_t)1 << 33);
	disk_walk_deinit(&walk);
}

static void test_disk_walk_counts_hard_links_once(void **state)
{
	struct fixture *fixture = *state;
	struct disk_walk walk;
	int64_t bytes = make_file(fixture, "a", 64 << 10);

	assert_int_equal(linkat(fixture->fd, "a", fixture->fd, "b", 0), 0);
	disk_walk_init(&walk, fixture->fd);
	assert_true(disk_walk_step(&walk, INT32_MAX));
	assert_true(walk.bytes == bytes);
	disk_walk_deinit(&walk);
}

static void test_disk_walk_follows_no_link(void **state)
{
	struct fixture *fixture = *state;
	struct disk_walk walk;

	assert_int_equal(symlinkat("/usr", fixture->fd, "out"), 0);
	assert_int_equal(symlinkat(".", fixture->fd, "round"), 0);
	disk_walk_init(&walk, fixture->fd);
	assert_true(disk_walk_step(&walk, INT32_MAX));
	assert_true(walk.bytes < 1 << 16);
	disk_walk_deinit(&walk);
}

static void test_disk_walk_bears_what_vanishes(void **state)
{
	struct fixture *fixture = *state;
	struct disk_walk walk;
	struct error *err;

	for (int i = 0; i < 300; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "d%d", i);
		make_dir(fixture, name);
	}
	disk_walk_init(&walk, fixture->fd);
	assert_false(disk_walk_step(&walk, 0));
	err = file_remove_tree(AT_FDCWD, fixture->path);
	assert_null(err);
	while (!disk_walk_step(&walk, 0))
		;
	disk_walk_deinit(&walk);
}

static int n_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Below the fixture: each level has the next one and another, whose names are in no
 * order. */
static void make_deep(const struct fixture *fixture, int levels)
{
	_cleanup_fd_ int at = dup(fixture->fd);

	for (int i = 0; i < levels; i++) {
		char name[32];
		int next;

		(void)snprintf(name, sizeof(name), "side%d", i * 7919 % levels);
		assert_int_equal(mkdirat(at, name, 0755), 0);
		next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_int_equal(mkdirat(next, "in", 0755), 0);
		(void)close(next);
		(void)snprintf(name, sizeof(name), "c%d", i * 104729 % levels);
		assert_int_equal(mkdirat(at, name, 0755), 0);
		next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		(void)close(at);
		at = next;
	}
}

/* Directories wait at most levels, of which few are open: none is missed. */
static void test_disk_walk_comes_back_from_the_deep(void **state)
{
	struct fixture *fixture = *state;
	struct disk_walk walk;
	int before;
	int most = 0;

	make_deep(fixture, 1000);
	before = n_open();
	disk_walk_init(&walk, fixture->fd);
	while (!disk_walk_step(&walk, 0))
		if (n_open() > most)
			most = n_open();
	assert_int_equal(walk.n_inodes, 3000);
	assert_false(walk.is_cut);
	assert_true(most - before < 40);
	disk_walk_deinit(&walk);
	assert_int_equal(n_open(), before);
}

static void test_disk_walk_says_what_is_too_deep(void **state)
{
	struct fixture *fixture = *state;
	struct disk_walk walk;

	make_deep(fixture, 1030);
	disk_walk_init(&walk, fixture->fd);
	assert_true(disk_walk_step(&walk, INT64_MAX / 2));
	assert_true(walk.is_cut);
	disk_walk_deinit(&walk);
}

/* What takes the place of a directory that was seen is no way out. */
static void test_disk_walk_follows_no_link_put_there_meanwhile(void **state)
{
	struct fixture *fixture = *state;
	struct disk_walk walk;

	for (int i = 0; i < 300; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "d%d", i);
		make_dir(fixture, name);
	}
	disk_walk_init(&walk, fixture->fd);
	while (walk.n_todo < 100)
		assert_false(disk_walk_step(&walk, 0));
	for (size_t i = 0; i < walk.n_todo; i++) {
		const char *name = walk.todo[i]->name;

		assert_int_equal(unlinkat(fixture->fd, name, AT_REMOVEDIR), 0);
		assert_int_equal(symlinkat("/usr", fixture->fd, name), 0);
	}
	while (!disk_walk_step(&walk, 0))
		;
	assert_true(walk.n_inodes <= 600);
	disk_walk_deinit(&walk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_disk_walk_adds_up_all_below, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_disk_walk_counts_space_not_length,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_walk_counts_hard_links_once,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_walk_follows_no_link, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_disk_walk_bears_what_vanishes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_disk_walk_says_what_is_too_deep,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_walk_comes_back_from_the_deep,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_disk_walk_follows_no_link_put_there_meanwhile, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
