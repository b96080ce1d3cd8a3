/* predict/profile, profile_key, profile_db: what runs opened is kept, and what comes back
 * is trusted in nothing. */
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/thread.h"
#include "predict/profile_db.h"
#include "predict/profile_key.h"
#include "tests/unit/cas_fixture.h"

#define _cleanup_profile_db_ _cleanup_(profile_db_closep)

/* One more run, whose files stand in one string with blanks between them. */
static void run(struct profile *profile, const char *paths)
{
	_cleanup_free_ char *copy = alloc_string(paths);
	struct profile_read reads[64];
	char *rest = NULL;
	size_t n = 0;

	for (char *path = strtok_r(copy, " ", &rest); path && n < ARRAY_SIZE(reads);
	     path = strtok_r(NULL, " ", &rest))
		reads[n++] = (struct profile_read){path, (int64_t)strlen(path)};
	profile_merge(profile, reads, n);
}

/* "path:bits/runs …" */
static void expect(const struct profile *profile, const char *want)
{
	_cleanup_buf_ struct buf got = BUF_INIT;

	for (size_t i = 0; i < profile->n; i++)
		buf_printf(&got, "%s%s:%x/%u", i ? " " : "", profile->entries[i].path,
			   profile->entries[i].seen, profile->entries[i].runs);
	assert_string_equal(buf_string(&got), want);
}

static const struct profile_entry *entry(const struct profile *profile, const char *path)
{
	for (size_t i = 0; i < profile->n; i++)
		if (strcmp(profile->entries[i].path, path) == 0)
			return &profile->entries[i];
	fail_msg("%s is not in the profile", path);
	return NULL;
}

/* Merging */

static void test_profile_keeps_the_order_of_the_last_run(void **state)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;

	(void)state;
	run(&profile, "a b c");
	expect(&profile, "a:1/1 b:1/1 c:1/1");
	run(&profile, "c d a");
	expect(&profile, "c:3/2 d:1/2 a:3/2 b:2/2");
	assert_int_equal(profile.n_runs, 2);
	assert_int_equal(entry(&profile, "c")->size, 1);
}

static void test_profile_drops_what_eight_runs_left_out(void **state)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;

	(void)state;
	run(&profile, "once always");
	for (unsigned int i = 0; i < 7; i++)
		run(&profile, "always");
	expect(&profile, "always:ff/8 once:80/8");
	run(&profile, "always");
	expect(&profile, "always:ff/8");
	run(&profile, ""); /* a run that opened nothing is a run */
	expect(&profile, "always:fe/8");
}

static void test_profile_is_not_spoiled_by_an_odd_run(void **state)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	double before, odd;

	(void)state;
	for (unsigned int i = 0; i < 8; i++)
		run(&profile, "a b");
	before = profile_probability(entry(&profile, "a"));
	run(&profile, "x y");
	odd = profile_probability(entry(&profile, "a"));
	assert_true(before > 0.95);
	assert_true(odd > 0.6 && odd < before);
	/* what was opened once, by the odd one, is less likely still */
	assert_true(profile_probability(entry(&profile, "x")) < 0.5);
	run(&profile, "a b");
	assert_true(profile_probability(entry(&profile, "a")) > odd);
	assert_true(profile_probability(entry(&profile, "x")) < 0.3);
}

/* Another worker's long history is outweighed by two runs of our own. */
static void test_profile_of_others_is_doubted(void **state)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;

	(void)state;
	run(&profile, "old always");
	for (unsigned int i = 0; i < 7; i++)
		run(&profile, "always");
	expect(&profile, "always:ff/8 old:80/8");
	profile_doubt(&profile);
	expect(&profile, "always:3/2 old:2/2");
	assert_int_equal(profile.n_runs, 2);
	run(&profile, "ours");
	run(&profile, "ours");
	assert_true(profile_probability(entry(&profile, "always")) <
		    profile_probability(entry(&profile, "ours")) * 0.7);
	profile_deinit(&profile);
	run(&profile, "new"); /* a short one is as it was */
	profile_doubt(&profile);
	expect(&profile, "new:1/1");
}

