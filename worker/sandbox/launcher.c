/*
 * Owns the process and our end of its socket, which is its life: it ends when that
 * closes, so it cannot outlive us.
 *
 * The process must not die with the thread that spawned it, so nothing here is about
 * parent death.
 */
#include "worker/sandbox/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/alloc.h"
#include "worker/sandbox/spawn.h"

#define LOG_MODULE "sandbox"
#include "lib/base/log.h"

struct launcher {
	struct launcher_config config;
	pid_t pid; /* 0: none */
	int socket;
};

static struct error *launcher_spawn(struct launcher *launcher)
{
	const struct launcher_config *config = &launcher->config;
	const char *argv[8] = {config->program,
			       config->has_terminal ? "terminal" : "serve",
			       config->bwrap};
	_cleanup_fd_ int far_end = -1;
	struct error *err;
	int ends[2];

	for (size_t i = 0; config->joins && config->joins[i]; i++) {
		require(i + 4 < ARRAY_SIZE(argv));
		argv[i + 3] = config->joins[i];
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_errno(errno, "make a socket pair");
	launcher->socket = ends[0];
	/* dup2 onto its own number would leave it close-on-exec */
	far_end = fcntl(ends[1], F_DUPFD_CLOEXEC, 64);
	(void)close(ends[1]);
	if (far_end < 0)
		return error_errno(errno, "duplicate a descriptor");
	err = spawn_program(argv, far_end, &launcher->pid);
	if (err)
		return err;
	log_debug("launcher %d started", launcher->pid);
	return NULL;
}

/* Ends the process, if there is one, and what it started. */
static void launcher_stop(struct launcher *launcher)
{
	cleanup_fd(&launcher->socket);
	launcher->socket = -1;
	if (launcher->pid)
		spawn_wait(launcher->pid);
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
