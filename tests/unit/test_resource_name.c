/* ByteStream's resource names: which are read, and how; which are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "server/resource_name.h"

#define H "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void assert_name(const char *text, const char *instance, bool is_upload,
			const char *uuid, int64_t size)
{
	struct resource_name name;
	struct error *err = resource_name_parse(text, &name);

	if (err)
		fail_msg("%s", error_text(err));
	assert_true(slice_is(name.instance, instance));
	assert_int_equal(name.is_upload, is_upload);
	assert_true(slice_is(name.uuid, uuid));
	assert_int_equal(name.digest.size, size);
}

static void test_resource_name_of_blobs(void **state)
{
	(void)state;
	assert_name("blobs/" H "/7", "", false, "", 7);
	assert_name("main/blobs/" H "/0", "main", false, "", 0);
	assert_name("a/b/c/blobs/" H "/7", "a/b/c", false, "", 7);
}

static void test_resource_name_of_uploads(void **state)
{
	(void)state;
	assert_name("uploads/u-1/blobs/" H "/7", "", true, "u-1", 7);
	assert_name("a/b/uploads/u/blobs/" H "/7", "a/b", true, "u", 7);
	assert_name("uploads/u/blobs/" H "/7/and/more", "", true, "u", 7);
	assert_name("uploads/blobs/blobs/" H "/7", "", true, "blobs", 7);
}

static void test_resource_name_of_frames(void **state)
{
	static const char *const names[] = {"compressed-blobs/zstd/" H "/7",
					    "a/b/compressed-blobs/zstd/" H "/7",
					    "uploads/u/compressed-blobs/zstd/" H "/7",
					    "uploads/u/compressed-blobs/zstd/" H "/7/x"};
	struct resource_name name;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_null(resource_name_parse(names[i], &name));
		assert_true(name.is_zstd);
		assert_int_equal(name.is_upload, i >= 2);
		assert_int_equal(name.digest.size, 7);
	}
	assert_null(resource_name_parse("blobs/" H "/7", &name));
	assert_false(name.is_zstd);
}

static void test_resource_name_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"/",
		"blobs",
		"blobs/" H,
		"blobs/" H "/",
		"blobs/" H "/x",
		"blobs/" H "/-1",
		"blobs/" H "/7/more",
		"/blobs/" H "/7",
		"a//blobs/" H "/7",
		"uploads/blobs/" H "/7",
		"uploads//blobs/" H "/7",
		"uploads/u",
		"uploads/u/" H "/7",
		"actions/blobs/" H "/7",
		"a/operations/b/blobs/" H "/7",
		"compressed-blobs/" H "/7",
		"compressed-blobs/ZSTD/" H "/7",
		"compressed-blobs/deflate/" H "/7",
		"compressed-blobs/zstd/" H "/7/more",
		"uploads/u/compressed-blobs/zst/" H "/7",
		"uploads/u/compressed-blobs/zstd",
		"a/compressed-blobs/b/blobs/" H "/7",
		"blobs/../" H "/7",
		"blobs/E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855/"
		"7",
		"blobs/e3b0/7",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct resource_name name;
		struct error *err = resource_name_parse(bad[i], &name);

		if (!err)
			fail_msg("\"%s\" was read", bad[i]);
		assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
		error_free(err);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resource_name_of_blobs),
		cmocka_unit_test(test_resource_name_of_uploads),
		cmocka_unit_test(test_resource_name_of_frames),
		cmocka_unit_test(test_resource_name_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