static void test_profile_probability_is_one(void **state)
{
	(void)state;
	for (unsigned int runs = 1; runs <= 8; runs++)
		for (unsigned int seen = 1; seen < 1u << runs; seen++) {
			double p = profile_probability(&(struct profile_entry){
				.seen = (uint8_t)seen, .runs = (uint8_t)runs});

			assert_true(p > 0 && p < 1);
		}
}

static void test_profile_has_a_path_once(void **state)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;

	(void)state;
	run(&profile, "a b a"); /* a file that took the place of another, say */
	expect(&profile, "a:1/1 b:1/1");
	run(&profile, "b b a c c");
	expect(&profile, "b:3/2 a:3/2 c:1/2");
}

static void test_profile_is_bounded_in_entries(void **state)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	size_t n = PROFILE_ENTRIES_MAX + 10;
	_cleanup_free_ struct profile_read *reads = alloc_array(n, sizeof(*reads));
	_cleanup_free_ char *text = alloc_zero(n * 8);
	char longest[PROFILE_PATH_MAX + 2];

	(void)state;
	for (size_t i = 0; i < n; i++) {
		reads[i].path = text + i * 8;
		(void)snprintf(text + i * 8, 8, "f%06zu", i);
	}
	profile_merge(&profile, reads, n);
	assert_int_equal(profile.n, PROFILE_ENTRIES_MAX);
	assert_string_equal(profile.entries[0].path, "f000000");
	/* a run of others: what it opened goes first, and what stood last goes */
	profile_merge(&profile, reads + n - 10, 10);
	assert_int_equal(profile.n, PROFILE_ENTRIES_MAX);
	assert_string_equal(profile.entries[0].path, "f020000");
	assert_string_equal(profile.entries[10].path, "f000000");
	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	profile_merge(&profile, &(struct profile_read){longest, 1}, 1);
	assert_string_equal(profile.entries[0].path, "f020000");
	longest[sizeof(longest) - 2] = '\0';
	profile_merge(&profile, &(struct profile_read){longest, 1}, 1);
	assert_string_equal(profile.entries[0].path, longest);
}

/* The form */

static void expect_same(const struct profile *a, const struct profile *b)
{
	assert_int_equal(a->n, b->n);
	assert_int_equal(a->n_runs, b->n_runs);
	for (size_t i = 0; i < a->n; i++) {
		assert_string_equal(a->entries[i].path, b->entries[i].path);
		assert_int_equal(a->entries[i].size, b->entries[i].size);
		assert_int_equal(a->entries[i].seen, b->entries[i].seen);
		assert_int_equal(a->entries[i].runs, b->entries[i].runs);
	}
}

static void make(struct profile *profile)
{
	run(profile, "usr/bin/cc usr/include/a.h usr/include/a.h.gch usr x");
	run(profile, "usr/include/a.h \xc3\xa4/\xff y z usr/bin/cc");
	run(profile, "y");
	profile->entries[0].size = INT64_MAX;
}

static void test_profile_is_encoded_and_decoded(void **state)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	_cleanup_profile_ struct profile back = PROFILE_INIT;
	_cleanup_profile_ struct profile none = PROFILE_INIT;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_buf_ struct buf empty = BUF_INIT;

	(void)state;
	make(&profile);
	profile_encode(&profile, &bytes);
	expect_ok(profile_decode(buf_slice(&bytes), &back));
	expect_same(&profile, &back);
	profile_encode(&PROFILE_INIT, &empty);
	expect_ok(profile_decode(buf_slice(&empty), &none));
	assert_int_equal(none.n, 0);
}

/* Refused, or what a run could have told. */
static bool decode_hostile(struct slice bytes)
{
	_cleanup_free_ uint8_t *copy = alloc_memdup(bytes.data, bytes.len);
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	_cleanup_error_ struct error *err =
		profile_decode((struct slice){copy, bytes.len}, &profile);

	if (err) {
		assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
		assert_int_equal(profile.n, 0);
		return false;
	}
	assert_true(profile.n <= PROFILE_ENTRIES_MAX);
	for (size_t i = 0; i < profile.n; i++) {
		const struct profile_entry *e = &profile.entries[i];

		assert_true(e->size >= 0 && e->seen && e->runs >= 1 && e->runs <= 8);
		assert_true(strlen(e->path) > 0 && strlen(e->path) <= PROFILE_PATH_MAX);
		assert_true(e->path[0] != '/' && e->path[strlen(e->path) - 1] != '/');
		assert_null(strstr(e->path, "//"));
		assert_true(strcmp(e->path, "..") != 0 && strcmp(e->path, ".") != 0);
		assert_true(strncmp(e->path, "../", 3) != 0 && !strstr(e->path, "/../"));
		assert_true(profile_probability(e) > 0 && profile_probability(e) < 1);
	}
	return true;
}

