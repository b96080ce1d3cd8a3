/*
 * Owns the process tree of one command: bubblewrap, and pid 1 of the namespace, whose end
 * is the end of all. Bubblewrap is the child of the slot's launcher, which tells its end;
 * pid 1's number comes over a status pipe.
 */
#include "worker/sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "lib/base/alloc.h"
#include "lib/base/buf.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "worker/sandbox/accounts.h"

#define LOG_MODULE "sandbox"
#include "lib/base/log.h"

#define SANDBOX_STATUS_FD  "4" /* in the child: program_serve.c */
#define SANDBOX_STATUS_MAX 4096

struct sandbox {
	struct launcher *launcher; /* the slot's, busy with us until is_over */
	int status_fd;             /* our end of the status pipe */
	struct sync_mutex mutex;
	struct buf status SYNC_GUARDED_BY(&mutex); /* what came over it so far */
	struct cgroup *cgroup;
	bool is_over;    /* the launcher told its end, or died */
	bool was_killed; /* by us: that bubblewrap says nothing then is no failure */
};

/* Tools */

static char *sandbox_search(const char *name)
{
	static const char *const dirs[] = {"/usr/bin", "/usr/local/bin", "/bin"};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		_cleanup_free_ char *path = alloc_printf("%s/%s", dirs[i], name);

		if (access(path, X_OK) == 0)
			return take(path);
	}
	return NULL;
}

struct error *sandbox_find_program(char **out)
{
	_cleanup_free_ char *program = NULL;
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return error_errno(errno, "read /proc/self/exe");
	self[n] = '\0';
	*(strrchr(self, '/') + 1) = '\0';
	program = alloc_printf("%slazyroot-sandbox", self);
	if (access(program, X_OK) < 0)
		return error_errno(errno, "%s, which belongs beside this program",
				   program);
	*out = take(program);
	return NULL;
}

struct error *sandbox_find_tools(struct sandbox_tools *out)
{
	_cleanup_free_ char *bwrap = sandbox_search("bwrap");
	char *program;
	struct error *err;

	if (!bwrap)
		return error_new(
			ERROR_FAILED_PRECONDITION,
			"bwrap is not on this machine: install the package bubblewrap");
	err = sandbox_find_program(&program);
	if (err)
		return err;
	out->bwrap = take(bwrap);
	out->program = program;
	return NULL;
}

void sandbox_tools_deinit(struct sandbox_tools *tools)
{
	free(take(tools->bwrap));
	free(take(tools->program));
}

/* bubblewrap's arguments, NUL after each */

static void sandbox_arg(struct buf *args, const char *arg)
{
	buf_add(args, arg, strlen(arg) + 1);
}

static void sandbox_args(struct buf *args, const char *a, const char *b, const char *c)
{
	sandbox_arg(args, a);
	if (b)
		sandbox_arg(args, b);
	if (c)
		sandbox_arg(args, c);
}

/* The host's system, read-only, where the input root is only a part of what is seen. */
static void sandbox_host(struct buf *args, const struct layout *layout)
{
	for (size_t i = 0; i < layout_n_host_dirs; i++) {
		const char *dir = layout_host_dirs[i];
		char target[PATH_MAX];
		ssize_t n = readlink(dir, target, sizeof(target) - 1);

		if (n > 0) {
			target[n] = '\0';
			sandbox_args(args, "--symlink", target, dir);
		} else if (layout->under && strcmp(dir, layout->under_at) == 0) {
			sandbox_args(args, "--ro-bind", overlay_merged(layout->under),
				     dir);
		} else {
			sandbox_args(args, "--ro-bind-try", dir, dir);
		}
	}
}

static void sandbox_etc(struct buf *args, const struct layout *layout, const char *name,
			const char *to)
{
	_cleanup_free_ char *from = alloc_printf("%s/%s", layout->etc, name);

	sandbox_args(args, "--ro-bind", from, to);
}

