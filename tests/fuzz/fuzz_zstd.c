/*
 * Fuzzes zstd frames, in pieces and at once: neither way makes more than was told, no
 * decoder takes more than a window's memory, and what comes in pieces comes at once, too.
 * (Not the other way round: what is at hand as a whole needs no window, however large a
 * one it asks for.)
 */
#include "lib/base/zstd.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_BYTES      (1 << 20)
#define FUZZ_MEMORY_MAX ((size_t)9 << 20)

/* What comes of frames in pieces of so many bytes, as far as it goes. */
static struct error *fuzz_decode(struct slice frames, size_t step, int64_t size,
				 struct buf *out)
{
	_cleanup_(zstd_decoder_freep) struct zstd_decoder *decoder = NULL;
	struct error *err = zstd_decoder_new(size, &decoder);

	while (!err && frames.len) {
		struct slice in = {frames.data, step < frames.len ? step : frames.len};
		struct slice piece = {0};

		frames.data += in.len;
		frames.len -= in.len;
		do {
			err = zstd_decode(decoder, &in, &piece);
			if (!err)
				buf_add(out, piece.data, piece.len);
			require(out->len <= (size_t)size);
		} while (!err && piece.len);
		require(zstd_decoder_memory(decoder) <= FUZZ_MEMORY_MAX);
	}
	return err ? err : zstd_decoder_end(decoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_error_ struct error *in_pieces = NULL;
	_cleanup_error_ struct error *at_once = NULL;
	_cleanup_free_ uint8_t *plain = NULL;
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct slice frames;
	size_t told;

	if (size < 4)
		return 0;
	told = ((size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16) %
	       FUZZ_BYTES;
	frames = (struct slice){data + 4, size - 4};
	plain = alloc_zero(told + 1);
	in_pieces = fuzz_decode(frames, (size_t)data[3] + 1, (int64_t)told, &out);
	at_once = zstd_decompress(frames, plain, told);
	require(plain[told] == 0);
	require(in_pieces || !at_once);
	if (!in_pieces)
		require(out.len == told && (!told || !memcmp(out.data, plain, told)));
	return 0;
}
