/* Owns nothing. */
#include "lib/base/thread.h"

#include <signal.h>
#include <stdio.h>

#define THREAD_NAME_MAX 16 /* the kernel's, with the NUL */

struct error *thread_start(const char *name, void *(*run)(void *), void *arg,
			   pthread_t *thread_out)
{
	char shown[THREAD_NAME_MAX];
	pthread_t thread;
	sigset_t all;
	sigset_t old;
	int errnum;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	errnum = pthread_create(&thread, NULL, run, arg);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (errnum)
		return error_recode(
			error_errno(errnum,
				    "start the thread %s (limits: ulimit -u, ulimit -v, "
				    "the cgroup's pids.max)",
				    name),
			ERROR_RESOURCE_EXHAUSTED);
	(void)snprintf(shown, sizeof(shown), "%s", name);
	(void)pthread_setname_np(thread, shown);
	*thread_out = thread;
	return NULL;
}
