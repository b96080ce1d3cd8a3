/* Owns nothing; any thread. Never reads past the slice it was given. */
#include "lib/base/wire.h"

struct wire wire_of(struct slice bytes)
{
	return (struct wire){bytes.data, bytes.data ? bytes.data + bytes.len : NULL,
			     false};
}

static bool wire_bad(struct wire *wire)
{
	wire->is_bad = true;
	return false;
}

static bool wire_varint(struct wire *wire, uint64_t *out)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 64 && wire->at < wire->end; shift += 7) {
		uint8_t byte = *wire->at++;

		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*out = value;
			return true;
		}
	}
	return wire_bad(wire);
}

static bool wire_fixed(struct wire *wire, size_t len, uint64_t *out)
{
	uint64_t value = 0;

	if ((size_t)(wire->end - wire->at) < len)
		return wire_bad(wire);
	for (size_t i = 0; i < len; i++)
		value |= (uint64_t)wire->at[i] << (8 * i);
	wire->at += len;
	*out = value;
	return true;
}

static bool wire_bytes(struct wire *wire, struct slice *out)
{
	uint64_t len;

	if (!wire_varint(wire, &len))
		return false;
	if (len > (uint64_t)(wire->end - wire->at))
		return wire_bad(wire);
	*out = (struct slice){wire->at, (size_t)len};
	wire->at += len;
	return true;
}

bool wire_next(struct wire *wire, struct wire_field *out)
{
	uint64_t key;

	if (wire->at == wire->end || wire->is_bad)
		return false;
	if (!wire_varint(wire, &key))
		return false;
	if (key >> 3 == 0 || key >> 3 > 0x1fffffff)
		return wire_bad(wire);
	*out = (struct wire_field){.number = (uint32_t)(key >> 3)};
	switch (key & 7) {
	case WIRE_VARINT:
		out->type = WIRE_VARINT;
		return wire_varint(wire, &out->value);
	case WIRE_FIXED64:
		out->type = WIRE_FIXED64;
		return wire_fixed(wire, 8, &out->value);
	case WIRE_FIXED32:
		out->type = WIRE_FIXED32;
		return wire_fixed(wire, 4, &out->value);
	case WIRE_BYTES:
		out->type = WIRE_BYTES;
		return wire_bytes(wire, &out->bytes);
	default: /* groups: nobody sends them */
		return wire_bad(wire);
	}
}

void wire_put_varint(struct buf *out, uint64_t value)
{
	while (value >= 0x80) {
		buf_add_byte(out, (uint8_t)(value | 0x80));
		value >>= 7;
	}
	buf_add_byte(out, (uint8_t)value);
}

void wire_put_int(struct buf *out, uint32_t field, uint64_t value)
{
	if (!value)
		return;
	wire_put_varint(out, (uint64_t)field << 3 | WIRE_VARINT);
	wire_put_varint(out, value);
}

void wire_put_head(struct buf *out, uint32_t field, size_t len)
{
	wire_put_varint(out, (uint64_t)field << 3 | WIRE_BYTES);
	wire_put_varint(out, len);
}

void wire_put_bytes(struct buf *out, uint32_t field, struct slice bytes)
{
	wire_put_head(out, field, bytes.len);
	buf_add(out, bytes.data, bytes.len);
}
