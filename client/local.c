/*
 * Owns the user's store and pool, and a directory of this command's own where the user
 * has none.
 */
#include "client/local.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/say.h"
#include "lib/base/sync.h"

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

void local_deinit(struct local *local)
{
	pool_free(local->pool);
	store_close(local->store);
	local_drop_private();
	local_set_private(NULL);
	free(local->private_dir);
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

struct error *local_open_pool(struct local *local)
{
	return local->pool ? NULL : pool_new("disk", LOCAL_THREADS, &local->pool);
}

struct error *local_open_store(struct local *local)
{
	_cleanup_free_ char *path = NULL;
	struct store_config config = {.is_shared = true, .size_limit = local->size_limit};
	struct error *err;

	if (local->store)
		return NULL;
	err = local_open_pool(local);
	if (!err)
		err = local_path(local, "cas", &path);
	if (err)
		return err;
	config.dir = path;
	return store_open(&config, &local->store);
}
