/*
 * Owns no state: one function per FUSE request, each of which answers from what is at
 * hand or parks the request and lets the view call back. Nothing here waits for the
 * network.
 *
 * The answers tell the kernel that nothing ever changes, so that it asks once: unlimited
 * timeouts, also for names that do not exist; ENOSYS to OPENDIR (it keeps listings by
 * itself), in page-cache mode to OPEN, and on worker mounts to GETXATTR (overlayfs would
 * ask for one xattr a file).
 *
 * File handles stay on (they cost no message): overlayfs notes with them which lower file
 * a written one came from. Without, two hard links to it are two files, each with a
 * number, a size and locks of its own.
 *
 * Threads: libfuse's, and for the functions named …_done the fetcher's.
 */
#include <errno.h>
#include <string.h>

#include "fuse/session_impl.h"
#include "lib/base/alloc.h"

static struct session *ops_count(fuse_req_t req, enum session_op op)
{
	struct session *session = fuse_req_userdata(req);

	atomic_fetch_add_explicit(&session->counts[op], 1, memory_order_relaxed);
	if (fuse_req_is_uring(req))
		atomic_store_explicit(&session->has_uring, true, memory_order_relaxed);
	return session;
}

/* The kernel's name of the mount's root is constant; ours is the tree it shows. */
static uint64_t ops_id(const struct session *session, fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? session->root_id : ino;
}

static void ops_init(void *userdata, struct fuse_conn_info *conn)
{
	static const uint64_t wanted[] = {FUSE_CAP_CACHE_SYMLINKS,
					  FUSE_CAP_PARALLEL_DIROPS};
	static const uint64_t unwanted[] = {
		FUSE_CAP_AUTO_INVAL_DATA,  FUSE_CAP_READDIRPLUS,
		FUSE_CAP_READDIRPLUS_AUTO, FUSE_CAP_SPLICE_READ,
		FUSE_CAP_SPLICE_WRITE,     FUSE_CAP_SPLICE_MOVE};
	struct session *session = userdata;
	bool can_passthrough = false;

	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		(void)fuse_set_feature_flag(conn, wanted[i]);
	for (size_t i = 0; i < ARRAY_SIZE(unwanted); i++)
		fuse_unset_feature_flag(conn, unwanted[i]);
	conn->max_background = SESSION_BACKGROUND;
	conn->congestion_threshold = SESSION_BACKGROUND;
	if (session->wants_uring && conn->max_write > SESSION_RING_BUFFER)
		conn->max_write = SESSION_RING_BUFFER; /* bounds reads too */
	atomic_fetch_add(&session->counts[SESSION_INIT], 1);
	if (session->mode == SESSION_PASSTHROUGH &&
	    fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH)) {
		/* the overlay on top takes the last level of stacking that is allowed */
		conn->max_backing_stack_depth = FUSE_BACKING_STACKED_UNDER;
		can_passthrough = true;
	}
	session_set_serving(session, can_passthrough);
}

/* For the view's callback to answer. NULL: it is answered. */
static struct parked *ops_park(struct session *session, fuse_req_t req, uint64_t id)
{
	struct parked *parked = parked_new(session->parked, req);

	if (!parked)
		return NULL;
	parked->session = session;
	parked->view = session->view;
	parked->id = id;
	return parked;
}

static void ops_lookup_done(void *ctx, struct error *err, const struct view_attr *attr)
{
	struct parked *parked = ctx;
	fuse_req_t req = parked_claim(parked);

	if (!req) {
		if (!err && attr->id)
			view_forget(parked->view, attr->id, 1);
		error_free(err);
	} else if (err && parked->session->is_inspection && parked->id == VIEW_ROOT_ID &&
		   error_code(err) == ERROR_NOT_FOUND) {
		/* a person who asks for a digest that nobody has: no such tree, not a
		 * broken one; not cached, since it may come */
		error_free(err);
		reply_errno(req, ENOENT);
	} else if (err) {
		reply_error(req, err);
	} else {
		reply_entry(&parked->session->owner, parked->view, req, attr);
	}
	parked_end(parked, req != NULL);
}

