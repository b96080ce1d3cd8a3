/*
 * Fuzzes the filter of ListOperations: what is understood means the same with more space
 * around it, and with itself added to it.
 */
#include "server/operations_filter.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_require_same(const struct buf *text,
			      const struct operations_filter *want)
{
	_cleanup_error_ struct error *err = NULL;
	struct operations_filter filter;

	err = operations_filter_parse(buf_string(text), &filter);
	if (err) /* only because it is longer */
		require(text->len > OPERATIONS_FILTER_MAX);
	else
		require(filter.stages == want->stages &&
			filter.has_action == want->has_action &&
			(!want->has_action ||
			 digest_equal(&filter.action, &want->action)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = fuzz_text((struct slice){data, size});
	_cleanup_buf_ struct buf spaced = BUF_INIT;
	_cleanup_buf_ struct buf twice = BUF_INIT;
	_cleanup_error_ struct error *err = NULL;
	struct operations_filter filter;

	err = operations_filter_parse(text, &filter);
	if (err) {
		require(error_code(err) == ERROR_INVALID_ARGUMENT);
		return 0;
	}
	buf_printf(&spaced, " \t%s & ", text);
	fuzz_require_same(&spaced, &filter);
	buf_printf(&twice, "%s AND %s", text, text);
	fuzz_require_same(&twice, &filter);
	return 0;
}
