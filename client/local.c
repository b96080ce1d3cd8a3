/*
 * Owns the user's store and pool, and a directory of this command's own where the user
 * has none.
 */
#include "client/local.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/say.h"
#include "lib/base/sync.h"
#include "lib/tree/hasher.h"

#define LOG_MODULE "client"
#include "lib/base/log.h"

#define LOCAL_THREADS 4

/* private_dir of the one local that a program has. Main sets it, and a signal's thread
 * may remove that directory at any moment. */
static struct sync_mutex local_mutex = SYNC_MUTEX_INIT;
static char *local_private SYNC_GUARDED_BY(&local_mutex);

static void local_set_private(char *dir)
{
	sync_lock(&local_mutex);
	local_private = dir;
	sync_unlock(&local_mutex);
}

static char *local_cache_dir(void)
{
	const char *base = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");

	if (base && *base == '/')
		return alloc_printf("%s/lazyroot", base);
	if (home && *home == '/')
		return alloc_printf("%s/.cache/lazyroot", home);
	return NULL;
}

/* Whoever may write there, or lead us elsewhere, could have us remove, overwrite and
 * believe what he likes: so root, with somebody's HOME, has no cache in it. */
static struct error *local_check_owner(const char *dir)
{
	struct stat link;
	struct stat st;

	if (lstat(dir, &link) < 0 || stat(dir, &st) < 0)
		return error_errno(errno, "look at %s", dir);
	if (link.st_uid != geteuid() || st.st_uid != geteuid())
		return error_new(ERROR_FAILED_PRECONDITION,
				 "%s belongs to another user, %u", dir,
				 link.st_uid != geteuid() ? link.st_uid : st.st_uid);
	if (st.st_mode & S_IWOTH)
		return error_new(ERROR_FAILED_PRECONDITION, "anybody may write to %s",
				 dir);
	return NULL;
}

static struct error *local_user_dir(char **dir_out)
{
	_cleanup_free_ char *dir = local_cache_dir();
	struct error *err;

	if (!dir)
		return error_new(ERROR_FAILED_PRECONDITION,
				 "neither XDG_CACHE_HOME nor HOME says where it is");
	err = file_mkdirs(AT_FDCWD, dir, 0700);
	if (!err && access(dir, W_OK | X_OK) < 0)
		err = error_errno(errno, "write to %s", dir);
	if (!err)
		err = local_check_owner(dir);
	if (!err)
		*dir_out = take(dir);
	return err;
}

void local_drop_private(void)
{
	sync_lock(&local_mutex);
	if (local_private)
		error_free(file_remove_tree(AT_FDCWD, local_private));
	sync_unlock(&local_mutex);
}

static struct error *local_make_private(struct local *local, struct error *why)
{
	_cleanup_error_ struct error *reason = why;
	const char *base = getenv("TMPDIR");
	_cleanup_free_ char *dir =
		alloc_printf("%s/lazyroot-XXXXXX", base && *base == '/' ? base : "/tmp");

	if (!mkdtemp(dir))
		return error_errno(errno,
				   "there is no cache directory (%s), nor could %s be "
				   "made instead",
				   error_text(reason), dir);
	say("lazyroot: there is no cache directory (%s): nothing is kept for later "
	    "commands",
	    error_text(reason));
	local->private_dir = take(dir);
	local_set_private(local->private_dir);
	return NULL;
}

struct error *local_path(struct local *local, const char *name, char **path_out)
{
	_cleanup_free_ char *dir = NULL;
	struct error *err = local->private_dir ? NULL : local_user_dir(&dir);

	if (err)
		err = local_make_private(local, err);
	if (err)
		return err;
	*path_out = alloc_printf("%s/%s", local->private_dir ? local->private_dir : dir,
				 name);
	return NULL;
}

struct error *local_must_last(struct local *local)
{
	_cleanup_free_ char *path = NULL;
	struct error *err = local_path(local, "", &path);

	if (!err && local->private_dir)
		err = error_new(ERROR_FAILED_PRECONDITION,
				"what it is to leave here would go with it: set "
				"XDG_CACHE_HOME to a directory of yours");
	return err;
}

static void local_prepare(struct pool_task *task)
{
	(void)task;
	hasher_prepare();
}

/* What all that use the pool will need is prepared while they prepare. */
struct error *local_open_pool(struct local *local)
{
	struct error *err;

	if (local->pool)
		return NULL;
	err = pool_new("disk", LOCAL_THREADS, &local->pool);
	if (err)
		return err;
	local->prepare.run = local_prepare;
	pool_push(local->pool, &local->prepare);
	return NULL;
}

static struct error *local_store_open(const char *path, int64_t size_limit,
				      struct store **out)
{
	struct store_config config = {
		.dir = path, .is_shared = true, .size_limit = size_limit};

	return store_open(&config, out);
}

static void local_ahead_run(struct pool_task *task)
{
	struct local_ahead *ahead = container_of(task, struct local_ahead, task);

	ahead->err = local_store_open(ahead->path, ahead->size_limit, &ahead->store);
	latch_down(&ahead->opened);
}

void local_open_store_ahead(struct local *local)
{
	struct local_ahead *ahead = &local->ahead;
	struct error *err;

	if (local->store || ahead->is_begun)
		return;
	err = local_open_pool(local);
	if (!err)
		err = local_path(local, "cas", &ahead->path);
	if (err) {
		error_free(err); /* it will be met again */
		return;
	}
	ahead->is_begun = true;
	ahead->size_limit = local->size_limit;
	ahead->task.run = local_ahead_run;
	latch_init(&ahead->opened, 1);
	pool_push(local->pool, &ahead->task);
}

/* Its end; takes what it brought. */
static struct error *local_ahead_end(struct local_ahead *ahead, struct store **out)
{
	struct error *err;

	latch_wait(&ahead->opened);
	latch_deinit(&ahead->opened);
	free(ahead->path);
	err = ahead->err;
	*out = ahead->store;
	*ahead = (struct local_ahead){0};
	return err;
}

struct error *local_open_store(struct local *local)
{
	_cleanup_free_ char *path = NULL;
	struct error *err;

	if (local->store)
		return NULL;
	if (local->ahead.is_begun)
		return local_ahead_end(&local->ahead, &local->store);
	err = local_open_pool(local);
	if (!err)
		err = local_path(local, "cas", &path);
	return err ? err : local_store_open(path, local->size_limit, &local->store);
}

void local_deinit(struct local *local)
{
	if (local->ahead.is_begun)
		error_free(local_ahead_end(&local->ahead, &local->store));
	pool_free(local->pool);
	store_close(local->store);
	local_drop_private();
	local_set_private(NULL);
	free(local->private_dir);
}

struct store_pin *local_pin_tree(struct local *local, const struct digest *root)
{
	const struct store_pinned item = {*root, true};
	struct store_pin *pin = NULL;

	log_drop(LOG_WARN, store_pin_new(local->store, &item, 1, &pin),
		 "files may go from the local store before they are read");
	return pin;
}