static void test_profile_that_is_cut_off_is_refused(void **state)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	size_t n_whole = 0;

	(void)state;
	make(&profile);
	profile_encode(&profile, &bytes);
	for (size_t len = 0; len < bytes.len; len++)
		n_whole += decode_hostile((struct slice){bytes.data, len});
	/* but where it is cut between two entries: a shorter one */
	assert_int_equal(n_whole, profile.n);
}

static void test_profile_that_is_damaged_is_refused_or_bounded(void **state)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	(void)state;
	make(&profile);
	profile_encode(&profile, &bytes);
	for (size_t at = 0; at < bytes.len; at++) {
		uint8_t was = bytes.data[at];

		for (unsigned int value = 0; value < 256; value++) {
			bool is_whole;

			bytes.data[at] = (uint8_t)value;
			is_whole = decode_hostile(buf_slice(&bytes));
			if (at < 4)
				assert_int_equal(is_whole, value == was);
		}
		bytes.data[at] = was;
	}
}

/* One entry by hand: what is common, the rest, size, seen, runs. */
static void add(struct buf *out, unsigned int common, const char *rest, unsigned int size,
		unsigned int seen, unsigned int runs)
{
	buf_add_byte(out, (uint8_t)common);
	buf_add_byte(out, (uint8_t)strlen(rest));
	buf_add_string(out, rest);
	buf_add_byte(out, (uint8_t)size);
	buf_add_byte(out, (uint8_t)seen);
	buf_add_byte(out, (uint8_t)runs);
}

static bool decode_one(unsigned int common, const char *rest, unsigned int seen,
		       unsigned int runs)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	buf_add(&bytes, "LZP\1\1", 5);
	add(&bytes, 0, "a/b", 1, 1, 1);
	add(&bytes, common, rest, 1, seen, runs);
	return decode_hostile(buf_slice(&bytes));
}

static void test_profile_has_only_clean_paths(void **state)
{
	static const char *const bad[] = {"/a",   "a/",     "a//b", ".",   "..",
					  "../a", "a/../b", "a/.",  "./a", ""};
	char name[257];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(decode_one(0, bad[i], 1, 1));
	assert_true(decode_one(0, "...", 1, 1));
	assert_true(decode_one(0, "a/..b", 1, 1));
	assert_true(decode_one(3, "c", 1, 1));
	assert_false(decode_one(2, "", 1, 1));  /* "a/" */
	assert_false(decode_one(2, ".", 1, 1)); /* "a/." */
	assert_false(decode_one(4, "c", 1, 1)); /* more than there is */
	assert_false(decode_one(0, "a", 0, 1)); /* no run opened it */
	assert_false(decode_one(0, "a", 2, 1)); /* more runs than there were */
	assert_false(decode_one(0, "a", 1, 0));
	assert_false(decode_one(0, "a", 1, 9));
	assert_true(decode_one(0, "a", 255, 8));
	memset(name, 'n', sizeof(name));
	name[256] = '\0'; /* no name is so long: its length needs two bytes */
	assert_false(decode_one(0, name, 1, 1));
	name[120] = '\0';
	assert_true(decode_one(0, name, 1, 1));
}

static void test_profile_has_a_path_once_though_it_was_told_twice(void **state)
{
	(void)state;
	assert_false(decode_one(0, "a/b", 1, 1));
	assert_false(decode_one(3, "", 1, 1));
}

