/*
 * Fuzzes the records of the stat cache, which come from a database that anything may have
 * happened to: what unpacks lies within the bytes and packs to the same bytes again.
 */
#include "lib/tree/stat_cache.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice whole = {data, size};
	struct slice records = whole;
	_cleanup_buf_ struct buf again = BUF_INIT;
	struct stat_record record;

	while (stat_record_unpack(&records, &record)) {
		fuzz_require_within(record.name, whole);
		fuzz_require_within(records, whole);
		stat_record_pack(&record, &again);
	}
	require(again.len + records.len == size);
	require(again.len == 0 || memcmp(again.data, data, again.len) == 0);
	return 0;
}
