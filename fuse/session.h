/*
 * The FUSE session over a view: one long-lived read-only mount, its threads, its
 * requests. The only part of lazyroot that the kernel talks to.
 *
 * Threads: its own; they never wait for the network. start, stop and the rest from main.
 */
#pragma once

#include "fuse/view.h"

enum session_mode {
	SESSION_PAGE_CACHE,  /* no message per open; reads are copied into the page cache
			      */
	SESSION_PASSTHROUGH, /* opens are messages; reads and mmaps go to the blob's file
			      */
};

/* Owns read-only subtrees. No action may run as this user: none can write or chmod there.
 */
#define SESSION_NOBODY 65534

struct session;

struct session_config {
	struct view *view; /* borrowed */
	const char *path;  /* where to mount; must be a directory */
	enum session_mode mode;
	unsigned int n_threads; /* 0: the default */
	/* Rings, where kernel and libfuse have them. libfuse 3.18 cannot interrupt what
	 * came by a ring: a request that waits then ends with its fetch, not with a
	 * signal. */
	bool want_uring;
	bool is_inspection; /* digest xattrs; everything belongs to the caller */
	uid_t owner_uid;    /* else: whom the action's user is for the kernel */
	gid_t owner_gid;
	/* not unmounted in the end, which costs 10 ms and more: its mount namespace ends
	 * with the process, which is soon */
	bool is_left;
	const struct digest
		*only_root; /* the mount shows this tree as its root, or NULL */
};

/*
 * Mounts and serves. UNAVAILABLE where there is no /dev/fuse, PERMISSION_DENIED without
 * the rights, FAILED_PRECONDITION where passthrough is asked for and cannot be: each
 * tells what to do. A dead mount that a killed predecessor left at path is detached
 * first. With only_root it waits for that tree's Directory.
 */
struct error *session_start(const struct session_config *config, struct session **out);
/* Unmounts (lazily), answers what waits, ends the threads. */
void *session_free(struct session *session);
CLEANUP_DEFINE(struct session, session_free)
/* Becomes readable when the session ended by itself (fusermount3 -u). */
int session_end_fd(const struct session *session);
/* Whether the kernel still takes answers. Once false, whatever a command reads below the
 * mount fails; it is so before the first such failure. Any thread. */
bool session_is_alive(struct session *session);
const char *session_path(const struct session *session);
enum session_mode session_mode_used(const struct session *session);
bool session_has_uring(const struct session *session);

/* FUSE messages handled so far, by name ("LOOKUP", "READ", …): request counts are
 * budgets. */
uint64_t session_n_requests(const struct session *session, const char *opcode);
void session_each_count(const struct session *session,
			void (*fn)(void *ctx, const char *opcode, uint64_t n), void *ctx);
