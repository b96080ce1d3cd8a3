/* predict/foresight: what is learned and what is seen, what is wished for first, what
 * does not pay, and what came of it. */
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "tests/unit/grove_fixture.h"

/* A profile that one run made, of paths in one string. */
static void learn(struct grove *grove, const char *paths, double weight)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	_cleanup_free_ char *copy = alloc_string(paths);
	char *rest = NULL;

	for (char *path = strtok_r(copy, " ", &rest); path;
	     path = strtok_r(NULL, " ", &rest)) {
		struct profile_read read = {path, 1};

		profile_merge(&profile, &read, 1);
		/* in this order, all in the same run */
		for (size_t i = 0; i < profile.n; i++)
			profile.entries[i].seen = profile.entries[i].runs = 1;
	}
	for (size_t i = 0; i < profile.n / 2; i++) { /* a run puts its own in front */
		struct profile_entry swap = profile.entries[i];

		profile.entries[i] = profile.entries[profile.n - 1 - i];
		profile.entries[profile.n - 1 - i] = swap;
	}
	foresight_learn(grove->foresight, &profile, weight);
}

/* n files in a directory: "dir/f000 …". */
static void fill(struct grove *grove, const char *dir, size_t n, const char *ending)
{
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *path = alloc_printf("%s/f%03zu%s", dir, i, ending);

		grove_file(grove, path, NULL);
	}
}

static void open_one(struct grove *grove, const char *dir, size_t i, const char *ending)
{
	_cleanup_free_ char *path = alloc_printf("%s/f%03zu%s", dir, i, ending);

	grove_open(grove, path);
}

static struct foresight_summary summary(const struct grove *grove)
{
	struct foresight_summary sum;

	foresight_summary(grove->foresight, &sum);
	return sum;
}

/* Learned */

static void test_foresight_wishes_in_a_profiles_order(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "a/x", NULL);
	grove_file(&grove, "b", NULL);
	grove_file(&grove, "c", NULL);
	grove_file(&grove, "named", NULL);
	grove_link(&grove, "gone", "a");
	grove_finish(&grove);
	grove_think(&grove, "tool named");
	learn(&grove, "c gone/none a/x none b a", 1);
	assert_string_equal(grove_wishes(&grove), "named c a/x b");
}

static void test_foresight_wishes_by_the_finer_profile_first(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	fill(&grove, "d", 6, "");
	grove_finish(&grove);
	grove_think(&grove, "tool");
	learn(&grove, "d/f003 d/f001", 1);
	learn(&grove, "d/f005 d/f001 d/f000", 0.8);
	assert_string_equal(grove_wishes(&grove), "d/f003 d/f001 d/f005 d/f000");
}

static void test_foresight_waits_with_what_it_learned(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "a/1", NULL);
	grove_file(&grove, "b/2", NULL);
	grove_file(&grove, "b/3", NULL);
	grove_finish(&grove);
	grove_show_dirs(&grove, false);
	grove_think(&grove, "tool");
	learn(&grove, "b/3 a/1 b/2", 1);
	assert_string_equal(grove_wishes(&grove), "");
	grove_show_dir(&grove, "", true);
	grove_show_dir(&grove, "a", true);
	foresight_look(grove.foresight);
	assert_string_equal(grove_wishes(&grove), "a/1");
	grove_show_dirs(&grove, true);
	foresight_look(grove.foresight);
	assert_string_equal(grove_wishes(&grove), "b/3 b/2");
}

/* A profile knows what is read beside a file, better than a scanner does. */
static void test_foresight_does_not_scan_what_a_profile_knows(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "a.h", "#include \"b.h\"\n");
	grove_file(&grove, "b.h", NULL);
	grove_finish(&grove);
	grove_think(&grove, "cc");
	learn(&grove, "a.h", 1);
	assert_string_equal(grove_settle(&grove), "a.h");
	/* one that knows little of this command is no reason, once the file was opened */
	grove_show(&grove, "a.h", false);
	grove_think(&grove, "cc");
	learn(&grove, "a.h", 0.3);
	assert_string_equal(grove_settle(&grove), "a.h");
	grove_open(&grove, "a.h");
	assert_string_equal(grove_settle(&grove), "b.h");
}

