/*
 * zstd, for bytes on the wire: one frame of bytes that are at hand, and back from frames,
 * at once or as they come. What frames come to is told before: one byte more or fewer is
 * refused, and so is a window that would take more memory than we give (the 8 MiB that
 * RFC 8878 asks of decoders). Several frames, one behind the other, are as one.
 *
 * Bytes that are no such frames are INVALID_ARGUMENT, want of memory is
 * RESOURCE_EXHAUSTED.
 *
 * Threads: any; a decoder is one thread's at a time. Each thread keeps what it compresses
 * with until it ends.
 */
#pragma once

#include <stdbool.h>

#include "lib/base/buf.h"
#include "lib/base/error.h"

#define ZSTD_WORTHWHILE 1024 /* bytes: what is shorter is sent as it is */

/* Appends one frame of all of bytes. */
struct error *zstd_compress(struct slice bytes, struct buf *out);
/* The same where the bytes are worth it and shrink by a sixteenth at least: else false,
 * and out is as it was. */
bool zstd_shrink(struct slice bytes, struct buf *out);
/* All of frames into the size bytes at out. */
struct error *zstd_decompress(struct slice frames, uint8_t *out, size_t size);

struct zstd_decoder;
struct error *zstd_decoder_new(int64_t size, struct zstd_decoder **decoder_out);
void *zstd_decoder_free(struct zstd_decoder *decoder);
CLEANUP_DEFINE(struct zstd_decoder, zstd_decoder_free)
/*
 * What comes of the next bytes of *in, which is moved behind them: a view that the
 * thread's next call of this module ends. No bytes come where more of *in is needed,
 * which is empty then. After an error the decoder is only to be freed.
 */
struct error *zstd_decode(struct zstd_decoder *decoder, struct slice *in,
			  struct slice *out);
/* At the end of what came: whether it was all, and its last frame whole. */
struct error *zstd_decoder_end(const struct zstd_decoder *decoder);
int64_t zstd_decoder_taken(const struct zstd_decoder *decoder); /* bytes of frames */
size_t zstd_decoder_memory(const struct zstd_decoder *decoder); /* bytes, just now */