static void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct session *session = ops_count(req, SESSION_LOOKUP);
	uint64_t id = ops_id(session, parent);
	struct view_attr attr;
	struct parked *parked;

	if (view_try_lookup(session->view, id, slice_of(name), &attr)) {
		reply_entry(&session->owner, session->view, req, &attr);
		return;
	}
	/* name is libfuse's until we return or answer, so the view copies it first */
	parked = ops_park(session, req, id);
	if (!parked)
		return;
	view_lookup(session->view, id, slice_of(name), ops_lookup_done, parked);
}

static void ops_forget_one(struct session *session, uint64_t ino, uint64_t n_lookups)
{
	if (ino == FUSE_ROOT_ID)
		return;
	handles_forget(session->handles, ino);
	view_forget(session->view, ino, n_lookups);
}

static void ops_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n_lookups)
{
	ops_forget_one(ops_count(req, SESSION_FORGET), ino, n_lookups);
	fuse_reply_none(req);
}

static void ops_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *forgets)
{
	struct session *session = ops_count(req, SESSION_BATCH_FORGET);

	for (size_t i = 0; i < n; i++)
		ops_forget_one(session, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct session *session = ops_count(req, SESSION_GETATTR);
	struct view_attr attr;

	(void)fi;
	view_getattr(session->view, ops_id(session, ino), &attr);
	reply_attr(&session->owner, req, &attr);
}

static void ops_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct session *session = ops_count(req, SESSION_READLINK);

	reply_link(req, view_readlink(session->view, ino));
}

static void ops_answer_open(struct session *session, fuse_req_t req, uint64_t id, int fd)
{
	struct fuse_file_info fi = {0};
	struct handle *handle;
	struct error *err = handles_add(session->handles, id, fd, &handle);

	if (err) {
		reply_error(req, err);
		return;
	}
	fi.fh = (uint64_t)(uintptr_t)handle;
	fi.backing_id = handle_backing_id(handle);
	if (fuse_reply_open(req, &fi) < 0)
		handles_put(session->handles, handle);
}

/* What a fetch brought: true where its descriptor is to be answered with. A request that
 * is gone (req NULL) drops it, a failure is said. Consumes err. */
static bool ops_may_answer(fuse_req_t req, struct error *err, int fd)
{
	if (req && err)
		reply_error(req, err);
	else
		error_free(err);
	if (!req && fd >= 0)
		(void)close(fd);
	return req && !err;
}

static void ops_open_done(void *ctx, struct error *err, int fd)
{
	struct parked *parked = ctx;
	fuse_req_t req = parked_claim(parked);

	if (ops_may_answer(req, err, fd))
		ops_answer_open(parked->session, req, parked->id, fd);
	parked_end(parked, req != NULL);
}

static void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct session *session = ops_count(req, SESSION_OPEN);
	struct fuse_file_info answer = {0};
	struct handle *handle;
	struct parked *parked;
	int fd;

	(void)fi;
	if (session->mode == SESSION_PAGE_CACHE) {
		reply_errno(req, ENOSYS);
		return;
	}
	handle = handles_get(session->handles, ino);
	if (handle) {
		answer.fh = (uint64_t)(uintptr_t)handle;
		answer.backing_id = handle_backing_id(handle);
		if (fuse_reply_open(req, &answer) < 0)
			handles_put(session->handles, handle);
		return;
	}
	if (view_try_open(session->view, ino, &fd)) {
		ops_answer_open(session, req, ino, fd);
		return;
	}
	parked = ops_park(session, req, ino);
	if (!parked)
		return;
	view_open(session->view, ino, ops_open_done, parked);
}

static void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct session *session = ops_count(req, SESSION_RELEASE);
	struct handle *handle = (struct handle *)(uintptr_t)fi->fh;

	(void)ino;
	if (handle)
		handles_put(session->handles, handle);
	reply_errno(req, 0);
}

