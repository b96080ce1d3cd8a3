/*
 * Messages of our own in an Any that everybody can print: as google.protobuf.Struct, in
 * which one field with the message's full name holds it, field by field. Numbers past
 * 2^53 lose their last digits, as in JSON.
 */
#pragma once

#include "lib/rpc/rpc.h"

/* In arena; NULL where that is full. Integers, booleans, strings, messages and lists of
 * them; what is not UTF-8 in a string is escaped. */
Pb__Any *rpc_any_of(const ProtobufCMessage *message, struct arena *arena);
/* The message, sent in either form: by itself or as above. NULL: it is something else. */
ProtobufCMessage *rpc_any_message(const Pb__Any *any,
				  const ProtobufCMessageDescriptor *descriptor,
				  struct arena *arena);