/* What else a command may expect of a machine. */
static void sandbox_customary(struct buf *args, const struct layout *layout)
{
	if (layout->has_accounts) {
		sandbox_etc(args, layout, "passwd", "/etc/passwd");
		sandbox_etc(args, layout, "group", "/etc/group");
	}
	sandbox_args(args, "--dir", "/home", NULL);
	sandbox_args(args, "--dir", "/run", NULL);
	/* the same space, under its other name */
	if (strncmp(layout->root_path, "/var/tmp", strlen("/var/tmp")) != 0)
		sandbox_args(args, "--symlink", "../tmp", "/var/tmp");
}

/* Where names are looked up often stands in /run, to which only a link in /etc leads. */
static void sandbox_resolver(struct buf *args)
{
	_cleanup_free_ char *path = realpath("/etc/resolv.conf", NULL);

	if (path && strncmp(path, "/run/", 5) == 0)
		sandbox_args(args, "--ro-bind-try", path, path);
}

/* bytes 0: as many as the kernel gives by itself. */
static void sandbox_tmpfs(struct buf *args, int64_t bytes, const char *path)
{
	_cleanup_free_ char *size = alloc_printf("%" PRId64, bytes);

	if (bytes)
		sandbox_args(args, "--size", size, NULL);
	sandbox_args(args, "--tmpfs", path, NULL);
}

/* dir NULL: a file system of its own. */
static void sandbox_tmp(struct buf *args, const char *dir, int64_t bytes,
			const char *path)
{
	if (dir)
		sandbox_args(args, "--bind", dir, path);
	else
		sandbox_tmpfs(args, bytes, path);
}

/* What the sandbox puts over either. */
static void sandbox_own(struct buf *args, const struct sandbox_config *config)
{
	const struct layout *layout = config->layout;
	const char *dev = layout->points[LAYOUT_DEV];
	_cleanup_free_ char *shm = alloc_printf("%s/shm", dev);

	sandbox_args(args, "--proc", layout->points[LAYOUT_PROC], NULL);
	sandbox_args(args, "--dev", dev, NULL);
	sandbox_tmp(args, config->shm, config->tmp_bytes, shm);
	sandbox_args(args, "--remount-ro", dev, NULL);
	sandbox_tmp(args, config->tmp, config->tmp_bytes, layout->points[LAYOUT_TMP]);
	if (layout->is_whole) /* as BuildStream's own sandbox has it */
		sandbox_args(args, "--ro-bind", "/sys", layout->points[LAYOUT_SYS]);
	if (layout->hosts_at)
		sandbox_etc(args, layout, "hosts", layout->hosts_at);
}

static void sandbox_mounts(struct buf *args, const struct sandbox_config *config)
{
	const struct layout *layout = config->layout;

	if (layout->is_whole) {
		sandbox_args(args, "--bind", layout->merged, "/");
		sandbox_own(args, config);
		return;
	}
	/* where mount points are made, and little else */
	sandbox_tmpfs(args, SANDBOX_ROOT_BYTES, "/");
	sandbox_host(args, layout);
	sandbox_customary(args, layout);
	if (layout->with_network)
		sandbox_resolver(args);
	sandbox_own(args, config);
	sandbox_args(args, "--bind", layout->merged, layout->root_at);
}

static void sandbox_build_args(struct buf *args, const struct sandbox_config *config)
{
	static const char *const fixed[] = {
		"--unshare-user",    "--unshare-pid", "--unshare-ipc", "--unshare-uts",
		"--die-with-parent", "--clearenv",    "--cap-drop",    "ALL"};
	const struct layout *layout = config->layout;
	_cleanup_free_ char *uid = alloc_printf("%u", config->uid);
	_cleanup_free_ char *gid = alloc_printf("%u", config->gid);
	_cleanup_free_ char *workdir = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		sandbox_arg(args, fixed[i]);
	if (!config->has_terminal)
		sandbox_arg(args, "--new-session");
	/* hosts that a root brings know one name for sure */
	sandbox_args(args, "--hostname",
		     layout->hosts_at ? ACCOUNTS_HOSTNAME : "localhost", NULL);
	sandbox_args(args, "--uid", uid, NULL);
	sandbox_args(args, "--gid", gid, NULL);
	sandbox_args(args, "--json-status-fd", SANDBOX_STATUS_FD, NULL);
	if (!layout->with_network)
		sandbox_arg(args, "--unshare-net");
	sandbox_mounts(args, config);
	workdir = alloc_printf("%s%s%s", layout->root_path,
			       layout->root_path[1] && *config->workdir ? "/" : "",
			       config->workdir);
	sandbox_args(args, "--chdir", workdir, NULL);
}

