/*
 * What session.c (mount, negotiation, threads) and ops.c (requests) share.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "fuse/handle.h"
#include "fuse/parked.h"
#include "fuse/session.h"
#include "lib/base/sync.h"

/* Requests that are counted; all that a read-only mount can get, but for INTERRUPT. */
#define SESSION_OPS(X)                                                                   \
	X(INIT)                                                                          \
	X(LOOKUP)                                                                        \
	X(FORGET)                                                                        \
	X(BATCH_FORGET)                                                                  \
	X(GETATTR)                                                                       \
	X(READLINK)                                                                      \
	X(OPEN)                                                                          \
	X(READ)                                                                          \
	X(FLUSH)                                                                         \
	X(RELEASE)                                                                       \
	X(OPENDIR)                                                                       \
	X(READDIR)                                                                       \
	X(STATFS)                                                                        \
	X(GETXATTR)                                                                      \
	X(LISTXATTR)                                                                     \
	X(IOCTL)                                                                         \
	X(LSEEK)                                                                         \
	X(STATX)

#define SESSION_OP(name) SESSION_##name,
enum session_op { SESSION_OPS(SESSION_OP) SESSION_N_OPS };
#undef SESSION_OP

#define SESSION_BACKGROUND   512 /* reads in flight that nobody waits for */
#define SESSION_READAHEAD_KB "1024"
/* Of io_uring, for each processor: entries, which waiting requests occupy, each with a
 * buffer of SESSION_RING_BUFFER bytes once it was used. */
#define SESSION_RING_DEPTH  "64"
#define SESSION_RING_BUFFER (256u << 10)
#define SESSION_THREADS_MIN 2
#define SESSION_THREADS_MAX 8

enum session_state { SESSION_STARTING, SESSION_SERVING, SESSION_ENDED };

struct session {
	struct view *view;
	struct fuse_session *fuse;
	char *path;
	uint64_t root_id;       /* the node that the mount shows as its root */
	struct view_root *root; /* held where the mount shows one tree */
	enum session_mode mode;
	bool is_inspection;
	struct reply_owner owner;
	bool is_own_mount; /* made by mount(2), not by fusermount3 */
	bool is_left;
	bool wants_uring;
	unsigned int n_threads;
	pthread_t threads[SESSION_THREADS_MAX];
	unsigned int n_started;
	int end_fd;
	struct buffers *buffers;
	struct handles *handles;
	struct parked_list *parked;
	atomic_bool has_uring;
	atomic_uint_fast64_t counts[SESSION_N_OPS];
	struct sync_mutex mutex;
	struct sync_cond changed; /* state, or n_running */
	enum session_state state SYNC_GUARDED_BY(&mutex);
	unsigned int n_running SYNC_GUARDED_BY(&mutex);
	bool can_passthrough SYNC_GUARDED_BY(&mutex); /* the kernel offers it */
};

extern const struct fuse_lowlevel_ops session_ops; /* ops.c */

/* INIT is about to be answered; whether the kernel offers passthrough. */
void session_set_serving(struct session *session, bool can_passthrough);
