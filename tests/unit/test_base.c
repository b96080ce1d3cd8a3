/*
 * lib/base: errors, buffers, tables, arenas, units, files, pool,
 * options. One file, since each is small.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/arena.h"
#include "lib/base/config.h"
#include "lib/base/file.h"
#include "lib/base/htab.h"
#include "lib/base/log.h"
#include "lib/base/nearest.h"
#include "lib/base/option_record.h"
#include "lib/base/pool.h"
#include "lib/base/units.h"

static char *scratch;

static int setup(void **state)
{
	char template[] = "/tmp/lazyroot-base-XXXXXX";

	(void)state;
	scratch = alloc_string(mkdtemp(template));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_null(file_remove_tree(AT_FDCWD, scratch));
	free(take(scratch));
	return 0;
}

static char *scratch_path(const char *name)
{
	return alloc_printf("%s/%s", scratch, name);
}

/* Errors */

static void test_error_wraps_in_front_and_keeps_its_code(void **state)
{
	_cleanup_error_ struct error *err = NULL;

	(void)state;
	err = error_wrap(error_errno(ENOSPC, "write %s", "x"), "fetch %d", 7);
	assert_int_equal(error_code(err), ERROR_RESOURCE_EXHAUSTED);
	assert_int_equal(error_errnum(err), ENOSPC);
	assert_string_equal(error_text(err), "fetch 7: write x: No space left on device");
	assert_non_null(strstr(error_trace(err), " < "));
}

/* What was named may be as long as a request; a status must fit into a message. */
static void test_error_text_is_cut(void **state)
{
	_cleanup_free_ char *name = alloc_zero(1 << 20);
	_cleanup_error_ struct error *err = NULL;

	(void)state;
	for (size_t i = 0; i + 2 < 1 << 20; i += 2)
		memcpy(name + i, "\xc3\xa9", 2);
	err = error_wrap(error_new(ERROR_INTERNAL, "x%s", name), "what");
	assert_in_range(strlen(error_text(err)), ERROR_TEXT_MAX - 4, ERROR_TEXT_MAX);
	assert_memory_equal(error_text(err), "what: x\xc3\xa9", 9);
	/* whole characters, and a mark */
	assert_string_equal(error_text(err) + strlen(error_text(err)) - 5,
			    "\xc3\xa9\xe2\x80\xa6");
	error_free(take(err));
	err = error_new(ERROR_INTERNAL, "%.*s", ERROR_TEXT_MAX, name);
	assert_int_equal(strlen(error_text(err)), ERROR_TEXT_MAX);
}

static void test_error_dup_copies_details(void **state)
{
	_cleanup_error_ struct error *err = error_new(ERROR_FAILED_PRECONDITION, "lost");
	_cleanup_error_ struct error *copy = NULL;

	(void)state;
	error_add_missing(err, "blobs/a/1");
	error_add_missing(err, "blobs/b/2");
	error_set_retry_delay_ms(err, 250);
	copy = error_dup(err);
	assert_int_equal(error_n_missing(copy), 2);
	assert_string_equal(error_missing(copy, 1), "blobs/b/2");
	assert_int_equal(error_retry_delay_ms(copy), 250);
}

static void test_error_null_is_success(void **state)
{
	(void)state;
	assert_null(error_wrap(NULL, "nothing"));
	assert_null(error_dup(NULL));
	assert_int_equal(error_code(NULL), ERROR_OK);
	assert_int_equal(error_n_missing(NULL), 0);
}

static void test_error_missing_is_bounded(void **state)
{
	_cleanup_error_ struct error *err = error_new(ERROR_NOT_FOUND, "many");

	(void)state;
	for (int i = 0; i < ERROR_MISSING_MAX + 10; i++)
		error_add_missing(err, "blobs/a/1");
	assert_int_equal(error_n_missing(err), ERROR_MISSING_MAX);
}

/* Buffers, tables, arenas */

