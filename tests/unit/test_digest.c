/* Digests as values, and the hasher. */
#include "tests/unit/cas_fixture.h"

#include "lib/base/arena.h"

#define HASH                                                                             \
	"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" /* "hello" */

static void test_digest_reads_both_separators(void **state)
{
	struct digest a;
	struct digest b;
	char text[DIGEST_STRING_MAX];

	(void)state;
	expect_ok(digest_parse(HASH "/5", &a));
	expect_ok(digest_parse(HASH "-5", &b));
	assert_true(digest_equal(&a, &b));
	assert_string_equal(digest_format(&a, text), HASH "/5");
	assert_string_equal(digest_name(&a, text), HASH "-5");
	expect_ok(digest_parse(HASH "/9223372036854775807", &a));
	assert_true(a.size == INT64_MAX);
	assert_string_equal(digest_format(&a, text), HASH "/9223372036854775807");
}

static void test_digest_rejects_other_spellings(void **state)
{
	static const char *const bad[] = {
		"",
		"/",
		HASH,
		HASH "/",
		HASH "/-1",
		HASH "/+5",
		HASH "/05",
		HASH "/5 ",
		HASH "/5/",
		HASH ":5",
		HASH "/9223372036854775808",
		HASH "/99999999999999999999",
		"2CF24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E73043362938B9824/5",
		"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b982/5",
		"../24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824/5",
		"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b982g/5",
	};
	struct digest out = {.size = 77};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		expect_error(digest_parse(bad[i], &out), ERROR_INVALID_ARGUMENT, NULL);
	assert_int_equal(out.size, 77);
}

static void test_digest_from_wire_checks_all(void **state)
{
	Reapi__Digest wire = REAPI__DIGEST__INIT;
	char hex[DIGEST_HEX_MAX];
	struct digest out;
	Reapi__Digest back;

	(void)state;
	expect_error(digest_from_wire(NULL, &out), ERROR_INVALID_ARGUMENT, "missing");
	expect_error(digest_from_wire(&wire, &out), ERROR_INVALID_ARGUMENT, NULL);
	wire.hash = HASH;
	wire.size_bytes = -5;
	expect_error(digest_from_wire(&wire, &out), ERROR_INVALID_ARGUMENT, "-5");
	wire.size_bytes = 5;
	expect_ok(digest_from_wire(&wire, &out));
	digest_to_wire(&out, hex, &back);
	assert_string_equal(back.hash, HASH);
	assert_int_equal(back.size_bytes, 5);
	wire.hash = HASH "00";
	expect_error(digest_from_wire(&wire, &out), ERROR_INVALID_ARGUMENT, NULL);
}

static void test_digest_orders_by_hash_then_size(void **state)
{
	struct digest a = digest_of("a");
	struct digest b = a;

	(void)state;
	b.size++;
	assert_true(digest_compare(&a, &b) < 0);
	assert_true(digest_compare(&b, &a) > 0);
	assert_int_equal(digest_compare(&a, &a), 0);
	assert_false(digest_equal(&a, &b));
}

static void test_hasher_knows_published_vectors(void **state)
{
	struct digest digest;
	char hex[DIGEST_HEX_MAX];

	(void)state;
	hasher_digest("", 0, &digest);
	assert_true(digest_equal(&digest, &digest_of_empty));
	hasher_digest("abc", 3, &digest);
	assert_string_equal(digest_hex(&digest, hex),
			    "ba7816bf8f01cfea414140de5dae2223b00361a3"
			    "96177a9cb410ff61f20015ad");
}

static void test_hasher_is_ready_again_after_its_end(void **state)
{
	_cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
	struct digest want = digest_of("hello");
	struct digest got;

	(void)state;
	for (int i = 0; i < 3; i++) {
		hasher_add(hasher, "hel", 3);
		hasher_add(hasher, "", 0);
		hasher_add(hasher, "lo", 2);
		hasher_end(hasher, &got);
		assert_true(digest_equal(&got, &want));
	}
}

static void test_hasher_reads_a_file_from_its_start(void **state)
{
	const struct scratch *scratch = *state;
	struct digest want = digest_of("hello");
	struct digest got;
	_cleanup_fd_ int fd = -1;

	scratch_write(scratch, "f", "hello", 0644);
	fd = openat(scratch->fd, "f", O_RDONLY | O_CLOEXEC);
	assert_int_equal(lseek(fd, 3, SEEK_SET), 3);
	expect_ok(hasher_digest_fd(fd, &got));
	assert_true(digest_equal(&got, &want));
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 3);
	expect_ok(hasher_verify_fd(fd, &want));
	want.size++;
	expect_error(hasher_verify_fd(fd, &want), ERROR_DATA_LOSS, HASH "/6");
}

static void test_hasher_survives_an_unreadable_file(void **state)
{
	const struct scratch *scratch = *state;
	struct digest want = digest_of("x");
	struct digest got;

	/* a directory cannot be read; the thread's hasher must be clean afterwards */
	expect_error(hasher_digest_fd(scratch->fd, &got), ERROR_INTERNAL, NULL);
	hasher_digest("x", 1, &got);
	assert_true(digest_equal(&got, &want));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_digest_reads_both_separators),
		cmocka_unit_test(test_digest_rejects_other_spellings),
		cmocka_unit_test(test_digest_from_wire_checks_all),
		cmocka_unit_test(test_digest_orders_by_hash_then_size),
		cmocka_unit_test(test_hasher_knows_published_vectors),
		cmocka_unit_test(test_hasher_is_ready_again_after_its_end),
		cmocka_unit_test_setup_teardown(test_hasher_reads_a_file_from_its_start,
						scratch_make, scratch_drop),
		cmocka_unit_test_setup_teardown(test_hasher_survives_an_unreadable_file,
						scratch_make, scratch_drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
