/*
 * Memory for answers: a few large pieces are kept, since each READ needs one for a
 * moment.
 *
 * Threads: any.
 */
#pragma once

#include <stddef.h>

struct buffers;

#define BUFFERS_SIZE                                                                     \
	((size_t)1 << 20) /* of one that is kept: the largest READ by default */
#define BUFFERS_MAX 8     /* kept for the next reads */

struct buffers *buffers_new(void);
void *buffers_free(struct buffers *buffers); /* none is in use any more */
/* At least size bytes, until they are given back with the same size. */
void *buffers_take(struct buffers *buffers, size_t size);
void buffers_give(struct buffers *buffers, void *buffer, size_t size);
