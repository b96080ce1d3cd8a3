/*
 * What session.c (mount, negotiation, threads), ops.c (requests), reply.c (answers),
 * parked.c (requests that wait) and handle.c (open blobs) share: the only files that know
 * fuse_lowlevel.h.
 */
#pragma once

#define FUSE_USE_VERSION 317
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>

#include "fuse/session.h"
#include "lib/base/list.h"
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

#define SESSION_TIMEOUT_S    (10.0 * 365 * 86400) /* content never changes */
#define SESSION_BUFFER       ((size_t)1 << 20)    /* the largest READ by default */
#define SESSION_BUFFERS_MAX  8                    /* kept for the next reads */
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
	uid_t owner_uid;
	gid_t owner_gid;
	bool is_own_mount; /* made by mount(2), not by fusermount3 */
	bool wants_uring;
	unsigned int n_threads;
	pthread_t threads[SESSION_THREADS_MAX];
	unsigned int n_started;
	int end_fd;
	struct handles *handles;
	struct parked_list *parked;
	atomic_bool has_uring;
	atomic_uint_fast64_t counts[SESSION_N_OPS];
	struct sync_mutex mutex;
	struct sync_cond changed; /* state, or n_running */
	enum session_state state SYNC_GUARDED_BY(&mutex);
	unsigned int n_running SYNC_GUARDED_BY(&mutex);
	bool can_passthrough SYNC_GUARDED_BY(&mutex); /* the kernel offers it */
	void *buffers[SESSION_BUFFERS_MAX] SYNC_GUARDED_BY(&mutex);
	size_t n_buffers SYNC_GUARDED_BY(&mutex);
};

extern const struct fuse_lowlevel_ops session_ops; /* ops.c */

/* session.c: memory for one answer, size at least SESSION_BUFFER. */
void *session_buffer_take(struct session *session, size_t size);
void session_buffer_give(struct session *session, void *buffer, size_t size);
/* INIT is about to be answered; whether the kernel offers passthrough. */
void session_set_serving(struct session *session, bool can_passthrough);

/* reply.c: consuming answers. The only place where an error becomes an errno. */
void reply_error(fuse_req_t req, struct error *err);
void reply_errno(fuse_req_t req, int errnum);
void reply_attr(const struct session *session, fuse_req_t req,
		const struct view_attr *attr);
/* Gives the lookup back where the kernel did not take the answer. */
void reply_entry(struct session *session, fuse_req_t req, const struct view_attr *attr);
void reply_link(fuse_req_t req, struct slice target);
/* fd is borrowed. */
void reply_read(struct session *session, fuse_req_t req, int fd, size_t size,
		off_t offset);
void reply_xattr(fuse_req_t req, size_t size, const char *value);
void reply_fill_entry(const struct session *session, const struct view_attr *attr,
		      struct fuse_entry_param *out);

/*
 * parked.c: requests that wait for data. A request is answered by whoever claims it
 * first: the fetcher's callback, an interrupt (EINTR, while the fetch goes on for others)
 * or the end of the session.
 */
struct parked_list;
struct parked_list *parked_list_new(void);
/* Answers all that wait (ENOTCONN), and waits for those that are being answered; whatever
 * comes later is answered at once. */
void parked_list_close(struct parked_list *list);
void *parked_list_free(struct parked_list *list); /* closes it */

struct parked {
	struct list link;
	struct parked_list *list;
	/* guarded by the list's mutex, which only parked.c takes */
	fuse_req_t req; /* NULL: claimed */
	bool is_arming; /* its interrupt function is being registered */
	bool is_interrupted;
	struct session *session; /* only for who claimed it */
	struct view *view;       /* alive as long as its callbacks run */
	uint64_t id;
	size_t size;
	off_t offset;
};

/* NULL where the request was interrupted or the list closed already: it is answered. */
struct parked *parked_new(struct session *session, fuse_req_t req);
/* The request for the caller to answer before parked_end(), or NULL. */
fuse_req_t parked_claim(struct parked *parked);
void parked_end(struct parked *parked, bool has_answered);

/*
 * handle.c: blobs kept open, by node: the descriptor for reads, or in passthrough mode
 * the kernel's backing id (at most one a node, as the kernel demands).
 */
struct handles;
struct handle;
#define HANDLES_IDLE_MAX     256  /* descriptors of ours, … */
#define HANDLES_IDLE_SHARE   8    /* one in so many of all at most */
#define HANDLES_BACKINGS_MAX 8192 /* files that only the kernel holds */

/* device: the session's /dev/fuse in passthrough mode, else -1. */
struct handles *handles_new(int device);
void *handles_free(struct handles *handles);
struct handle *handles_get(struct handles *handles, uint64_t id); /* a use, or NULL */
/* Consumes fd. A use of the handle made, or of the one that is there already. */
struct error *handles_add(struct handles *handles, uint64_t id, int fd,
			  struct handle **handle_out);
void handles_put(struct handles *handles, struct handle *handle);
void handles_forget(struct handles *handles, uint64_t id); /* no use is left */
int handle_fd(const struct handle *handle);
int handle_backing_id(const struct handle *handle);
/* Whether files of this directory can be passed through; the error says why not. */
struct error *handle_probe(int device, int dir_fd);
