/*
 * Answers to the kernel. Every function consumes its request, but for the one that fills
 * in. The only place where an error becomes an errno.
 *
 * Threads: any.
 */
#pragma once

#define FUSE_USE_VERSION 317
#include <fuse_lowlevel.h>

#include "fuse/buffers.h"
#include "fuse/view.h"

/* Whom the kernel takes files for. */
struct reply_owner {
	uid_t uid;
	gid_t gid;
	uid_t nobody; /* has the read-only subtrees, as user and as group */
};

void reply_error(fuse_req_t req,
		 struct error *err); /* EIO; consumes err, which is logged */
void reply_errno(fuse_req_t req, int errnum);
void reply_attr(const struct reply_owner *owner, fuse_req_t req,
		const struct view_attr *attr);
/* Gives the lookup back to view where the kernel did not take the answer. */
void reply_entry(const struct reply_owner *owner, struct view *view, fuse_req_t req,
		 const struct view_attr *attr);
void reply_link(fuse_req_t req, struct slice target);
/* size bytes from offset on, fewer at the file's end; fd is borrowed. */
void reply_read(struct buffers *buffers, fuse_req_t req, int fd, size_t size,
		off_t offset);
void reply_xattr(fuse_req_t req, size_t size, const char *value);
