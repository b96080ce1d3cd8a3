/*
 * Fuzzes the decoding of every message that peers send us, within an arena's cap: the
 * first byte says which. What is accepted encodes; where that decodes (protobuf-c also
 * takes a field 0 that it then spells in a way it does not take), it encodes to the same
 * bytes.
 */
#include "lib/rpc/rpc.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_ARENA_MAX ((size_t)32 << 20)

static const ProtobufCMessageDescriptor *const fuzz_types[] = {
	&reapi__action__descriptor,
	&reapi__action_result__descriptor,
	&reapi__batch_read_blobs_request__descriptor,
	&reapi__batch_update_blobs_response__descriptor,
	&reapi__command__descriptor,
	&reapi__execute_request__descriptor,
	&reapi__execute_response__descriptor,
	&reapi__find_missing_blobs_request__descriptor,
	&reapi__find_missing_blobs_response__descriptor,
	&reapi__get_tree_request__descriptor,
	&reapi__server_capabilities__descriptor,
	&reapi__update_action_result_request__descriptor,
	&bots__bot_session__descriptor,
	&bots__update_bot_session_request__descriptor,
	&bytestream__write_request__descriptor,
	&longrunning__operation__descriptor,
	&lazyroot__read_report__descriptor,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(FUZZ_ARENA_MAX);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_buf_ struct buf again = BUF_INIT;
	const ProtobufCMessageDescriptor *type;
	ProtobufCMessage *message;

	if (size == 0)
		return 0;
	type = fuzz_types[data[0] % ARRAY_SIZE(fuzz_types)];
	message = rpc_decode(type, (struct slice){data + 1, size - 1}, &arena);
	if (!message)
		return 0;
	rpc_encode(message, &bytes);
	message = rpc_decode(type, buf_slice(&bytes), &arena);
	if (!message)
		return 0;
	rpc_encode(message, &again);
	require(slice_equal(buf_slice(&again), buf_slice(&bytes)));
	return 0;
}
