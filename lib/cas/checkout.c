/*
 * Owns one checkout while it runs. The caller's thread walks the tree, makes directories
 * and links, and asks for files, CHECKOUT_IN_FLIGHT at most at once; each file that has
 * come is placed by a task of the pool. Whoever fails first stops the walk, and all that
 * is in flight is waited for.
 *
 * Nothing is written outside of the destination: below it every directory is opened
 * beneath its descriptor without symbolic links, every name was validated by the tree's
 * decoder, and a link that stands where a directory should is replaced. A file has no
 * name until it is whole, or, where something stands in its place or the file system
 * cannot do that, a temporary one.
 *
 * Threads: the caller's, the pool's and the fetcher's; counters and the error under
 * mutex.
 */
#include "lib/cas/checkout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "lib/cas/treeload.h"

#define CHECKOUT_IN_FLIGHT 128
#define CHECKOUT_DIRS_MAX  ((size_t)1 << 30) /* bytes of Directories asked for ahead */
#define CHECKOUT_NAME_MAX  48

struct checkout_dir {
	struct list link;
	char *path; /* below the destination; "" is itself */
	int fd;     /* open while files are to be placed in it */
	unsigned int depth;
	atomic_uint refs;
	struct digest digest;
	struct tree_dir *tree;
};

struct checkout {
	const struct checkout_config *config;
	int root_fd;
	const struct digest *root;
	int64_t n_entries; /* met so far */
	int64_t entries_max;
	struct list todo;     /* directories, the next one last */
	struct list finished; /* those whose properties are set at the end */
	uint64_t chance;      /* in names that nobody else is to foresee */
	atomic_uint n_names;
	atomic_bool is_failed;
	struct sync_mutex mutex;
	struct sync_cond cond;
	unsigned int n_in_flight SYNC_GUARDED_BY(&mutex);
	int64_t n_total SYNC_GUARDED_BY(&mutex); /* 0: not known */
	int64_t n_done SYNC_GUARDED_BY(&mutex);
	int64_t bytes_done SYNC_GUARDED_BY(&mutex);
	struct error *err SYNC_GUARDED_BY(&mutex);
};

struct checkout_job {
	struct pool_task task;
	struct checkout *checkout;
	struct checkout_dir *dir;
	char *name;
	int64_t size;
	bool is_executable;
	const struct tree_props *props; /* the dir's tree has them */
	int fd;
};

static void checkout_fail(struct checkout *checkout, struct error *err)
{
	atomic_store(&checkout->is_failed, true);
	sync_lock(&checkout->mutex);
	if (checkout->err)
		error_free(err);
	else
		checkout->err = err;
	sync_unlock(&checkout->mutex);
}

static void checkout_dir_unref(struct checkout_dir *dir)
{
	if (atomic_fetch_sub(&dir->refs, 1) != 1)
		return;
	if (dir->fd >= 0)
		(void)close(dir->fd);
	tree_dir_unref(dir->tree);
	free(dir->path);
	free(dir);
}

static struct checkout_dir *checkout_dir_new(char *path, unsigned int depth,
					     const struct digest *digest)
{
	struct checkout_dir *dir = alloc_new(struct checkout_dir);

	list_init(&dir->link);
	dir->path = path;
	dir->fd = -1;
	dir->depth = depth;
	dir->digest = *digest;
	atomic_init(&dir->refs, 1);
	return dir;
}

/* Placing */

static const char *checkout_temporary(struct checkout *checkout,
				      char name[static CHECKOUT_NAME_MAX])
{
	(void)snprintf(name, CHECKOUT_NAME_MAX, ".lazyroot.%016" PRIx64 ".%u~",
		       checkout->chance, atomic_fetch_add(&checkout->n_names, 1));
	return name;
}

static struct error *checkout_rename(int dir_fd, const char *temporary, const char *name)
{
	struct error *err;

	if (renameat(dir_fd, temporary, dir_fd, name) == 0)
		return NULL;
	err = errno == EISDIR ? error_new(ERROR_FAILED_PRECONDITION,
					  "a directory stands where \"%s\" should", name)
			      : error_errno(errno, "rename to %s", name);
	(void)unlinkat(dir_fd, temporary, 0);
	return err;
}

static struct error *checkout_fill(const struct checkout *checkout, int src_fd,
				   int dst_fd, const struct tree_props *props)
{
	bool has_mtime = props && props->has_mtime;
	int64_t mtime_ns = checkout->config->mtime_ns;
	struct error *err = file_copy(src_fd, dst_fd);

	if (!err && props && props->has_unix_mode &&
	    fchmod(dst_fd, props->unix_mode & 0777) < 0)
		err = error_errno(errno, "chmod");
	if (!err && (has_mtime || mtime_ns)) {
		struct timespec times[2] = {
			{.tv_nsec = UTIME_OMIT},
			{.tv_sec = mtime_ns / NS_PER_S, .tv_nsec = mtime_ns % NS_PER_S}};

		if (has_mtime)
			times[1] = (struct timespec){props->mtime_s, props->mtime_ns};
		if (futimens(dst_fd, times) < 0)
			err = error_errno(errno, "set the time");
	}
	return err;
}