static void test_foresight_tells_what_was_read_in_order(void **state)
{
	_cleanup_grove_ struct grove grove;
	const struct profile_read *reads;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "a", "same");
	grove_file(&grove, "b", "same");
	grove_file(&grove, "d/c", "other one");
	grove_finish(&grove);
	grove_think(&grove, "tool");
	grove_open(&grove, "d/c");
	grove_open(&grove, "b");
	grove_open(&grove, "a");
	grove_open(&grove, "d");
	assert_int_equal(foresight_reads(grove.foresight, &reads), 3);
	assert_string_equal(reads[0].path, "d/c");
	assert_int_equal(reads[0].size, 9);
	assert_string_equal(reads[1].path, "b");
	assert_string_equal(reads[2].path, "a");
}

/* Seen */

static void test_foresight_sees_a_walk_by_six_in_turn(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	fill(&grove, "d", 900, "");
	grove_finish(&grove);
	grove_think(&grove, "tool");
	for (size_t i = 0; i < 5; i++)
		open_one(&grove, "d", i, "");
	assert_string_equal(grove_wishes(&grove), "");
	open_one(&grove, "d", 5, "");
	assert_string_equal(grove_take(&grove, 3), "d/f006 d/f007 d/f008");
	/* and no further than its window while nothing of it was opened */
	assert_int_equal(grove_count(grove_wishes(&grove)), 253);
	assert_string_equal(grove_wishes(&grove), "");
}

static void test_foresight_sees_a_walk_by_two_where_it_was_listed(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	fill(&grove, "d", 10, "");
	grove_finish(&grove);
	grove_think(&grove, "tool");
	grove_open(&grove, "d");
	open_one(&grove, "d", 0, "");
	assert_string_equal(grove_wishes(&grove), "");
	open_one(&grove, "d", 1, "");
	assert_int_equal(grove_count(grove_wishes(&grove)), 8);
}

/* Opens all files of a directory; what is wished for meanwhile comes at once. */
static void sweep(struct grove *grove, const char *dir, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		open_one(grove, dir, i, "");
		(void)grove_settle(grove);
	}
}

static void test_foresight_walks_on_in_growing_windows(void **state)
{
	_cleanup_grove_ struct grove grove;
	struct foresight_summary sum;

	(void)state;
	grove_init(&grove);
	fill(&grove, "d", 900, "");
	grove_finish(&grove);
	grove_think(&grove, "tool");
	for (size_t i = 0; i < 6; i++)
		open_one(&grove, "d", i, "");
	assert_int_equal(grove_count(grove_settle(&grove)), 256);
	for (size_t i = 6; i < 6 + 128; i++) {
		/* one by one would be a round trip each */
		assert_string_equal(grove_settle(&grove), "");
		open_one(&grove, "d", i, "");
	}
	/* half of the window was right: it doubles, and 128 are out of it */
	assert_int_equal(grove_count(grove_settle(&grove)), 384);
	for (size_t i = 134; i < 900; i++) {
		open_one(&grove, "d", i, "");
		(void)grove_settle(&grove);
	}
	sum = summary(&grove);
	assert_int_equal(sum.missed.files, 6);
	assert_int_equal(sum.useful[FORESIGHT_SEEN].files, 894);
	assert_int_equal(sum.wasted[FORESIGHT_SEEN].files, 0);
}

