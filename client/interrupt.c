/*
 * Owns the name of the operation that runs, guarded by a mutex: the signal thread reads
 * it, main sets it.
 */
#include "client/interrupt.h"

#include <pthread.h>
#include <signal.h>

#include "client/execution.h"
#include "client/progress.h"
#include "lib/base/alloc.h"
#include "lib/base/sync.h"

static const int interrupt_signals[] = {SIGINT, SIGTERM, SIGHUP};
static struct sync_mutex interrupt_mutex = SYNC_MUTEX_INIT;
static struct client *interrupt_client; /* guarded by interrupt_mutex */
static char *interrupt_operation;       /* guarded by interrupt_mutex */
static bool interrupt_is_left;          /* guarded by interrupt_mutex */
static bool interrupt_is_pending;       /* guarded by interrupt_mutex */

void interrupt_set_operation(struct client *client, const char *operation, bool is_left)
{
	sync_lock(&interrupt_mutex);
	if (interrupt_is_pending) { /* its thread ends the program, with its exit code */
		sync_unlock(&interrupt_mutex);
		for (;;)
			(void)pause();
	}
	interrupt_client = client;
	interrupt_is_left = is_left;
	free(interrupt_operation);
	interrupt_operation = operation ? alloc_string(operation) : NULL;
	sync_unlock(&interrupt_mutex);
}

static void interrupt_cancel(void)
{
	struct error *err;

	sync_lock(&interrupt_mutex);
	interrupt_is_pending = true;
	if (interrupt_operation && interrupt_is_left) {
		say("lazyroot: %s goes on; lazyroot wait gets back to it, lazyroot "
		    "cancel ends it",
		    interrupt_operation);
	} else if (interrupt_operation) {
		say("lazyroot: cancelling %s", interrupt_operation);
		err = execution_cancel(interrupt_client, interrupt_operation);
		if (err)
			say("lazyroot: it could not be cancelled: %s", error_text(err));
		error_free(err);
	}
	sync_unlock(&interrupt_mutex);
}

static void interrupt_now(int signal_number)
{
	_exit(128 + signal_number);
}

static void *interrupt_thread(void *arg)
{
	sigset_t *signals = arg;
	int number = 0;

	while (sigwait(signals, &number) != 0)
		;
	/* the second one need not wait for the server's answer */
	for (size_t i = 0; i < ARRAY_SIZE(interrupt_signals); i++) {
		if (sigismember(signals, interrupt_signals[i]))
			(void)signal(interrupt_signals[i], interrupt_now);
	}
	(void)pthread_sigmask(SIG_UNBLOCK, signals, NULL);
	progress_stop();
	interrupt_cancel();
	client_drop_private();
	_exit(128 + number);
}

struct error *interrupt_start(void)
{
	static sigset_t signals;
	struct sigaction old;
	pthread_t thread;
	int errnum;

	(void)sigemptyset(&signals);
	for (size_t i = 0; i < ARRAY_SIZE(interrupt_signals); i++) {
		/* what a caller ignores (nohup) stays ignored */
		if (sigaction(interrupt_signals[i], NULL, &old) == 0 &&
		    old.sa_handler != SIG_IGN)
			(void)sigaddset(&signals, interrupt_signals[i]);
	}
	(void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
	errnum = pthread_create(&thread, NULL, interrupt_thread, &signals);
	if (errnum)
		return error_errno(errnum, "start the signal thread");
	(void)pthread_detach(thread);
	return NULL;
}