static void test_buf_is_always_a_string(void **state)
{
	_cleanup_buf_ struct buf buf = BUF_INIT;

	(void)state;
	assert_string_equal(buf_string(&buf), "");
	for (int i = 0; i < 1000; i++) {
		buf_printf(&buf, "%d,", i % 10);
		assert_int_equal(strlen(buf_string(&buf)), buf.len);
	}
	buf_clear(&buf);
	assert_string_equal(buf_string(&buf), "");
}

static void test_slices_compare_bytewise(void **state)
{
	(void)state;
	assert_true(slice_compare(slice_of("a"), slice_of("b")) < 0);
	assert_true(slice_compare(slice_of("a"), slice_of("ab")) < 0);
	assert_true(slice_compare(slice_of("\xff"), slice_of("a")) > 0);
	assert_int_equal(slice_compare(slice_of("same"), slice_of("same")), 0);
	assert_true(slice_hash(slice_of("one")) != slice_hash(slice_of("two")));
}

struct item {
	struct hnode node;
	uint64_t value;
};

static void test_htab_finds_what_it_holds_and_nothing_else(void **state)
{
	enum { N = 5000 };
	_cleanup_free_ struct item *items = alloc_array(N, sizeof(*items));
	struct htab tab = {0};

	(void)state;
	for (uint64_t i = 0; i < N; i++) {
		items[i].value = i;
		htab_insert(&tab, &items[i].node, i % 977); /* collisions on purpose */
	}
	for (uint64_t i = 0; i < N; i += 2)
		htab_remove(&tab, &items[i].node);
	assert_int_equal(tab.len, N / 2);
	for (uint64_t i = 0; i < N; i++) {
		bool is_found = false;

		for (struct hnode *n = htab_first(&tab, i % 977); n;
		     n = htab_next(n, i % 977))
			is_found |= container_of(n, struct item, node)->value == i;
		assert_int_equal(is_found, i % 2);
	}
	while (htab_pop(&tab))
		;
	assert_int_equal(tab.len, 0);
	htab_deinit(&tab);
}

static void test_arena_array_that_no_number_counts_is_refused(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(SIZE_MAX);

	(void)state;
	assert_null(arena_array(&arena, SIZE_MAX / 8 + 2, 8)); /* 8 bytes, modulo */
	assert_true(arena.is_full);
}

static void test_arena_says_no_at_its_cap(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(10000);
	size_t total = 0;

	(void)state;
	while (arena_alloc(&arena, 100))
		total += 100;
	assert_in_range(total, 5000, 10000);
	assert_null(arena_alloc(&arena, SIZE_MAX - 5));
	arena_reset(&arena);
	assert_non_null(arena_alloc(&arena, 100));
}

static void test_arena_survives_failed_allocations(void **state)
{
	(void)state;
	for (unsigned int i = 1; i < 6; i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)1 << 20);
		unsigned int n_failed = 0;

		alloc_fail_after(i);
		for (int k = 0; k < 200; k++)
			n_failed += arena_alloc(&arena, 300) == NULL;
		alloc_fail_after(0);
		assert_int_equal(n_failed, 1);
	}
}

/* Wire format */

/* Units */

static void test_units_parse(void **state)
{
	int64_t value;

	(void)state;
	assert_null(units_parse_size("64K", &value));
	assert_int_equal(value, 65536);
	assert_null(units_parse_size("1.5G", &value));
	assert_int_equal(value, 3LL << 29);
	assert_null(units_parse_duration("500ms", &value));
	assert_int_equal(value, 500000000);
	assert_null(units_parse_duration("2m", &value));
	assert_int_equal(value, 120000000000);
	assert_null(units_parse_duration("5", &value)); /* as sleep takes it */
	assert_int_equal(value, 5000000000);
}

static void test_units_refuse(void **state)
{
	static const char *const bad[] = {"",    "K",     "-1",  "1X",
					  "1 K", "1e30T", "nan", "inf"};
	int64_t value = 77;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_error_ struct error *err = units_parse_size(bad[i], &value);

		assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
		assert_int_equal(value, 77);
	}
	error_free(units_parse_int("12x", 0, 100, &value));
	error_free(units_parse_int("101", 0, 100, &value));
	assert_int_equal(value, 77);
}