static void test_foresight_walks_into_directories_behind(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	fill(&grove, "top/a", 4, "");
	fill(&grove, "top/b/deep", 4, "");
	fill(&grove, "top/c", 4, "");
	fill(&grove, "zzz", 4, "");
	grove_finish(&grove);
	grove_think(&grove, "tool");
	grove_open(&grove, "top");
	grove_open(&grove, "top/a");
	sweep(&grove, "top/a", 2);
	/* all that is below what was listed, and nothing that is beside it */
	assert_int_equal(summary(&grove).wasted[FORESIGHT_SEEN].files, 10);
	grove_show_dirs(&grove, true);
	sweep(&grove, "top/c", 4);
	assert_int_equal(summary(&grove).missed.files, 2);
	sweep(&grove, "zzz", 2);
	assert_int_equal(summary(&grove).missed.files, 4);
}

static void test_foresight_walk_waits_for_directories(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	fill(&grove, "top/a", 4, "");
	fill(&grove, "top/b", 4, "");
	grove_finish(&grove);
	grove_show_dir(&grove, "top/b", false);
	grove_think(&grove, "tool");
	grove_open(&grove, "top");
	grove_open(&grove, "top/a");
	open_one(&grove, "top/a", 0, "");
	open_one(&grove, "top/a", 1, "");
	assert_string_equal(grove_wishes(&grove), "top/a/f002 top/a/f003");
	grove_show_dirs(&grove, true);
	assert_string_equal(grove_wishes(&grove),
			    "top/b/f000 top/b/f001 top/b/f002 top/b/f003");
}

static void test_foresight_walks_far_where_the_command_names_it(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	fill(&grove, "d", 2000, "");
	grove_finish(&grove);
	grove_think(&grove, "grep -r x d");
	grove_open(&grove, "d");
	open_one(&grove, "d", 0, "");
	open_one(&grove, "d", 1, "");
	assert_int_equal(grove_count(grove_wishes(&grove)), 1024);
}

static void test_foresight_learns_which_endings_are_of_interest(void **state)
{
	_cleanup_grove_ struct grove grove;
	const char *got;

	(void)state;
	grove_init(&grove);
	fill(&grove, "d", 60, ".c");
	fill(&grove, "d", 60, ".txt");
	grove_finish(&grove);
	grove_think(&grove, "tool");
	for (size_t i = 0; i < 12; i++)
		open_one(&grove, "d", i, ".c");
	got = grove_wishes(&grove);
	assert_int_equal(grove_count(got), 48);
	assert_null(strstr(got, ".txt"));
	assert_true(grove_has(got, "d/f012.c"));
}

/* A compiler opens a few headers here and there: that is no walk. */
static void test_foresight_sees_no_walk_in_scattered_opens(void **state)
{
	static const size_t places[] = {40, 3, 77, 20, 21, 90, 60, 61, 9, 50};
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	fill(&grove, "a", 100, "");
	fill(&grove, "b", 100, "");
	grove_finish(&grove);
	grove_think(&grove, "tool");
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		open_one(&grove, "a", places[i], "");
		open_one(&grove, "b", 99 - places[i], "");
	}
	assert_string_equal(grove_wishes(&grove), "");
}

/* While the way is full nothing is wished for, and nothing is gathered for later. */
static void test_foresight_walk_does_not_grow_while_nothing_is_granted(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	fill(&grove, "d", 900, "");
	grove_finish(&grove);
	grove_think(&grove, "tool");
	for (size_t i = 0; i < 6; i++)
		open_one(&grove, "d", i, "");
	grove.way.contention = 1e9;
	for (size_t i = 0; i < 50; i++)
		assert_string_equal(grove_wishes(&grove), "");
	grove.way.contention = 1;
	assert_int_equal(grove_count(grove_wishes(&grove)), 256);
}

/* The governor */

static void fill_bytes(struct grove *grove, const char *path, size_t n)
{
	_cleanup_free_ uint8_t *bytes = alloc_zero(n);

	grove_bytes(grove, path, (struct slice){bytes, n});
}

static void test_foresight_weighs_size_against_the_way(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	fill_bytes(&grove, "small", 3000);
	fill_bytes(&grove, "large", 4000);
	grove_finish(&grove);
	/* a hundred bytes under way, 0.97: worth it up to 3,233 */
	grove.way.rate = 10000;
	grove_think(&grove, "tool large small");
	assert_string_equal(grove_wishes(&grove), "small");
	/* twice as far */
	grove.way.rtt_ns *= 2;
	grove_think(&grove, "tool large small");
	assert_string_equal(grove_wishes(&grove), "large small");
}

