/*
 * Owns what a layout makes: directories in the input root (until layout_tidy()), files of
 * accounts, an overlay over a tree of the host's. Links of the input root are followed
 * within it only; those of the host as the host has them.
 *
 * Threads: one a layout.
 */
#include "worker/sandbox/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/cleanup.h"
#include "lib/base/file.h"
#include "worker/sandbox/accounts.h"

#define LOG_MODULE "layout"
#include "lib/base/log.h"

#define LAYOUT_LINKS_MAX 40

const char *const layout_host_dirs[] = {"/usr",   "/bin", "/sbin",   "/lib", "/lib32",
					"/lib64", "/etc", "/libx32", "/opt"};
const size_t layout_n_host_dirs = ARRAY_SIZE(layout_host_dirs);

static const char *const layout_point_names[LAYOUT_POINT_N] = {
	[LAYOUT_PROC] = "proc",
	[LAYOUT_DEV] = "dev",
	[LAYOUT_TMP] = "tmp",
	[LAYOUT_SYS] = "sys",
};

/* The input root as the whole file system */

static int layout_open(int merged_fd, const char *path, int flags)
{
	return file_open_resolved(merged_fd, *path ? path : ".", O_PATH | flags, 0,
				  RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* The path below merged that an open descriptor has: without links; the caller frees. */
static char *layout_path_of(int merged_fd, int fd)
{
	char top[PATH_MAX];
	char path[PATH_MAX];
	char link[32];
	ssize_t n_top;
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", merged_fd);
	n_top = readlink(link, top, sizeof(top));
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path));
	if (n_top < 0 || n < n_top || n >= (ssize_t)sizeof(path))
		return NULL;
	path[n] = '\0';
	return alloc_string(n == n_top ? "" : path + n_top + 1);
}

/* name in an open directory is ours, and is removed in the end. */
static void layout_note_made(struct layout *layout, int merged_fd, int parent_fd,
			     const char *name)
{
	_cleanup_free_ char *parent = layout_path_of(merged_fd, parent_fd);

	if (!parent)
		return;
	layout->made = alloc_grow(layout->made, &layout->made_cap, layout->n_made + 1,
				  sizeof(*layout->made));
	layout->made[layout->n_made++] =
		alloc_printf("%s%s%s", parent, *parent ? "/" : "", name);
}

/* Where a link leads that stands in directory parent; NULL: it is none. */
static char *layout_link(int parent_fd, const char *parent, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(parent_fd, name, target, sizeof(target) - 1);

	if (n <= 0)
		return NULL;
	target[n] = '\0';
	return *target == '/' ? alloc_string(target)
			      : alloc_printf("%s/%s", parent, target);
}

/* A directory of the input root, made where it or what a link names is not there; an
 * errno, or 0. */
static int layout_make_dir(struct layout *layout, int merged_fd, const char *path,
			   unsigned int depth, int *fd_out)
{
	_cleanup_free_ char *parent = alloc_string(path);
	_cleanup_fd_ int parent_fd = -1;
	_cleanup_free_ char *target = NULL;
	char *name;
	int errnum;

	*fd_out = layout_open(merged_fd, path, O_DIRECTORY);
	if (*fd_out >= 0)
		return 0;
	if (errno != ENOENT || depth > LAYOUT_LINKS_MAX)
		return errno;
	for (size_t n = strlen(parent); n && parent[n - 1] == '/'; n--)
		parent[n - 1] = '\0';
	name = strrchr(parent, '/');
	if (name)
		*name++ = '\0';
	errnum = layout_make_dir(layout, merged_fd, name ? parent : "", depth + 1,
				 &parent_fd);
	if (errnum)
		return errnum;
	if (!name)
		name = parent;
	if (mkdirat(parent_fd, name, 0755) == 0) {
		layout_note_made(layout, merged_fd, parent_fd, name);
		*fd_out = layout_open(merged_fd, path, O_DIRECTORY);
		return *fd_out < 0 ? errno : 0;
	}
	if (errno != EEXIST)
		return errno;
	target = layout_link(parent_fd, name == parent ? "" : parent, name);
	return target ? layout_make_dir(layout, merged_fd, target, depth + 1, fd_out)
		      : ENOTDIR;
}

