/*
 * Owns libzstd: a thread's contexts, decoders, and where their memory comes from
 * (alloc_bounded(), so that its failures can be tested as any other).
 *
 * A decoder asks for one byte more than may come: so it notices more than was told
 * without ever making it. Formats older than zstd's own magic number are refused by it,
 * whatever libzstd was built to read: their decoders know no limit of memory.
 */
#define ZSTD_STATIC_LINKING_ONLY /* for contexts with an allocator of ours */
#include "lib/base/zstd.h"

#include <pthread.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "lib/base/alloc.h"
#include "lib/base/sync.h"

#define ZSTD_FASTEST    1                   /* the level */
#define ZSTD_WINDOW_LOG 23                  /* of 2: 8 MiB */
#define ZSTD_MEMORY     ((size_t)64 << 20)  /* of one allocation */
#define ZSTD_PIECE      ((size_t)128 << 10) /* what comes out of a decoder at once */
#define ZSTD_HEAD       4                   /* bytes of a magic number */

struct zstd_decoder {
	ZSTD_DCtx *context;
	int64_t size; /* what all must come to */
	int64_t done;
	int64_t taken;
	uint8_t head[ZSTD_HEAD]; /* of the frame that begins */
	size_t n_head;
	bool is_within; /* a frame, or its head */
	bool has_more;  /* there may be bytes without any more input */
};

struct zstd_thread {
	ZSTD_CCtx *compressor;
	struct zstd_decoder decoder;
	uint8_t *piece;
};

static struct sync_once zstd_once = SYNC_ONCE_INIT;
static pthread_key_t zstd_key;
static _Thread_local struct zstd_thread *zstd_of_thread;

static void zstd_thread_end(void *arg)
{
	struct zstd_thread *thread = arg;

	zstd_of_thread = NULL;
	(void)ZSTD_freeCCtx(thread->compressor);
	(void)ZSTD_freeDCtx(thread->decoder.context);
	free(thread->piece);
	free(thread);
}

static void zstd_init_process(void)
{
	require(pthread_key_create(&zstd_key, zstd_thread_end) == 0);
}

static struct zstd_thread *zstd_mine(void)
{
	if (!zstd_of_thread) {
		sync_once(&zstd_once, zstd_init_process);
		zstd_of_thread = alloc_new(struct zstd_thread);
		require(pthread_setspecific(zstd_key, zstd_of_thread) == 0);
	}
	return zstd_of_thread;
}

static void *zstd_allocate(void *ctx, size_t size)
{
	(void)ctx;
	return alloc_bounded(size, ZSTD_MEMORY);
}

static void zstd_release(void *ctx, void *memory)
{
	(void)ctx;
	free(memory);
}

static const ZSTD_customMem zstd_memory = {zstd_allocate, zstd_release, NULL};

static struct error *zstd_no_memory(void)
{
	return error_new(ERROR_RESOURCE_EXHAUSTED, "no memory for zstd");
}

/* What a call of libzstd returned; NULL where that is no error. */
static struct error *zstd_error(size_t result)
{
	switch (ZSTD_getErrorCode(result)) {
	case ZSTD_error_no_error:
		return NULL;
	case ZSTD_error_memory_allocation:
		return zstd_no_memory();
	case ZSTD_error_frameParameter_windowTooLarge:
		return error_new(ERROR_INVALID_ARGUMENT,
				 "a zstd frame asks for a window of more than %d MiB",
				 1 << (ZSTD_WINDOW_LOG - 20));
	default:
		return error_new(ERROR_INVALID_ARGUMENT, "these are no zstd frames: %s",
				 ZSTD_getErrorName(result));
	}
}

/* ---- compressing ---------------------------------------------------------------- */

struct error *zstd_compress(struct slice bytes, struct buf *out)
{
	struct zstd_thread *thread = zstd_mine();
	size_t room = ZSTD_compressBound(bytes.len);
	struct error *err;
	size_t n;

	if (!thread->compressor) {
		thread->compressor = ZSTD_createCCtx_advanced(zstd_memory);
		if (!thread->compressor)
			return zstd_no_memory();
		n = ZSTD_CCtx_setParameter(thread->compressor, ZSTD_c_compressionLevel,
					   ZSTD_FASTEST);
		require(!ZSTD_isError(n));
	}
	buf_reserve(out, room);
	n = ZSTD_compress2(thread->compressor, out->data + out->len, room, bytes.data,
			   bytes.len);
	err = zstd_error(n);
	if (err)
		return err;
	out->len += n;
	out->data[out->len] = '\0';
	return NULL;
}

bool zstd_shrink(struct slice bytes, struct buf *out)
{
	size_t before = out->len;
	_cleanup_error_ struct error *err = NULL;

	if (bytes.len < ZSTD_WORTHWHILE)
		return false;
	err = zstd_compress(bytes, out);
	if (!err && out->len - before <= bytes.len - bytes.len / 16)
		return true;
	out->len = before;
	if (out->data)
		out->data[before] = '\0';
	return false;
}

/* ---- decompressing -------------------------------------------------------------- */

/* Ready for the first byte. */
static struct error *zstd_decoder_begin(struct zstd_decoder *decoder, int64_t size)
{
	ZSTD_DCtx *context = decoder->context;
	size_t n;

