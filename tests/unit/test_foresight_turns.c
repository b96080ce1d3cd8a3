/* predict/foresight: thinking in turns. What one action makes it think of, however much,
 * costs the next one a turn at most, and in the end it is the same. */
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "tests/unit/grove_fixture.h"

#define TURN   256
#define BEYOND (17 << 10) /* a turn may end in the middle of one look */

/* A response file of n names that are looked for in each of many directories. */
static void hostile(struct grove *grove, size_t n)
{
	_cleanup_buf_ struct buf args = BUF_INIT;

	for (size_t i = 0; i < 200; i++)
		buf_printf(&args, "-Ideep/empty\n");
	for (size_t i = 0; i < n; i++)
		buf_printf(&args, "-include x%zu.h\n", i);
	grove_init(grove);
	grove_file(grove, "deep/empty/x0.h", NULL);
	grove_file(grove, "last", NULL);
	buf_printf(&args, "last\n");
	grove_bytes(grove, "args", buf_slice(&args));
	grove_finish(grove);
	grove->world.turn = TURN;
	grove_think(grove, "gcc @args");
}

static void test_foresight_takes_turns_beside_another(void **state)
{
	enum { N_NAMES = 500 };
	_cleanup_grove_ struct grove bad;
	_cleanup_grove_ struct grove good;
	size_t n_turns = 1;

	(void)state;
	hostile(&bad, N_NAMES);
	assert_string_equal(grove_settle(&bad), "args");
	grove_init(&good);
	grove_file(&good, "m.c", "#include \"a.h\"\n");
	grove_file(&good, "a.h", NULL);
	grove_finish(&good);
	good.world.turn = TURN;
	grove_think(&good, "cc -c m.c");
	assert_string_equal(grove_settle(&good), "m.c a.h");
	assert_false(foresight_is_tired(good.foresight));
	/* while the other's first names are not looked for yet */
	assert_true(bad.n_dir < (size_t)N_NAMES * 200);
	assert_true(foresight_is_tired(bad.foresight));
	for (; foresight_is_tired(bad.foresight); n_turns++) {
		size_t before = bad.n_dir;

		foresight_go_on(bad.foresight);
		assert_true(bad.n_dir - before < TURN + BEYOND);
	}
	assert_true(n_turns > N_NAMES); /* each name is looked for in 200 places */
	assert_string_equal(grove_settle(&bad), "deep/empty/x0.h last");
}

/* An argument of many: they are not all looked for by whoever begins. */
static void test_foresight_begins_with_a_turn(void **state)
{
	enum { N_WORDS = 3000 };
	_cleanup_grove_ struct grove grove;
	_cleanup_free_ const char **words = alloc_array(N_WORDS + 1, sizeof(*words));

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "a/a/a/a/f", NULL);
	grove_finish(&grove);
	grove.world.turn = TURN;
	for (size_t i = 0; i < N_WORDS; i++)
		words[i] = alloc_printf("a/a/a/a/none%zu", i);
	words[N_WORDS] = "a/a/a/a/f";
	grove_think_of(&grove, &(struct foresight_action){.root = grove.root,
							  .mount = "/",
							  .workdir = "",
							  .arguments = words,
							  .n_arguments = N_WORDS + 1});
	assert_true(grove.n_dir <= 2 * TURN);
	assert_string_equal(grove_wishes(&grove), "");
	while (foresight_is_tired(grove.foresight))
		foresight_go_on(grove.foresight);
	assert_true(grove.n_dir >= N_WORDS * 5);
	assert_string_equal(grove_wishes(&grove), "a/a/a/a/f");
	for (size_t i = 0; i < N_WORDS; i++)
		free((char *)(uintptr_t)words[i]);
}

/* A walk goes on in turns, too. */
static void test_foresight_walks_in_turns(void **state)
{
	enum { N_FILES = 5000 };
	_cleanup_grove_ struct grove grove;
	size_t n_turns = 0;

	(void)state;
	grove_init(&grove);
	for (size_t i = 0; i < N_FILES; i++) {
		_cleanup_free_ char *link = alloc_printf("d/link%05zu", i);

		grove_link(&grove, link, "nowhere");
	}
	grove_file(&grove, "d/z", NULL);
	grove_finish(&grove);
	grove.world.turn = TURN;
	grove_think(&grove, "tool d");
	while (!grove_count(grove_wishes(&grove))) {
		assert_true(foresight_is_tired(grove.foresight));
		foresight_go_on(grove.foresight);
		n_turns++;
	}
	assert_true(n_turns >= N_FILES / TURN - 1);
	assert_true(grove_has(buf_string(&grove.said), "d/z"));
}