static struct error *layout_find_point(struct layout *layout, int merged_fd,
				       enum layout_point point)
{
	const char *name = layout_point_names[point];
	_cleanup_free_ char *path = NULL;
	_cleanup_fd_ int fd = -1;
	int errnum = layout_make_dir(layout, merged_fd, name, 0, &fd);

	if (errnum)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the input root's /%s cannot be where the sandbox puts "
				 "its own /%s: %s",
				 name, name, strerror(errnum));
	path = layout_path_of(merged_fd, fd);
	if (!path || !*path)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the input root's /%s leads to the root itself", name);
	layout->points[point] = alloc_printf("/%s", path);
	for (enum layout_point i = 0; i < point; i++)
		if (strcmp(layout->points[i], layout->points[point]) == 0)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "the input root's /%s and /%s are one directory",
					 layout_point_names[i], name);
	return NULL;
}

/* What a root whose /etc has no hosts, or an empty file, is given: then the machine's own
 * name is known. What it brings itself stays. */
static void layout_find_hosts(struct layout *layout, int merged_fd)
{
	_cleanup_fd_ int etc_fd = -1;
	_cleanup_fd_ int fd = layout_open(merged_fd, "etc/hosts", 0);
	_cleanup_free_ char *path = NULL;
	struct stat st;

	if (fd < 0 && errno == ENOENT &&
	    (etc_fd = layout_open(merged_fd, "etc", O_DIRECTORY)) >= 0) {
		_cleanup_fd_ int made = openat(
			etc_fd, "hosts", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

		if (made >= 0)
			layout_note_made(layout, merged_fd, etc_fd, "hosts");
		fd = layout_open(merged_fd, "etc/hosts", 0);
	}
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size)
		return;
	path = layout_path_of(merged_fd, fd);
	if (path)
		layout->hosts_at = alloc_printf("/%s", path);
}

static struct error *layout_make_whole(const struct layout_config *config,
				       struct layout *layout)
{
	struct error *err = NULL;

	for (enum layout_point i = 0; !err && i < LAYOUT_POINT_N; i++)
		err = layout_find_point(layout, config->merged_fd, i);
	if (!err)
		layout_find_hosts(layout, config->merged_fd);
	return err;
}

/* The input root beside the host's system */

static bool layout_is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (!path[n] || path[n] == '/');
}

static const char *layout_host_dir(const char *path)
{
	for (size_t i = 0; i < layout_n_host_dirs; i++)
		if (layout_is_below(path, layout_host_dirs[i]))
			return layout_host_dirs[i];
	return NULL;
}

static struct error *layout_impossible(const char *root_path, const char *why)
{
	return error_new(ERROR_INVALID_ARGUMENT, "no input root can be at %s: %s",
			 root_path, why);
}

/* The host's tree with a directory in it that it lacks. */
static struct error *layout_make_under(const struct layout_config *config,
				       struct layout *layout, const char *host)
{
	_cleanup_free_ char *dir = alloc_printf("%s/under", config->dir);
	_cleanup_free_ char *merged = alloc_printf("%s.under", config->prefix);
	struct overlay_config overlay = {.lower = host, .dir = dir, .merged = merged};
	_cleanup_fd_ int fd = -1;
	struct error *err = overlay_mount(&overlay, &layout->under);

	if (err)
		return err;
	layout->under_at = alloc_string(host);
	return file_mkdirs_beneath(overlay_merged_fd(layout->under),
				   layout->root_at + strlen(host) + 1, 0755, &fd);
}

/* What of the path there is on the host, and what follows it; an errno, or 0. */
static int layout_split(const char *path, char real[static PATH_MAX], const char **rest)
{
	_cleanup_free_ char *copy = alloc_string(path);
	size_t len = strlen(copy);

	while (!realpath(copy, real)) {
		char *slash = strrchr(copy, '/');

		if (errno != ENOENT || slash == copy)
			return errno;
		*slash = '\0';
		len = (size_t)(slash - copy);
	}
	*rest = path + len;
	return 0;
}

