/*
 * Owns nothing. One pass over the bytes for each level of nesting, which the types bound:
 * none of ours holds itself; COUNT_DEPTH_MAX is for one that some day does.
 */
#include "lib/rpc/count.h"

#include "lib/base/wire.h"

#define COUNT_DEPTH_MAX 16
/* A field for one message may come in pieces, which the decoder merges: it copies what
 * came before each time. No sender that we know of sends more than one. */
#define COUNT_AGAIN_MAX 8

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

/* Another piece of a message that is there already. */
static bool count_is_again(const ProtobufCMessageDescriptor *type,
			   const ProtobufCFieldDescriptor *field, uint64_t *seen)
{
	uint64_t bit = (uint64_t)1 << (size_t)(field - type->fields) % 64;
	bool is_again = field->label != PROTOBUF_C_LABEL_REPEATED && (*seen & bit);

	*seen |= bit;
	return is_again;
}

static enum count_verdict count_level(struct count *count,
				      const ProtobufCMessageDescriptor *type,
				      struct slice bytes, int depth)
{
	struct wire wire = wire_of(bytes);
	enum count_verdict verdict = COUNT_FITS;
	struct wire_field field;
	unsigned int n_again = 0;
	uint64_t seen = 0;

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
		if (!known || known->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		n_again += count_is_again(type, known, &seen);
		if (n_again > COUNT_AGAIN_MAX)
			return COUNT_OVER;
		if (depth > 0)
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
