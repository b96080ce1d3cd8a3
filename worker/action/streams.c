/*
 * Owns the pipes. A command that says little at a time, many times, is not to wake us
 * each time: after a small helping the pipes rest, and fill. They are large enough for
 * that. Nor is a disk that is full the end of a command which may be about to remove what
 * filled it: the pipes wait for a while.
 */
#include "worker/action/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"

#define STREAMS_PIPE_BYTES (1 << 20) /* what anybody may ask for */
#define STREAMS_HELPING    (STREAMS_PIPE_BYTES / 4)
#define STREAMS_REST_NS    (2 * NS_PER_MS)
#define STREAMS_FULL_NS    (5 * NS_PER_S) /* that a full disk is waited for */

static const char *const streams_names[STREAMS_N] = {"stdout", "stderr"};

struct error *streams_open(struct streams *streams, int dir_fd,
			   const struct sandbox_user *user)
{
	streams->max = INT64_MAX;
	for (size_t i = 0; i < STREAMS_N; i++) {
		int fds[2];

		streams->file_fds[i] =
			openat(dir_fd, streams_names[i],
			       O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (streams->file_fds[i] < 0)
			return error_errno(errno, "make the command's %s",
					   streams_names[i]);
		if (pipe2(fds, O_CLOEXEC) < 0)
			return error_errno(errno, "make a pipe");
		streams->read_fds[i] = fds[0];
		streams->write_fds[i] = fds[1];
		/* smaller where the kernel grants no more: it only costs turns */
		(void)fcntl(fds[0], F_SETPIPE_SZ, STREAMS_PIPE_BYTES);
		/* a command may open /dev/stdout again */
		if (fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0 ||
		    fchown(fds[1], user->uid, user->gid) < 0)
			return error_errno(errno, "set up the command's %s",
					   streams_names[i]);
	}
	return NULL;
}

void streams_given(struct streams *streams)
{
	for (size_t i = 0; i < STREAMS_N; i++) {
		cleanup_fd(&streams->write_fds[i]);
		streams->write_fds[i] = -1;
	}
}

void streams_deinit(struct streams *streams)
{
	streams_given(streams);
	for (size_t i = 0; i < STREAMS_N; i++) {
		cleanup_fd(&streams->file_fds[i]);
		cleanup_fd(&streams->read_fds[i]);
	}
	error_free(streams->err);
	*streams = STREAMS_INIT;
}

int streams_fd(const struct streams *streams, size_t i, int64_t now_ns)
{
	return now_ns < streams->rest_ns ? -1 : streams->read_fds[i];
}

/* Whether to wait for room: the command goes on meanwhile. */
static bool streams_wait_for_room(struct streams *streams, int errnum)
{
	int64_t now = clock_mono_ns();

	if (errnum != ENOSPC && errnum != EDQUOT)
		return false;
	if (!streams->full_ns)
		streams->full_ns = now;
	return now - streams->full_ns < STREAMS_FULL_NS;
}

/* All that is in the pipe now; how much. is_last: nothing is waited for any more. */
static int64_t streams_move(struct streams *streams, size_t i, bool is_last)
{
	int64_t moved = 0;

	while (streams->read_fds[i] >= 0 && moved < STREAMS_PIPE_BYTES) {
		ssize_t n = splice(streams->read_fds[i], NULL, streams->file_fds[i], NULL,
				   STREAMS_PIPE_BYTES, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && !is_last && streams_wait_for_room(streams, errno))
			break;
		if (n < 0 && !streams->err)
			streams->err = error_errno(errno, "keep the command's %s",
						   streams_names[i]);
		if (n <= 0) { /* nobody can write to it any more, or we cannot read */
			cleanup_fd(&streams->read_fds[i]);
			streams->read_fds[i] = -1;
			break;
		}
		streams->full_ns = 0;
		moved += n;
	}
	streams->sizes[i] += moved;
	return moved;
}

void streams_pump(struct streams *streams)
{
	int64_t now = clock_mono_ns();
	int64_t moved = 0;

	if (now < streams->rest_ns)
		return;
	for (size_t i = 0; i < STREAMS_N; i++)
		moved += streams_move(streams, i, false);
	streams->rest_ns = streams->full_ns || (moved && moved < STREAMS_HELPING)
				   ? now + STREAMS_REST_NS
				   : 0;
}

struct error *streams_finish(struct streams *streams)
{
	struct error *err;

	for (size_t i = 0; i < STREAMS_N; i++)
		while (streams_move(streams, i, true))
			;
	err = streams->err;
	streams->err = NULL;
	return err;
}
