/*
 * How many elements a message holds, before anything is allocated for it: a byte or two
 * of wire become a hundred bytes of structs, so it is the number that must have a limit.
 * Each field on the wire counts, at every level that the type's descriptor knows, and
 * each element of a packed one. A field for one message that comes in many pieces is over
 * any limit: merging them takes memory that no count of theirs bounds.
 *
 * Threads: any; nothing is allocated.
 */
#pragma once

#include "lib/rpc/rpc.h"

enum count_verdict { COUNT_FITS, COUNT_OVER, COUNT_MALFORMED };

enum count_verdict count_elements(const ProtobufCMessageDescriptor *type,
				  struct slice bytes, size_t max);