static void test_foresight_weighs_probability(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	fill_bytes(&grove, "x", 200);
	fill_bytes(&grove, "y", 50);
	grove_finish(&grove);
	grove.way.rate = 10000;
	grove_think(&grove, "tool");
	learn(&grove, "x y", 0.5); /* of one run: 0.97 of it */
	assert_string_equal(grove_wishes(&grove), "y");
	grove_think(&grove, "tool");
	learn(&grove, "x y", 1);
	assert_string_equal(grove_wishes(&grove), "x y");
}

/* What did not pay by one source is wished for where a surer one names it. */
static void test_foresight_weighs_again_what_a_surer_source_names(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "m.c", "#include \"x\"\n");
	fill_bytes(&grove, "x", 200);
	fill_bytes(&grove, "y", 200);
	grove_finish(&grove);
	grove.way.rate = 10000;
	grove_think(&grove, "tool m.c");
	learn(&grove, "x y", 0.3);
	assert_string_equal(grove_wishes(&grove), "m.c"); /* the two are dropped */
	grove_bring(&grove);
	assert_string_equal(grove_wishes(&grove), "x");
	learn(&grove, "x y", 0.3); /* nothing new */
	assert_string_equal(grove_wishes(&grove), "");
}

static void test_foresight_wishes_less_while_others_wait(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	fill_bytes(&grove, "small", 300);
	fill_bytes(&grove, "large", 3000);
	grove_finish(&grove);
	grove.way.rate = 10000;
	grove.way.contention = 10;
	grove_think(&grove, "tool large small");
	assert_string_equal(grove_wishes(&grove), "small");
	grove.way.contention = 1; /* it was only put off */
	assert_string_equal(grove_wishes(&grove), "large");
}

static void test_foresight_leaves_what_is_too_large_for_now(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	fill_bytes(&grove, "large", 1000);
	fill_bytes(&grove, "small", 10);
	grove_finish(&grove);
	grove.way.size_max = 999;
	grove_think(&grove, "tool large small");
	assert_string_equal(grove_wishes(&grove), "small");
	grove.way.size_max = 0;
	assert_string_equal(grove_wishes(&grove), "");
	grove.way.size_max = INT64_MAX;
	assert_string_equal(grove_wishes(&grove), "large");
}

/* What is left for later costs little each time that there is no room for it. */
static void test_foresight_looks_at_few_that_it_may_not_have(void **state)
{
	_cleanup_grove_ struct grove grove;
	_cleanup_buf_ struct buf paths = BUF_INIT;

	(void)state;
	grove_init(&grove);
	fill(&grove, "d", 1000, "");
	grove_finish(&grove);
	grove_think(&grove, "tool");
	for (unsigned int i = 0; i < 1000; i++)
		buf_printf(&paths, "d/f%03u ", i);
	learn(&grove, buf_string(&paths), 1);
	grove.way.size_max = 0;
	grove.n_has = 0;
	for (unsigned int i = 0; i < 10; i++)
		assert_string_equal(grove_wishes(&grove), "");
	assert_true(grove.n_has <= 10 * 300);
	/* and it does not stop those that are at hand from being passed over */
	for (size_t i = 0; i < grove.n_blobs; i++)
		grove.blobs[i].is_here = true;
	grove.n_has = 0;
	assert_string_equal(grove_wishes(&grove), "");
	assert_true(grove.n_has <= 1000);
}