/* Answers a READ and keeps the descriptor where more of the file is likely to be read. */
static void ops_answer_read(struct session *session, fuse_req_t req, uint64_t id,
			    size_t size, off_t offset, int fd)
{
	bool is_rest_unread = offset + (off_t)size < view_digest(session->view, id)->size;
	struct handle *handle;
	struct error *err;

	if (!is_rest_unread) {
		reply_read(session->buffers, req, fd, size, offset);
		(void)close(fd);
		return;
	}
	err = handles_add(session->handles, id, fd, &handle);
	if (err) {
		reply_error(req, err);
		return;
	}
	reply_read(session->buffers, req, handle_fd(handle), size, offset);
	handles_put(session->handles, handle);
}

static void ops_read_done(void *ctx, struct error *err, int fd)
{
	struct parked *parked = ctx;
	fuse_req_t req = parked_claim(parked);

	if (ops_may_answer(req, err, fd))
		ops_answer_read(parked->session, req, parked->id, parked->size,
				parked->offset, fd);
	parked_end(parked, req != NULL);
}

static void ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct session *session = ops_count(req, SESSION_READ);
	struct handle *handle = handles_get(session->handles, ino);
	struct parked *parked;
	int fd;

	(void)fi;
	if (handle) {
		reply_read(session->buffers, req, handle_fd(handle), size, offset);
		handles_put(session->handles, handle);
		return;
	}
	if (view_try_open(session->view, ino, &fd)) {
		ops_answer_read(session, req, ino, size, offset, fd);
		return;
	}
	parked = ops_park(session, req, ino);
	if (!parked)
		return;
	parked->size = size;
	parked->offset = offset;
	view_open(session->view, ino, ops_read_done, parked);
}

static void ops_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ops_count(req, SESSION_OPENDIR);
	(void)ino;
	(void)fi;
	reply_errno(req, ENOSYS);
}

static mode_t ops_type(enum tree_kind kind)
{
	switch (kind) {
	case TREE_FILE:
		return S_IFREG;
	case TREE_DIR:
		return S_IFDIR;
	case TREE_SYMLINK:
		return S_IFLNK;
	}
	return 0;
}

/* The entry at offset (0: ".", 1: "..", then those of dir); false after the last. */
static bool ops_entry_at(struct session *session, uint64_t id, const struct tree_dir *dir,
			 uint64_t offset, char name[static TREE_NAME_MAX + 1],
			 struct stat *st_out)
{
	const struct tree_node *node;
	struct view_attr attr;

	if (offset < 2) {
		/* the kernel answers stat("..") by itself; any number will do there */
		view_getattr(session->view, id, &attr);
		*st_out = (struct stat){.st_ino = attr.ino, .st_mode = S_IFDIR};
		memcpy(name, "..", 2);
		name[offset + 1] = '\0';
		return true;
	}
	if (!dir || offset - 2 >= dir->n_nodes)
		return false;
	node = &dir->nodes[offset - 2];
	memcpy(name, node->name.data, node->name.len);
	name[node->name.len] = '\0';
	*st_out = (struct stat){.st_ino = view_entry_ino(session->view, id, node),
				.st_mode = ops_type(node->kind)};
	return true;
}

static void ops_answer_readdir(struct session *session, fuse_req_t req, uint64_t id,
			       size_t size, off_t offset, const struct tree_dir *dir)
{
	char *buffer = buffers_take(session->buffers, size);
	char name[TREE_NAME_MAX + 1];
	size_t used = 0;
	struct stat st;

	for (uint64_t at = (uint64_t)offset;
	     ops_entry_at(session, id, dir, at, name, &st); at++) {
		size_t n = fuse_add_direntry(req, buffer + used, size - used, name, &st,
					     (off_t)at + 1);

		if (n > size - used)
			break;
		used += n;
	}
	(void)fuse_reply_buf(req, buffer, used);
	buffers_give(session->buffers, buffer, size);
}

