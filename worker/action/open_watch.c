/*
 * Owns one fanotify group and the set of inodes already counted. An event carries a
 * descriptor of the file; its path is looked up in the input tree once for each inode,
 * and only what is a file there counts (outputs are opened too).
 */
#include "worker/action/open_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/htab.h"

#define LOG_MODULE "opened"
#include "lib/base/log.h"

/* Bytes of events read at once. Each brings a descriptor: few at a time leave some to
 * others.
 */
#define OPENED_BUFFER (16 * sizeof(struct fanotify_event_metadata))

struct open_watch_inode {
	struct hnode node;
	uint64_t ino;
};

struct open_watch {
	int fd;
	char *root_path;
	struct digest root;
	struct dircache *dirs;
	void (*tell)(void *ctx, const char *path, const struct digest *digest);
	void *ctx;
	struct htab inodes;
	struct open_watch_totals totals;
};

struct error *open_watch_new(const struct open_watch_config *config,
			     struct open_watch **out)
{
	_cleanup_(open_watch_freep) struct open_watch *opened =
		alloc_new(struct open_watch);

	opened->root_path = alloc_string(config->root_path);
	opened->root = *config->root;
	opened->dirs = config->dirs;
	opened->tell = config->opened;
	opened->ctx = config->ctx;
	opened->fd = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC |
					   FAN_UNLIMITED_QUEUE,
				   O_RDONLY | O_LARGEFILE | O_CLOEXEC | O_NOATIME);
	if (opened->fd < 0)
		return error_errno(errno, "make a fanotify group");
	if (fanotify_mark(opened->fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM,
			  config->opened ? FAN_OPEN | FAN_ONDIR : FAN_OPEN,
			  config->merged_fd, ".") < 0)
		return error_errno(errno, "watch an overlay with fanotify");
	*out = take(opened);
	return NULL;
}

void *open_watch_free(struct open_watch *opened)
{
	struct hnode *node;

	if (!opened)
		return NULL;
	while ((node = htab_pop(&opened->inodes)))
		free(container_of(node, struct open_watch_inode, node));
	htab_deinit(&opened->inodes);
	if (opened->fd >= 0)
		(void)close(opened->fd);
	free(opened->root_path);
	free(opened);
	return NULL;
}

int open_watch_fd(const struct open_watch *opened)
{
	return opened->fd;
}

static bool open_watch_is_new(struct open_watch *opened, uint64_t ino)
{
	uint64_t hash = ino * 0x9e3779b97f4a7c15u;
	struct open_watch_inode *inode;

	for (struct hnode *n = htab_first(&opened->inodes, hash); n;
	     n = htab_next(n, hash)) {
		if (container_of(n, struct open_watch_inode, node)->ino == ino)
			return false;
	}
	inode = alloc_new(struct open_watch_inode);
	inode->ino = ino;
	htab_insert(&opened->inodes, &inode->node, hash);
	return true;
}

/* An event's file as its mount has it: "" where that cannot be told. */
static void open_watch_path(int fd, char path[PATH_MAX])
{
	char link[32];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, PATH_MAX - 1);
	path[n > 0 ? n : 0] = '\0';
}

/* Tells of what the tree has at path, in the root: false where that is nothing. */
static bool open_watch_tell(struct open_watch *opened, const char *path)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir =
		dircache_peek(opened->dirs, &opened->root);
	const char *at = path;

	while (dir) {
		size_t len = strcspn(at, "/");
		struct slice name = {(const uint8_t *)at, len};
		const struct tree_node *node = tree_dir_find(dir, name);
		struct digest below;

		if (!node)
			return false;
		if (!at[len]) {
			if (node->kind == TREE_FILE) {
				opened->totals.files++;
				opened->totals.bytes += node->digest.size;
			}
			if (opened->tell && node->kind != TREE_SYMLINK)
				opened->tell(opened->ctx, path,
					     node->kind == TREE_FILE ? &node->digest
								     : NULL);
			return true;
		}
		if (node->kind != TREE_DIR)
			return false;
		below = node->digest;
		tree_dir_unref(dir);
		dir = dircache_peek(opened->dirs, &below);
		at += len + 1;
	}
	return false;
}

static void open_watch_take(struct open_watch *opened, int fd)
{
	size_t skip = strlen(opened->root_path);
	char path[PATH_MAX];
	struct stat st;

	if (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) ||
	    !open_watch_is_new(opened, st.st_ino))
		return;
	open_watch_path(fd, path);
	if (strcmp(path, opened->root_path) == 0) { /* the root itself */
		if (opened->tell)
			opened->tell(opened->ctx, "", NULL);
		return;
	}
	/* a path as its mount has it: below where the command sees its root, or, once the
	 * command has ended and its mounts are gone, below nothing */
	if (strncmp(path, opened->root_path, skip) == 0 && path[skip] == '/' &&
	    open_watch_tell(opened, path + skip + 1))
		return;
	(void)open_watch_tell(opened, path + strspn(path, "/"));
}

void open_watch_drain(struct open_watch *opened)
{
	_Alignas(struct fanotify_event_metadata) char buffer[OPENED_BUFFER];
	ssize_t n;

	while ((n = read(opened->fd, buffer, sizeof(buffer))) > 0) {
		struct fanotify_event_metadata *event = (void *)buffer;

		for (; FAN_EVENT_OK(event, n); event = FAN_EVENT_NEXT(event, n)) {
			_cleanup_fd_ int fd = event->fd;

			if (event->vers == FANOTIFY_METADATA_VERSION && fd >= 0)
				open_watch_take(opened, fd);
		}
	}
	if (n < 0 && errno != EAGAIN)
		log_warn("read fanotify events: %s", strerror(errno));
}

void open_watch_totals(const struct open_watch *opened, struct open_watch_totals *out)
{
	*out = opened->totals;
}
