/* Owns what was entered, which lasts as long as the process. */
#include "client/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"

/* Where root may make a directory that anybody can reach; as the worker does. */
#define NAMESPACES_ROOT_DIR "/run/lazyroot/merged"

static char *namespaces_at;
static struct sandbox_user namespaces_whom;

static struct error *namespaces_missing(struct error *err)
{
	return error_recode(error_wrap(err, "no sandbox of namespaces"),
			    ERROR_FAILED_PRECONDITION);
}

static struct error *namespaces_check(void)
{
	_cleanup_(sandbox_tools_deinit) struct sandbox_tools tools = {0};

	if (access("/dev/fuse", R_OK | W_OK) < 0)
		return error_errno(errno,
				   "open /dev/fuse (load the kernel's module fuse; this "
				   "user needs the right to read and write it)");
	return sandbox_find_tools(&tools);
}

static struct error *namespaces_write(const char *path, const char *text)
{
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(errno, "open %s", path);
	return error_wrap(file_write_all(fd, text, strlen(text)), "%s", path);
}

/* We are root there, and nobody else is anybody. */
static struct error *namespaces_enter_user(void)
{
	_cleanup_free_ char *uids = alloc_printf("0 %u 1", geteuid());
	_cleanup_free_ char *gids = alloc_printf("0 %u 1", getegid());
	struct error *err;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return error_errno(
			errno,
			"make a user namespace (see kernel.unprivileged_userns_clone and "
			"user.max_user_namespaces)");
	err = namespaces_write("/proc/self/setgroups", "deny");
	if (!err)
		err = namespaces_write("/proc/self/uid_map", uids);
	if (!err)
		err = namespaces_write("/proc/self/gid_map", gids);
	return err;
}

static struct error *namespaces_mount(const char *dir)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_errno(errno, "make the mounts private");
	if (mount("lazyroot", dir, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  "mode=0711") < 0)
		return error_errno(errno,
				   "mount a file system on %s (see "
				   "kernel.apparmor_restrict_unprivileged_userns)",
				   dir);
	return NULL;
}

struct error *namespaces_enter(struct local *local)
{
	bool is_root = geteuid() == 0 && getegid() == 0;
	_cleanup_free_ char *dir = NULL;
	struct error *err = namespaces_check();

	if (err)
		return namespaces_missing(err);
	if (is_root && unshare(CLONE_NEWNS) < 0) {
		if (errno != EPERM)
			return namespaces_missing(
				error_errno(errno, "make a mount namespace"));
		is_root = false;
	}
	if (is_root)
		dir = alloc_string(NAMESPACES_ROOT_DIR);
	else
		err = local_path(local, "merged", &dir);
	if (!err)
		err = file_mkdirs(AT_FDCWD, dir, 0755);
	if (!err && !is_root)
		err = namespaces_enter_user();
	if (!err)
		err = namespaces_mount(dir);
	if (err)
		return namespaces_missing(err);
	namespaces_at = take(dir);
	namespaces_whom = is_root ? (struct sandbox_user){SANDBOX_USER, SANDBOX_USER}
				  : (struct sandbox_user){0, 0};
	return NULL;
}

const char *namespaces_dir(void)
{
	return namespaces_at;
}

struct sandbox_user namespaces_user(void)
{
	return namespaces_whom;
}
