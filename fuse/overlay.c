/*
 * Owns one action's directory and the mount over it. What must stay true:
 *
 * - Layers are handed to the kernel as descriptors: no escaping, no limit of 256 bytes,
 * and nobody can swap a path between our look and the kernel's. Kernels before 6.13 take
 *   /proc/self/fd/N instead, which is a path, but with the same three properties.
 * - The mount's own descriptor pins it, so it is closed before the directory is removed.
 * - "volatile" leaves a mark in work/ that makes a second mount fail: dir must not exist
 *   before overlay_mount().
 * - What a command sees of the root directory itself is upper's: it gets owner, mode and
 *   time of the lower one.
 * - overlayfs notes where a renamed directory and a linked file came from; longer paths
 *   than overlay.redirect_max (256 bytes by default) it refuses with EXDEV, which no
 *   plain directory does. overlay_probe() raises this for the machine.
 *
 * Threads: one at a time per overlay; nothing is shared between overlays.
 */
#include "fuse/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/buf.h"
#include "lib/base/file.h"

#define LOG_MODULE "overlay"
#include "lib/base/log.h"

#define OVERLAY_REDIRECT_PATH "/sys/module/overlay/parameters/redirect_max"
/* What an attribute of ext4 can hold beside overlayfs's others. */
#define OVERLAY_REDIRECT_MAX 3840
#define OVERLAY_MAP_MAX      65536 /* bytes of a uid_map */

struct overlay {
	char *dir;
	char *merged;
	int merged_fd;
	int upper_fd;
	bool is_attached;
	bool is_dir_kept;
	bool is_left;
};

/* What the kernel says about a failed mount ("e overlay: …"), appended to the text. */
static struct error *overlay_mount_error(int fs_fd, int errnum, const char *what)
{
	_cleanup_buf_ struct buf why = BUF_INIT;
	char line[512];
	ssize_t n;

	while ((n = read(fs_fd, line, sizeof(line) - 1)) > 0) {
		line[n] = '\0';
		while (n > 0 && line[n - 1] == '\n')
			line[--n] = '\0';
		buf_printf(&why, " (%s)", n > 2 ? line + 2 : line);
	}
	return error_errno(errnum, "%s%s", what, buf_string(&why));
}

static struct error *overlay_set_layer(int fs_fd, const char *key, const char *fd_key,
				       int fd)
{
	char path[32];

	if (fsconfig(fs_fd, FSCONFIG_SET_FD, fd_key, NULL, fd) == 0)
		return NULL;
	if (errno != EINVAL && errno != EBADF && errno != EOPNOTSUPP)
		return overlay_mount_error(fs_fd, errno, key);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fsconfig(fs_fd, FSCONFIG_SET_STRING, key, path, 0) < 0)
		return overlay_mount_error(fs_fd, errno, key);
	return NULL;
}

bool overlay_has_user_xattrs(void)
{
	_cleanup_buf_ struct buf map = BUF_INIT;
	struct error *none =
		file_read_all(AT_FDCWD, "/proc/self/uid_map", OVERLAY_MAP_MAX, &map);
	unsigned long inside = 0;
	unsigned long outside = 0;
	unsigned long n = 0;

	error_free(none);
	return sscanf(buf_string(&map), "%lu %lu %lu", &inside, &outside, &n) == 3 &&
	       (inside || outside || n != UINT32_MAX);
}

static struct error *overlay_set_options(int fs_fd)
{
	/* the last two need trusted.overlay.* */
	static const char *const options[][2] = {
		{"xino", "on"}, {"metacopy", "on"}, {"redirect_dir", "on"}};
	bool is_user = overlay_has_user_xattrs();

