/*
 * The protobuf wire format by hand, for the few hot or security-relevant messages that
 *are not left to protobuf-c: fields as views into the message's bytes, true lengths, no
 *copies.
 *
 *	struct wire w = wire_of(bytes);
 *	struct wire_field f;
 *	while (wire_next(&w, &f)) { … }
 *	if (w.is_bad) …not a message…
 */
#pragma once

#include "lib/base/buf.h"

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct wire {
	const uint8_t *at;
	const uint8_t *end;
	bool is_bad;
};

struct wire_field {
	uint32_t number;
	enum wire_type type;
	uint64_t value;     /* of varints and fixed fields */
	struct slice bytes; /* of WIRE_BYTES */
};

struct wire wire_of(struct slice bytes);
/* False at the end and at the first malformed byte, which sets is_bad. */
bool wire_next(struct wire *wire, struct wire_field *out);

void wire_put_varint(struct buf *out, uint64_t value);
void wire_put_int(struct buf *out, uint32_t field, uint64_t value); /* 0: left out */
void wire_put_bytes(struct buf *out, uint32_t field, struct slice bytes); /* empty too */
void wire_put_head(struct buf *out, uint32_t field, size_t len); /* bytes follow */