static void test_profile_is_bounded_in_bytes(void **state)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	_cleanup_profile_ struct profile back = PROFILE_INIT;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_buf_ struct buf large = BUF_INIT;
	char path[PROFILE_PATH_MAX + 1];

	(void)state;
	for (unsigned int i = 0; i < 1000; i++) {
		/* nothing in common with the one before */
		(void)snprintf(path, sizeof(path), "%03u", i);
		for (size_t at = 3; at < 4000; at++)
			path[at] = at % 100 ? 'x' : '/';
		path[4000] = '\0';
		profile_merge(&profile, &(struct profile_read){path, 1}, 1);
		profile.entries[0].seen = profile.entries[0].runs = 1;
		for (size_t k = 0; k < profile.n; k++)
			profile.entries[k].seen = profile.entries[k].runs = 1;
	}
	profile_encode(&profile, &bytes);
	assert_true(bytes.len <= PROFILE_BYTES_MAX);
	assert_true(bytes.len > PROFILE_BYTES_MAX - 8192);
	expect_ok(profile_decode(buf_slice(&bytes), &back));
	assert_true(back.n > 0 && back.n < profile.n);
	/* longer ones are refused, whatever they hold */
	buf_add(&large, "LZP\1\1", 5);
	while (large.len <= PROFILE_BYTES_MAX)
		add(&large, 0, "some/path", 1, 1, 1);
	assert_false(decode_hostile(buf_slice(&large)));
}

static void test_profile_that_would_take_too_much_memory_is_refused(void **state)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	uint8_t common[2];

	(void)state;
	buf_add(&bytes, "LZP\1\1", 5);
	for (unsigned int i = 0; i <= PROFILE_ENTRIES_MAX; i++)
		add(&bytes, i ? 1 : 0, "x", 1, 1, 1);
	assert_false(decode_hostile(buf_slice(&bytes))); /* one too many */
	/* few bytes that stand for many: each path is nearly that before */
	buf_clear(&bytes);
	buf_add(&bytes, "LZP\1\1", 5);
	buf_add(&bytes, "\0\xa0\x1f", 3); /* 4000 */
	for (unsigned int i = 0; i < 4000; i++)
		buf_add_byte(&bytes, i % 100 == 99 ? '/' : 'x');
	bytes.data[bytes.len - 1] = 'x';
	buf_add(&bytes, "\1\1\1", 3);
	common[0] = 0x80 | (3996 & 0x7f);
	common[1] = 3996 >> 7;
	for (unsigned int i = 1; i < PROFILE_ENTRIES_MAX; i++) {
		char rest[6];

		(void)snprintf(rest, sizeof(rest), "%05u", i);
		buf_add(&bytes, common, 2);
		buf_add_byte(&bytes, 5);
		buf_add(&bytes, rest, 5);
		buf_add(&bytes, "\1\1\1", 3);
	}
	assert_true(bytes.len < PROFILE_BYTES_MAX);
	assert_false(decode_hostile(buf_slice(&bytes)));
}

/* Keys */

static struct digest shape_of(const char *command_line)
{
	_cleanup_free_ char *copy = alloc_string(command_line);
	const char *words[32];
	char *rest = NULL;
	struct digest key;
	size_t n = 0;

	for (char *word = strtok_r(copy, " ", &rest); word && n < ARRAY_SIZE(words);
	     word = strtok_r(NULL, " ", &rest))
		words[n++] = word;
	profile_key_shape(words, n, &key);
	return key;
}

static bool same_shape(const char *a, const char *b)
{
	struct digest one = shape_of(a);
	struct digest other = shape_of(b);

	return digest_equal(&one, &other);
}

static void test_profile_key_is_the_shape_of_a_command(void **state)
{
	static const char gcc[] = "gcc -O2 -Iinclude -c src/a.c -o out/a.o";

	(void)state;
	assert_true(same_shape(gcc, gcc));
	assert_true(same_shape(gcc, "gcc -O2 -Iinclude -c lib/b.c -o out/x/b.o"));
	assert_false(same_shape(gcc, "gcc -O3 -Iinclude -c src/a.c -o out/a.o"));
	assert_false(same_shape(gcc, "gcc -O2 -Iother -c src/a.c -o out/a.o"));
	assert_false(same_shape(gcc, "gcc -O2 -Iinclude -DX -c src/a.c -o out/a.o"));
	assert_false(same_shape(gcc, "gcc -O2 -Iinclude -c src/a.cc -o out/a.o"));
	assert_false(same_shape(gcc, "g++ -O2 -Iinclude -c src/a.c -o out/a.o"));
	assert_false(same_shape(gcc, "gcc -O2 -Iinclude -c src/a.c src/b.c -o out/a.o"));
	assert_true(same_shape("ld @a.rsp", "ld @b.rsp"));
	assert_true(same_shape("python3 test.py --input=a/x.txt",
			       "python3 other.py --input=b.txt"));
	assert_false(same_shape("python3 test.py --input=a.txt",
				"python3 test.py --output=a.txt"));
}

