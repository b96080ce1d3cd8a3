/*
 * Fuzzes what is read off the wire by hand: the fields of any message, and the blobs of a
 * BatchReadBlobs reply, whose digests and bytes must be views of it and nothing more, or
 * have been frames and be as many as their digest says.
 */
#include "lib/base/wire.h"
#include "lib/cas/remote.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_each(void *ctx, const struct digest *digest, struct error *err,
		      struct slice bytes)
{
	char text[DIGEST_STRING_MAX];
	struct digest again;

	require(digest->size >= 0);
	require(!digest_parse(digest_format(digest, text), &again));
	require(digest_equal(digest, &again));
	if (!err && bytes.len != (size_t)digest->size)
		fuzz_require_within(bytes, *(struct slice *)ctx);
	require(!err || error_text(err)[0]);
	error_free(err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice whole = {data, size};
	struct wire wire = wire_of(whole);
	struct wire_field field;

	while (wire_next(&wire, &field)) {
		if (field.type == WIRE_BYTES)
			fuzz_require_within(field.bytes, whole);
	}
	error_free(remote_batch_each(whole, fuzz_each, &whole));
	return 0;
}
