/*
 * Owns the mount, the connection to the kernel and the threads that serve it. What must
 * stay true:
 *
 * - As root the mount is made with mount(2), so that no fusermount3 is needed and nothing
 *   falls back to it in silence; others go through fusermount3, as the system wants it.
 * - Nothing of libfuse is freed while a request is unanswered: session_free() answers
 * what is parked and lets nothing be parked any more, then ends the loop, then destroys.
 * - INIT is answered by a thread of ours, so session_start() waits for it; passthrough is
 *   tried out before anybody sees the mount.
 *
 * Threads: a few of ours, all reading the one device (libfuse's own loop would end its
 * threads with pthread_cancel); with rings one, since libfuse brings a thread a
 * processor. All signals but the one that wakes them are blocked in them.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "fuse/session_impl.h"
#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/latch.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"

#define LOG_MODULE "fuse"
#include "lib/base/log.h"

#define SESSION_WAKE            SIGURG /* ignored by whoever else may get one */
#define SESSION_URING_PARAMETER "/sys/module/fuse/parameters/enable_uring"

static void session_set_state(struct session *session, enum session_state state)
	SYNC_REQUIRES(&session->mutex)
{
	require(state > session->state);
	session->state = state;
	sync_broadcast(&session->changed);
}

void session_set_serving(struct session *session, bool can_passthrough)
{
	sync_lock(&session->mutex);
	session->can_passthrough = can_passthrough;
	session_set_state(session, SESSION_SERVING);
	sync_unlock(&session->mutex);
}

static void session_fuse_log(enum fuse_log_level level, const char *format, va_list ap)
	__attribute__((format(printf, 2, 0)));
static void session_fuse_log(enum fuse_log_level level, const char *format, va_list ap)
{
	_cleanup_free_ char *text = alloc_vprintf(format, ap);

	text[strcspn(text, "\n")] = '\0';
	if (level <= FUSE_LOG_ERR)
		log_info("libfuse: %s", text);
	else
		log_debug("libfuse: %s", text);
}

static void session_serve_device(struct session *session)
{
	struct fuse_buf buf = {0};

	while (!fuse_session_exited(session->fuse)) {
		int n = fuse_session_receive_buf(session->fuse, &buf);

		if (n > 0)
			fuse_session_process_buf(session->fuse, &buf);
		else if (n != -EINTR && n != -EAGAIN)
			break;
	}
	/* the mount is gone: the other threads get the same error at their next read */
	fuse_session_exit(session->fuse);
	free(buf.mem);
}

static void session_serve_rings(struct session *session)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();

	require(config);
	fuse_loop_cfg_set_max_threads(config, session->n_threads);
	(void)fuse_session_loop_mt(session->fuse, config);
	fuse_loop_cfg_destroy(config);
}

/* A signal that came before is delivered now. */
static void session_let_wake(void)
{
	sigset_t wake;

	(void)sigemptyset(&wake);
	(void)sigaddset(&wake, SESSION_WAKE);
	(void)pthread_sigmask(SIG_UNBLOCK, &wake, NULL);
}

static void *session_thread(void *arg)
{
	struct session *session = arg;
	uint64_t one = 1;
	bool is_last;

	session_let_wake();
	if (session->wants_uring)
		session_serve_rings(session);
	else
		session_serve_device(session);
	sync_lock(&session->mutex);
	is_last = --session->n_running == 0;
	if (is_last)
		session_set_state(session, SESSION_ENDED);
	sync_broadcast(&session->changed);
	sync_unlock(&session->mutex);
	if (is_last)
		require(write(session->end_fd, &one, sizeof(one)) == sizeof(one));
	return NULL;
}

static void session_woken(int signal)
{
	(void)signal;
}

static struct error *session_spawn(struct session *session)
{
	struct sigaction action = {.sa_handler = session_woken};
	unsigned int n = session->wants_uring ? 1 : session->n_threads;
	struct error *err = NULL;

