/* Sends what the fetcher's queue says. Threads: any; nothing blocks on the network. */
#pragma once

#include "lib/cas/fetch_job.h"

/* Sends what may go and is due, demand first; has the timer look again at the rest.
 * Called whenever something was queued or came back. */
void fetch_send(struct fetch *fetch) SYNC_EXCLUDES(&fetch->mutex);