/* A script's words are within one word: it is no shape of another script. */
static void test_profile_key_tells_scripts_apart(void **state)
{
	const char *const compile[] = {"sh", "-c", "gcc -c a.c -o a.o"};
	const char *const test[] = {"sh", "-c", "python3 test.py > out.txt"};
	const char *const read_one[] = {"sh", "-c", "cat one"};
	const char *const read_list[] = {"sh", "-c", "cat one; cp one two"};
	struct digest keys[4];

	(void)state;
	profile_key_shape(compile, 3, &keys[0]);
	profile_key_shape(test, 3, &keys[1]);
	profile_key_shape(read_one, 3, &keys[2]);
	profile_key_shape(read_list, 3, &keys[3]);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		for (size_t k = 0; k < i; k++)
			assert_false(digest_equal(&keys[i], &keys[k]));
}

static void test_profile_keys_of_kinds_differ(void **state)
{
	struct digest of = digest_of_empty;
	struct digest command, tool, again;

	(void)state;
	profile_key_command(&of, &command);
	profile_key_tool(&of, &tool);
	profile_key_tool(&of, &again);
	assert_false(digest_equal(&command, &tool));
	assert_true(digest_equal(&tool, &again));
	of.hash[31] ^= 1;
	profile_key_tool(&of, &again);
	assert_false(digest_equal(&tool, &again));
}

/* The database */

static struct digest key_of(unsigned int n)
{
	struct digest key = {.hash = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16)},
			     .size = n};

	return key;
}

static void put(struct profile_db *db, unsigned int n, const char *paths)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	struct digest key = key_of(n);

	run(&profile, paths);
	profile_db_put(db, &key, &profile);
}

/* How many of a profile's files the database has; 0 where it has none. */
static size_t got(struct profile_db *db, unsigned int n)
{
	struct digest key = key_of(n);
	_cleanup_profile_ struct profile profile = PROFILE_INIT;

	profile_db_get(db, &key, 1, &profile);
	return profile.n;
}

/* A file below the scratch directory of a test; the caller frees. */
static char *file_of(void **state, const char *name)
{
	const struct scratch *scratch = *state;

	return alloc_printf("%s/%s", scratch->path, name);
}

static bool is_there(void **state, const char *name)
{
	_cleanup_free_ char *path = file_of(state, name);

	return access(path, F_OK) == 0;
}

