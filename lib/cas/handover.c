/*
 * Owns the list of what is to be placed and the staging directories, which lie in the
 * destination (or, where a place is on another mount, beside it), so that a rename is
 * all that is left once everything has come. A staging directory is locked while its
 * owner lives: who finds one that is not, removes it.
 *
 * Threads: the caller's; the checkout's own below it.
 */
#include "lib/cas/handover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"

#define LOG_MODULE "handover"
#include "lib/base/log.h"

#define HANDOVER_PREFIX     ".lazyroot-"
#define HANDOVER_NAME_MAX   32
#define HANDOVER_ERROR_TEXT 6000 /* bytes that failures have together */
#define HANDOVER_NAMES_MAX  1000 /* tried, where others stand there */

struct handover_item {
	char *path;
	enum tree_kind kind;
	struct digest digest; /* of a file, or a tree's root */
	bool is_executable;
	struct tree_props props; /* of a file */
	char *target;
	bool is_covered; /* a tree above it brings it along */
};

struct handover_stage {
	int parent_fd;
	int fd; /* -1: not made yet */
	char name[HANDOVER_NAME_MAX];
};

struct handover {
	const struct checkout_config *config;
	int dest_fd;
	bool is_sparing;
	struct handover_item *items;
	size_t n_items, items_cap;
	size_t n_placed;
	struct handover_stage stage;
};

struct handover *handover_new(const struct checkout_config *config, int dest_fd)
{
	struct handover *handover = alloc_new(struct handover);

	handover->config = config;
	handover->dest_fd = dest_fd;
	handover->stage = (struct handover_stage){.parent_fd = -1, .fd = -1};
	return handover;
}

void handover_spare(struct handover *handover)
{
	handover->is_sparing = true;
}

/* Staging */

static void handover_stage_end(struct handover_stage *stage)
{
	if (stage->fd < 0)
		return;
	log_drop(LOG_WARN, file_remove_tree(stage->parent_fd, stage->name),
		 "%s stays behind", stage->name);
	(void)close(stage->fd);
	(void)close(stage->parent_fd);
	stage->fd = -1;
}

/* Removes what killed predecessors left here: an owner that lives holds its lock. */
static void handover_sweep(int parent_fd)
{
	int own = openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		_cleanup_fd_ int fd = -1;
		struct stat st;

		if (strncmp(entry->d_name, HANDOVER_PREFIX, strlen(HANDOVER_PREFIX)))
			continue;
		fd = openat(parent_fd, entry->d_name,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() ||
		    flock(fd, LOCK_EX | LOCK_NB) < 0)
			continue;
		error_free(file_remove_tree(parent_fd, entry->d_name));
	}
	if (dir)
		(void)closedir(dir);
}

static struct error *handover_stage_begin(struct handover_stage *stage, int parent_fd)
{
	_cleanup_fd_ int parent =
		openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int fd = -1;
	unsigned int n = 0;
	int errnum;

	if (parent < 0)
		return error_errno(errno, "open the destination");
	handover_sweep(parent);
	do {
		(void)snprintf(stage->name, sizeof(stage->name), HANDOVER_PREFIX "%d.%u~",
			       getpid(), n++);
		errnum = mkdirat(parent, stage->name, 0700) < 0 ? errno : 0;
	} while (errnum == EEXIST && n < HANDOVER_NAMES_MAX);
	if (errnum)
		return error_errno(errnum, "make a directory for what is on its way");
	fd = openat(parent, stage->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_errno(errno, "make a directory for what is on its way");
	(void)flock(fd, LOCK_EX | LOCK_NB);
	stage->fd = take_fd(fd);
	stage->parent_fd = take_fd(parent);
	return NULL;
}

void *handover_free(struct handover *handover)
{
	if (!handover)
		return NULL;
	handover_stage_end(&handover->stage);
	for (size_t i = 0; i < handover->n_items; i++) {
		free(handover->items[i].path);
		free(handover->items[i].target);
	}
	free(handover->items);
	free(handover);
	return NULL;
}

/* The list */

static struct error *handover_add(struct handover *handover, const char *path,
				  const struct handover_item *item)
{
	_cleanup_free_ char *clean = NULL;
	struct error *err = file_path_clean(path, &clean);

	if (!err && !*clean && item->kind != TREE_DIR)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"the directory itself cannot be a file or a link");
	if (err)
		return error_wrap(err, "output \"%s\"", path);
	handover->items = alloc_grow(handover->items, &handover->items_cap,
				     handover->n_items + 1, sizeof(*handover->items));
	handover->items[handover->n_items] = *item;
	handover->items[handover->n_items].target =
		item->target ? alloc_string(item->target) : NULL;
	handover->items[handover->n_items++].path = take(clean);
	return NULL;
}

