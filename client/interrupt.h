/*
 * Ctrl-C during a run: cancels the operation on the server and ends the program with 130;
 * a second one ends it at once. A thread of its own waits for the signals.
 */
#pragma once

#include "client/client.h"

/* Before any other thread is started. */
struct error *interrupt_start(void);
/* From here on, an interrupt cancels this operation first. NULL: it just ends. */
void interrupt_set_operation(struct client *client, const char *operation);
