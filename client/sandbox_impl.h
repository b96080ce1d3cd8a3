/*
 * What the two places on this machine share: sandbox.c asks one of them to run an action
 * whose blobs are in the local store (or at the service), and makes an outcome of what it
 * gives back.
 *
 * Threads: main.
 */
#pragma once

#include "client/sandbox.h"
#include "lib/base/latch.h"

struct sandbox_result {
	struct buf bytes; /* an ActionResult, encoded; none: it did not come to that */
	struct error *status; /* owned; NULL: it ran, whatever its exit code */
};

/* sandbox_namespaces.c, sandbox_plain.c. Both need client_open_fetch(). */
void sandbox_namespaces_run(const struct execution_config *config,
			    struct sandbox_result *out);
void sandbox_plain_run(const struct execution_config *config, struct sandbox_result *out);

/*
 * sandbox_interrupt.c: a signal cancels what runs, and the program ends when that has
 * ended and tidied up, or soon.
 */
struct sandbox_interrupt {
	void (*cancel)(void *target); /* any thread */
	struct sync_mutex mutex;
	void *target SYNC_GUARDED_BY(&mutex); /* NULL: it is over */
	struct latch tidy;
};
/* Stays where it is. */
void sandbox_interrupt_begin(struct sandbox_interrupt *interrupt,
			     void (*cancel)(void *target), void *target);
/* The target is about to go. */
void sandbox_interrupt_over(struct sandbox_interrupt *interrupt);
/* All is tidy; does not return once a signal came. */
void sandbox_interrupt_end(struct sandbox_interrupt *interrupt);
