/*
 * Fuzzes the splitter of Tree messages: the parts lie within the message, and a Tree made
 * of them splits into the same parts again. In topological order parts may be left out.
 */
#include "lib/tree/tree.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_again(struct slice *dirs, size_t n, bool is_topological)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_error_ struct error *err = NULL;
	_cleanup_free_ struct slice *again = NULL;
	size_t n_again = 0;

	tree_message_encode(dirs[0], dirs + 1, n - 1, is_topological, &bytes);
	err = tree_message_split(buf_slice(&bytes), &again, &n_again);
	require(!err && n_again >= 1 && n_again <= n);
	require(slice_equal(again[0], dirs[0]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice whole = {data, size};
	_cleanup_free_ struct slice *dirs = NULL;
	_cleanup_error_ struct error *err = NULL;
	size_t n = 0;

	err = tree_message_split(whole, &dirs, &n);
	if (err)
		return 0;
	require(n >= 1);
	for (size_t i = 0; i < n; i++)
		fuzz_require_within(dirs[i], whole);
	fuzz_again(dirs, n, false);
	fuzz_again(dirs, n, true);
	return 0;
}
