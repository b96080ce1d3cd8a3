/*
 * Fuzzes where blobs are cut: any bytes, any average and seed. Cuts go forward, a chunk
 * is no longer than may be and, but for the last, no shorter; a cut depends on nothing
 * behind the longest chunk.
 */
#include "lib/tree/chunker.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct chunker chunker;
	size_t at = 0;

	if (size < 6)
		return 0;
	/* small ones, so that a short input has many */
	if (!chunker_init(&chunker, (uint64_t)1 << (10 + data[0] % 4),
			  (uint32_t)data[1] << 24 | (uint32_t)data[2] << 16 | data[3]))
		require(false);
	data += 4;
	size -= 4;
	while (at < size) {
		size_t left = size - at;
		size_t cut = chunker_cut(&chunker, data + at, left);

		require(cut > 0 && cut <= left && cut <= chunker.max);
		require(cut >= chunker.min || cut == left);
		if (left > chunker.max)
			require(cut == chunker_cut(&chunker, data + at, chunker.max));
		at += cut;
	}
	require(at == size);
	return 0;
}