	(void)sigaction(SESSION_WAKE, &action, NULL);
	sync_lock(&session->mutex);
	session->n_running = n;
	sync_unlock(&session->mutex);
	for (; session->n_started < n && !err; session->n_started += !err)
		err = thread_start("fuse", session_thread, session,
				   &session->threads[session->n_started]);
	if (!err)
		return NULL;
	sync_lock(&session->mutex);
	session->n_running -= n - session->n_started;
	sync_unlock(&session->mutex);
	return err;
}

/* A signal may come just before its thread reads again, hence again and again. */
static void session_join(struct session *session)
{
	if (session->n_started)
		fuse_session_exit(session->fuse);
	sync_lock(&session->mutex);
	while (session->n_running) {
		if (!session->wants_uring)
			for (unsigned int i = 0; i < session->n_started; i++)
				(void)pthread_kill(session->threads[i], SESSION_WAKE);
		(void)sync_wait_until(&session->changed, &session->mutex,
				      clock_mono_ns() + NS_PER_MS);
	}
	sync_unlock(&session->mutex);
	for (unsigned int i = 0; i < session->n_started; i++)
		(void)pthread_join(session->threads[i], NULL);
}

static bool session_kernel_has_uring(void)
{
	_cleanup_error_ struct error *err = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT;

	err = file_read_all(AT_FDCWD, SESSION_URING_PARAMETER, 16, &text);
	return !err && buf_string(&text)[0] == 'Y';
}

static struct error *session_new_fuse(struct session *session)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	const char *shared = geteuid() == 0 ? ",allow_other" : "";
	_cleanup_free_ char *options = alloc_printf(
		"ro,nosuid,nodev,noatime,default_permissions,subtype=lazyroot,"
		"fsname=lazyroot%s%s",
		shared,
		session->wants_uring ? ",io_uring,io_uring_q_depth=" SESSION_RING_DEPTH
				     : "");

	require(fuse_opt_add_arg(&args, "lazyroot") == 0);
	require(fuse_opt_add_arg(&args, "-o") == 0);
	require(fuse_opt_add_arg(&args, options) == 0);
	session->fuse =
		fuse_session_new(&args, &session_ops, sizeof(session_ops), session);
	fuse_opt_free_args(&args);
	if (!session->fuse)
		return error_new(ERROR_INTERNAL, "libfuse refused the options %s",
				 options);
	return NULL;
}

static struct error *session_no_device(int errnum)
{
	if (errnum == EACCES || errnum == EPERM)
		return error_errno(errnum, "open /dev/fuse (a container needs "
					   "--device /dev/fuse --cap-add SYS_ADMIN)");
	return error_recode(
		error_errno(errnum, "open /dev/fuse (load the kernel's fuse module, or "
				    "give the container --device /dev/fuse)"),
		ERROR_UNAVAILABLE);
}

/* mount(2) as root; libfuse takes the descriptor over. */
static struct error *session_mount_own(struct session *session)
{
	_cleanup_fd_ int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	_cleanup_free_ char *options = NULL;
	char device_path[32];

	if (device < 0)
		return session_no_device(errno);
	options = alloc_printf("fd=%d,rootmode=40000,user_id=%u,group_id=%u,"
			       "default_permissions,allow_other",
			       device, geteuid(), getegid());
	if (mount("lazyroot", session->path, "fuse.lazyroot",
		  MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME, options) < 0)
		return error_errno(errno, "mount on %s%s", session->path,
				   errno == EPERM ? " (mounting needs CAP_SYS_ADMIN)"
						  : "");
	session->is_own_mount = true;
	(void)snprintf(device_path, sizeof(device_path), "/dev/fd/%d", device);
	if (fuse_session_mount(session->fuse, device_path) < 0)
		return error_new(ERROR_INTERNAL, "libfuse does not take %s", device_path);
	(void)take_fd(device);
	return NULL;
}

static struct error *session_mount(struct session *session)
{
	if (geteuid() == 0)
		return session_mount_own(session);
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		return session_no_device(errno);
	if (fuse_session_mount(session->fuse, session->path) < 0)
		return error_new(ERROR_PERMISSION_DENIED,
				 "mount on %s: fusermount3 refused or is not installed "
				 "(Debian: apt install fuse3)",
				 session->path);
	return NULL;
}