/*
 * What the program becomes inside: the numbers of arguments, of processes that may be and
 * of bytes of its filter, with spaces between; the filter's bytes; the arguments,
 * "NAME=VALUE" for the environment. A NUL after each but the filter. Not bubblewrap's own
 * arguments and environment: it would add PWD, and is not to know what an action names.
 */
static void sandbox_build_command(struct buf *out, const struct sandbox_config *config)
{
	buf_printf(out, "%zu %llu %zu", config->n_arguments,
		   (unsigned long long)config->rlimits.processes, config->filter.len);
	buf_add_byte(out, '\0');
	buf_add(out, config->filter.data, config->filter.len);
	for (size_t i = 0; i < config->n_arguments; i++)
		sandbox_arg(out, config->arguments[i]);
	for (size_t i = 0; i < config->n_variables; i++) {
		buf_add_string(out, config->variables[i].name);
		buf_add_byte(out, '=');
		sandbox_arg(out, config->variables[i].value);
	}
}

/* A memory file with these bytes, to be read from its start. */
static struct error *sandbox_memory(const char *name, const struct buf *bytes,
				    int *fd_out)
{
	_cleanup_fd_ int fd = memfd_create(name, MFD_CLOEXEC);
	struct error *err;

	if (fd < 0)
		return error_errno(errno, "make a memory file");
	err = file_write_all(fd, bytes->data, bytes->len);
	if (err)
		return err;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(errno, "rewind a memory file");
	*fd_out = take_fd(fd);
	return NULL;
}

struct error *sandbox_command(const struct sandbox_config *config, int *fd_out)
{
	_cleanup_buf_ struct buf command = BUF_INIT;

	sandbox_build_command(&command, config);
	return sandbox_memory("command", &command, fd_out);
}

/* Starting */

/* What is ours of the descriptors that go to the launcher. */
struct sandbox_fds {
	int args;
	int command;
	int status; /* the child's end */
	int null;
};

static void sandbox_fds_deinit(struct sandbox_fds *fds)
{
	cleanup_fd(&fds->args);
	cleanup_fd(&fds->command);
	cleanup_fd(&fds->status);
	cleanup_fd(&fds->null);
}

static struct error *sandbox_open_fds(const struct sandbox_config *config,
				      struct sandbox *sandbox, struct sandbox_fds *fds)
{
	_cleanup_buf_ struct buf args = BUF_INIT;
	int pipe_fds[2];
	struct error *err;

	sandbox_build_args(&args, config);
	err = sandbox_memory("bwrap-args", &args, &fds->args);
	if (!err)
		err = sandbox_command(config, &fds->command);
	if (err)
		return err;
	if (config->stdin_fd < 0) {
		fds->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (fds->null < 0)
			return error_errno(errno, "open /dev/null");
	}
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return error_errno(errno, "make a pipe");
	sandbox->status_fd = pipe_fds[0];
	fds->status = pipe_fds[1];
	(void)fcntl(sandbox->status_fd, F_SETFL, O_NONBLOCK);
	return NULL;
}

struct error *sandbox_start(const struct sandbox_config *config, struct sandbox **out)
{
	_cleanup_(sandbox_freep) struct sandbox *sandbox = alloc_new(struct sandbox);
	_cleanup_(sandbox_fds_deinit) struct sandbox_fds fds = {-1, -1, -1, -1};
	struct program_order order = {
		.kind = PROGRAM_START,
		.uid = config->user.uid,
		.gid = config->user.gid,
		.file_bytes = config->rlimits.file_bytes,
		.cpu_seconds = config->rlimits.cpu_seconds,
		.data_bytes = config->rlimits.data_bytes,
	};
	struct error *err;

