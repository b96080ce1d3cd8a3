/* Owns the order of what is fetched. Threads: see fetch_queue.h. */
#include "lib/cas/fetch_queue.h"

#include "lib/base/clock.h"

/* Bytes of one call, where somebody waits for something else. */
#define FETCH_PREFETCH_BATCH     ((size_t)1 << 20)
#define FETCH_PREFETCH_IN_FLIGHT 8
#define FETCH_PREFETCH_STREAMS   (FETCH_STREAMS_MAX - 1)
#define FETCH_AHEAD_MAX_NS       20000000
#define FETCH_REPLY_OVERHEAD     256 /* of a blob: its place in the reply, in bytes */

void fetch_queue_init(struct fetch_queue *queue)
{
	*queue = (struct fetch_queue){0};
	for (enum fetch_priority p = FETCH_DEMAND; p <= FETCH_PREFETCH; p++) {
		list_init(&queue->small[p]);
		list_init(&queue->large[p]);
	}
	list_init(&queue->retries);
	queue->ahead_ns = FETCH_GATHER_NS;
}

void fetch_queue_set_way(struct fetch_queue *queue, int64_t rtt_ns)
{
	queue->ahead_ns = rtt_ns / 2 < FETCH_GATHER_NS      ? FETCH_GATHER_NS
			  : rtt_ns / 2 > FETCH_AHEAD_MAX_NS ? FETCH_AHEAD_MAX_NS
							    : rtt_ns / 2;
}

/* Into or out of the sums of what waits for a batch. */
static void fetch_queue_count(struct fetch_queue *queue, const struct fetch_item *item,
			      int sign)
{
	queue->n_small[item->priority] += (size_t)sign;
	queue->bytes[item->priority] += sign * (item->size + FETCH_REPLY_OVERHEAD);
}

void fetch_queue_add(struct fetch_queue *queue, struct fetch_item *item, size_t batch_max,
		     int64_t now_ns)
{
	item->state = FETCH_QUEUED;
	item->due_ns = now_ns + (item->priority == FETCH_DEMAND ? FETCH_GATHER_NS
								: queue->ahead_ns);
	item->is_small = item->size <= (int64_t)batch_max;
	if (item->is_small)
		fetch_queue_count(queue, item, 1);
	list_push(item->is_small ? &queue->small[item->priority]
				 : &queue->large[item->priority],
		  &item->link);
}

void fetch_queue_drop(struct fetch_queue *queue, struct fetch_item *item)
{
	list_remove(&item->link);
	if (item->is_small)
		fetch_queue_count(queue, item, -1);
}

void fetch_queue_raise(struct fetch_queue *queue, struct fetch_item *item,
		       size_t batch_max, int64_t now_ns)
{
	bool is_queued = item->state == FETCH_QUEUED;

	if (item->priority == FETCH_DEMAND)
		return;
	if (is_queued)
		fetch_queue_drop(queue, item);
	item->priority = FETCH_DEMAND;
	if (is_queued)
		fetch_queue_add(queue, item, batch_max, now_ns);
}

void fetch_queue_put_off(struct fetch_queue *queue, struct fetch_item *item,
			 int64_t due_ns)
{
	item->state = FETCH_RETRYING;
	item->due_ns = due_ns;
	list_push(&queue->retries, &item->link);
}

void fetch_queue_wake(struct fetch_queue *queue, size_t batch_max, int64_t now_ns)
{
	list_for_each_safe (node, &queue->retries) {
		struct fetch_item *item = container_of(node, struct fetch_item, link);

		if (item->due_ns > now_ns)
			continue;
		list_remove(&item->link);
		fetch_queue_add(queue, item, batch_max, now_ns);
	}
}

void fetch_queue_drop_retries(struct fetch_queue *queue, struct list *out)
{
	list_splice(out, &queue->retries);
}

static bool fetch_queue_may_send(const struct fetch_queue *queue,
				 enum fetch_priority priority)
{
	unsigned int n_all =
		queue->n_flying[FETCH_DEMAND] + queue->n_flying[FETCH_PREFETCH] +
		queue->n_streaming[FETCH_DEMAND] + queue->n_streaming[FETCH_PREFETCH];

