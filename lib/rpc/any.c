/*
 * Owns nothing: from a message's descriptor to a Struct's bytes and back. The depth of
 * both is that of the descriptor, whose types do not hold themselves.
 *
 *	Struct: fields = 1 (key = 1, value = 2)		ListValue: values = 1
 *	Value: number = 2, string = 3, bool = 4, struct = 5, list = 6
 */
#include "lib/rpc/any.h"

#include <math.h>
#include <string.h>

#include "lib/base/text.h"
#include "lib/base/wire.h"

#define ANY_PREFIX "type.googleapis.com/"
#define ANY_STRUCT "google.protobuf.Struct"

enum any_value { ANY_NUMBER = 2, ANY_STRING, ANY_BOOL, ANY_STRUCT_VALUE, ANY_LIST };

/* Writing */

static void any_put_fields(const ProtobufCMessage *message, struct buf *out);

static void any_put_number(int64_t number, struct buf *out)
{
	double value = (double)number;
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	wire_put_varint(out, ANY_NUMBER << 3 | WIRE_FIXED64);
	for (size_t i = 0; i < sizeof(bits); i++)
		buf_add_byte(out, (uint8_t)(bits >> (8 * i)));
}

static void any_put_string(const char *string, struct buf *out)
{
	_cleanup_buf_ struct buf escaped = BUF_INIT;

	if (!text_is_utf8(slice_of(string))) {
		text_escape(slice_of(string), &escaped);
		string = buf_string(&escaped);
	}
	wire_put_bytes(out, ANY_STRING, slice_of(string));
}

/* One value at `at`, as a Value. */
static void any_put_value(const ProtobufCFieldDescriptor *field, const char *at,
			  struct buf *out)
{
	_cleanup_buf_ struct buf inner = BUF_INIT;

	switch (field->type) {
	case PROTOBUF_C_TYPE_INT64:
		any_put_number(*(const int64_t *)(const void *)at, out);
		break;
	case PROTOBUF_C_TYPE_BOOL:
		wire_put_varint(out, ANY_BOOL << 3 | WIRE_VARINT);
		wire_put_varint(out, *(const protobuf_c_boolean *)(const void *)at != 0);
		break;
	case PROTOBUF_C_TYPE_STRING:
		any_put_string(*(const char *const *)(const void *)at, out);
		break;
	case PROTOBUF_C_TYPE_MESSAGE:
		any_put_fields(*(const ProtobufCMessage *const *)(const void *)at,
			       &inner);
		wire_put_bytes(out, ANY_STRUCT_VALUE, buf_slice(&inner));
		break;
	default: /* no message of ours has others */
		break;
	}
}

static size_t any_size(const ProtobufCFieldDescriptor *field)
{
	return field->type == PROTOBUF_C_TYPE_INT64  ? sizeof(int64_t)
	       : field->type == PROTOBUF_C_TYPE_BOOL ? sizeof(protobuf_c_boolean)
						     : sizeof(void *);
}

static void any_put_list(const ProtobufCFieldDescriptor *field,
			 const ProtobufCMessage *message, struct buf *out)
{
	const char *base = (const char *)message;
	size_t n = *(const size_t *)(const void *)(base + field->quantifier_offset);
	const char *items = *(const char *const *)(const void *)(base + field->offset);
	_cleanup_buf_ struct buf list = BUF_INIT;

	for (size_t i = 0; i < n; i++) {
		_cleanup_buf_ struct buf value = BUF_INIT;

		any_put_value(field, items + i * any_size(field), &value);
		wire_put_bytes(&list, 1, buf_slice(&value));
	}
	wire_put_bytes(out, ANY_LIST, buf_slice(&list));
}

/* An entry of a Struct; value is an encoded Value. */
static void any_put_entry(const char *name, const struct buf *value, struct buf *out)
{
	_cleanup_buf_ struct buf entry = BUF_INIT;

	wire_put_bytes(&entry, 1, slice_of(name));
	wire_put_bytes(&entry, 2, buf_slice(value));
	wire_put_bytes(out, 1, buf_slice(&entry));
}

static void any_put_fields(const ProtobufCMessage *message, struct buf *out)
{
	const ProtobufCMessageDescriptor *descriptor = message->descriptor;

	for (unsigned int i = 0; i < descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
		const char *at = (const char *)message + field->offset;
		_cleanup_buf_ struct buf value = BUF_INIT;

		if (field->label == PROTOBUF_C_LABEL_REPEATED)
			any_put_list(field, message, &value);
		else if (field->type != PROTOBUF_C_TYPE_MESSAGE ||
			 *(const void *const *)(const void *)at)
			any_put_value(field, at, &value);
		if (value.len)
			any_put_entry(field->name, &value, out);
	}
}