/* A killed predecessor's mount answers ENOTCONN to everything. */
static struct error *session_check_path(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 && errno == ENOTCONN) {
		log_info("detaching the dead mount on %s", path);
		(void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
	if (stat(path, &st) < 0)
		return error_errno(errno, "mount point %s", path);
	if (!S_ISDIR(st.st_mode))
		return error_new(ERROR_INVALID_ARGUMENT, "mount point %s is no directory",
				 path);
	return NULL;
}

/* Larger windows than FUSE's 128 KiB; best effort, /sys may be read-only. */
static void session_raise_readahead(dev_t device)
{
	_cleanup_error_ struct error *err = NULL;
	_cleanup_free_ char *path = NULL;
	_cleanup_fd_ int fd = -1;

	path = alloc_printf("/sys/class/bdi/%u:%u/read_ahead_kb", major(device),
			    minor(device));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		err = file_write_all(fd, SESSION_READAHEAD_KB,
				     strlen(SESSION_READAHEAD_KB));
}

static struct error *session_await_init(struct session *session)
{
	enum session_state state;
	struct stat st;

	sync_lock(&session->mutex);
	while (session->state == SESSION_STARTING)
		sync_wait(&session->changed, &session->mutex);
	state = session->state;
	sync_unlock(&session->mutex);
	/* INIT was answered, but the kernel may not have read the answer yet: it does so
	 * before a first request is over */
	if (state == SESSION_ENDED || stat(session->path, &st) < 0)
		return error_new(ERROR_UNAVAILABLE, "the kernel ended the mount on %s",
				 session->path);
	session_raise_readahead(st.st_dev);
	return NULL;
}

static struct error *session_check_passthrough(struct session *session)
{
	bool can_passthrough;

	if (session->mode != SESSION_PASSTHROUGH)
		return NULL;
	sync_lock(&session->mutex);
	can_passthrough = session->can_passthrough;
	sync_unlock(&session->mutex);
	if (!can_passthrough)
		return error_new(
			ERROR_FAILED_PRECONDITION,
			"this kernel has no FUSE passthrough (Linux 6.9 and newer "
			"have); use the page cache");
	return handle_probe(fuse_session_fd(session->fuse),
			    store_dir_fd(view_store(session->view)));
}

struct session_root_wait {
	struct latch latch;
	struct error *err;
	uint64_t id;
};

static void session_root_done(void *ctx, struct error *err, const struct view_attr *attr)
{
	struct session_root_wait *wait = ctx;

	wait->err = err;
	wait->id = err ? 0 : attr->id;
	latch_down(&wait->latch);
}

/* The node that a mount of one tree has as its root; looked up once, for good. */
static struct error *session_find_root(struct session *session,
				       const struct digest *digest)
{
	struct session_root_wait wait = {0};
	char name[DIGEST_STRING_MAX];

	session->root_id = VIEW_ROOT_ID;
	if (!digest)
		return NULL;
	latch_init(&wait.latch, 1);
	session->root = view_root_get(session->view, digest);
	view_lookup(session->view, VIEW_ROOT_ID, slice_of(digest_name(digest, name)),
		    session_root_done, &wait);
	latch_wait(&wait.latch);
	latch_deinit(&wait.latch);
	if (wait.err)
		return error_wrap(wait.err, "tree %s", name);
	session->root_id = wait.id;
	return NULL;
}

static struct error *session_serve(struct session *session)
{
	struct error *err = session_check_path(session->path);

	if (!err)
		err = session_new_fuse(session);
	if (!err)
		err = session_mount(session);
	if (err)
		return err;
	session->handles = handles_new(session->mode == SESSION_PASSTHROUGH
					       ? fuse_session_fd(session->fuse)
					       : -1);
	err = session_spawn(session);
	if (!err)
		err = session_await_init(session);
	if (!err)
		err = session_check_passthrough(session);
	return err;
}

static unsigned int session_n_threads(unsigned int asked)
{
	long n = asked ? (long)asked : sysconf(_SC_NPROCESSORS_ONLN);

	if (!asked && n < SESSION_THREADS_MIN)
		n = SESSION_THREADS_MIN;
	return n < SESSION_THREADS_MAX ? (unsigned int)n : SESSION_THREADS_MAX;
}

struct error *session_start(const struct session_config *config, struct session **out)
{
	_cleanup_(session_freep) struct session *session = alloc_new(struct session);
	struct error *err;