	sandbox->status_fd = -1;
	sandbox->is_over = true;
	sync_mutex_init(&sandbox->mutex);
	sandbox->cgroup = config->cgroup;
	sandbox->launcher = config->launcher;
	err = sandbox_open_fds(config, sandbox, &fds);
	if (!err)
		err = launcher_start(
			config->launcher, &order,
			(int[PROGRAM_FD_N]){
				[PROGRAM_FD_STDIN] = config->stdin_fd < 0
							     ? fds.null
							     : config->stdin_fd,
				[PROGRAM_FD_STDOUT] = config->stdout_fd,
				[PROGRAM_FD_STDERR] = config->stderr_fd,
				[PROGRAM_FD_ARGS] = fds.args,
				[PROGRAM_FD_STATUS] = fds.status,
				[PROGRAM_FD_COMMAND] = fds.command,
				[PROGRAM_FD_CGROUP] =
					config->cgroup ? cgroup_dir_fd(config->cgroup)
						       : -1,
			});
	if (err)
		return err;
	sandbox->is_over = false;
	*out = take(sandbox);
	return NULL;
}

int sandbox_fd(const struct sandbox *sandbox)
{
	return launcher_fd(sandbox->launcher);
}

/* Ending */

/* Mutex held: takes in what bubblewrap has said so far. */
static void sandbox_read_status(struct sandbox *sandbox) SYNC_REQUIRES(&sandbox->mutex)
{
	char chunk[512];
	ssize_t n;

	while (sandbox->status.len < SANDBOX_STATUS_MAX &&
	       (n = read(sandbox->status_fd, chunk, sizeof(chunk))) > 0)
		buf_add(&sandbox->status, chunk, (size_t)n);
}

/* The number behind "name" in bubblewrap's status lines; -1: it is not there. */
static int sandbox_status_number(const struct sandbox *sandbox, const char *name)
{
	const char *at = strstr(buf_string(&sandbox->status), name);
	int value;

	if (!at || sscanf(at + strlen(name), "\": %d", &value) != 1)
		return -1;
	return value;
}

pid_t sandbox_first_pid(struct sandbox *sandbox)
{
	int child;

	sync_lock(&sandbox->mutex);
	sandbox_read_status(sandbox);
	child = sandbox_status_number(sandbox, "child-pid");
	sync_unlock(&sandbox->mutex);
	return child > 0 ? child : 0;
}

void sandbox_kill(struct sandbox *sandbox)
{
	int child = sandbox_first_pid(sandbox);

	sync_lock(&sandbox->mutex);
	if (!sandbox->is_over) {
		sandbox->was_killed = true;
		if (sandbox->cgroup)
			cgroup_kill(sandbox->cgroup);
		else if (child > 0)
			(void)kill(child, SIGKILL); /* pid 1 there: all of it ends */
		/* and where nothing is born yet: the order to start stands before this */
		launcher_kill(sandbox->launcher);
	}
	sync_unlock(&sandbox->mutex);
}

static int sandbox_exit_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

struct error *sandbox_wait(struct sandbox *sandbox, struct sandbox_end *end_out)
{
	struct program_end told;
	struct error *err = launcher_wait(sandbox->launcher, &told);
	int said;

	sync_lock(&sandbox->mutex);
	sandbox->is_over = true;
	sandbox_read_status(sandbox);
	said = sandbox_status_number(sandbox, "exit-code");
	sync_unlock(&sandbox->mutex);
	if (err)
		return err;
	if (told.errnum)
		return error_errno(told.errnum, "start the command's first process");
	end_out->exit_code = said >= 0 ? said : sandbox_exit_code(told.status);
	end_out->usage = told.usage;
	if (said < 0 && !sandbox->was_killed)
		return error_new(ERROR_INTERNAL,
				 "bubblewrap ended with %d before the command ran",
				 end_out->exit_code);
	return NULL;
}

void *sandbox_free(struct sandbox *sandbox)
{
	if (!sandbox)
		return NULL;
	if (!sandbox->is_over) {
		struct sandbox_end end;

		sandbox_kill(sandbox);
		error_free(sandbox_wait(sandbox, &end));
	}
	if (sandbox->status_fd >= 0)
		(void)close(sandbox->status_fd);
	buf_deinit(&sandbox->status);
	sync_mutex_deinit(&sandbox->mutex);
	free(sandbox);
	return NULL;
}
