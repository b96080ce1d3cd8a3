/* Owns the queue and the eventfd; mutex is a leaf, held for a few instructions. */
#include "lib/base/mailbox.h"
#include "lib/base/sync.h"

#include <errno.h>
#include <sys/eventfd.h>

struct error *mailbox_init(struct mailbox *box)
{
	box->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (box->event_fd < 0)
		return error_errno(errno, "make a mailbox");
	sync_mutex_init(&box->mutex);
	list_init(&box->queue);
	return NULL;
}

void mailbox_deinit(struct mailbox *box)
{
	require(list_is_empty(&box->queue));
	(void)close(box->event_fd);
	sync_mutex_deinit(&box->mutex);
}

void mailbox_send(struct mailbox *box, struct list *node)
{
	bool was_empty;

	sync_lock(&box->mutex);
	was_empty = list_is_empty(&box->queue);
	list_push(&box->queue, node);
	sync_unlock(&box->mutex);
	if (was_empty)
		(void)eventfd_write(box->event_fd, 1);
}

void mailbox_take(struct mailbox *box, struct list *batch)
{
	eventfd_t count;

	(void)eventfd_read(box->event_fd, &count);
	sync_lock(&box->mutex);
	list_splice(batch, &box->queue);
	sync_unlock(&box->mutex);
}

int mailbox_fd(const struct mailbox *box)
{
	return box->event_fd;
}