/* What is logged goes into a file, from here on … */
static int log_keep(void **state)
{
	_cleanup_free_ char *path = file_of(state, "log");
	int kept = dup(STDERR_FILENO);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	assert_true(kept >= 0 && fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
	(void)close(fd);
	return kept;
}

/* … to here: how many warnings there were. */
static size_t log_warnings(void **state, int kept)
{
	_cleanup_free_ char *path = file_of(state, "log");
	_cleanup_buf_ struct buf text = BUF_INIT;
	size_t n = 0;

	assert_true(dup2(kept, STDERR_FILENO) >= 0);
	(void)close(kept);
	expect_ok(file_read_all(AT_FDCWD, path, SIZE_MAX, &text));
	for (const char *at = buf_string(&text); (at = strstr(at, " warn ")); at++)
		n++;
	return n;
}

static void test_profile_db_gives_what_was_put(void **state)
{
	_cleanup_free_ char *path = file_of(state, "profiles.db");
	_cleanup_profile_db_ struct profile_db *db = NULL;
	const struct digest keys[] = {key_of(2), key_of(9), key_of(1), key_of(3)};
	struct profile profiles[ARRAY_SIZE(keys)];

	expect_ok(profile_db_open(path, &db));
	put(db, 1, "a");
	put(db, 2, "a b");
	put(db, 3, "a b c");
	put(db, 3, "a b c d"); /* in the place of the other */
	profile_db_get(db, keys, ARRAY_SIZE(keys), profiles);
	assert_int_equal(profiles[0].n, 2);
	assert_int_equal(profiles[1].n, 0);
	assert_int_equal(profiles[2].n, 1);
	assert_int_equal(profiles[3].n, 4);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		profile_deinit(&profiles[i]);
	db = profile_db_close(db);
	expect_ok(profile_db_open(path, &db));
	assert_int_equal(got(db, 2), 2);
	assert_int_equal(got(db, 4), 0);
	assert_false(is_there(state, "profiles.db.damaged"));
}

static void test_profile_db_that_is_damaged_is_set_aside(void **state)
{
	_cleanup_free_ char *path = file_of(state, "profiles.db");
	_cleanup_profile_db_ struct profile_db *db = NULL;
	int kept;

	scratch_write(*state, "profiles.db", "this is no database, and long enough",
		      0600);
	kept = log_keep(state);
	expect_ok(profile_db_open(path, &db));
	put(db, 1, "a");
	assert_int_equal(got(db, 1), 1);
	assert_int_equal(log_warnings(state, kept), 1);
	assert_true(is_there(state, "profiles.db.damaged"));
	db = profile_db_close(db);
	expect_ok(profile_db_open(path, &db));
	assert_int_equal(got(db, 1), 1);
}

static void spoil(void **state, const char *name)
{
	_cleanup_free_ char *path = file_of(state, name);
	uint8_t bytes[4096];
	struct stat st;
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	memset(bytes, 0x5a, sizeof(bytes));
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t at = 0; at < st.st_size; at += (off_t)sizeof(bytes))
		assert_int_equal(pwrite(fd, bytes, sizeof(bytes), at), sizeof(bytes));
	(void)close(fd);
}

static void test_profile_db_that_is_damaged_meanwhile_is_set_aside(void **state)
{
	_cleanup_free_ char *path = file_of(state, "profiles.db");
	_cleanup_profile_db_ struct profile_db *db = NULL;
	char name[4000];
	int kept;

	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	name[200] = '/';
	expect_ok(profile_db_open(path, &db));
	for (unsigned int i = 0; i < 2000; i++) /* more than it holds in memory */
		put(db, i, name);
	kept = log_keep(state);
	spoil(state, "profiles.db");
	spoil(state, "profiles.db-wal");
	for (unsigned int i = 0; i < 2000; i++)
		(void)got(db, i);
	put(db, 1, "a b");
	assert_int_equal(got(db, 1), 2);
	assert_int_equal(log_warnings(state, kept), 1);
	assert_true(is_there(state, "profiles.db.damaged"));
}

struct user { /* of the same database as others */
	struct profile_db *db;
	unsigned int first;
};

static void *use(void *arg)
{
	const struct user *user = arg;

	for (unsigned int i = 0; i < 300; i++) {
		put(user->db, user->first + i, "a b");
		(void)got(user->db, user->first + i);
	}
	return NULL;
}

/* Instances share it: whoever finds it damaged, all go on with the new one. */
static void test_profile_db_is_set_aside_once_for_all_that_use_it(void **state)
{
	_cleanup_free_ char *path = file_of(state, "profiles.db");
	_cleanup_profile_db_ struct profile_db *db = NULL;
	struct user users[3];
	pthread_t threads[ARRAY_SIZE(users)];
	char name[4000];
	int kept;

	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	name[200] = '/';
	expect_ok(profile_db_open(path, &db));
	for (unsigned int i = 0; i < 2000; i++)
		put(db, i, name);
	kept = log_keep(state);
	spoil(state, "profiles.db");
	spoil(state, "profiles.db-wal");
	for (unsigned int i = 0; i < ARRAY_SIZE(users); i++) {
		users[i] = (struct user){.db = db, .first = i * 500};
		expect_ok(thread_start("user", use, &users[i], &threads[i]));
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(users); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(users); i++)
		put(db, users[i].first, "a b c");
	assert_int_equal(log_warnings(state, kept), 1);
	assert_true(is_there(state, "profiles.db.damaged"));
	db = profile_db_close(db);
	expect_ok(profile_db_open(path, &db));
	for (unsigned int i = 0; i < ARRAY_SIZE(users); i++)
		assert_int_equal(got(db, users[i].first), 3);
}

