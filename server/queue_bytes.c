/* Owns the count of references. */
#include "server/queue_bytes.h"

#include <string.h>

#include "lib/base/alloc.h"

struct queue_bytes *queue_bytes_new(struct slice bytes)
{
	struct queue_bytes *copy = alloc_zero(sizeof(*copy) + bytes.len);

	atomic_init(&copy->refs, 1);
	copy->len = bytes.len;
	if (bytes.len)
		memcpy(copy->data, bytes.data, bytes.len);
	return copy;
}

struct queue_bytes *queue_bytes_ref(struct queue_bytes *bytes)
{
	atomic_fetch_add_explicit(&bytes->refs, 1, memory_order_relaxed);
	return bytes;
}

void *queue_bytes_unref(struct queue_bytes *bytes)
{
	if (bytes &&
	    atomic_fetch_sub_explicit(&bytes->refs, 1, memory_order_acq_rel) == 1)
		free(bytes);
	return NULL;
}