/* Gives a nameless file its name; *is_named_out false: something stands there. */
static struct error *checkout_link(int fd, int dir_fd, const char *name,
				   bool *is_named_out)
{
	char path[CHECKOUT_NAME_MAX];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*is_named_out = linkat(AT_FDCWD, path, dir_fd, name, AT_SYMLINK_FOLLOW) == 0;
	if (!*is_named_out && errno != EEXIST)
		return error_errno(errno, "create %s", name);
	return NULL;
}

static struct error *checkout_place(struct checkout *checkout, int src_fd, int dir_fd,
				    const char *name, bool is_executable,
				    const struct tree_props *props)
{
	char temporary[CHECKOUT_NAME_MAX];
	mode_t mode = is_executable ? 0777 : 0666;
	_cleanup_fd_ int fd = openat(dir_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, mode);
	bool has_name = false;
	bool is_done = false;
	struct error *err;

	(void)checkout_temporary(checkout, temporary);
	if (fd < 0) {
		has_name = true;
		fd = openat(dir_fd, temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC,
			    mode);
	}
	if (fd < 0)
		return error_errno(errno, "create %s", name);
	err = checkout_fill(checkout, src_fd, fd, props);
	if (!err && !has_name) {
		err = checkout_link(fd, dir_fd, name, &is_done);
		if (!err && !is_done)
			err = checkout_link(fd, dir_fd, temporary, &has_name);
		if (!err && !is_done && !has_name) /* what stands there is not ours */
			err = error_errno(EEXIST, "create %s", temporary);
	}
	if (err && has_name)
		(void)unlinkat(dir_fd, temporary, 0);
	if (err || is_done)
		return err;
	return checkout_rename(dir_fd, temporary, name);
}

static struct error *checkout_symlink(struct checkout *checkout, int dir_fd,
				      const char *name, const char *target)
{
	char temporary[CHECKOUT_NAME_MAX];

	if (symlinkat(target, dir_fd, name) == 0)
		return NULL;
	if (errno != EEXIST)
		return error_errno(errno, "make the symbolic link %s", name);
	(void)checkout_temporary(checkout, temporary);
	if (symlinkat(target, dir_fd, temporary) < 0)
		return error_errno(errno, "make the symbolic link %s", name);
	return checkout_rename(dir_fd, temporary, name);
}

/* Files in flight, and Directories that will be asked for */

static void checkout_enter(struct checkout *checkout)
{
	sync_lock(&checkout->mutex);
	while (checkout->n_in_flight >= CHECKOUT_IN_FLIGHT)
		sync_wait(&checkout->cond, &checkout->mutex);
	checkout->n_in_flight++;
	sync_unlock(&checkout->mutex);
}

static void checkout_leave(struct checkout *checkout)
{
	sync_lock(&checkout->mutex);
	checkout->n_in_flight--;
	sync_signal(&checkout->cond);
	sync_unlock(&checkout->mutex);
}

static void checkout_end_job(struct checkout_job *job, struct error *err)
{
	struct checkout *checkout = job->checkout;
	int64_t n_done;
	int64_t n_total;
	int64_t bytes_done;

	if (err)
		checkout_fail(checkout,
			      error_wrap(err, "check out %s%s%s", job->dir->path,
					 *job->dir->path ? "/" : "", job->name));
	else if (checkout->config->progress) {
		sync_lock(&checkout->mutex);
		n_done = ++checkout->n_done;
		n_total = checkout->n_total;
		bytes_done = checkout->bytes_done += job->size;
		sync_unlock(&checkout->mutex);
		checkout->config->progress(checkout->config->ctx, n_done, n_total,
					   bytes_done);
	}
	if (job->fd >= 0)
		(void)close(job->fd);
	checkout_dir_unref(job->dir);
	free(job->name);
	free(job);
	checkout_leave(checkout);
}

static void checkout_run_job(struct pool_task *task)
{
	struct checkout_job *job = container_of(task, struct checkout_job, task);

	checkout_end_job(job, checkout_place(job->checkout, job->fd, job->dir->fd,
					     job->name, job->is_executable, job->props));
}

static void checkout_fetched(void *ctx, struct error *err, int fd)
{
	struct checkout_job *job = ctx;

	job->fd = fd;
	if (err)
		checkout_end_job(job, err);
	else
		pool_push(job->checkout->config->pool, &job->task);
}