static void test_units_format(void **state)
{
	char text[UNITS_TEXT_MAX];

	(void)state;
	assert_string_equal(units_format_count(25151, text), "25,151");
	assert_string_equal(units_format_count(7, text), "7");
	assert_string_equal(units_format_count(-1000, text), "-1,000");
	assert_string_equal(units_format_size(14201331, text), "14.2 MB");
	assert_string_equal(units_format_size(999, text), "999 B");
	assert_string_equal(units_format_duration(1420000000, text), "1.42 s");
	assert_string_equal(units_format_duration(400000, text), "0.4 ms");
}

/* Files */

static void test_file_remove_tree_does_not_follow_links(void **state)
{
	_cleanup_free_ char *keep = scratch_path("keep");
	_cleanup_free_ char *kept = scratch_path("keep/file");
	_cleanup_free_ char *doomed = scratch_path("doomed");
	_cleanup_free_ char *deep = scratch_path("doomed/a/b");
	_cleanup_free_ char *link = scratch_path("doomed/a/link");
	struct stat st;

	(void)state;
	assert_null(file_mkdirs(AT_FDCWD, keep, 0755));
	assert_null(file_replace(AT_FDCWD, kept, "x", 1, 0644));
	assert_null(file_mkdirs(AT_FDCWD, deep, 0755));
	assert_int_equal(symlink(keep, link), 0);
	assert_int_equal(chmod(deep, 0), 0);
	assert_null(file_remove_tree(AT_FDCWD, doomed));
	assert_int_equal(lstat(doomed, &st), -1);
	assert_int_equal(stat(kept, &st), 0);
	assert_null(file_remove_tree(AT_FDCWD, doomed)); /* absence is success */
}

