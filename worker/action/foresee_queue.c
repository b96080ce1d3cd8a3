/* Owns nothing: see foresee_queue.h. */
#include "worker/action/foresee_queue.h"

#include "lib/base/cleanup.h"

void foresee_desk_init(struct foresee_desk *desk)
{
	list_init(&desk->row);
}

void foresee_queue_init(struct foresee_queue *queue)
{
	*queue = (struct foresee_queue){0};
	list_init(&queue->link);
	list_init(&queue->notes);
}

static bool foresee_queue_is_full(const struct foresee_queue *queue,
				  const struct foresee_note *note)
{
	size_t max =
		note->worth == FORESEE_HAD ? FORESEE_QUEUE_MAX / 2 : FORESEE_QUEUE_MAX;

	return note->worth != FORESEE_KEPT && queue->bytes + note->bytes > max;
}

bool foresee_queue_push(struct foresee_desk *desk, struct foresee_queue *queue,
			struct foresee_note *note)
{
	if (foresee_queue_is_full(queue, note)) {
		queue->n_refused++;
		return false;
	}
	if (note->worth != FORESEE_KEPT)
		queue->bytes += note->bytes;
	list_push(&queue->notes, &note->link);
	if (list_is_empty(&queue->link))
		list_push(&desk->row, &queue->link);
	return true;
}

struct foresee_note *foresee_queue_pop(struct foresee_queue *queue)
{
	struct list *link = list_pop(&queue->notes);
	struct foresee_note *note =
		link ? container_of(link, struct foresee_note, link) : NULL;

	if (note && note->worth != FORESEE_KEPT)
		queue->bytes -= note->bytes;
	return note;
}

void foresee_desk_round(struct foresee_desk *desk, struct list *row)
{
	list_splice(row, &desk->row);
}

struct foresee_queue *foresee_desk_next(struct list *row)
{
	struct list *link = list_pop(row);

	return link ? container_of(link, struct foresee_queue, link) : NULL;
}

void foresee_desk_again(struct foresee_desk *desk, struct foresee_queue *queue,
			bool has_more)
{
	list_remove(&queue->link);
	if (has_more || !list_is_empty(&queue->notes))
		list_push(&desk->row, &queue->link);
}
