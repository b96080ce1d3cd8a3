/*
 * A thread of a library: it takes no signal, since those are for the program's main
 * thread (or whoever main leaves them to), and it has a name that top and gdb show.
 */
#pragma once

#include <pthread.h>

#include "lib/base/error.h"

/* name: at most 15 bytes count. The caller joins it. RESOURCE_EXHAUSTED where the system
 * gives no more threads. */
struct error *thread_start(const char *name, void *(*run)(void *), void *arg,
			   pthread_t *thread_out);