Pb__Any *rpc_any_of(const ProtobufCMessage *message, struct arena *arena)
{
	_cleanup_buf_ struct buf fields = BUF_INIT;
	_cleanup_buf_ struct buf value = BUF_INIT;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	Pb__Any *any = arena_new(arena, Pb__Any);
	uint8_t *copy;

	any_put_fields(message, &fields);
	wire_put_bytes(&value, ANY_STRUCT_VALUE, buf_slice(&fields));
	any_put_entry(message->descriptor->name, &value, &bytes);
	copy = arena_memdup(arena, bytes.data, bytes.len);
	if (!any || !copy)
		return NULL;
	pb__any__init(any);
	any->type_url = ANY_PREFIX ANY_STRUCT;
	any->value.len = bytes.len;
	any->value.data = copy;
	return any;
}

/* Reading */

static void any_take_fields(struct slice bytes,
			    const ProtobufCMessageDescriptor *descriptor,
			    struct buf *out);

/* The first field of this number and type. */
static bool any_find(struct slice bytes, uint32_t number, struct wire_field *out)
{
	struct wire wire = wire_of(bytes);

	while (wire_next(&wire, out))
		if (out->number == number && out->type == WIRE_BYTES)
			return true;
	return false;
}

static uint64_t any_take_number(uint64_t bits)
{
	double value;

	memcpy(&value, &bits, sizeof(value));
	/* what no int64 can be is no number of ours */
	if (!(fabs(value) < 9e18))
		return 0;
	return (uint64_t)(int64_t)value;
}

/* A Value as a field of a message. */
static void any_take_value(const ProtobufCFieldDescriptor *field, struct slice value,
			   bool is_item, struct buf *out)
{
	_cleanup_buf_ struct buf inner = BUF_INIT;
	struct wire wire = wire_of(value);
	struct wire_field got;

	if (!wire_next(&wire, &got))
		return;
	if (got.number == ANY_NUMBER && got.type == WIRE_FIXED64 &&
	    field->type == PROTOBUF_C_TYPE_INT64)
		wire_put_int(out, field->id, any_take_number(got.value));
	else if (got.number == ANY_BOOL && got.type == WIRE_VARINT &&
		 field->type == PROTOBUF_C_TYPE_BOOL)
		wire_put_int(out, field->id, got.value != 0);
	if (got.type != WIRE_BYTES)
		return;
	if (got.number == ANY_STRING && field->type == PROTOBUF_C_TYPE_STRING) {
		wire_put_bytes(out, field->id, got.bytes);
	} else if (got.number == ANY_STRUCT_VALUE &&
		   field->type == PROTOBUF_C_TYPE_MESSAGE) {
		any_take_fields(got.bytes, field->descriptor, &inner);
		wire_put_bytes(out, field->id, buf_slice(&inner));
	} else if (got.number == ANY_LIST && !is_item &&
		   field->label == PROTOBUF_C_LABEL_REPEATED) {
		struct wire_field item;

		for (wire = wire_of(got.bytes); wire_next(&wire, &item);)
			if (item.number == 1 && item.type == WIRE_BYTES)
				any_take_value(field, item.bytes, true, out);
	}
}

static void any_take_fields(struct slice bytes,
			    const ProtobufCMessageDescriptor *descriptor, struct buf *out)
{
	struct wire wire = wire_of(bytes);
	struct wire_field entry;

	while (wire_next(&wire, &entry)) {
		const ProtobufCFieldDescriptor *field = NULL;
		struct wire_field key;
		struct wire_field value;

		if (entry.number != 1 || entry.type != WIRE_BYTES ||
		    !any_find(entry.bytes, 1, &key) || !any_find(entry.bytes, 2, &value))
			continue;
		for (unsigned int i = 0; !field && i < descriptor->n_fields; i++)
			if (slice_is(key.bytes, descriptor->fields[i].name))
				field = &descriptor->fields[i];
		if (field)
			any_take_value(field, value.bytes, false, out);
	}
}

static ProtobufCMessage *any_from_struct(struct slice bytes,
					 const ProtobufCMessageDescriptor *descriptor,
					 struct arena *arena)
{
	struct wire wire = wire_of(bytes);
	struct wire_field entry;

	while (wire_next(&wire, &entry)) {
		_cleanup_buf_ struct buf message = BUF_INIT;
		struct wire_field key;
		struct wire_field value;

		if (entry.number != 1 || entry.type != WIRE_BYTES ||
		    !any_find(entry.bytes, 1, &key) ||
		    !slice_is(key.bytes, descriptor->name) ||
		    !any_find(entry.bytes, 2, &value) ||
		    !any_find(value.bytes, ANY_STRUCT_VALUE, &value))
			continue;
		any_take_fields(value.bytes, descriptor, &message);
		return rpc_decode(descriptor, buf_slice(&message), arena);
	}
	return NULL;
}

ProtobufCMessage *rpc_any_message(const Pb__Any *any,
				  const ProtobufCMessageDescriptor *descriptor,
				  struct arena *arena)
{
	struct slice bytes = {any->value.data, any->value.len};
	const char *slash = strrchr(any->type_url, '/');

	if (slash && strcmp(slash + 1, descriptor->name) == 0)
		return rpc_decode(descriptor, bytes, arena);
	if (slash && strcmp(slash + 1, ANY_STRUCT) == 0)
		return any_from_struct(bytes, descriptor, arena);
	return NULL;
}