static void checkout_wait(struct checkout *checkout)
{
	sync_lock(&checkout->mutex);
	while (checkout->n_in_flight)
		sync_wait(&checkout->cond, &checkout->mutex);
	sync_unlock(&checkout->mutex);
}

/* The visit meets the error again, if it is one that lasts. */
static void checkout_loaded(void *ctx, struct error *err, struct tree_dir *dir)
{
	error_free(err);
	tree_dir_unref(dir);
	checkout_leave(ctx);
}

/* Asks for a Directory ahead of its visit, so that visits do not wait one by one. */
static void checkout_load_ahead(struct checkout *checkout, const struct digest *digest)
{
	struct dircache *dirs = checkout->config->dirs;
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = dircache_peek(dirs, digest);

	if (dir)
		return;
	checkout_enter(checkout);
	dircache_start(dirs, digest, NULL, checkout_loaded, checkout);
}

static void checkout_start_file(struct checkout *checkout, struct checkout_dir *dir,
				const struct tree_node *node)
{
	struct checkout_job *job = alloc_new(struct checkout_job);

	job->task.run = checkout_run_job;
	job->checkout = checkout;
	job->dir = dir;
	atomic_fetch_add(&dir->refs, 1);
	job->name = alloc_string_n((const char *)node->name.data, node->name.len);
	job->size = node->digest.size;
	job->is_executable = node->is_executable;
	job->props = node->props;
	job->fd = -1;
	checkout_enter(checkout);
	fetch_start(dircache_fetch(checkout->config->dirs), &node->digest, NULL,
		    checkout_fetched, job);
}

/* The walk */

/* Makes a directory; what else stands there is removed, a link too. */
static struct error *checkout_mkdir(int dir_fd, const char *name)
{
	struct stat st;

	if (mkdirat(dir_fd, name, 0777) == 0)
		return NULL;
	if (errno != EEXIST || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(errno, "make directory %s", name);
	if (S_ISDIR(st.st_mode))
		return NULL;
	if (unlinkat(dir_fd, name, 0) < 0 || mkdirat(dir_fd, name, 0777) < 0)
		return error_errno(errno, "replace %s by a directory", name);
	return NULL;
}

static struct error *checkout_node(struct checkout *checkout, struct checkout_dir *dir,
				   const struct tree_node *node)
{
	_cleanup_free_ char *name = NULL;
	_cleanup_free_ char *target = NULL;
	struct checkout_dir *child;
	struct error *err;

	if (++checkout->n_entries > checkout->entries_max)
		return treeload_too_many(checkout->root, checkout->entries_max);
	if (node->kind == TREE_FILE) {
		checkout_start_file(checkout, dir, node);
		return NULL;
	}
	name = alloc_string_n((const char *)node->name.data, node->name.len);
	if (node->kind == TREE_SYMLINK) {
		target =
			alloc_string_n((const char *)node->target.data, node->target.len);
		return checkout_symlink(checkout, dir->fd, name, target);
	}
	err = checkout_mkdir(dir->fd, name);
	if (err)
		return err;
	child = checkout_dir_new(
		alloc_printf("%s%s%s", dir->path, *dir->path ? "/" : "", name),
		dir->depth + 1, &node->digest);
	list_push(&checkout->todo, &child->link);
	checkout_load_ahead(checkout, &node->digest);
	return NULL;
}

static struct error *checkout_visit(struct checkout *checkout, struct checkout_dir *dir)
{
	struct error *err = NULL;

	if (dir->depth >= TREE_DEPTH_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the tree is more than %d directories deep",
				 TREE_DEPTH_MAX);
	err = dircache_get(checkout->config->dirs, &dir->digest, NULL, &dir->tree);
	if (!err)
		err = file_open_beneath(checkout->root_fd, *dir->path ? dir->path : ".",
					O_RDONLY | O_DIRECTORY, 0, &dir->fd);
	for (uint32_t i = 0; !err && i < dir->tree->n_nodes; i++) {
		if (atomic_load(&checkout->is_failed))
			break;
		err = checkout_node(checkout, dir, &dir->tree->nodes[i]);
	}
	if (!err && dir->tree->props) {
		struct checkout_dir *later = checkout_dir_new(alloc_string(dir->path),
							      dir->depth, &dir->digest);

		later->tree = tree_dir_ref(dir->tree);
		list_push(&checkout->finished, &later->link);
	}
	return error_wrap(err, "check out %s", *dir->path ? dir->path : ".");
}

/* A directory may be read-only and have a time of its own once nothing is put in it any
 * more; children come after their parents in the list. */
static struct error *checkout_finish_dir(struct checkout *checkout,
					 struct checkout_dir *dir)
{
	const struct tree_props *props = dir->tree->props;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
				    {props->mtime_s, props->mtime_ns}};
	_cleanup_fd_ int fd = -1;
	struct error *err;

