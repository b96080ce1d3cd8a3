/*
 * Owns the list of operations: which of them a filter lets through, and how many fit.
 *
 * Threads: any; the queue's lock.
 */
#include <string.h>

#include "lib/base/wire.h"
#include "server/queue_impl.h"

/* With the response copied, where it is small, so that the list shares nothing. */
static size_t queue_list_one(const struct queue *queue,
			     const struct queue_operation *operation, struct arena *arena,
			     struct queue_state *out) SYNC_REQUIRES(&queue->mutex)
{
	_cleanup_(queue_bytes_unrefp) struct queue_bytes *shared = NULL;

	*out = queue_state_of(queue, operation, arena);
	shared = take(out->shared);
	out->response = out->response.len > QUEUE_LIST_RESPONSE_MAX
				? (struct slice){NULL, 0}
				: queue_copy(arena, out->response);
	out->request = queue_copy(arena, buf_slice(&operation->request));
	return sizeof(*out) + out->response.len + out->partial.len + out->request.len;
}

/* Whether a RequestMetadata has these values; where a field comes twice, the last counts.
 */
static bool queue_request_fits(const struct queue_filter *filter, struct slice request)
{
	static const uint32_t numbers[QUEUE_REQUEST_FIELDS] = {
		[QUEUE_REQUEST_INVOCATION] = 3,
		[QUEUE_REQUEST_CORRELATED] = 4,
		[QUEUE_REQUEST_TARGET] = 6,
	};
	struct slice found[QUEUE_REQUEST_FIELDS] = {0};
	struct wire wire = wire_of(request);
	struct wire_field field;

	while (wire_next(&wire, &field)) {
		for (size_t i = 0; i < QUEUE_REQUEST_FIELDS; i++) {
			if (field.number == numbers[i] && field.type == WIRE_BYTES)
				found[i] = field.bytes;
		}
	}
	for (size_t i = 0; i < QUEUE_REQUEST_FIELDS; i++) {
		if (filter->request[i].len > 0 &&
		    !slice_equal(filter->request[i], found[i]))
			return false;
	}
	return true;
}

static bool queue_filter_fits(const struct queue_filter *filter,
			      const struct queue_operation *operation)
{
	return strcmp(operation->job->instance, filter->instance) == 0 &&
	       (filter->stages & 1u << queue_stage_of(operation)) &&
	       (!filter->action ||
		digest_equal(filter->action, &operation->job->digest)) &&
	       queue_request_fits(filter, buf_slice(&operation->request));
}

size_t queue_list(struct queue *queue, const struct queue_filter *filter, uint64_t after,
		  size_t max, struct arena *arena, struct queue_state **out,
		  bool *has_more_out)
{
	struct queue_state *list = arena_array(arena, max, sizeof(*list));
	size_t n = 0, n_bytes = 0;

	*out = list;
	*has_more_out = false;
	if (!list)
		return 0;
	queue_lock(queue);
	for (struct list *it = queue->all.next; it != &queue->all && !*has_more_out;
	     it = it->next) {
		struct queue_operation *operation =
			container_of(it, struct queue_operation, all_link);

		if (operation->serial <= after || !queue_filter_fits(filter, operation))
			continue;
		*has_more_out = n == max || n_bytes >= QUEUE_LIST_BYTES;
		if (!*has_more_out)
			n_bytes += queue_list_one(queue, operation, arena, &list[n++]);
	}
	queue_unlock(queue);
	return n;
}