	for (size_t i = 0; i < (is_user ? 1 : ARRAY_SIZE(options)); i++)
		if (fsconfig(fs_fd, FSCONFIG_SET_STRING, options[i][0], options[i][1],
			     0) < 0)
			return overlay_mount_error(fs_fd, errno, options[i][0]);
	if (is_user && fsconfig(fs_fd, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0)
		return overlay_mount_error(fs_fd, errno, "userxattr");
	if (fsconfig(fs_fd, FSCONFIG_SET_FLAG, "volatile", NULL, 0) < 0)
		return overlay_mount_error(fs_fd, errno, "volatile");
	return NULL;
}

/* A mount of the layers that is attached nowhere yet. */
static struct error *overlay_create(int lower_fd, int upper_fd, int work_fd,
				    int *mount_out)
{
	_cleanup_fd_ int fs_fd = fsopen("overlay", FSOPEN_CLOEXEC);
	struct error *err;
	int mount_fd;

	if (fs_fd < 0)
		return error_errno(errno, "open the overlay file system");
	err = overlay_set_layer(fs_fd, "lowerdir", "lowerdir+", lower_fd);
	if (!err)
		err = overlay_set_layer(fs_fd, "upperdir", "upperdir", upper_fd);
	if (!err)
		err = overlay_set_layer(fs_fd, "workdir", "workdir", work_fd);
	if (!err)
		err = overlay_set_options(fs_fd);
	if (err)
		return err;
	if (fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return overlay_mount_error(fs_fd, errno, "create the overlay");
	mount_fd = fsmount(fs_fd, FSMOUNT_CLOEXEC,
			   MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME);
	if (mount_fd < 0)
		return overlay_mount_error(fs_fd, errno, "mount the overlay");
	*mount_out = mount_fd;
	return NULL;
}

static struct error *overlay_make_dir(int dir_fd, const char *name, int *fd_out)
{
	int fd;

	if (mkdirat(dir_fd, name, 0755) < 0)
		return error_errno(errno, "make directory %s", name);
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_errno(errno, "open directory %s", name);
	*fd_out = fd;
	return NULL;
}

static struct error *overlay_copy_root(int lower_fd, int upper_fd)
{
	struct timespec times[2];
	struct stat st;

	if (fstat(lower_fd, &st) < 0)
		return error_errno(errno, "look at the lower layer");
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	if (fchown(upper_fd, st.st_uid, st.st_gid) < 0 ||
	    fchmod(upper_fd, st.st_mode & 07777) < 0 || futimens(upper_fd, times) < 0)
		return error_errno(errno, "make the upper directory like the lower one");
	return NULL;
}

static struct error *overlay_make_point(const char *path, int *fd_out)
{
	if (mkdir(path, 0755) < 0)
		return error_errno(errno, "make directory %s", path);
	*fd_out = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *fd_out < 0 ? error_errno(errno, "open directory %s", path) : NULL;
}

static struct error *overlay_attach(struct overlay *overlay, const char *lower)
{
	_cleanup_fd_ int dir_fd = open(overlay->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int lower_fd = open(lower, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int work_fd = -1;
	_cleanup_fd_ int point_fd = -1;
	struct error *err;

	if (dir_fd < 0)
		return error_errno(errno, "open directory %s", overlay->dir);
	if (lower_fd < 0)
		return error_errno(errno, "open the lower layer %s", lower);
	err = overlay_make_dir(dir_fd, "upper", &overlay->upper_fd);
	if (!err)
		err = overlay_make_dir(dir_fd, "work", &work_fd);
	if (!err)
		err = overlay_make_point(overlay->merged, &point_fd);
	if (!err)
		err = overlay_copy_root(lower_fd, overlay->upper_fd);
	if (!err)
		err = overlay_create(lower_fd, overlay->upper_fd, work_fd,
				     &overlay->merged_fd);
	if (err)
		return err;
	if (move_mount(overlay->merged_fd, "", point_fd, "",
		       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return error_errno(errno, "attach the overlay to %s", overlay->merged);
	overlay->is_attached = true;
	return NULL;
}

struct error *overlay_mount(const struct overlay_config *config, struct overlay **out)
{
	_cleanup_(overlay_freep) struct overlay *overlay = NULL;
	struct error *err;

	if (mkdir(config->dir, 0700) < 0)
		return error_errno(errno, "make directory %s", config->dir);
	overlay = alloc_new(struct overlay);
	overlay->merged_fd = -1;
	overlay->upper_fd = -1;
	overlay->dir = alloc_string(config->dir);
	overlay->is_dir_kept = config->is_dir_kept;
	overlay->is_left = config->is_left;
	overlay->merged = config->merged ? alloc_string(config->merged)
					 : alloc_printf("%s/merged", config->dir);
	err = overlay_attach(overlay, config->lower);
	if (err)
		return error_wrap(err, "overlay in %s", config->dir);
	*out = take(overlay);
	return NULL;
}

void overlay_detach(struct overlay *overlay)
{
	if (!overlay->is_attached || overlay->is_left)
		return;
	overlay->is_attached = false;
	if (umount2(overlay->merged, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		log_error("unmount %s: %s", overlay->merged, strerror(errno));
	if (rmdir(overlay->merged) < 0)
		log_warn("remove %s: %s", overlay->merged, strerror(errno));
}

void *overlay_free(struct overlay *overlay)
{
	struct error *err = NULL;

	if (!overlay)
		return NULL;
	overlay_detach(overlay);
	if (overlay->merged_fd >= 0)
		(void)close(overlay->merged_fd);
	if (overlay->upper_fd >= 0)
		(void)close(overlay->upper_fd);
	if (!overlay->is_dir_kept)
		err = file_remove_tree(AT_FDCWD, overlay->dir);
	if (err)
		log_drop(LOG_WARN, err, "remove an action's directory");
	free(overlay->merged);
	free(overlay->dir);
	free(overlay);
	return NULL;
}

const char *overlay_merged(const struct overlay *overlay)
{
	return overlay->merged;
}

int overlay_merged_fd(const struct overlay *overlay)
{
	return overlay->merged_fd;
}

int overlay_upper_fd(const struct overlay *overlay)
{
	return overlay->upper_fd;
}

/* For the whole machine, and never lowered: others' overlays only get more. */
static struct error *overlay_raise_redirect_max(void)
{
	_cleanup_fd_ int fd = -1;
	_cleanup_buf_ struct buf text = BUF_INIT;
	char wanted[16];
	struct error *err = file_read_all(AT_FDCWD, OVERLAY_REDIRECT_PATH, 16, &text);

	if (err || atoi(buf_string(&text)) >= OVERLAY_REDIRECT_MAX)
		return err;
	fd = open(OVERLAY_REDIRECT_PATH, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(errno, "open " OVERLAY_REDIRECT_PATH);
	(void)snprintf(wanted, sizeof(wanted), "%d", OVERLAY_REDIRECT_MAX);
	return file_write_all(fd, wanted, strlen(wanted));
}

struct error *overlay_probe(const char *dir)
{
	_cleanup_(overlay_freep) struct overlay *overlay = NULL;
	_cleanup_free_ char *lower = alloc_printf("%s/.probe-lower.%d", dir, getpid());
	_cleanup_free_ char *own = alloc_printf("%s/.probe.%d", dir, getpid());
	struct overlay_config config = {.lower = lower, .dir = own};
	struct error *err;

	if (mkdir(lower, 0700) < 0)
		err = error_errno(errno, "make directory %s", lower);
	else
		err = overlay_mount(&config, &overlay);
	(void)rmdir(lower);
	if (!err) /* only now is the module loaded for sure */
		log_drop(LOG_INFO, overlay_raise_redirect_max(),
			 "commands cannot rename directories with long paths");
	if (err && error_code(err) == ERROR_PERMISSION_DENIED)
		err = error_wrap(err, "mounting needs root (CAP_SYS_ADMIN)");
	return error_recode(error_wrap(err, "no overlay can be mounted in %s", dir),
			    ERROR_UNAVAILABLE);
}