	err = file_open_beneath(checkout->root_fd, *dir->path ? dir->path : ".",
				O_RDONLY | O_DIRECTORY, 0, &fd);
	if (err)
		return err;
	if (props->has_mtime && futimens(fd, times) < 0)
		return error_errno(errno, "set the time of %s", dir->path);
	if (props->has_unix_mode && fchmod(fd, props->unix_mode & 0777) < 0)
		return error_errno(errno, "chmod %s", dir->path);
	return NULL;
}

static struct error *checkout_walk(struct checkout *checkout)
{
	while (!list_is_empty(&checkout->todo)) {
		struct checkout_dir *dir =
			container_of(checkout->todo.prev, struct checkout_dir, link);
		struct error *err = NULL;

		list_remove(&dir->link);
		if (!atomic_load(&checkout->is_failed))
			err = checkout_visit(checkout, dir);
		checkout_dir_unref(dir);
		if (err)
			checkout_fail(checkout, err);
	}
	checkout_wait(checkout);
	while (!list_is_empty(&checkout->finished)) {
		struct checkout_dir *dir =
			container_of(checkout->finished.prev, struct checkout_dir, link);
		struct error *err = NULL;

		list_remove(&dir->link);
		if (!atomic_load(&checkout->is_failed))
			err = checkout_finish_dir(checkout, dir);
		checkout_dir_unref(dir);
		if (err)
			checkout_fail(checkout, err);
	}
	sync_alone(&checkout->mutex);
	return take(checkout->err);
}

static void checkout_init(struct checkout *checkout, const struct checkout_config *config)
{
	*checkout = (struct checkout){.config = config, .root_fd = -1};
	checkout->entries_max =
		config->entries_max ? config->entries_max : TREE_ENTRIES_MAX;
	checkout->chance = (uint64_t)getpid();
	(void)!getrandom(&checkout->chance, sizeof(checkout->chance), GRND_NONBLOCK);
	list_init(&checkout->todo);
	list_init(&checkout->finished);
	sync_mutex_init(&checkout->mutex);
	sync_cond_init(&checkout->cond);
}

static void checkout_deinit(struct checkout *checkout)
{
	if (checkout->root_fd >= 0)
		(void)close(checkout->root_fd);
	sync_cond_deinit(&checkout->cond);
	sync_mutex_deinit(&checkout->mutex);
}

struct error *checkout_tree(const struct checkout_config *config,
			    const struct digest *root, int dir_fd, const char *dest)
{
	_cleanup_(checkout_deinit) struct checkout checkout;
	struct tree_totals totals;
	struct checkout_dir *dir;
	struct error *err;

	checkout_init(&checkout, config);
	checkout.root = root;
	err = treeload_run(config->dirs, root, CHECKOUT_DIRS_MAX, NULL);
	if (!err)
		err = treeload_check_entries(config->dirs, root, checkout.entries_max);
	if (!err)
		err = file_mkdirs(dir_fd, dest, 0777);
	if (!err)
		err = file_open_dir(dir_fd, dest, &checkout.root_fd);
	if (err)
		return config->is_staged ? err : error_wrap(err, "check out to %s", dest);
	sync_alone(&checkout.mutex);
	if (dircache_totals(config->dirs, root, &totals))
		checkout.n_total = totals.files;
	dir = checkout_dir_new(alloc_string(""), 0, root);
	list_push(&checkout.todo, &dir->link);
	err = checkout_walk(&checkout);
	return config->is_staged ? err : error_wrap(err, "%s", dest);
}

struct error *checkout_file(const struct checkout_config *config,
			    const struct digest *digest, bool is_executable,
			    const struct tree_props *props, int dir_fd, const char *dest)
{
	_cleanup_(checkout_deinit) struct checkout checkout;
	_cleanup_free_ char *copy = alloc_string(dest);
	_cleanup_fd_ int fd = -1;
	char *slash = strrchr(copy, '/');
	struct error *err = NULL;

	checkout_init(&checkout, config);
	if (slash == copy) {
		err = file_open_dir(dir_fd, "/", &checkout.root_fd);
	} else if (slash) {
		*slash = '\0';
		err = file_mkdirs(dir_fd, copy, 0777);
	}
	if (!err && checkout.root_fd < 0)
		err = file_open_dir(dir_fd, slash ? copy : ".", &checkout.root_fd);
	if (!err)
		err = fetch_fd(dircache_fetch(config->dirs), digest, NULL, &fd);
	if (!err)
		err = checkout_place(&checkout, fd, checkout.root_fd,
				     slash ? slash + 1 : copy, is_executable, props);
	if (!err && config->progress)
		config->progress(config->ctx, 1, 1, digest->size);
	return config->is_staged ? err : error_wrap(err, "check out %s", dest);
}