static void test_profile_keys_of_instances_differ(void **state)
{
	struct digest keys[3];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		profile_key_shape((const char *const[]){"cc"}, 1, &keys[i]);
	profile_key_within("", &keys[0]);
	assert_true(digest_equal(&keys[0], &keys[1]));
	profile_key_within("one", &keys[1]);
	profile_key_within("two", &keys[2]);
	assert_false(digest_equal(&keys[0], &keys[1]));
	assert_false(digest_equal(&keys[1], &keys[2]));
}

/* One row that says nothing is no reason to begin anew. */
static void test_profile_db_passes_over_a_damaged_row(void **state)
{
	_cleanup_free_ char *path = file_of(state, "profiles.db");
	_cleanup_profile_db_ struct profile_db *db = NULL;
	sqlite3 *other = NULL;

	expect_ok(profile_db_open(path, &db));
	put(db, 1, "a");
	put(db, 2, "a b");
	assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other,
				      "UPDATE profiles SET body = x'4c5a5001010005'"
				      " WHERE substr(key, 1, 1) = x'01'",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	(void)sqlite3_close(other);
	assert_int_equal(got(db, 1), 0);
	assert_int_equal(got(db, 2), 2);
	put(db, 1, "a b c");
	assert_int_equal(got(db, 1), 3);
	assert_false(is_there(state, "profiles.db.damaged"));
}

static void test_profile_db_keeps_what_was_used_last(void **state)
{
	enum { N = (PROFILE_DB_MAX / 256 + 1) * 256 };
	_cleanup_free_ char *path = file_of(state, "profiles.db");
	_cleanup_profile_db_ struct profile_db *db = NULL;

	expect_ok(profile_db_open(path, &db));
	for (unsigned int i = 0; i < N; i++) {
		put(db, i, "a");
		if (i == 1000)
			assert_int_equal(got(db, 5), 1); /* used again */
	}
	assert_int_equal(got(db, 0), 0);
	assert_int_equal(got(db, 5), 1);
	assert_int_equal(got(db, N - PROFILE_DB_MAX - 1), 0);
	assert_int_equal(got(db, N - PROFILE_DB_MAX + 1), 1);
	assert_int_equal(got(db, N - 1), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_profile_keeps_the_order_of_the_last_run),
		cmocka_unit_test(test_profile_drops_what_eight_runs_left_out),
		cmocka_unit_test(test_profile_is_not_spoiled_by_an_odd_run),
		cmocka_unit_test(test_profile_of_others_is_doubted),
		cmocka_unit_test(test_profile_probability_is_one),
		cmocka_unit_test(test_profile_has_a_path_once),
		cmocka_unit_test(test_profile_is_bounded_in_entries),
		cmocka_unit_test(test_profile_is_encoded_and_decoded),
		cmocka_unit_test(test_profile_that_is_cut_off_is_refused),
		cmocka_unit_test(test_profile_that_is_damaged_is_refused_or_bounded),
		cmocka_unit_test(test_profile_has_only_clean_paths),
		cmocka_unit_test(test_profile_has_a_path_once_though_it_was_told_twice),
		cmocka_unit_test(test_profile_is_bounded_in_bytes),
		cmocka_unit_test(test_profile_that_would_take_too_much_memory_is_refused),
		cmocka_unit_test(test_profile_key_is_the_shape_of_a_command),
		cmocka_unit_test(test_profile_key_tells_scripts_apart),
		cmocka_unit_test(test_profile_keys_of_kinds_differ),
		cmocka_unit_test(test_profile_keys_of_instances_differ),
		TEST(test_profile_db_gives_what_was_put),
		TEST(test_profile_db_that_is_damaged_is_set_aside),
		TEST(test_profile_db_that_is_damaged_meanwhile_is_set_aside),
		TEST(test_profile_db_is_set_aside_once_for_all_that_use_it),
		TEST(test_profile_db_passes_over_a_damaged_row),
		TEST(test_profile_db_keeps_what_was_used_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