static void wish_and_open(struct grove *grove, size_t n_right)
{
	_cleanup_buf_ struct buf paths = BUF_INIT;

	grove_init(grove);
	fill(grove, "learned", 600, "");
	for (unsigned int i = 0; i < 100; i++) {
		_cleanup_free_ char *path = alloc_printf("%u/x", i);

		grove_file(grove, path, NULL);
	}
	grove_file(grove, "certain", NULL);
	grove_finish(grove);
	grove_think(grove, "tool");
	for (unsigned int i = 0; i < 600; i++)
		buf_printf(&paths, "learned/f%03u ", i);
	learn(grove, buf_string(&paths), 1);
	assert_int_equal(grove_count(grove_take(grove, 300)), 300);
	grove_bring(grove);
	for (size_t i = 0; i < n_right; i++)
		open_one(grove, "learned", i * 5, "");
	for (unsigned int i = 0; i < 70; i++) {
		_cleanup_free_ char *path = alloc_printf("%u/x", i);

		grove_open(grove, path);
	}
}

static void test_foresight_pauses_a_source_that_is_wrong(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	wish_and_open(&grove, 29); /* of 300: less than one of ten */
	assert_string_equal(grove_wishes(&grove), "");
}

static void test_foresight_hears_a_source_that_is_right_at_times(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	wish_and_open(&grove, 60);
	assert_int_equal(grove_count(grove_wishes(&grove)), 300);
}

/* Each time that 64 files were read of which few were foreseen, its wishes that may stand
 * unopened are halved, to 32 at the least. */
static void test_foresight_lets_a_source_that_is_wrong_run_less_far_ahead(void **state)
{
	_cleanup_grove_ struct grove grove;
	_cleanup_buf_ struct buf paths = BUF_INIT;

	(void)state;
	grove_init(&grove);
	fill(&grove, "learned", 100, "");
	for (unsigned int i = 0; i < 600; i++) {
		_cleanup_free_ char *path = alloc_printf("%u/x", i);

		grove_file(&grove, path, NULL);
	}
	grove_finish(&grove);
	grove_think(&grove, "tool");
	for (unsigned int i = 0; i < 100; i++)
		buf_printf(&paths, "learned/f%03u ", i);
	learn(&grove, buf_string(&paths), 1);
	assert_int_equal(grove_count(grove_take(&grove, 40)), 40);
	grove_bring(&grove);
	for (unsigned int i = 0; i < 600; i++) {
		_cleanup_free_ char *path = alloc_printf("%u/x", i);

		grove_open(&grove, path);
	}
	assert_string_equal(grove_wishes(&grove), "");
	for (size_t i = 0; i < 30; i++) /* ten are left unopened */
		open_one(&grove, "learned", i, "");
	assert_int_equal(grove_count(grove_wishes(&grove)), 22);
}

/* What came of it */

static void test_foresight_counts_what_came_of_its_wishes(void **state)
{
	_cleanup_grove_ struct grove grove;
	struct foresight_summary sum;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "useful", "12");
	grove_file(&grove, "late", "123");
	grove_file(&grove, "wasted", "1234");
	grove_file(&grove, "missed", "12345");
	grove_file(&grove, "here", "123456");
	grove_file(&grove, "learned", "1234567");
	grove_finish(&grove);
	grove_show(&grove, "here", true);
	grove_think(&grove, "tool useful late wasted here");
	learn(&grove, "learned", 1);
	assert_string_equal(grove_wishes(&grove), "useful late wasted learned");
	foresight_opened(grove.foresight, "late", false);
	grove_bring(&grove);
	grove_open(&grove, "useful");
	grove_open(&grove, "useful"); /* once is enough */
	grove_open(&grove, "here");
	grove_open(&grove, "missed");
	sum = summary(&grove);
	assert_int_equal(sum.useful[FORESIGHT_CERTAIN].files, 1);
	assert_int_equal(sum.useful[FORESIGHT_CERTAIN].bytes, 2);
	assert_int_equal(sum.late[FORESIGHT_CERTAIN].files, 1);
	assert_int_equal(sum.late[FORESIGHT_CERTAIN].bytes, 3);
	assert_int_equal(sum.wasted[FORESIGHT_CERTAIN].files, 1);
	assert_int_equal(sum.wasted[FORESIGHT_CERTAIN].bytes, 4);
	assert_int_equal(sum.wasted[FORESIGHT_LEARNED].files, 1);
	assert_int_equal(sum.missed.files, 1);
	assert_int_equal(sum.missed.bytes, 5);
}

