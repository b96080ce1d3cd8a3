/*
 * Owns the process and our end of its socket, which is its life: it ends when that
 * closes, so it cannot outlive us. posix_spawn only: gRPC's threads forbid fork.
 *
 * The process must not die with the thread that spawned it, so nothing here is about
 * parent death.
 */
#include "worker/sandbox/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "lib/base/alloc.h"

#define LOG_MODULE "sandbox"
#include "lib/base/log.h"

struct launcher {
	struct launcher_config config;
	pid_t pid; /* 0: none */
	int socket;
};

static int launcher_posix_spawn(const struct launcher *launcher,
				posix_spawn_file_actions_t *actions, int far_end,
				pid_t *pid_out)
{
	const struct launcher_config *config = &launcher->config;
	const char *argv[8] = {config->program, "serve", config->bwrap};
	char *const no_environment[] = {NULL};
	posix_spawnattr_t attr;
	sigset_t none;
	sigset_t defaults;
	int errnum;

	for (size_t i = 0; config->joins && config->joins[i]; i++) {
		require(i + 4 < ARRAY_SIZE(argv));
		argv[i + 3] = config->joins[i];
	}
	(void)posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_adddup2(actions, 2, 1);
	(void)posix_spawn_file_actions_adddup2(actions, far_end, PROGRAM_SOCKET_FD);
	(void)posix_spawnattr_init(&attr);
	(void)sigemptyset(&none);
	(void)sigfillset(&defaults);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setsigdefault(&attr, &defaults);
	(void)posix_spawnattr_setflags(&attr,
				       POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	errnum = posix_spawn(pid_out, config->program, actions, &attr,
			     (char *const *)(uintptr_t)argv, no_environment);
	(void)posix_spawnattr_destroy(&attr);
	return errnum;
}

static struct error *launcher_spawn(struct launcher *launcher)
{
	posix_spawn_file_actions_t actions;
	_cleanup_fd_ int far_end = -1;
	int ends[2];
	int errnum;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_errno(errno, "make a socket pair");
	launcher->socket = ends[0];
	/* dup2 onto its own number would leave it close-on-exec */
	far_end = fcntl(ends[1], F_DUPFD_CLOEXEC, 64);
	(void)close(ends[1]);
	if (far_end < 0)
		return error_errno(errno, "duplicate a descriptor");
	(void)posix_spawn_file_actions_init(&actions);
	errnum = launcher_posix_spawn(launcher, &actions, far_end, &launcher->pid);
	(void)posix_spawn_file_actions_destroy(&actions);
	if (errnum) {
		launcher->pid = 0;
		return error_errno(errnum, "start %s", launcher->config.program);
	}
	log_debug("launcher %d started", launcher->pid);
	return NULL;
}

/* Ends the process, if there is one, and what it started. */
static void launcher_stop(struct launcher *launcher)
{
	cleanup_fd(&launcher->socket);
	launcher->socket = -1;
	while (launcher->pid && waitpid(launcher->pid, NULL, 0) < 0 && errno == EINTR)
		;
	launcher->pid = 0;
}

struct error *launcher_new(const struct launcher_config *config, struct launcher **out)
{
	_cleanup_(launcher_freep) struct launcher *launcher = alloc_new(struct launcher);
	struct error *err;

	launcher->config = *config;
	launcher->socket = -1;
	err = launcher_spawn(launcher);
	if (err)
		return err;
	*out = take(launcher);
	return NULL;
}

void *launcher_free(struct launcher *launcher)
{
	if (!launcher)
		return NULL;
	launcher_stop(launcher);
	free(launcher);
	return NULL;
}

static bool launcher_send(const struct launcher *launcher,
			  const struct program_order *order, const int *fds, size_t n_fds)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(PROGRAM_FD_N * sizeof(int))] = {
		0};
	struct iovec part = {(void *)(uintptr_t)order, sizeof(*order)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	struct cmsghdr *head;
	ssize_t n;

	if (n_fds) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(head), fds, n_fds * sizeof(int));
	}
	do
		n = sendmsg(launcher->socket, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*order);
}

struct error *launcher_start(struct launcher *launcher, const struct program_order *order,
			     const int fds[static PROGRAM_FD_N])
{
	size_t n_fds = fds[PROGRAM_FD_CGROUP] < 0 ? PROGRAM_FD_N - 1 : PROGRAM_FD_N;
	struct error *err = NULL;

	if (launcher->pid && launcher_send(launcher, order, fds, n_fds))
		return NULL;
	/* it died while nothing ran: that is nobody's loss */
	launcher_stop(launcher);
	err = launcher_spawn(launcher);
	if (!err && !launcher_send(launcher, order, fds, n_fds))
		err = error_errno(errno, "reach the launcher");
	return err;
}

int launcher_fd(const struct launcher *launcher)
{
	return launcher->socket;
}

void launcher_kill(const struct launcher *launcher)
{
	struct program_order order = {.kind = PROGRAM_KILL};

	if (!launcher_send(launcher, &order, NULL, 0))
		log_debug("kill through the launcher: %s", strerror(errno));
}

struct error *launcher_wait(struct launcher *launcher, struct program_end *end_out)
{
	struct program_end end;
	ssize_t n;

	do
		n = recv(launcher->socket, &end, sizeof(end), 0);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(end)) {
		*end_out = end;
		return NULL;
	}
	launcher_stop(launcher);
	return error_new(ERROR_UNAVAILABLE,
			 "the process that started the command has died");
}
