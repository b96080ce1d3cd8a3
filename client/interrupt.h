/*
 * SIGINT (Ctrl-C), SIGTERM and, unless it is ignored, SIGHUP: a run's operation is
 * cancelled on the server first, and the program ends with 128 + the signal's number; a
 * second signal ends it at once. A thread of its own waits for the signals.
 */
#pragma once

#include "client/client.h"

/* Before any other thread is started. */
struct error *interrupt_start(void);
/* From here on, a signal cancels this operation first, or where is_left only says how to
 * get back to it. NULL: it just ends. */
void interrupt_set_operation(struct client *client, const char *operation, bool is_left);
