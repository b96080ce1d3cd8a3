/*
 * Owns what a signal tells and to whom. Main sets it and the signal's thread takes it,
 * once: from then on nothing of it changes or is freed, since main does not get past
 * interrupt_set() any more.
 */
#include "client/interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "client/local.h"
#include "client/progress.h"
#include "lib/base/alloc.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"

static const int interrupt_signals[] = {SIGINT, SIGTERM, SIGHUP};
static struct sync_mutex interrupt_mutex = SYNC_MUTEX_INIT;
static interrupt_fn *interrupt_tell SYNC_GUARDED_BY(&interrupt_mutex);
static const void *interrupt_ctx SYNC_GUARDED_BY(&interrupt_mutex);
static char *interrupt_what SYNC_GUARDED_BY(&interrupt_mutex);
static bool interrupt_is_pending SYNC_GUARDED_BY(&interrupt_mutex);

void interrupt_set(interrupt_fn *fn, const void *ctx, const char *what)
{
	sync_lock(&interrupt_mutex);
	if (interrupt_is_pending) { /* its thread ends the program, with its exit code */
		sync_unlock(&interrupt_mutex);
		for (;;)
			(void)pause();
	}
	interrupt_tell = fn;
	interrupt_ctx = ctx;
	free(interrupt_what);
	interrupt_what = what ? alloc_string(what) : NULL;
	sync_unlock(&interrupt_mutex);
}

static void interrupt_happened(void)
{
	interrupt_fn *tell;
	const void *ctx;
	const char *what;

	sync_lock(&interrupt_mutex);
	interrupt_is_pending = true;
	tell = interrupt_tell;
	ctx = interrupt_ctx;
	what = interrupt_what;
	sync_unlock(&interrupt_mutex);
	if (tell)
		tell(ctx, what);
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
	interrupt_happened();
	local_drop_private();
	_exit(128 + number);
}

struct error *interrupt_start(void)
{
	static sigset_t signals;
	struct sigaction old;
	pthread_t thread;
	struct error *err;

	(void)sigemptyset(&signals);
	for (size_t i = 0; i < ARRAY_SIZE(interrupt_signals); i++) {
		/* what a caller ignores (nohup) stays ignored */
		if (sigaction(interrupt_signals[i], NULL, &old) == 0 &&
		    old.sa_handler != SIG_IGN)
			(void)sigaddset(&signals, interrupt_signals[i]);
	}
	(void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
	err = thread_start("signals", interrupt_thread, &signals, &thread);
	if (!err)
		(void)pthread_detach(thread);
	return err;
}
