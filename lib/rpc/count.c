/*
 * Owns nothing. One pass over the bytes for each level of nesting, which the types bound:
 * none of ours holds itself; COUNT_DEPTH_MAX is for one that some day does.
 */
#include "lib/rpc/count.h"

#include "lib/base/wire.h"

#define COUNT_DEPTH_MAX 16

struct count {
	size_t n;
	size_t max;
};

static bool count_is_packed(const ProtobufCFieldDescriptor *field)
{
	return field->label == PROTOBUF_C_LABEL_REPEATED &&
	       field->type != PROTOBUF_C_TYPE_STRING &&
	       field->type != PROTOBUF_C_TYPE_BYTES &&
	       field->type != PROTOBUF_C_TYPE_MESSAGE;
}

static enum count_verdict count_level(struct count *count,
				      const ProtobufCMessageDescriptor *type,
				      struct slice bytes, int depth)
{
	struct wire wire = wire_of(bytes);
	enum count_verdict verdict = COUNT_FITS;
	struct wire_field field;

	while (verdict == COUNT_FITS && wire_next(&wire, &field)) {
		const ProtobufCFieldDescriptor *known = NULL;

		count->n++;
		if (field.type == WIRE_BYTES)
			known = protobuf_c_message_descriptor_get_field(type,
									field.number);
		if (known && count_is_packed(known))
			count->n += field.bytes.len; /* one byte each, at least */
		if (count->n > count->max)
			return COUNT_OVER;
		if (known && known->type == PROTOBUF_C_TYPE_MESSAGE && depth > 0)
			verdict = count_level(count, known->descriptor, field.bytes,
					      depth - 1);
	}
	return wire.is_bad ? COUNT_MALFORMED : verdict;
}

enum count_verdict count_elements(const ProtobufCMessageDescriptor *type,
				  struct slice bytes, size_t max)
{
	struct count count = {0, max};

	return count_level(&count, type, bytes, COUNT_DEPTH_MAX);
}
