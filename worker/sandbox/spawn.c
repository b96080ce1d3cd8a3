/* Owns nothing: what is started is its caller's. */
#include "worker/sandbox/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "worker/sandbox/program.h"

static int spawn_with(posix_spawn_file_actions_t *actions, const char *const *argv,
		      int socket, pid_t *pid_out)
{
	char *const no_environment[] = {NULL};
	posix_spawnattr_t attr;
	sigset_t none;
	sigset_t defaults;
	int errnum;

	(void)posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_adddup2(actions, 2, 1);
	if (socket >= 0)
		(void)posix_spawn_file_actions_adddup2(actions, socket,
						       PROGRAM_SOCKET_FD);
	(void)posix_spawnattr_init(&attr);
	(void)sigemptyset(&none);
	(void)sigfillset(&defaults);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setsigdefault(&attr, &defaults);
	(void)posix_spawnattr_setflags(&attr,
				       POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	errnum = posix_spawn(pid_out, argv[0], actions, &attr,
			     (char *const *)(uintptr_t)argv, no_environment);
	(void)posix_spawnattr_destroy(&attr);
	return errnum;
}

struct error *spawn_program(const char *const *argv, int socket, pid_t *pid_out)
{
	posix_spawn_file_actions_t actions;
	pid_t pid = 0;
	int errnum;

	(void)posix_spawn_file_actions_init(&actions);
	errnum = spawn_with(&actions, argv, socket, &pid);
	(void)posix_spawn_file_actions_destroy(&actions);
	if (errnum)
		return error_errno(errnum, "start %s", argv[0]);
	*pid_out = pid;
	return NULL;
}

void spawn_wait(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