static void test_file_remove_tree_of_any_depth(void **state)
{
	enum {
		DEPTH = 3000
	}; /* more levels than descriptors, and than a path has bytes for */
	_cleanup_free_ char *path = scratch_path("deep");
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(mkdir(path, 0755), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < DEPTH; i++) {
		int below;

		assert_int_equal(mkdirat(fd, "directory", 0755), 0);
		below = openat(fd, "directory", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		(void)close(fd);
		fd = below;
	}
	(void)close(fd);
	assert_null(file_remove_tree(AT_FDCWD, path));
	assert_int_equal(lstat(path, &st), -1);
}

static void test_file_open_beneath_stays_beneath(void **state)
{
	_cleanup_free_ char *dir = scratch_path("beneath");
	_cleanup_free_ char *link = scratch_path("beneath/link");
	_cleanup_fd_ int dir_fd = -1;
	int fd = -1;

	(void)state;
	assert_null(file_mkdirs(AT_FDCWD, dir, 0755));
	assert_int_equal(symlink("/etc", link), 0);
	assert_null(file_open_dir(AT_FDCWD, dir, &dir_fd));
	for (int i = 0; i < 3; i++) {
		static const char *const bad[] = {"../keep", "link/passwd",
						  "/etc/passwd"};
		_cleanup_error_ struct error *err =
			file_open_beneath(dir_fd, bad[i], O_RDONLY, 0, &fd);

		assert_non_null(err);
		assert_int_equal(fd, -1);
	}
}

static void test_file_path_escapes(void **state)
{
	static const char *const bad[] = {"",   "/",  "/a",     "a//b",
					  "a/", "..", "a/../b", "./a"};
	static const char *const good[] = {"a", "a/b", "..a", "a..", "..."};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(file_path_escapes(bad[i]));
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_false(file_path_escapes(good[i]));
}

static void test_file_paths_join_and_relate(void **state)
{
	static const char *const cases[][4] = {
		/* base, path, below the root, and the way there again */
		{"", "a/b", "a/b", "a/b"},
		{"w", "../o", "o", "../o"},
		{"w", "./x//", "w/x", "x"},
		{"a/b", "../b/x", "a/b/x", "x"},
		{"a/b", "../../c/d", "c/d", "../../c/d"},
		{"a/b", "..", "a", ".."},
		{"a/b", ".", "a/b", ""},
		{"ab", "../a", "a", "../a"},
		{"a", "../ab/c", "ab/c", "../ab/c"},
	};
	static const char *const bad[][2] = {
		{"", ".."}, {"a", "../.."}, {"a", "/a"}, {"", "a/../../b"}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *joined = NULL;
		_cleanup_free_ char *back = NULL;

		assert_null(file_path_join(cases[i][0], cases[i][1], &joined));
		assert_string_equal(joined, cases[i][2]);
		back = file_path_relative(cases[i][0], joined);
		assert_string_equal(back, cases[i][3]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *joined = NULL;
		_cleanup_error_ struct error *err =
			file_path_join(bad[i][0], bad[i][1], &joined);

		assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
		assert_null(joined);
	}
}

static void test_file_read_all_has_a_limit(void **state)
{
	_cleanup_free_ char *path = scratch_path("limited");
	_cleanup_free_ char *data = alloc_zero(200000);
	_cleanup_buf_ struct buf buf = BUF_INIT;
	_cleanup_error_ struct error *err = NULL;

	(void)state;
	assert_null(file_replace(AT_FDCWD, path, data, 200000, 0644));
	assert_null(file_read_all(AT_FDCWD, path, 200000, &buf));
	assert_int_equal(buf.len, 200000);
	err = file_read_all(AT_FDCWD, path, 1000, &buf);
	assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
}

static void test_file_copy_copies_all(void **state)
{
	_cleanup_free_ char *from = scratch_path("from");
	_cleanup_free_ char *to = scratch_path("to");
	_cleanup_free_ char *data = alloc_zero(3 << 20);
	_cleanup_buf_ struct buf buf = BUF_INIT;
	_cleanup_fd_ int src = -1;
	_cleanup_fd_ int dst = -1;

	(void)state;
	memset(data, 'q', 3 << 20);
	assert_null(file_replace(AT_FDCWD, from, data, 3 << 20, 0644));
	src = open(from, O_RDONLY | O_CLOEXEC);
	dst = open(to, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	assert_null(file_copy(src, dst));
	assert_null(file_read_fd(dst, 4 << 20, &buf));
	assert_int_equal(buf.len, 3 << 20);
	assert_memory_equal(buf.data, data, 3 << 20);
}

/* Threads */

static void count_up(void *ctx, size_t i)
{
	atomic_fetch_add((atomic_size_t *)ctx, i);
}

static void test_pool_for_each_runs_every_index_once(void **state)
{
	_cleanup_(pool_freep) struct pool *pool = NULL;
	atomic_size_t sum = 0;

	(void)state;
	assert_null(pool_new("test", 3, &pool));
	pool_for_each(pool, 1000, count_up, &sum);
	assert_int_equal(atomic_load(&sum), 499500);
	pool_for_each(pool, 0, count_up, &sum);
	assert_int_equal(atomic_load(&sum), 499500);
}

/* Options */

struct options {
	char *name;
	struct option_list list;
	int64_t number;
	int64_t size;
	bool flag;
};

static void options_deinit(struct options *o)
{
	free(o->name);
	option_list_deinit(&o->list);
}

static struct error *parse(struct options *o, int argc, const char *const *argv,
			   int *operands)
{
	const struct option_def defs[] = {
		{"name", 'n', OPTION_STRING, "NAME", "a name", "TEST_NAME", &o->name, 0,
		 0},
		{"list", 0, OPTION_LIST, "X", "repeated", "TEST_LIST", &o->list, 0, 0},
		{"number", 0, OPTION_INT, "N", "a number", NULL, &o->number, 1, 10},
		{"size", 0, OPTION_SIZE, "SIZE", "a size", NULL, &o->size, 1024, 0},
		{"flag", 'f', OPTION_FLAG, NULL, "a flag", NULL, &o->flag, 0, 0},
	};
	const struct option_program program = {.name = "test",
					       .usage = "",
					       .summary = "",
					       .defs = defs,
					       .n_defs = ARRAY_SIZE(defs),
					       .stops_at_operand = true};
	bool is_done;

	return option_parse(&program, argc, (char **)(uintptr_t)argv, operands, &is_done);
}

static void test_option_beats_environment_beats_file(void **state)
{
	_cleanup_(options_deinit) struct options o = {0};
	_cleanup_free_ char *path = scratch_path("config.yaml");
	const char *yaml = "name: file\nlist: [a, b]\nnumber: 3\nflag: true\nsize: 2K\n";
	const char *const argv[] = {"test", "--config", path, "--number",
				    "4",    "rest",     "-f"};
	int operands;

	(void)state;
	assert_null(file_replace(AT_FDCWD, path, yaml, strlen(yaml), 0644));
	assert_int_equal(setenv("TEST_NAME", "environment", 1), 0);
	assert_null(parse(&o, 7, argv, &operands));
	assert_int_equal(unsetenv("TEST_NAME"), 0);
	/* the file was named on the command line, the variable lay around */
	assert_string_equal(o.name, "file");
	assert_int_equal(o.number, 4);
	assert_int_equal(o.size, 2048);
	assert_int_equal(o.list.n, 2);
	assert_true(o.flag);
	assert_int_equal(operands, 5);
}

static void test_environment_beats_the_usual_file(void **state)
{
	_cleanup_(options_deinit) struct options o = {0};
	_cleanup_free_ char *path = scratch_path("usual.yaml");
	const char *yaml = "name: file\nnumber: 3\n";
	const char *const argv[] = {"test"};
	int operands;

	(void)state;
	assert_null(file_replace(AT_FDCWD, path, yaml, strlen(yaml), 0644));
	assert_int_equal(setenv("TEST_NAME", "environment", 1), 0);
	assert_int_equal(setenv("LAZYROOT_CONFIG", path, 1), 0);
	assert_null(parse(&o, 1, argv, &operands));
	assert_int_equal(unsetenv("TEST_NAME"), 0);
	assert_int_equal(unsetenv("LAZYROOT_CONFIG"), 0);
	assert_string_equal(o.name, "environment");
	assert_int_equal(o.number, 3);
}

/* Each bad file, and what is said of it: our words, and the line. */
static void test_config_says_what_is_wrong_in_plain_words(void **state)
{
	static const char *const files[][3] = {
		{"flag: maybe\n", "line 1", "neither true nor false"},
		{"name: a\nflag: {a: 1}\n", "line 2", "flag wants one value"},
		{"name: [a, b]\n", "line 1", "name wants one value"},
		{"list: a\n", "line 1", "list wants a list"},
		{"just text\n", "KEY: VALUE", ""},
		{"- a\n", "KEY: VALUE", ""},
		{"name: a\nname: b\n", "\"name\" stands there twice", ""},
		{"name: \"a\n", "no YAML", ""},
		{"name: &a x\nlist: [*a]\n", "line 2", "aliases are not"},
		{"name: \"a\\0b\"\n", "line 1", "is not understood"},
		{"name: a\n---\nnumber: 1\n", "KEY: VALUE", ""},
		{"list: [a, [b]]\n", "line 1", "list wants a list"},
		{"nmae: a\n", "did you mean name?", "line 1"},
		{"number: 11\n", "line 1", "number"},
	};
	_cleanup_free_ char *path = scratch_path("words.yaml");
	const char *const argv[] = {"test", "--config", path};
	int operands;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_(options_deinit) struct options o = {0};
		_cleanup_error_ struct error *err = NULL;

		assert_null(file_replace(AT_FDCWD, path, files[i][0], strlen(files[i][0]),
					 0644));
		err = parse(&o, 3, argv, &operands);
		assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
		assert_non_null(strstr(error_text(err), files[i][1]));
		assert_non_null(strstr(error_text(err), files[i][2]));
		assert_null(strstr(error_text(err), "Backtrace"));
		assert_null(strstr(error_text(err), "SEQUENCE"));
	}
}

static void test_nearest_word(void **state)
{
	static const char *const right[] = {"upload", "download", "run",     "ls",
					    "cat",    "server",   "no-cache"};
	static const char *const words[][2] = {
		{"uplaod", "upload"},
		{"donwload", "download"},
		{"rnu", "run"},
		{"srver", "server"},
		{"nocache", "no-cache"},
		{"l", "ls"},
		{"frobnicate", NULL},
		{"x", NULL},
		{"", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		struct nearest nearest;

		nearest_init(&nearest, words[i][0]);
		for (size_t j = 0; j < ARRAY_SIZE(right); j++)
			nearest_offer(&nearest, right[j]);
		if (words[i][1])
			assert_string_equal(nearest.best, words[i][1]);
		else
			assert_null(nearest.best);
	}
}

static void test_option_list_on_the_command_line_replaces_the_files(void **state)
{
	_cleanup_(options_deinit) struct options o = {0};
	_cleanup_free_ char *path = scratch_path("list.yaml");
	const char *yaml = "list: [a, b]\n";
	const char *const argv[] = {"test",   "--config", path,     "--list", "c",
				    "--list", "d",        "--list", "e"};
	int operands;

	(void)state;
	assert_null(file_replace(AT_FDCWD, path, yaml, strlen(yaml), 0644));
	assert_null(parse(&o, 9, argv, &operands));
	assert_int_equal(o.list.n, 3);
	assert_string_equal(o.list.items[0], "c");
}

static void test_option_list_of_a_file_replaces_the_environments(void **state)
{
	_cleanup_(options_deinit) struct options o = {0};
	_cleanup_free_ char *path = scratch_path("list-beats.yaml");
	const char *const argv[] = {"test", "--config", path};
	int operands;

	(void)state;
	assert_null(file_replace(AT_FDCWD, path, "list: [c]\n", 10, 0644));
	assert_int_equal(setenv("TEST_LIST", "a", 1), 0);
	assert_null(parse(&o, 3, argv, &operands));
	assert_int_equal(unsetenv("TEST_LIST"), 0);
	assert_int_equal(o.list.n, 1);
	assert_string_equal(o.list.items[0], "c");
}

static void test_option_errors_name_what_is_wrong(void **state)
{
	static const char *const bad[][2] = {
		{"--number", "11"}, {"--number", "0"}, {"--nope", "x"}, {"--size", "x"},
		{"--size", "10"},   {"--nmae", "x"},   {"--flag=1", ""}};
	static const char *const words[] = {"11",
					    "from 1 to 10",
					    "--nope",
					    "\"x\"",
					    "10 bytes are too few",
					    "did you mean --name?",
					    "takes no value"};
	int operands;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		_cleanup_(options_deinit) struct options o = {0};
		const char *const argv[] = {"test", bad[i][0], bad[i][1]};
		_cleanup_error_ struct error *err = parse(&o, 3, argv, &operands);

		assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
		assert_non_null(strstr(error_text(err), words[i]));
	}
}

static void test_config_names_the_line_of_an_unknown_key(void **state)
{
	_cleanup_(options_deinit) struct options o = {0};
	_cleanup_free_ char *path = scratch_path("bad.yaml");
	const char *yaml = "name: x\n# comment\nnope: 1\n";
	const char *const argv[] = {"test", "--config", path};
	_cleanup_error_ struct error *err = NULL;
	int operands;

	(void)state;
	assert_null(file_replace(AT_FDCWD, path, yaml, strlen(yaml), 0644));
	err = parse(&o, 3, argv, &operands);
	assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
	assert_non_null(strstr(error_text(err), "line 3"));
	assert_non_null(strstr(error_text(err), "nope"));
}

/* "KEY=VALUE" of each, a space behind it. */
static void expect_records(const struct option_records *records, size_t i,
			   const char *want)
{
	_cleanup_buf_ struct buf got = BUF_INIT;
	const char *at = records->list.items[i];

	for (;;) {
		_cleanup_free_ char *key = NULL;
		_cleanup_free_ char *value = NULL;

		if (!option_record_next(&at, &key, &value))
			break;
		buf_printf(&got, "%s=%s ", key, value);
	}
	assert_string_equal(buf_string(&got), want);
}

static void test_option_records_as_words_and_as_a_file_has_them(void **state)
{
	static const char *const keys[] = {"url", "push", "instance", NULL};
	static const char *const wrong[] = {"u,pusch", "u,url=v", "u,instance=a\nb",
					    "u,push,push"};
	struct option_records records = {.keys = keys};
	const struct option_def def = {
		"caches", 0, OPTION_RECORDS, "CACHE", "", NULL, &records, 0, 0};
	const struct option_program program = {.name = "test", .defs = &def, .n_defs = 1};
	_cleanup_free_ char *path = scratch_path("records.yaml");
	const char *yaml = "caches:\n- {url: \"a,b\", push: true}\n- c,instance=d\n";

	(void)state;
	assert_null(option_set(&def, "grpc://h:1,push,instance=a=b", NULL));
	assert_null(option_set(&def, "push=no,url=unix:/x=y", NULL));
	expect_records(&records, 0, "url=grpc://h:1 push=true instance=a=b ");
	expect_records(&records, 1, "push=no url=unix:/x=y ");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		_cleanup_error_ struct error *err = option_set(&def, wrong[i], NULL);

		assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
	}
	assert_null(file_replace(AT_FDCWD, path, yaml, strlen(yaml), 0644));
	assert_null(config_load(path, &program));
	assert_int_equal(records.list.n, 2);
	expect_records(&records, 0, "url=a,b push=true ");
	expect_records(&records, 1, "url=c instance=d ");
	option_list_deinit(&records.list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_error_wraps_in_front_and_keeps_its_code),
		cmocka_unit_test(test_error_text_is_cut),
		cmocka_unit_test(test_error_dup_copies_details),
		cmocka_unit_test(test_error_null_is_success),
		cmocka_unit_test(test_error_missing_is_bounded),
		cmocka_unit_test(test_buf_is_always_a_string),
		cmocka_unit_test(test_slices_compare_bytewise),
		cmocka_unit_test(test_htab_finds_what_it_holds_and_nothing_else),
		cmocka_unit_test(test_arena_array_that_no_number_counts_is_refused),
		cmocka_unit_test(test_arena_says_no_at_its_cap),
		cmocka_unit_test(test_arena_survives_failed_allocations),
		cmocka_unit_test(test_option_records_as_words_and_as_a_file_has_them),
		cmocka_unit_test(test_units_parse),
		cmocka_unit_test(test_units_refuse),
		cmocka_unit_test(test_units_format),
		cmocka_unit_test(test_file_remove_tree_does_not_follow_links),
		cmocka_unit_test(test_file_remove_tree_of_any_depth),
		cmocka_unit_test(test_file_open_beneath_stays_beneath),
		cmocka_unit_test(test_file_path_escapes),
		cmocka_unit_test(test_file_paths_join_and_relate),
		cmocka_unit_test(test_file_read_all_has_a_limit),
		cmocka_unit_test(test_file_copy_copies_all),
		cmocka_unit_test(test_pool_for_each_runs_every_index_once),
		cmocka_unit_test(test_option_beats_environment_beats_file),
		cmocka_unit_test(test_option_list_on_the_command_line_replaces_the_files),
		cmocka_unit_test(test_option_list_of_a_file_replaces_the_environments),
		cmocka_unit_test(test_environment_beats_the_usual_file),
		cmocka_unit_test(test_config_says_what_is_wrong_in_plain_words),
		cmocka_unit_test(test_nearest_word),
		cmocka_unit_test(test_option_errors_name_what_is_wrong),
		cmocka_unit_test(test_config_names_the_line_of_an_unknown_key),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