/* Files at hand are looked into as they are found: so many in a turn. */
static void test_foresight_looks_into_files_in_turns(void **state)
{
	enum { N_FILES = 60, N_BYTES = 40000 };
	_cleanup_grove_ struct grove grove;
	_cleanup_buf_ struct buf line = BUF_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;
	size_t n_turns = 0;

	(void)state;
	grove_init(&grove);
	buf_printf(&line, "cc -c");
	for (size_t i = 0; i < N_FILES; i++) {
		_cleanup_free_ char *path = alloc_printf("m%zu.c", i);

		buf_clear(&text);
		buf_printf(&text, "#include \"h%zu.h\"\n", i);
		while (text.len < N_BYTES)
			buf_printf(&text, "int variable_%zu;\n", text.len);
		grove_bytes(&grove, path, buf_slice(&text));
		buf_printf(&line, " %s", path);
	}
	grove_file(&grove, "h59.h", NULL);
	grove_finish(&grove);
	for (size_t i = 0; i < N_FILES; i++) {
		_cleanup_free_ char *path = alloc_printf("m%zu.c", i);

		grove_show(&grove, path, true);
	}
	grove.world.turn = TURN;
	grove_think(&grove, buf_string(&line));
	while (!grove_count(grove_wishes(&grove))) {
		assert_true(foresight_is_tired(grove.foresight));
		foresight_go_on(grove.foresight);
		n_turns++;
	}
	assert_true(n_turns >= N_FILES / 3);
	assert_string_equal(buf_string(&grove.said), "h59.h");
}

/* Behind many that may not be had now, those that are at hand do not hide the rest. */
static void test_foresight_passes_each_wish_once(void **state)
{
	enum { N_LARGE = 200, N_HERE = 4 };
	_cleanup_grove_ struct grove grove;
	_cleanup_free_ char *large = alloc_zero(5001);
	const char *words[1 + N_LARGE + N_HERE + 1] = {"tool"};
	size_t n = 1;

	(void)state;
	grove_init(&grove);
	memset(large, 'x', 5000);
	for (size_t i = 0; i < N_LARGE; i++, n++) {
		_cleanup_free_ char *text = alloc_printf("%s%zu", large, i);

		words[n] = alloc_printf("large%zu", i);
		grove_file(&grove, words[n], text);
	}
	for (size_t i = 0; i < N_HERE; i++, n++) {
		words[n] = alloc_printf("here%zu", i);
		grove_file(&grove, words[n], NULL);
	}
	grove_file(&grove, "small", NULL);
	words[n] = "small";
	grove_finish(&grove);
	for (size_t i = 0; i < N_HERE; i++)
		grove_show(&grove, words[1 + N_LARGE + i], true);
	grove.way.size_max = 1000;
	grove_think_of(&grove, &(struct foresight_action){.root = grove.root,
							  .mount = "/",
							  .workdir = "",
							  .arguments = words,
							  .n_arguments = n + 1});
	assert_string_equal(grove_wishes(&grove), "small");
	while (--n)
		free((char *)(uintptr_t)words[n]);
}

/* Once the command has ended nothing is looked for, and all that it opened is noted. */
static void test_foresight_rests(void **state)
{
	enum { N_NAMES = 500 };
	_cleanup_grove_ struct grove grove;
	const struct profile_read *reads;
	size_t before;

	(void)state;
	hostile(&grove, N_NAMES);
	assert_string_equal(grove_settle(&grove), "args");
	foresight_rest(grove.foresight);
	before = grove.n_dir;
	foresight_opened(grove.foresight, "deep/empty/x0.h", false);
	foresight_opened(grove.foresight, "last", false);
	foresight_go_on(grove.foresight);
	foresight_look(grove.foresight);
	assert_string_equal(grove_settle(&grove), "");
	assert_true(grove.n_dir - before < 10);
	assert_int_equal(foresight_reads(grove.foresight, &reads), 2);
	assert_string_equal(reads[1].path, "last");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_foresight_takes_turns_beside_another),
		cmocka_unit_test(test_foresight_begins_with_a_turn),
		cmocka_unit_test(test_foresight_walks_in_turns),
		cmocka_unit_test(test_foresight_looks_into_files_in_turns),
		cmocka_unit_test(test_foresight_passes_each_wish_once),
		cmocka_unit_test(test_foresight_rests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
