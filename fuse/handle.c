/*
 * Owns open blobs, one handle a node. A handle in use (a READ running, a file open in
 * passthrough mode) stays; idle ones stand in order of last use and the oldest go, so
 * that descriptors and backing files are bounded. Evicting a blob from the store while a
 * handle has it is harmless: its bytes live until it is closed.
 *
 * A backing id is the kernel's name for the blob's file. The kernel refuses a second id
 * for a node whose file is open, hence one handle a node and the ioctl under the mutex:
 * it takes a reference of an open file and touches no disk.
 *
 * Threads: any; the mutex guards table, order and uses.
 */
#include "fuse/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/htab.h"
#include "lib/base/list.h"
#include "lib/base/process.h"
#include "lib/base/sync.h"

/* Of linux/fuse.h since 6.9, which this system's header may lack. */
struct handle_backing {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define HANDLE_BACKING_OPEN  _IOW(229, 1, struct handle_backing)
#define HANDLE_BACKING_CLOSE _IOW(229, 2, uint32_t)

struct handle {
	struct hnode by_id;  /* its hash is the node's id */
	struct list idle;    /* in handles->idle where n_uses is 0 */
	unsigned int n_uses; /* as the links, guarded by handles->mutex */
	int fd;              /* constant; -1 where the kernel has the file */
	int backing_id;      /* constant; 0: none */
};

struct handles {
	size_t idle_max; /* constant */
	int device;      /* constant */
	struct sync_mutex mutex;
	struct htab by_id SYNC_GUARDED_BY(&mutex);
	struct list idle SYNC_GUARDED_BY(&mutex); /* oldest first */
	size_t n_idle SYNC_GUARDED_BY(&mutex);
};

struct handles *handles_new(int device)
{
	struct handles *handles = alloc_new(struct handles);

	sync_mutex_init(&handles->mutex);
	sync_alone(&handles->mutex);
	list_init(&handles->idle);
	handles->device = device;
	handles->idle_max = HANDLES_BACKINGS_MAX;
	if (device < 0)
		handles->idle_max =
			process_descriptors() / HANDLES_IDLE_SHARE < HANDLES_IDLE_MAX
				? process_descriptors() / HANDLES_IDLE_SHARE
				: HANDLES_IDLE_MAX;
	return handles;
}

static int handle_backing_open(int device, int fd)
{
	struct handle_backing map = {.fd = fd};

	return ioctl(device, HANDLE_BACKING_OPEN, &map);
}

static void handle_close(struct handles *handles, struct handle *handle)
{
	uint32_t backing_id = (uint32_t)handle->backing_id;

	if (handle->backing_id > 0)
		(void)ioctl(handles->device, HANDLE_BACKING_CLOSE, &backing_id);
	if (handle->fd >= 0)
		(void)close(handle->fd);
	free(handle);
}

void *handles_free(struct handles *handles)
{
	struct hnode *n;

	if (!handles)
		return NULL;
	sync_alone(&handles->mutex);
	while ((n = htab_pop(&handles->by_id)))
		handle_close(handles, container_of(n, struct handle, by_id));
	htab_deinit(&handles->by_id);
	sync_mutex_deinit(&handles->mutex);
	free(handles);
	return NULL;
}

static struct handle *handles_find(struct handles *handles, uint64_t id)
	SYNC_REQUIRES(&handles->mutex)
{
	struct hnode *n = htab_first(&handles->by_id, id);

	return n ? container_of(n, struct handle, by_id) : NULL;
}

static void handles_use(struct handles *handles, struct handle *handle)
	SYNC_REQUIRES(&handles->mutex)
{
	if (handle->n_uses++ == 0 && !list_is_empty(&handle->idle)) {
		list_remove(&handle->idle);
		handles->n_idle--;
	}
}

struct handle *handles_get(struct handles *handles, uint64_t id)
{
	struct handle *handle;

