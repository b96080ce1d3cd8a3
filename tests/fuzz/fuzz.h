/*
 * What the fuzzers share: the entry points that libFuzzer calls, silence, and inputs made
 * of several parts. A fuzzer is for bytes that come from others; besides looking for
 * crashes it says with require() what must be true of whatever is accepted.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/buf.h"
#include "lib/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	error_free(log_configure("error"));
	return 0;
}

/* A part of an input: two bytes say how long it is, if there is so much left. */
static inline struct slice fuzz_part(struct slice *input)
{
	struct slice part = {input->data, 0};
	size_t len;

	if (input->len < 2)
		return part;
	len = (size_t)input->data[0] | (size_t)input->data[1] << 8;
	input->data += 2;
	input->len -= 2;
	part = (struct slice){input->data, len < input->len ? len : input->len};
	input->data += part.len;
	input->len -= part.len;
	return part;
}

/* The same bytes as text; ends at the first NUL, as all text does. The caller frees. */
static inline char *fuzz_text(struct slice bytes)
{
	return alloc_string_n((const char *)bytes.data, bytes.len);
}

/* A view must lie within the bytes that it was taken from. */
static inline void fuzz_require_within(struct slice part, struct slice whole)
{
	require(part.len <= whole.len);
	require(part.len == 0 || (part.data >= whole.data &&
				  part.data + part.len <= whole.data + whole.len));
}
