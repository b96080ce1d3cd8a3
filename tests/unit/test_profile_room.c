/* predict/profile: a run that opens as many files as a profile holds, or whose paths are
 * as long as they may be, is no reason to forget what is known. */
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "predict/profile.h"
#include "tests/unit/cas_fixture.h"

static void profile_is_not_erased(size_t n, int len, const char *dir)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	_cleanup_profile_ struct profile kept = PROFILE_INIT;
	_cleanup_free_ struct profile_read *reads = alloc_array(n, sizeof(*reads));
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	const struct profile_read known = {.path = "known"};
	size_t n_found = 0;

	for (unsigned int i = 0; i < 8; i++)
		profile_merge(&profile, &known, 1);
	for (size_t i = 0; i < n; i++)
		reads[i].path = alloc_printf("%s%zu%0*d", dir, i * 7919 % n, len, 0);
	profile_merge(&profile, reads, n);
	profile_encode(&profile, &bytes);
	expect_ok(profile_decode(buf_slice(&bytes), &kept));
	for (size_t i = 0; i < kept.n; i++)
		n_found += strcmp(kept.entries[i].path, known.path) == 0 &&
			   kept.entries[i].seen == 0xfe;
	assert_int_equal(n_found, 1);
	assert_true(kept.n > 1000);
	for (size_t i = 0; i < n; i++)
		free((char *)(uintptr_t)reads[i].path);
}

static void test_profile_is_not_erased_by_a_run_of_many(void **state)
{
	_cleanup_buf_ struct buf deep = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < 1500; i++)
		buf_printf(&deep, "d/");
	profile_is_not_erased((size_t)2 * PROFILE_ENTRIES_MAX, 8, "");
	profile_is_not_erased(PROFILE_ENTRIES_MAX, 200, "");
	profile_is_not_erased(PROFILE_ENTRIES_MAX, 8, buf_string(&deep));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_profile_is_not_erased_by_a_run_of_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
