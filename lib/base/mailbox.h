/*
 * Messages from any thread to one: senders append, the receiver polls a descriptor and
 * takes the whole batch. The descriptor becomes readable on empty → non-empty only, so a
 * burst costs one system call.
 */
#pragma once

#include "lib/base/error.h"
#include "lib/base/list.h"
#include "lib/base/sync.h"

struct mailbox {
	struct sync_mutex mutex;
	struct list queue; /* guarded by mutex */
	int event_fd;
};

struct error *mailbox_init(struct mailbox *box);
void mailbox_deinit(struct mailbox *box); /* it must be empty */

/* node belongs to the receiver from here on. Any thread. */
void mailbox_send(struct mailbox *box, struct list *node);
/* The receiver: moves what waits to the end of batch; never blocks. */
void mailbox_take(struct mailbox *box, struct list *batch);
int mailbox_fd(const struct mailbox *box); /* POLLIN: something waits */
