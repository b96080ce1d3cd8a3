/*
 * Owns nothing: turns outcomes into answers. Every function consumes the request. The
 * only place where an error becomes an errno, and there is but one: a blob that cannot be
 * had is EIO, since no errno says why; the root remembers the true error for whoever
 * asks.
 *
 * Threads: FUSE threads and the fetcher's.
 */
#include "fuse/reply.h"

#include <errno.h>
#include <string.h>

#include "lib/base/alloc.h"

#define LOG_MODULE "fuse"
#include "lib/base/log.h"

#define REPLY_BLOCK     4096
#define REPLY_TIMEOUT_S (10.0 * 365 * 86400) /* content never changes */

void reply_error(fuse_req_t req, struct error *err)
{
	log_drop(LOG_INFO, err, "answered EIO");
	reply_errno(req, EIO);
}

void reply_errno(fuse_req_t req, int errnum)
{
	(void)fuse_reply_err(req, errnum);
}

static void reply_fill_stat(const struct reply_owner *owner, const struct view_attr *attr,
			    struct stat *out)
{
	*out = (struct stat){.st_ino = attr->ino,
			     .st_mode = attr->mode,
			     .st_nlink = attr->nlink,
			     .st_size = attr->size,
			     .st_blksize = REPLY_BLOCK,
			     .st_blocks = attr->size / 512 + (attr->size % 512 != 0),
			     .st_uid = attr->is_read_only ? owner->nobody : owner->uid,
			     .st_gid = attr->is_read_only ? owner->nobody : owner->gid};
	out->st_mtim = (struct timespec){attr->mtime_s, attr->mtime_ns};
	out->st_ctim = out->st_mtim;
	out->st_atim = out->st_mtim;
}

static void reply_fill_entry(const struct reply_owner *owner,
			     const struct view_attr *attr, struct fuse_entry_param *out)
{
	*out = (struct fuse_entry_param){.ino = attr->id,
					 .attr_timeout = REPLY_TIMEOUT_S,
					 .entry_timeout = REPLY_TIMEOUT_S};
	reply_fill_stat(owner, attr, &out->attr);
}

void reply_attr(const struct reply_owner *owner, fuse_req_t req,
		const struct view_attr *attr)
{
	struct stat st;

	reply_fill_stat(owner, attr, &st);
	(void)fuse_reply_attr(req, &st, REPLY_TIMEOUT_S);
}

void reply_entry(const struct reply_owner *owner, struct view *view, fuse_req_t req,
		 const struct view_attr *attr)
{
	struct fuse_entry_param entry;

	/* id 0 with a timeout is the answer "no such name" that the kernel keeps */
	reply_fill_entry(owner, attr, &entry);
	if (fuse_reply_entry(req, &entry) < 0 && attr->id)
		view_forget(view, attr->id, 1);
}

void reply_link(fuse_req_t req, struct slice target)
{
	_cleanup_free_ char *text = alloc_string_n((const char *)target.data, target.len);

	(void)fuse_reply_readlink(req, text);
}

void reply_read(struct buffers *buffers, fuse_req_t req, int fd, size_t size,
		off_t offset)
{
	void *buffer = buffers_take(buffers, size);
	size_t done = 0;
	ssize_t n = 0;

	while (done < size) {
		n = pread(fd, (uint8_t *)buffer + done, size - done,
			  offset + (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (n < 0)
		reply_error(req, error_errno(errno, "read a blob"));
	else
		(void)fuse_reply_buf(req, buffer, done);
	buffers_give(buffers, buffer, size);
}

void reply_xattr(fuse_req_t req, size_t size, const char *value)
{
	size_t len = strlen(value);

	if (size == 0)
		(void)fuse_reply_xattr(req, len);
	else if (size < len)
		reply_errno(req, ERANGE);
	else
		(void)fuse_reply_buf(req, value, len);
}
