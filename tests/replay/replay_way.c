/* Owns the calls under way and the items that wait. Threads: see replay_way.h. */
#include "tests/replay/replay_way.h"

#include <stdlib.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"

struct replay_item {
	struct fetch_item item;
	struct replay_blob *blob;
	bool is_wish;
	bool is_needed;
	bool is_demanded;
};

struct replay_call {
	struct list link;
	bool is_stream;
	enum fetch_priority sent_as;
	struct fetch_pace_mark mark;
	int64_t begins_ns; /* its first byte is there, were it alone */
	double left;       /* bytes */
	int64_t bytes;
	size_t n;
	struct fetch_item *items[FETCH_BATCH_BLOBS];
};

void replay_way_init(struct replay_way *way, int64_t rtt_ns, int64_t bits)
{
	*way = (struct replay_way){.rtt_ns = rtt_ns, .rate = (double)bits / 8e9};
	fetch_queue_init(&way->queue);
	list_init(&way->calls);
}

/* Sending */

static void replay_way_send(struct replay_way *way, const struct replay_call *of)
{
	struct replay_call *call = alloc_new(struct replay_call);

	*call = *of;
	list_init(&call->link);
	for (size_t i = 0; i < call->n; i++)
		call->bytes += call->items[i]->size;
	call->left = (double)call->bytes;
	call->begins_ns = way->now_ns + way->rtt_ns;
	call->mark = fetch_pace_sent(&way->pace, way->now_ns);
	list_push(&way->calls, &call->link);
	way->n_calls++;
	way->n_blobs += call->n;
	way->bytes += call->bytes;
}

static void replay_way_pump(struct replay_way *way)
{
	struct fetch_item *item;

	while ((item = fetch_queue_take_large(&way->queue))) {
		struct replay_call call = {.is_stream = true, .sent_as = item->sent_as};

		call.items[call.n++] = item;
		replay_way_send(way, &call);
	}
	for (enum fetch_priority p = FETCH_DEMAND; p <= FETCH_PREFETCH; p++)
		while (fetch_queue_due(&way->queue, p) <= way->now_ns) {
			struct replay_call call = {.sent_as = p};

			call.n = fetch_queue_take_batch(&way->queue, p, REPLAY_BATCH_MAX,
							call.items);
			replay_way_send(way, &call);
		}
}

/* Coming */

static void replay_way_item_landed(struct replay_way *way, struct replay_item *item)
{
	struct replay_blob *blob = item->blob;

	blob->is_held = true;
	blob->item = NULL;
	if (item->is_demanded)
		way->demand_waiting -= blob->digest.size;
	if (item->is_wish)
		way->landed(way->ctx, blob, item->is_needed);
	free(item);
}

static void replay_way_landed(struct replay_way *way, struct replay_call *call)
{
	way->n_landed++;
	list_remove(&call->link);
	fetch_queue_landed(&way->queue, call->is_stream, call->sent_as);
	fetch_pace_landed(&way->pace, &call->mark, call->bytes, way->now_ns);
	fetch_queue_set_way(&way->queue, way->pace.rtt_ns);
	for (size_t i = 0; i < call->n; i++)
		replay_way_item_landed(
			way, container_of(call->items[i], struct replay_item, item));
	free(call);
}

static size_t replay_way_n_active(const struct replay_way *way)
{
	size_t n = 0;

	list_for_each (link, &way->calls) {
		const struct replay_call *call =
			container_of(link, struct replay_call, link);

		n += call->begins_ns <= way->now_ns;
	}
	return n;
}

/* When something happens next, until then at most. */
static int64_t replay_way_next(const struct replay_way *way, int64_t then_ns)
{
	double share = way->rate / (double)replay_way_n_active(way);
	int64_t next = fetch_queue_next_due(&way->queue);

	next = next < then_ns ? next : then_ns;
	list_for_each (link, &way->calls) {
		const struct replay_call *call =
			container_of(link, struct replay_call, link);
		int64_t at = call->begins_ns > way->now_ns
				     ? call->begins_ns
				     : way->now_ns + (int64_t)(call->left / share) + 1;

		next = at < next ? at : next;
	}
	return next;
}

void replay_way_step(struct replay_way *way, int64_t then_ns)
{
	int64_t next;
	double came;

	replay_way_pump(way);
	next = replay_way_next(way, then_ns);
	came = way->rate / (double)replay_way_n_active(way) *
	       (double)(next - way->now_ns);
	list_for_each (link, &way->calls) {
		struct replay_call *call = container_of(link, struct replay_call, link);

		call->left -= call->begins_ns <= way->now_ns ? came : 0;
	}
	way->now_ns = next;
	list_for_each_safe (link, &way->calls) {
		struct replay_call *call = container_of(link, struct replay_call, link);

		if (call->begins_ns <= next && call->left <= 0)
			replay_way_landed(way, call);
	}
}

/* Asking */

static struct replay_item *replay_way_item(struct replay_way *way,
					   struct replay_blob *blob,
					   enum fetch_priority priority)
{
	struct replay_item *item = blob->item;

	if (item) {
		if (priority == FETCH_DEMAND)
			fetch_queue_raise(&way->queue, &item->item, REPLAY_BATCH_MAX,
					  way->now_ns);
		return item;
	}
	item = alloc_new(struct replay_item);
	item->blob = blob;
	item->item.size = blob->digest.size;
	item->item.priority = priority;
	list_init(&item->item.link);
	blob->item = item;
	fetch_queue_add(&way->queue, &item->item, REPLAY_BATCH_MAX, way->now_ns);
	return item;
}

void replay_way_demand(struct replay_way *way, struct replay_blob *blob)
{
	struct replay_item *item = replay_way_item(way, blob, FETCH_DEMAND);

	if (!item->is_demanded)
		way->demand_waiting += blob->digest.size;
	item->is_demanded = true;
}

void replay_way_wish(struct replay_way *way, struct replay_blob *blob, bool is_needed)
{
	struct replay_item *item = replay_way_item(way, blob, FETCH_PREFETCH);

	item->is_wish = true;
	item->is_needed = is_needed;
}

static void replay_way_drop(struct list *items)
{
	struct list *link;

	while ((link = list_pop(items)))
		free(container_of(container_of(link, struct fetch_item, link),
				  struct replay_item, item));
}

void replay_way_deinit(struct replay_way *way)
{
	struct list *link;

	while ((link = list_pop(&way->calls))) {
		struct replay_call *call = container_of(link, struct replay_call, link);

		for (size_t i = 0; i < call->n; i++)
			free(container_of(call->items[i], struct replay_item, item));
		free(call);
	}
	for (enum fetch_priority p = FETCH_DEMAND; p <= FETCH_PREFETCH; p++) {
		replay_way_drop(&way->queue.small[p]);
		replay_way_drop(&way->queue.large[p]);
	}
}
