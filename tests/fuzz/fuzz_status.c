/*
 * Fuzzes google.rpc.Status as a peer sends it: the error it becomes says the same when it
 * is sent on.
 */
#include "lib/rpc/rpc.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_error_ struct error *err = rpc_status_decode((struct slice){data, size});
	_cleanup_error_ struct error *again = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	if (!err)
		return 0;
	require(error_code(err) > ERROR_OK && error_code(err) <= ERROR_UNAUTHENTICATED);
	require(error_n_missing(err) <= ERROR_MISSING_MAX);
	require(error_retry_delay_ms(err) >= -1);
	rpc_status_encode(err, &bytes);
	again = rpc_status_decode(buf_slice(&bytes));
	require(error_code(again) == error_code(err));
	require(error_n_missing(again) == error_n_missing(err));
	require(error_retry_delay_ms(again) == error_retry_delay_ms(err));
	return 0;
}
