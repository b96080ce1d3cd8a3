/*
 * Encoded protobuf messages, read and written field by field, without protobuf-c: for
 * messages of which there are very many (Directories), which are large (chunks of blobs),
 * or whose limits are checked before anything is allocated for them. What a field holds
 * is not copied: it points into the message, which must outlive it.
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
	const uint8_t *at; /* the next field's first byte */
	const uint8_t *end;
	bool is_bad; /* the bytes are no message: wire_next() stopped there */
};

struct wire_field {
	uint32_t number; /* as the .proto file has it */
	enum wire_type type;
	uint64_t value; /* of varints and fixed fields; signed ones in two's complement */
	struct slice bytes; /* of WIRE_BYTES: a string, bytes, or a message; borrowed */
};

/* A reader of one message. Threads: one; nothing is allocated. */
struct wire wire_of(struct slice bytes);
/* The next field. False at the end, and where the bytes are malformed (is_bad), so that a
 * loop that ended says afterwards whether it saw a whole message. Groups are malformed.
 */
bool wire_next(struct wire *wire, struct wire_field *out);

/* The writers append to out. A number alone, as it stands after a field's head. */
void wire_put_varint(struct buf *out, uint64_t value);
/* A varint field; where value is 0, nothing, which means the same. */
void wire_put_int(struct buf *out, uint32_t field, uint64_t value);
/* A field of bytes, also where there are none of them. */
void wire_put_bytes(struct buf *out, uint32_t field, struct slice bytes);
/* The beginning of such a field: the caller appends its len bytes. */
void wire_put_head(struct buf *out, uint32_t field, size_t len);
