/*
 * Fuzzes what a server says of a blob's chunks, in several messages: whatever it says,
 * the list is of chunks that may be, one behind the other, and no more than the blob has.
 */
#include "lib/cas/remote.h"
#include "lib/store/chunk_map.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_CHUNK_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice input = {data, size};
	struct chunk_list list = CHUNK_LIST_INIT;
	struct digest blob = {0};
	struct error *err = NULL;
	int64_t at = 0;

	if (size < 3)
		return 0;
	blob.size = (int64_t)data[0] | (int64_t)data[1] << 8 | (int64_t)data[2] << 40;
	input = (struct slice){data + 3, size - 3};
	while (!err && input.len >= 2)
		err = remote_split_message(fuzz_part(&input), &blob, FUZZ_CHUNK_MAX,
					   &list);
	require(list.n <= CHUNK_MAP_CHUNKS && chunk_list_size(&list) <= blob.size);
	for (size_t i = 0; i < list.n; i++) {
		require(list.items[i].at == at);
		require(list.items[i].digest.size > 0 &&
			list.items[i].digest.size <= FUZZ_CHUNK_MAX);
		at += list.items[i].digest.size;
	}
	error_free(err);
	chunk_list_deinit(&list);
	return 0;
}
