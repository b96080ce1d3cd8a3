/* Owns the pieces that are not in use. */
#include "fuse/buffers.h"

#include <stdlib.h>

#include "lib/base/alloc.h"
#include "lib/base/sync.h"

struct buffers {
	struct sync_mutex mutex;
	void *kept[BUFFERS_MAX] SYNC_GUARDED_BY(&mutex);
	size_t n SYNC_GUARDED_BY(&mutex);
};

struct buffers *buffers_new(void)
{
	struct buffers *buffers = alloc_new(struct buffers);

	sync_mutex_init(&buffers->mutex);
	return buffers;
}

void *buffers_free(struct buffers *buffers)
{
	if (!buffers)
		return NULL;
	sync_alone(&buffers->mutex);
	for (size_t i = 0; i < buffers->n; i++)
		free(buffers->kept[i]);
	sync_mutex_deinit(&buffers->mutex);
	free(buffers);
	return NULL;
}

void *buffers_take(struct buffers *buffers, size_t size)
{
	void *buffer = NULL;

	if (size > BUFFERS_SIZE)
		return alloc_array(size, 1);
	sync_lock(&buffers->mutex);
	if (buffers->n)
		buffer = buffers->kept[--buffers->n];
	sync_unlock(&buffers->mutex);
	return buffer ? buffer : alloc_array(BUFFERS_SIZE, 1);
}

void buffers_give(struct buffers *buffers, void *buffer, size_t size)
{
	bool is_kept = false;

	sync_lock(&buffers->mutex);
	if (size <= BUFFERS_SIZE && buffers->n < BUFFERS_MAX) {
		buffers->kept[buffers->n++] = buffer;
		is_kept = true;
	}
	sync_unlock(&buffers->mutex);
	if (!is_kept)
		free(buffer);
}