	sync_lock(&handles->mutex);
	handle = handles_find(handles, id);
	if (handle)
		handles_use(handles, handle);
	sync_unlock(&handles->mutex);
	return handle;
}

/* fd's handle, or an error; consumes fd. */
static struct error *handles_make(struct handles *handles, uint64_t id, int fd,
				  struct handle **handle_out)
	SYNC_REQUIRES(&handles->mutex)
{
	_cleanup_fd_ int own = fd;
	struct handle *handle;
	int backing_id = 0;

	if (handles->device >= 0) {
		backing_id = handle_backing_open(handles->device, fd);
		if (backing_id <= 0)
			return error_errno(errno, "pass a file through to the kernel");
	}
	handle = alloc_new(struct handle);
	list_init(&handle->idle);
	handle->backing_id = backing_id;
	/* the kernel has its own reference of a backing file */
	handle->fd = backing_id ? -1 : take_fd(own);
	htab_insert(&handles->by_id, &handle->by_id, id);
	*handle_out = handle;
	return NULL;
}

struct error *handles_add(struct handles *handles, uint64_t id, int fd,
			  struct handle **handle_out)
{
	struct error *err = NULL;
	struct handle *handle;

	sync_lock(&handles->mutex);
	handle = handles_find(handles, id);
	if (!handle)
		err = handles_make(handles, id, take_fd(fd), &handle);
	if (!err) {
		handles_use(handles, handle);
		*handle_out = handle;
	}
	sync_unlock(&handles->mutex);
	if (fd >= 0)
		(void)close(fd);
	return err;
}

/* Takes an idle handle out of everything. */
static void handles_unlink(struct handles *handles, struct handle *handle)
	SYNC_REQUIRES(&handles->mutex)
{
	list_remove(&handle->idle);
	handles->n_idle--;
	htab_remove(&handles->by_id, &handle->by_id);
}

void handles_put(struct handles *handles, struct handle *handle)
{
	struct handle *oldest = NULL;

	sync_lock(&handles->mutex);
	if (--handle->n_uses == 0) {
		list_push(&handles->idle, &handle->idle);
		if (++handles->n_idle > handles->idle_max) {
			oldest = container_of(handles->idle.next, struct handle, idle);
			handles_unlink(handles, oldest);
		}
	}
	sync_unlock(&handles->mutex);
	if (oldest)
		handle_close(handles, oldest);
}

void handles_forget(struct handles *handles, uint64_t id)
{
	struct handle *handle;

	sync_lock(&handles->mutex);
	handle = handles_find(handles, id);
	if (handle && handle->n_uses)
		handle = NULL; /* an answer is still being written: closed later, as the
				  oldest */
	if (handle)
		handles_unlink(handles, handle);
	sync_unlock(&handles->mutex);
	if (handle)
		handle_close(handles, handle);
}

int handle_fd(const struct handle *handle)
{
	return handle->fd;
}

int handle_backing_id(const struct handle *handle)
{
	return handle->backing_id;
}

struct error *handle_probe(int device, int dir_fd)
{
	_cleanup_fd_ int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	uint32_t backing_id;
	int result;

	if (fd < 0)
		return error_errno(errno, "make a temporary file in the store");
	result = handle_backing_open(device, fd);
	if (result > 0) {
		backing_id = (uint32_t)result;
		(void)ioctl(device, HANDLE_BACKING_CLOSE, &backing_id);
		return NULL;
	}
	if (errno == EPERM)
		return error_new(ERROR_FAILED_PRECONDITION,
				 "passthrough needs root of the initial user namespace");
	if (errno == ELOOP)
		return error_new(
			ERROR_FAILED_PRECONDITION,
			"passthrough needs a store on a disk's own file system, not "
			"on overlayfs; choose another directory or the page cache");
	return error_recode(error_errno(errno, "pass a file through to the kernel"),
			    ERROR_FAILED_PRECONDITION);
}
