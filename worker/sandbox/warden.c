/* Owns the process, which nothing but its own end needs. */
#include "worker/sandbox/warden.h"

#include <signal.h>

#include "lib/base/alloc.h"
#include "worker/sandbox/spawn.h"

struct warden {
	pid_t pid;
};

struct error *warden_new(const char *program, const char *dir, struct warden **out)
{
	const char *argv[] = {program, "warden", dir, NULL};
	pid_t pid = 0;
	struct error *err = spawn_program(argv, -1, &pid);

	if (err)
		return err;
	*out = alloc_new(struct warden);
	(*out)->pid = pid;
	return NULL;
}

void *warden_free(struct warden *warden)
{
	if (!warden)
		return NULL;
	/* not waited for before, so the number is still its own */
	(void)kill(warden->pid, SIGKILL);
	spawn_wait(warden->pid);
	free(warden);
	return NULL;
}
