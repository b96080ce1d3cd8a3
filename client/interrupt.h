/*
 * SIGINT (Ctrl-C), SIGTERM and, unless it is ignored, SIGHUP: what runs elsewhere is told
 * first (an operation is cancelled on the server), then the program ends with 128 + the
 * signal's number; a second signal ends it at once. A thread of its own waits for the
 * signals.
 */
#pragma once

#include "lib/base/error.h"

/* Tells, on the signal's thread and with no lock held, that the program is about to end:
 * what is the text that interrupt_set() was given. May block. */
typedef void interrupt_fn(const void *ctx, const char *what);

/* Before any other thread is started; main. */
struct error *interrupt_start(void);
/* From here on, a signal calls fn first; what is copied, ctx must live until the next
 * call. fn NULL: the program just ends. Main; does not return once a signal came. */
void interrupt_set(interrupt_fn *fn, const void *ctx, const char *what);