	if (list_is_empty(&queue->small[priority]) || n_all >= FETCH_IN_FLIGHT_MAX)
		return false;
	/* a demand that still waits for company does not lose its place to a prefetch */
	return priority == FETCH_DEMAND ||
	       (list_is_empty(&queue->small[FETCH_DEMAND]) &&
		queue->n_flying[FETCH_PREFETCH] < FETCH_PREFETCH_IN_FLIGHT);
}

int64_t fetch_queue_due(const struct fetch_queue *queue, enum fetch_priority priority)
{
	/* nothing is out that others could come back with */
	bool is_quiet = !queue->n_flying[FETCH_DEMAND] &&
			(priority == FETCH_DEMAND || !queue->n_flying[FETCH_PREFETCH]);

	bool is_full = queue->n_small[priority] >= FETCH_BATCH_BLOBS ||
		       queue->bytes[priority] >= (int64_t)FETCH_PREFETCH_BATCH;

	if (!fetch_queue_may_send(queue, priority))
		return CLOCK_NEVER;
	return is_quiet || is_full ? 0
				   : container_of(queue->small[priority].next,
						  struct fetch_item, link)
					     ->due_ns;
}

int64_t fetch_queue_next_due(const struct fetch_queue *queue)
{
	int64_t due = CLOCK_NEVER;

	for (enum fetch_priority p = FETCH_DEMAND; p <= FETCH_PREFETCH; p++) {
		int64_t at = fetch_queue_due(queue, p);

		due = at < due ? at : due;
	}
	list_for_each (node, &queue->retries) {
		struct fetch_item *item = container_of(node, struct fetch_item, link);

		due = item->due_ns < due ? item->due_ns : due;
	}
	return due;
}

static void fetch_queue_take(struct fetch_queue *queue, struct fetch_item *item,
			     enum fetch_priority priority)
{
	fetch_queue_drop(queue, item);
	item->state = FETCH_FLYING;
	item->sent_as = priority;
}

size_t fetch_queue_take_batch(struct fetch_queue *queue, enum fetch_priority priority,
			      size_t batch_max,
			      struct fetch_item *items[static FETCH_BATCH_BLOBS])
{
	bool somebody_waits = queue->n_flying[FETCH_DEMAND] ||
			      queue->n_streaming[FETCH_DEMAND] ||
			      !list_is_empty(&queue->small[FETCH_DEMAND]);
	size_t limit = priority == FETCH_PREFETCH && somebody_waits &&
				       batch_max > FETCH_PREFETCH_BATCH
			       ? FETCH_PREFETCH_BATCH
			       : batch_max;
	size_t bytes = 0;
	size_t n = 0;

	list_for_each_safe (node, &queue->small[priority]) {
		struct fetch_item *item = container_of(node, struct fetch_item, link);
		size_t size = (size_t)item->size + FETCH_REPLY_OVERHEAD;

		if (n == FETCH_BATCH_BLOBS || (n && bytes + size > limit))
			break;
		bytes += size;
		fetch_queue_take(queue, item, priority);
		items[n++] = item;
	}
	queue->n_flying[priority] += n > 0;
	return n;
}

struct fetch_item *fetch_queue_take_large(struct fetch_queue *queue)
{
	unsigned int n_all =
		queue->n_streaming[FETCH_DEMAND] + queue->n_streaming[FETCH_PREFETCH];

	for (enum fetch_priority p = FETCH_DEMAND;
	     p <= FETCH_PREFETCH && n_all < FETCH_STREAMS_MAX; p++) {
		struct fetch_item *item;

		if (list_is_empty(&queue->large[p]) ||
		    (p == FETCH_PREFETCH &&
		     queue->n_streaming[p] >= FETCH_PREFETCH_STREAMS))
			continue;
		item = container_of(queue->large[p].next, struct fetch_item, link);
		fetch_queue_take(queue, item, p);
		queue->n_streaming[p]++;
		return item;
	}
	return NULL;
}

void fetch_queue_landed(struct fetch_queue *queue, bool is_stream,
			enum fetch_priority sent_as)
{
	if (is_stream)
		queue->n_streaming[sent_as]--;
	else
		queue->n_flying[sent_as]--;
}