	if (!context)
		context = ZSTD_createDCtx_advanced(zstd_memory);
	if (!context)
		return zstd_no_memory();
	*decoder = (struct zstd_decoder){.context = context, .size = size};
	n = ZSTD_DCtx_reset(context, ZSTD_reset_session_only);
	require(!ZSTD_isError(n));
	n = ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
	require(!ZSTD_isError(n));
	return NULL;
}

struct error *zstd_decoder_new(int64_t size, struct zstd_decoder **decoder_out)
{
	_cleanup_(zstd_decoder_freep) struct zstd_decoder *decoder =
		alloc_new(struct zstd_decoder);
	struct error *err = zstd_decoder_begin(decoder, size);

	if (err)
		return err;
	*decoder_out = take(decoder);
	return NULL;
}

void *zstd_decoder_free(struct zstd_decoder *decoder)
{
	if (!decoder)
		return NULL;
	(void)ZSTD_freeDCtx(decoder->context);
	free(decoder);
	return NULL;
}

/* Whether bytes are how a frame begins, or one to be skipped; of a few, how it may. */
static bool zstd_is_head(const uint8_t *bytes, size_t len)
{
	static const uint8_t frame[ZSTD_HEAD] = {0x28, 0xb5, 0x2f, 0xfd};
	static const uint8_t skip[ZSTD_HEAD] = {0x50, 0x2a, 0x4d, 0x18};

	return memcmp(bytes, frame, len) == 0 ||
	       ((bytes[0] & 0xf0) == skip[0] &&
		memcmp(bytes + 1, skip + 1, len - 1) == 0);
}

/* Looks at the first bytes of a frame, which libzstd is then given. */
static struct error *zstd_check_head(struct zstd_decoder *decoder, struct slice in)
{
	if (!decoder->is_within)
		decoder->n_head = 0;
	for (size_t i = 0; i < in.len && decoder->n_head < ZSTD_HEAD; i++) {
		decoder->head[decoder->n_head++] = in.data[i];
		if (!zstd_is_head(decoder->head, decoder->n_head))
			return error_new(ERROR_INVALID_ARGUMENT,
					 "these are no zstd frames");
	}
	return NULL;
}

/* One call: until the input or the room at out is gone, or a frame has ended. */
static struct error *zstd_step(struct zstd_decoder *decoder, struct slice *in,
			       ZSTD_outBuffer *out)
{
	ZSTD_inBuffer from = {in->data, in->len, 0};
	size_t before = out->pos;
	struct error *err = zstd_check_head(decoder, *in);
	size_t n;

	if (err)
		return err;
	n = ZSTD_decompressStream(decoder->context, out, &from);
	err = zstd_error(n);
	if (err)
		return err;
	decoder->is_within = n != 0;
	decoder->has_more = n != 0 && out->pos == out->size;
	decoder->taken += (int64_t)from.pos;
	decoder->done += (int64_t)(out->pos - before);
	in->data += from.pos;
	in->len -= from.pos;
	if (decoder->done > decoder->size)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "zstd frames come to more than the %lld bytes told",
				 (long long)decoder->size);
	return NULL;
}

/* Fills out, which has room for one byte more than may come, as far as in goes. */
static struct error *zstd_fill(struct zstd_decoder *decoder, struct slice *in,
			       ZSTD_outBuffer *out)
{
	while (out->pos < out->size && (in->len > 0 || decoder->has_more)) {
		struct error *err = zstd_step(decoder, in, out);

		if (err)
			return err;
	}
	return NULL;
}

struct error *zstd_decode(struct zstd_decoder *decoder, struct slice *in,
			  struct slice *out)
{
	struct zstd_thread *thread = zstd_mine();
	uint64_t left = (uint64_t)(decoder->size - decoder->done);
	ZSTD_outBuffer to = {.size = left < ZSTD_PIECE ? (size_t)left + 1 : ZSTD_PIECE};
	struct error *err;

	if (!thread->piece)
		thread->piece = alloc_bounded(ZSTD_PIECE, ZSTD_PIECE);
	if (!thread->piece)
		return zstd_no_memory();
	to.dst = thread->piece;
	err = zstd_fill(decoder, in, &to);
	if (err)
		return err;
	*out = (struct slice){thread->piece, to.pos};
	return NULL;
}

struct error *zstd_decoder_end(const struct zstd_decoder *decoder)
{
	if (decoder->is_within || decoder->has_more)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the last zstd frame is not whole");
	if (decoder->done != decoder->size)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "zstd frames come to %lld bytes, not to %lld",
				 (long long)decoder->done, (long long)decoder->size);
	return NULL;
}

int64_t zstd_decoder_taken(const struct zstd_decoder *decoder)
{
	return decoder->taken;
}

size_t zstd_decoder_memory(const struct zstd_decoder *decoder)
{
	return sizeof(*decoder) + ZSTD_sizeof_DCtx(decoder->context);
}

struct error *zstd_decompress(struct slice frames, uint8_t *out, size_t size)
{
	struct zstd_decoder *decoder = &zstd_mine()->decoder;
	ZSTD_outBuffer to = {out, size, 0};
	struct error *err = zstd_decoder_begin(decoder, (int64_t)size);
	uint8_t one;

	if (!err)
		err = zstd_fill(decoder, &frames, &to);
	if (!err && (frames.len > 0 || decoder->has_more)) {
		to = (ZSTD_outBuffer){&one, 1, 0};
		err = zstd_fill(decoder, &frames, &to);
	}
	return err ? err : zstd_decoder_end(decoder);
}
