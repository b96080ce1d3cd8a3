/*
 * Operations and queue on disk: DIR/operations.sqlite, and the thread that writes it.
 *
 * What happens is written a moment later, many changes in one transaction, so that nobody
 * waits for the disk: a server that is killed may have forgotten its last moments
 * (JOURNAL_WRITE_NS), and what a machine's crash takes is as with the other databases.
 * Where the disk is full, all goes on, and all is written once there is room.
 */
#pragma once

#include "lib/base/option.h"
#include "server/queue.h"

struct journal;

/*
 * Puts into queue, which nobody else knows yet, what was there before, as far as it is
 * right; other instances' than these is left out. ended: asked of jobs that are not over.
 * From here on what changes is written. A file that is damaged, or none of ours, is kept
 * under another name, and said.
 */
struct error *journal_open(const char *dir, struct queue *queue,
			   const struct option_list *instances,
			   const struct queue_ended *ended, struct journal **journal_out);
/* Writes what is left; before the queue's end, after its last change. */
void *journal_close(struct journal *journal);
CLEANUP_DEFINE(struct journal, journal_close)