static void ops_readdir_done(void *ctx, struct error *err, struct tree_dir *dir)
{
	struct parked *parked = ctx;
	fuse_req_t req = parked_claim(parked);

	if (!req)
		error_free(err);
	else if (err)
		reply_error(req, err);
	else
		ops_answer_readdir(parked->session, req, parked->id, parked->size,
				   parked->offset, dir);
	tree_dir_unref(dir);
	parked_end(parked, req != NULL);
}

static void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
			struct fuse_file_info *fi)
{
	struct session *session = ops_count(req, SESSION_READDIR);
	uint64_t id = ops_id(session, ino);
	struct parked *parked;
	struct tree_dir *dir;

	(void)fi;
	if (view_try_dir(session->view, id, &dir)) {
		ops_answer_readdir(session, req, id, size, offset, dir);
		tree_dir_unref(dir);
		return;
	}
	parked = ops_park(session, req, id);
	if (!parked)
		return;
	parked->size = size;
	parked->offset = offset;
	view_dir(session->view, id, ops_readdir_done, parked);
}

static void ops_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st = {
		.f_bsize = 4096, .f_frsize = 4096, .f_namemax = TREE_NAME_MAX};

	(void)ops_count(req, SESSION_STATFS);
	(void)ino;
	(void)fuse_reply_statfs(req, &st);
}

static void ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct session *session = ops_count(req, SESSION_GETXATTR);
	const struct digest *digest;
	char text[DIGEST_STRING_MAX];

	if (!session->is_inspection) {
		reply_errno(req, ENOSYS);
		return;
	}
	digest = view_digest(session->view, ops_id(session, ino));
	if (digest && strcmp(name, "user.digest") == 0)
		reply_xattr(req, size, digest_format(digest, text));
	else if (digest && strcmp(name, "user.checksum.sha256") == 0)
		reply_xattr(req, size, digest_hex(digest, text));
	else
		reply_errno(req, ENODATA);
}

static void ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct session *session = ops_count(req, SESSION_LISTXATTR);

	(void)ino;
	/* digests are there for who asks by name; cp -a and tar shall not copy them */
	if (!session->is_inspection)
		reply_errno(req, ENOSYS);
	else
		reply_xattr(req, size, "");
}

/* What the kernel stops asking after one ENOSYS. */
static void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ops_count(req, SESSION_FLUSH);
	(void)ino;
	(void)fi;
	reply_errno(req, ENOSYS);
}

static void ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		      struct fuse_file_info *fi)
{
	(void)ops_count(req, SESSION_LSEEK);
	(void)ino;
	(void)offset;
	(void)whence;
	(void)fi;
	reply_errno(req, ENOSYS);
}

static void ops_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
		      struct fuse_file_info *fi, unsigned int flags, const void *in_buf,
		      size_t in_size, size_t out_size)
{
	(void)ops_count(req, SESSION_IOCTL);
	(void)ino;
	(void)cmd;
	(void)arg;
	(void)fi;
	(void)flags;
	(void)in_buf;
	(void)in_size;
	(void)out_size;
	reply_errno(req, ENOSYS);
}

static void ops_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask,
		      struct fuse_file_info *fi)
{
	(void)ops_count(req, SESSION_STATX);
	(void)ino;
	(void)flags;
	(void)mask;
	(void)fi;
	reply_errno(req, ENOSYS);
}

const struct fuse_lowlevel_ops session_ops = {
	.init = ops_init,
	.lookup = ops_lookup,
	.forget = ops_forget,
	.forget_multi = ops_forget_multi,
	.getattr = ops_getattr,
	.readlink = ops_readlink,
	.open = ops_open,
	.read = ops_read,
	.flush = ops_flush,
	.release = ops_release,
	.opendir = ops_opendir,
	.readdir = ops_readdir,
	.statfs = ops_statfs,
	.getxattr = ops_getxattr,
	.listxattr = ops_listxattr,
	.ioctl = ops_ioctl,
	.lseek = ops_lseek,
	.statx = ops_statx,
};