struct error *handover_add_file(struct handover *handover, const char *path,
				const struct digest *digest, bool is_executable,
				const struct tree_props *props)
{
	struct handover_item item = {
		.kind = TREE_FILE, .digest = *digest, .is_executable = is_executable};

	if (props)
		item.props = *props;

	return handover_add(handover, path, &item);
}

struct error *handover_add_link(struct handover *handover, const char *path,
				const char *target)
{
	const struct handover_item item = {.kind = TREE_SYMLINK,
					   .target = (char *)(uintptr_t)target};

	return handover_add(handover, path, &item);
}

struct error *handover_add_tree(struct handover *handover, const char *path,
				const struct digest *root)
{
	const struct handover_item item = {.kind = TREE_DIR, .digest = *root};

	return handover_add(handover, path, &item);
}

/* By path, with "/" before every other byte: what lies below a path follows it. */
static int handover_order(const void *a, const void *b)
{
	const unsigned char *x = (const void *)((const struct handover_item *)a)->path;
	const unsigned char *y = (const void *)((const struct handover_item *)b)->path;

	for (; *x && *x == *y; x++, y++)
		;
	if (*x == *y)
		return 0;
	if (!*x || !*y)
		return *x ? 1 : -1;
	return *x == '/' ? -1 : *y == '/' ? 1 : *x < *y ? -1 : 1;
}

static bool handover_is_below(const char *path, const char *above)
{
	size_t len = strlen(above);

	return !len || (strncmp(path, above, len) == 0 &&
			(path[len] == '/' || path[len] == '\0'));
}

static bool handover_is_node(const struct handover_item *item,
			     const struct tree_node *node)
{
	if (item->kind != node->kind)
		return false;
	if (node->kind == TREE_SYMLINK)
		return slice_is(node->target, item->target);
	return digest_equal(&item->digest, &node->digest) &&
	       (node->kind == TREE_DIR || item->is_executable == node->is_executable);
}

/* item lies at or below above: both must say the same, and above's tree brings it. */
static struct error *handover_cover(struct handover *handover,
				    const struct handover_item *above,
				    struct handover_item *item)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	const struct tree_node *node = NULL;
	size_t len = strlen(above->path);
	const char *rest = item->path + len + (len && item->path[len] == '/');
	bool is_same = false;
	struct error *err;

	if (above->kind != TREE_DIR && *rest)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the result's output \"%s\" lies below \"%s\", which is "
				 "no directory",
				 item->path, above->path);
	if (above->kind == TREE_DIR) {
		err = dircache_find_path(handover->config->dirs, &above->digest, rest,
					 &dir, &node);
		if (err && error_code(err) != ERROR_NOT_FOUND)
			return err;
		error_free(err);
		is_same = node ? handover_is_node(item, node)
			       : dir && item->kind == TREE_DIR &&
					  digest_equal(&item->digest, &above->digest);
	} else if (item->kind == above->kind) {
		is_same = item->kind == TREE_FILE
				  ? digest_equal(&item->digest, &above->digest) &&
					    item->is_executable == above->is_executable
				  : strcmp(item->target, above->target) == 0;
	}
	if (!is_same)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the result contradicts itself: its outputs \"%s\" and "
				 "\"%s\" do not fit together",
				 above->path, item->path);
	item->is_covered = true;
	return NULL;
}

static struct error *handover_check(struct handover *handover)
{
	const struct handover_item *above = NULL;

	if (handover->n_items)
		qsort(handover->items, handover->n_items, sizeof(*handover->items),
		      handover_order);
	for (size_t i = 0; i < handover->n_items; i++) {
		struct handover_item *item = &handover->items[i];
		struct error *err = NULL;

		if (above && handover_is_below(item->path, above->path))
			err = handover_cover(handover, above, item);
		else
			above = item;
		if (err)
			return err;
	}
	return NULL;
}

/* Bringing and placing */

static struct error *handover_bring(const struct handover *handover,
				    const struct handover_item *item, int stage_fd,
				    const char *name)
{
	struct checkout_config config = *handover->config;

	config.is_staged = true;
	switch (item->kind) {
	case TREE_FILE:
		return checkout_file(&config, &item->digest, item->is_executable,
				     &item->props, stage_fd, name);
	case TREE_DIR:
		return checkout_tree(&config, &item->digest, stage_fd, name);
	case TREE_SYMLINK:
		break;
	}
	return symlinkat(item->target, stage_fd, name) == 0
		       ? NULL
		       : error_errno(errno, "make the symbolic link");
}