	fuse_set_log_func(session_fuse_log);
	sync_mutex_init(&session->mutex);
	sync_cond_init(&session->changed);
	session->view = config->view;
	session->path = alloc_string(config->path);
	session->mode = config->mode;
	session->is_inspection = config->is_inspection;
	session->owner = (struct reply_owner){
		.uid = config->is_inspection ? geteuid() : config->owner_uid,
		.gid = config->is_inspection ? getegid() : config->owner_gid,
		.nobody = SESSION_NOBODY};
	session->is_left = config->is_left;
	session->n_threads = session_n_threads(config->n_threads);
	session->wants_uring = config->want_uring && session_kernel_has_uring();
	session->buffers = buffers_new();
	session->parked = parked_list_new();
	session->end_fd = eventfd(0, EFD_CLOEXEC);
	if (session->end_fd < 0)
		return error_errno(errno, "make an eventfd");
	err = session_find_root(session, config->only_root);
	if (!err)
		err = session_serve(session);
	if (err)
		return err;
	*out = take(session);
	return NULL;
}

static bool session_has_ended(struct session *session)
{
	bool has_ended;

	sync_lock(&session->mutex);
	has_ended = session->state == SESSION_ENDED;
	sync_unlock(&session->mutex);
	return has_ended;
}

bool session_is_alive(struct session *session)
{
	struct pollfd device = {.fd = fuse_session_fd(session->fuse)};

	/* an aborted connection says so here before it fails a request */
	return !session_has_ended(session) && poll(&device, 1, 0) == 0;
}

/* Ends mount, loop and what waits, in this order. */
static void session_end(struct session *session)
{
	bool is_mounted = !session_has_ended(session);

	if (session->is_own_mount && is_mounted && !session->is_left &&
	    umount2(session->path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		log_warn("unmount %s: %s", session->path, strerror(errno));
	/* a request that came by a ring is memory of that ring, which goes with its
	 * thread: none may wait any more */
	parked_list_close(session->parked);
	session_join(session);
	(void)parked_list_free(session->parked);
	/* before the device goes: backing ids are closed through it */
	(void)handles_free(session->handles);
	if (session->fuse && !session->is_own_mount && is_mounted)
		fuse_session_unmount(session->fuse);
	if (session->fuse)
		fuse_session_destroy(session->fuse);
}

void *session_free(struct session *session)
{
	if (!session)
		return NULL;
	session_end(session);
	if (session->root_id > VIEW_ROOT_ID)
		view_forget(session->view, session->root_id, 1);
	(void)view_root_put(session->root);
	if (session->end_fd >= 0)
		(void)close(session->end_fd);
	(void)buffers_free(session->buffers);
	sync_cond_deinit(&session->changed);
	sync_mutex_deinit(&session->mutex);
	free(session->path);
	free(session);
	return NULL;
}

int session_end_fd(const struct session *session)
{
	return session->end_fd;
}

const char *session_path(const struct session *session)
{
	return session->path;
}

enum session_mode session_mode_used(const struct session *session)
{
	return session->mode;
}

bool session_has_uring(const struct session *session)
{
	return atomic_load(&session->has_uring);
}

#define SESSION_NAME(name) #name,
static const char *const session_names[SESSION_N_OPS] = {SESSION_OPS(SESSION_NAME)};
#undef SESSION_NAME

uint64_t session_n_requests(const struct session *session, const char *opcode)
{
	for (size_t i = 0; i < SESSION_N_OPS; i++)
		if (strcmp(session_names[i], opcode) == 0)
			return atomic_load(&session->counts[i]);
	return 0;
}

void session_each_count(const struct session *session,
			void (*fn)(void *ctx, const char *opcode, uint64_t n), void *ctx)
{
	for (size_t i = 0; i < SESSION_N_OPS; i++)
		fn(ctx, session_names[i], atomic_load(&session->counts[i]));
}