static void test_foresight_does_without_what_does_not_come(void **state)
{
	_cleanup_grove_ struct grove grove;
	struct foresight_wish wish;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "lost", "#include \"x\"\n");
	grove_file(&grove, "b", NULL);
	grove_finish(&grove);
	grove_think(&grove, "tool lost b");
	assert_true(foresight_next(grove.foresight, &grove.way, &wish));
	foresight_arrived(grove.foresight, &wish.digest, false);
	foresight_arrived(grove.foresight, &wish.digest, true); /* nobody asked */
	foresight_arrived(grove.foresight, &grove.root, true);
	assert_string_equal(grove_wishes(&grove),
			    "b"); /* and it is not asked for again */
}

/* What is opened makes room for more: a budget is for what nobody asked for yet. */
static void test_foresight_is_ahead_by_what_is_not_opened(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "a", "five\n");
	grove_file(&grove, "b", "seven..");
	grove_file(&grove, "c", NULL);
	grove_finish(&grove);
	grove_think(&grove, "tool a b");
	assert_int_equal(foresight_ahead(grove.foresight), 0);
	assert_string_equal(grove_wishes(&grove), "a b");
	assert_int_equal(foresight_ahead(grove.foresight), 12);
	grove_open(&grove, "a");
	grove_open(&grove, "a");
	grove_open(&grove, "c"); /* nobody had wished for it */
	assert_int_equal(foresight_ahead(grove.foresight), 7);
	grove_open(&grove, "b");
	assert_int_equal(foresight_ahead(grove.foresight), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_foresight_wishes_in_a_profiles_order),
		cmocka_unit_test(test_foresight_wishes_by_the_finer_profile_first),
		cmocka_unit_test(test_foresight_waits_with_what_it_learned),
		cmocka_unit_test(test_foresight_does_not_scan_what_a_profile_knows),
		cmocka_unit_test(test_foresight_tells_what_was_read_in_order),
		cmocka_unit_test(test_foresight_sees_a_walk_by_six_in_turn),
		cmocka_unit_test(test_foresight_sees_a_walk_by_two_where_it_was_listed),
		cmocka_unit_test(test_foresight_walks_on_in_growing_windows),
		cmocka_unit_test(test_foresight_walks_into_directories_behind),
		cmocka_unit_test(test_foresight_walk_waits_for_directories),
		cmocka_unit_test(test_foresight_walks_far_where_the_command_names_it),
		cmocka_unit_test(test_foresight_learns_which_endings_are_of_interest),
		cmocka_unit_test(test_foresight_sees_no_walk_in_scattered_opens),
		cmocka_unit_test(
			test_foresight_walk_does_not_grow_while_nothing_is_granted),
		cmocka_unit_test(test_foresight_weighs_size_against_the_way),
		cmocka_unit_test(test_foresight_weighs_probability),
		cmocka_unit_test(test_foresight_weighs_again_what_a_surer_source_names),
		cmocka_unit_test(test_foresight_wishes_less_while_others_wait),
		cmocka_unit_test(test_foresight_leaves_what_is_too_large_for_now),
		cmocka_unit_test(test_foresight_looks_at_few_that_it_may_not_have),
		cmocka_unit_test(test_foresight_pauses_a_source_that_is_wrong),
		cmocka_unit_test(test_foresight_hears_a_source_that_is_right_at_times),
		cmocka_unit_test(
			test_foresight_lets_a_source_that_is_wrong_run_less_far_ahead),
		cmocka_unit_test(test_foresight_counts_what_came_of_its_wishes),
		cmocka_unit_test(test_foresight_does_without_what_does_not_come),
		cmocka_unit_test(test_foresight_is_ahead_by_what_is_not_opened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