/* From staging to its name; what stood there goes into staging in exchange, or stays. */
static int handover_rename(const struct handover *handover, int stage_fd,
			   const char *staged, int parent_fd, const char *name)
{
	char old[HANDOVER_NAME_MAX];

	if (handover->is_sparing) /* of a directory: replaces none but an empty one */
		return renameat(stage_fd, staged, parent_fd, name);
	if (renameat2(stage_fd, staged, parent_fd, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EEXIST &&
	    renameat2(stage_fd, staged, parent_fd, name, RENAME_EXCHANGE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS) /* a file system that knows no flags */
		return -1;
	(void)snprintf(old, sizeof(old), "%s.old", staged);
	if (renameat(parent_fd, name, stage_fd, old) < 0 && errno != ENOENT)
		return -1;
	return renameat(stage_fd, staged, parent_fd, name);
}

static struct error *handover_rename_error(int errnum)
{
	if (errnum == ENOTEMPTY || errnum == EEXIST || errnum == ENOTDIR)
		return error_new(ERROR_ALREADY_EXISTS,
				 "something was put in its place meanwhile");
	return error_errno(errnum, "put it in its place");
}

/* The same for a place on another mount: staged once more, beside it. */
static struct error *handover_place_there(const struct handover *handover,
					  const struct handover_item *item, int parent_fd,
					  const char *name)
{
	_cleanup_(handover_stage_end) struct handover_stage stage = {.parent_fd = -1,
								     .fd = -1};
	struct error *err = handover_stage_begin(&stage, parent_fd);

	if (!err)
		err = handover_bring(handover, item, stage.fd, "0");
	if (!err && handover_rename(handover, stage.fd, "0", parent_fd, name) < 0)
		err = handover_rename_error(errno);
	return err;
}

static struct error *handover_place(const struct handover *handover,
				    const struct handover_item *item, const char *staged)
{
	_cleanup_free_ char *parent = alloc_string(item->path);
	_cleanup_fd_ int parent_fd = -1;
	char *slash = strrchr(parent, '/');
	const char *name = slash ? item->path + (slash - parent) + 1 : item->path;
	struct error *err;

	if (!*item->path) /* the destination itself: over what is there */
		return checkout_tree(handover->config, &item->digest, handover->dest_fd,
				     ".");
	*(slash ? slash : parent) = '\0';
	err = file_mkdirs_beneath(handover->dest_fd, parent, 0777, &parent_fd);
	if (err)
		return err;
	if (handover->stage.fd < 0)
		return handover_place_there(handover, item, parent_fd, name);
	if (handover_rename(handover, handover->stage.fd, staged, parent_fd, name) == 0)
		return NULL;
	return errno == EXDEV ? handover_place_there(handover, item, parent_fd, name)
			      : handover_rename_error(errno);
}

/* Where the destination itself cannot be written to, what lies in it perhaps can: then
 * each item is staged in its own place. */
static struct error *handover_begin(struct handover *handover)
{
	struct error *err = handover_stage_begin(&handover->stage, handover->dest_fd);
	int errnum = error_errnum(err);

	return errnum == EACCES || errnum == EROFS ? error_free(err) : err;
}

static struct error *handover_bring_all(struct handover *handover)
{
	struct error *err = NULL;
	char name[HANDOVER_NAME_MAX];

	for (size_t i = 0; !err && i < handover->n_items; i++) {
		const struct handover_item *item = &handover->items[i];

		(void)snprintf(name, sizeof(name), "%zu", i);
		if (!item->is_covered && *item->path)
			err = error_wrap(
				handover_bring(handover, item, handover->stage.fd, name),
				"output %s", item->path);
	}
	return err;
}

/* Two failures as one, which names both; both are consumed. What is past the length of an
 * error's text is said alone. */
static struct error *handover_join(struct error *all, struct error *err)
{
	_cleanup_error_ struct error *old = all;
	struct error *joined;

	if (!all || !err) {
		old = NULL;
		return all ? all : err;
	}
	if (strlen(error_text(all)) + strlen(error_text(err)) + 4 > HANDOVER_ERROR_TEXT) {
		log_drop(LOG_ERROR, err, "not in its place");
		return take(old);
	}
	joined = error_new(error_code(all), "%s; %s", error_text(all), error_text(err));
	error_free(err);
	return joined;
}

/* One that cannot be placed does not keep the others. */
static struct error *handover_place_all(struct handover *handover)
{
	struct error *all = NULL;
	char name[HANDOVER_NAME_MAX];

	for (size_t i = 0; i < handover->n_items; i++) {
		const struct handover_item *item = &handover->items[i];
		struct error *err;

		if (item->is_covered)
			continue;
		(void)snprintf(name, sizeof(name), "%zu", i);
		err = handover_place(handover, item, name);
		handover->n_placed += !err;
		all = handover_join(all, error_wrap(err, "output %s",
						    *item->path ? item->path : "."));
	}
	return all;
}

bool handover_has_placed(const struct handover *handover)
{
	return handover->n_placed > 0;
}

struct error *handover_run(struct handover *handover)
{
	struct error *err = handover_check(handover);

	if (!err && handover->n_items)
		err = handover_begin(handover);
	if (!err && handover->stage.fd >= 0)
		err = handover_bring_all(handover);
	return err ? err : handover_place_all(handover);
}