/* Whether anybody can come to a path of the host's; what is not there is no obstacle. */
static bool layout_is_open(const char *path)
{
	_cleanup_free_ char *dir = alloc_string(path);
	struct stat st;

	for (char *slash = strrchr(dir, '/'); slash && slash != dir;
	     slash = strrchr(dir, '/')) {
		*slash = '\0';
		if (stat(dir, &st) == 0 && !(st.st_mode & S_IXOTH))
			return false;
	}
	return true;
}

static struct error *layout_place(const struct layout_config *config,
				  struct layout *layout)
{
	char real[PATH_MAX];
	const char *path = config->root_path;
	const char *rest = "";
	const char *host;
	struct stat st;
	int errnum;

	for (enum layout_point i = LAYOUT_PROC; i <= LAYOUT_DEV; i++) {
		char own[8];

		(void)snprintf(own, sizeof(own), "/%s", layout_point_names[i]);
		if (layout_is_below(path, own))
			return layout_impossible(path, "the sandbox has its own there");
	}
	if (!layout_host_dir(path)) {
		layout->root_at = alloc_string(path);
		return NULL;
	}
	errnum = layout_split(path, real, &rest);
	if (!errnum && (stat(real, &st) < 0 || !S_ISDIR(st.st_mode)))
		errnum = ENOTDIR;
	if (errnum)
		return layout_impossible(path, strerror(errnum));
	layout->root_at = alloc_printf("%s%s", real, rest);
	if (!layout_is_open(layout->root_at))
		return layout_impossible(path, strerror(EACCES));
	host = layout_host_dir(layout->root_at);
	return *rest && host ? layout_make_under(config, layout, host) : NULL;
}

static bool layout_has_file(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static struct error *layout_make_beside(const struct layout_config *config,
					struct layout *layout)
{
	for (enum layout_point i = 0; i < LAYOUT_POINT_N; i++)
		layout->points[i] = alloc_printf("/%s", layout_point_names[i]);
	layout->has_accounts =
		layout_has_file("/etc/passwd") && layout_has_file("/etc/group");
	if (layout_has_file("/etc/hosts"))
		layout->hosts_at = alloc_string("/etc/hosts");
	if (config->uid != ACCOUNTS_UID || config->gid != ACCOUNTS_UID ||
	    config->with_network) {
		struct error *err;

		layout->is_etc_own = true;
		free(layout->etc);
		layout->etc = alloc_printf("%s.etc", config->prefix);
		err = accounts_write(layout->etc, config->uid, config->gid,
				     config->with_network);
		if (err)
			return err;
	}
	return layout_place(config, layout);
}

struct error *layout_make(const struct layout_config *config, struct layout *out)
{
	out->is_whole = strcmp(config->root_path, "/") == 0;
	out->merged = config->merged;
	out->root_path = config->root_path;
	out->with_network = config->with_network;
	out->etc = alloc_string(config->etc);
	return out->is_whole ? layout_make_whole(config, out)
			     : layout_make_beside(config, out);
}

void layout_tidy(struct layout *layout, int merged_fd)
{
	while (layout->n_made) {
		char *path = layout->made[--layout->n_made];
		char *slash = strrchr(path, '/');
		const char *name = slash ? slash + 1 : path;
		_cleanup_error_ struct error *err = NULL;
		_cleanup_fd_ int fd = -1;

		if (slash)
			*slash = '\0';
		/* the command may have put links there */
		err = file_open_beneath(merged_fd, slash ? path : ".",
					O_PATH | O_DIRECTORY, 0, &fd);
		if (!err && unlinkat(fd, name, AT_REMOVEDIR) < 0 && errno == ENOTDIR)
			(void)unlinkat(fd, name, 0);
		free(path);
	}
}

void layout_deinit(struct layout *layout)
{
	struct error *err = NULL;

	overlay_free(layout->under);
	if (layout->is_etc_own)
		err = file_remove_tree(AT_FDCWD, layout->etc);
	log_drop(LOG_WARN, err, "remove an action's accounts");
	for (size_t i = 0; i < LAYOUT_POINT_N; i++)
		free(layout->points[i]);
	for (size_t i = 0; i < layout->n_made; i++)
		free(layout->made[i]);
	free(layout->made);
	free(layout->etc);
	free(layout->hosts_at);
	free(layout->under_at);
	free(layout->root_at);
	*layout = (struct layout){0};
}
