/*
 * proto_roundtrip: owns the C half of the wire test of proto/. Stdin holds the full name
 * of a message type, a newline and the message; stdout gets the message as our generated
 * code packs it again. With --strict a message holding any field we have no definition of
 * is refused: unknown bytes are kept and would otherwise hide a wrong field number.
 *
 * Exit status: 0 done, 1 undecodable, 2 usage or unknown type, 3 unknown field.
 */
#include "proto/api.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef ProtobufCMessageDescriptor msg_type;

/* Where the search for a type starts: what the services exchange... */
static const ProtobufCServiceDescriptor *const services[] = {
	&asset__fetch__descriptor,
	&asset__push__descriptor,
	&bots__bots__descriptor,
	&buildbarn__operation_queue__descriptor,
	&bytestream__byte_stream__descriptor,
	&health__health__descriptor,
	&logstream__log_stream_service__descriptor,
	&longrunning__operations__descriptor,
	&reapi__action_cache__descriptor,
	&reapi__capabilities__descriptor,
	&reapi__content_addressable_storage__descriptor,
	&reapi__execution__descriptor,
	&reflection__server_reflection__descriptor,
	&reflection_alpha__server_reflection__descriptor,
};

/* ...and what travels as a blob, in an Any or in a header. */
static const msg_type *const loose[] = {
	&lazyroot__queue_place__descriptor,
	&lazyroot__read_report__descriptor,
	&reapi__action__descriptor,
	&reapi__command__descriptor,
	&reapi__execute_operation_metadata__descriptor,
	&reapi__execute_response__descriptor,
	&reapi__request_metadata__descriptor,
	&reapi__tree__descriptor,
	&rpcstatus__bad_request__descriptor,
	&rpcstatus__precondition_failure__descriptor,
	&rpcstatus__retry_info__descriptor,
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Looks at a type and at those of its fields; none of our types contains itself. */
static const msg_type *find_below(const msg_type *type, const char *name)
{
	if (strcmp(type->name, name) == 0)
		return type;
	for (unsigned i = 0; i < type->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &type->fields[i];
		if (f->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		const msg_type *found = find_below(f->descriptor, name);
		if (found)
			return found;
	}
	return NULL;
}

static const msg_type *find_type(const char *name)
{
	const msg_type *found = NULL;
	for (size_t i = 0; i < COUNT(services) && !found; i++) {
		for (unsigned m = 0; m < services[i]->n_methods && !found; m++) {
			found = find_below(services[i]->methods[m].input, name);
			if (!found)
				found = find_below(services[i]->methods[m].output, name);
		}
	}
	for (size_t i = 0; i < COUNT(loose) && !found; i++)
		found = find_below(loose[i], name);
	return found;
}

static bool has_unknown(const ProtobufCMessage *m);

static bool field_has_unknown(const ProtobufCMessage *m,
			      const ProtobufCFieldDescriptor *f)
{
	const char *base = (const char *)m;
	if (f->type != PROTOBUF_C_TYPE_MESSAGE)
		return false;
	if (f->label == PROTOBUF_C_LABEL_REPEATED) {
		size_t n = *(const size_t *)(base + f->quantifier_offset);
		ProtobufCMessage *const *list =
			*(ProtobufCMessage *const *const *)(base + f->offset);
		for (size_t i = 0; i < n; i++)
			if (has_unknown(list[i]))
				return true;
		return false;
	}
	if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
		unsigned which = *(const unsigned *)(base + f->quantifier_offset);
		if (which != f->id)
			return false;
	}
	const ProtobufCMessage *one = *(ProtobufCMessage *const *)(base + f->offset);
	return one && has_unknown(one);
}

static bool has_unknown(const ProtobufCMessage *m)
{
	if (m->n_unknown_fields > 0)
		return true;
	for (unsigned i = 0; i < m->descriptor->n_fields; i++)
		if (field_has_unknown(m, &m->descriptor->fields[i]))
			return true;
	return false;
}

static size_t read_all(uint8_t **data)
{
	size_t len = 0, cap = 0;
	*data = NULL;
	for (;;) {
		if (len == cap) {
			cap = cap ? cap * 2 : 4096;
			*data = realloc(*data, cap);
			if (!*data)
				abort();
		}
		size_t n = fread(*data + len, 1, cap - len, stdin);
		if (n == 0)
			return len;
		len += n;
	}
}

static int repack(const msg_type *type, const uint8_t *data, size_t len, bool strict)
{
	ProtobufCMessage *m = protobuf_c_message_unpack(type, NULL, len, data);
	int rc = 0;
	if (!m)
		return 1;
	if (strict && has_unknown(m)) {
		rc = 3;
	} else {
		size_t size = protobuf_c_message_get_packed_size(m);
		uint8_t *out = malloc(size + 1);
		if (!out)
			abort();
		protobuf_c_message_pack(m, out);
		if (fwrite(out, 1, size, stdout) != size || fflush(stdout) != 0)
			rc = 2;
		free(out);
	}
	protobuf_c_message_free_unpacked(m, NULL);
	return rc;
}

int main(int argc, char **argv)
{
	bool strict = argc == 2 && strcmp(argv[1], "--strict") == 0;
	uint8_t *data;
	int rc = 2;
	if (argc > 1 && !strict) {
		fprintf(stderr,
			"usage: proto_roundtrip [--strict] < TYPE-NEWLINE-MESSAGE\n");
		return 2;
	}
	size_t len = read_all(&data);
	uint8_t *end = len ? memchr(data, '\n', len) : NULL;
	if (end) {
		*end = '\0';
		const msg_type *type = find_type((const char *)data);
		if (type)
			rc = repack(type, end + 1, len - (size_t)(end + 1 - data),
				    strict);
		else
			fprintf(stderr, "proto_roundtrip: no type %s\n",
				(const char *)data);
	}
	free(data);
	return rc;
}
