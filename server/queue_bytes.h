/*
 * Bytes of a response, kept once: the queue, the operations and the answers on their way
 * share them by reference. They never change.
 *
 * Threads: any.
 */
#pragma once

#include <stdatomic.h>

#include "lib/base/buf.h"

struct queue_bytes {
	atomic_uint refs;
	size_t len;
	uint8_t data[];
};

struct queue_bytes *queue_bytes_new(struct slice bytes); /* a copy, one reference */
struct queue_bytes *queue_bytes_ref(struct queue_bytes *bytes);
void *queue_bytes_unref(struct queue_bytes *bytes);
CLEANUP_DEFINE(struct queue_bytes, queue_bytes_unref)
