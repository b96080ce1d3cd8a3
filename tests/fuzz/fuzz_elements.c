/*
 * Fuzzes the decoding of requests with messages that amplify: an input is a recipe, a few
 * bytes for a field that then stands there thousands of times, at any depth. What a
 * decoder allocates is linear in what count_elements() says of the bytes and in their
 * length, so the count is a limit on memory; and what it calls malformed, or too many, is
 * not decoded.
 *
 * A recipe: a byte for the type, then parts of four bytes: the field's number, what it
 * holds, and how often. Every part but the first stands inside what came before, or after
 * it, as a bit of the second byte says.
 */
#include <protobuf-c/protobuf-c.h>

#include "lib/base/wire.h"
#include "lib/rpc/count.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_BYTES_MAX ((size_t)64 << 10)
#define FUZZ_PARTS_MAX 12
/* Beside a struct and its pointer, scanning takes some sixty bytes for each field, twice
 * that where its tables have just doubled. */
#define FUZZ_PER_ELEMENT 1024
#define FUZZ_AT_LEAST    ((size_t)64 << 10)

static const ProtobufCMessageDescriptor *const fuzz_types[] = {
	&reapi__batch_read_blobs_request__descriptor,
	&reapi__batch_update_blobs_request__descriptor,
	&reapi__execute_request__descriptor,
	&reapi__find_missing_blobs_request__descriptor,
	&reapi__get_action_result_request__descriptor,
	&reapi__get_tree_request__descriptor,
	&reapi__update_action_result_request__descriptor,
	&reapi__action__descriptor,
	&reapi__command__descriptor,
	&reapi__action_result__descriptor,
	&bots__create_bot_session_request__descriptor,
	&bots__update_bot_session_request__descriptor,
	&longrunning__list_operations_request__descriptor,
	&bytestream__read_request__descriptor,
	&asset__fetch_blob_request__descriptor,
	&asset__push_blob_request__descriptor,
	&logstream__create_log_stream_request__descriptor,
	&health__health_check_request__descriptor,
	&reapi__splice_blob_request__descriptor,
	&reapi__register_chunk_mapping_request__descriptor,
};

/* What content holds becomes one field, repeated. */
static void fuzz_repeat(const uint8_t *part, const struct buf *content, struct buf *out)
{
	uint32_t number = part[0] % 16; /* 0 is none, and must be refused */
	size_t n = (size_t)part[2] | (size_t)part[3] << 8;

	for (size_t i = 0; i < n && out->len + content->len < FUZZ_BYTES_MAX; i++) {
		switch (part[1] % 4) {
		case 0:
			wire_put_varint(out, (uint64_t)number << 3 | WIRE_VARINT);
			wire_put_varint(out, i);
			break;
		case 1:
			wire_put_bytes(out, number, (struct slice){NULL, 0});
			break;
		default:
			wire_put_bytes(out, number, buf_slice(content));
			break;
		}
	}
}

static void fuzz_cook(struct slice recipe, struct buf *out)
{
	_cleanup_buf_ struct buf level = BUF_INIT;
	_cleanup_buf_ struct buf made = BUF_INIT;

	for (size_t i = 0; i < FUZZ_PARTS_MAX && recipe.len >= 4; i++) {
		buf_clear(&made);
		fuzz_repeat(recipe.data, &level, &made);
		if (recipe.data[1] & 0x80) /* inside: what comes next goes around it */
			buf_clear(&level);
		if (level.len + made.len < FUZZ_BYTES_MAX)
			buf_add(&level, made.data, made.len);
		recipe.data += 4;
		recipe.len -= 4;
	}
	buf_add(out, level.data, level.len);
}

struct fuzz_memory {
	struct arena arena;
	size_t used;
};

static void *fuzz_alloc(void *ctx, size_t size)
{
	struct fuzz_memory *memory = ctx;

	memory->used += size;
	return arena_alloc(&memory->arena, size);
}

static void fuzz_ignore(void *ctx, void *p)
{
	(void)ctx;
	(void)p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_memory memory = {.arena = ARENA_INIT(RPC_ARENA_MAX)};
	ProtobufCAllocator allocator = {fuzz_alloc, fuzz_ignore, &memory};
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	const ProtobufCMessageDescriptor *type;
	ProtobufCMessage *message;
	enum count_verdict verdict;
	size_t n = 0;

	if (size == 0)
		return 0;
	type = fuzz_types[data[0] % ARRAY_SIZE(fuzz_types)];
	fuzz_cook((struct slice){data + 1, size - 1}, &bytes);
	verdict = count_elements(type, buf_slice(&bytes), SIZE_MAX);
	for (size_t step = FUZZ_BYTES_MAX; step > 0 && verdict == COUNT_FITS; step /= 2) {
		if (count_elements(type, buf_slice(&bytes), n + step) == COUNT_OVER)
			n += step;
	}
	message = protobuf_c_message_unpack(type, &allocator, bytes.len,
					    bytes.data ? bytes.data : data);
	if (verdict == COUNT_FITS)
		require(memory.used <=
			FUZZ_AT_LEAST + bytes.len + (n + 1) * FUZZ_PER_ELEMENT);
	require(!message || !memory.arena.is_full);
	arena_deinit(&memory.arena);
	message = rpc_decode(type, buf_slice(&bytes), &memory.arena);
	require(!message || verdict == COUNT_FITS);
	arena_deinit(&memory.arena);
	return 0;
}
