/*
 * Owns the process tree of one command: the shim (which starts bubblewrap in the
 * cgroup and waits for it), bubblewrap's monitor, and pid 1 of the namespace, whose end
 * is the end of all. The shim is our child; pid 1's number comes over a status pipe.
 *
 * posix_spawn only: gRPC's threads forbid fork.
 */
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/base/alloc.h"
#include "lib/base/buf.h"
#include "lib/base/file.h"

#define LOG_MODULE "sandbox"
#include "lib/base/log.h"

#define SANDBOX_HOSTNAME   "lazyroot"
#define SANDBOX_ARGS_FD    3 /* in the child */
#define SANDBOX_STATUS_FD  4
#define SANDBOX_CGROUP_FD  5
#define SANDBOX_SHIM_FD    6
#define SANDBOX_ENV_FD     7
#define SANDBOX_STATUS_MAX 4096

struct sandbox {
	pid_t monitor;
	int pid_fd;
	int status_fd;     /* our end of the status pipe */
	struct buf status; /* what came over it so far; guarded by mutex */
	pthread_mutex_t mutex;
	struct cgroup *cgroup;
	bool is_reaped;
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

struct error *sandbox_find_tools(struct sandbox_tools *out)
{
	_cleanup_free_ char *bwrap = sandbox_search("bwrap");
	_cleanup_free_ char *shim = NULL;
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (!bwrap)
		return error_new(
			ERROR_FAILED_PRECONDITION,
			"bwrap is not on this machine: install the package bubblewrap");
	if (n < 0)
		return error_errno(errno, "read /proc/self/exe");
	self[n] = '\0';
	*(strrchr(self, '/') + 1) = '\0';
	shim = alloc_printf("%slazyroot-sandbox", self);
	if (access(shim, X_OK) < 0)
		return error_errno(errno, "%s, which belongs beside this program", shim);
	out->bwrap = take(bwrap);
	out->shim = take(shim);
	return NULL;
}

void sandbox_tools_deinit(struct sandbox_tools *tools)
{
	free(take(tools->bwrap));
	free(take(tools->shim));
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
static void sandbox_host(struct buf *args)
{
	static const char *const dirs[] = {"/usr",   "/bin", "/sbin",   "/lib", "/lib32",
					   "/lib64", "/etc", "/libx32", "/opt"};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		char target[PATH_MAX];
		ssize_t n = readlink(dirs[i], target, sizeof(target) - 1);

		if (n > 0) {
			target[n] = '\0';
			sandbox_args(args, "--symlink", target, dirs[i]);
		} else {
			sandbox_args(args, "--ro-bind-try", dirs[i], dirs[i]);
		}
	}
}

static void sandbox_mounts(struct buf *args, const struct sandbox_config *config)
{
	bool is_whole = strcmp(config->root_path, "/") == 0;

	if (is_whole)
		sandbox_args(args, "--bind", config->merged, "/");
	else
		sandbox_host(args);
	sandbox_args(args, "--proc", "/proc", NULL);
	sandbox_args(args, "--dev", "/dev", NULL);
	sandbox_args(args, "--tmpfs", "/tmp", NULL);
	if (is_whole) /* as BuildStream's own sandbox has it */
		sandbox_args(args, "--ro-bind", "/sys", "/sys");
	if (!is_whole)
		sandbox_args(args, "--bind", config->merged, config->root_path);
}

static void sandbox_build_args(struct buf *args, const struct sandbox_config *config)
{
	static const char *const fixed[] = {
		"--unshare-user", "--unshare-pid", "--unshare-ipc",
		"--unshare-uts",  "--new-session", "--die-with-parent",
		"--clearenv",     "--cap-drop",    "ALL",
		"--hostname",     SANDBOX_HOSTNAME};
	_cleanup_free_ char *uid = alloc_printf("%u", config->uid);
	_cleanup_free_ char *gid = alloc_printf("%u", config->gid);
	_cleanup_free_ char *status = alloc_printf("%d", SANDBOX_STATUS_FD);
	_cleanup_free_ char *workdir = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		sandbox_arg(args, fixed[i]);
	sandbox_args(args, "--uid", uid, NULL);
	sandbox_args(args, "--gid", gid, NULL);
	sandbox_args(args, "--json-status-fd", status, NULL);
	if (!config->with_network)
		sandbox_arg(args, "--unshare-net");
	sandbox_mounts(args, config);
	workdir = alloc_printf("%s%s%s", config->root_path,
			       config->root_path[1] && *config->workdir ? "/" : "",
			       config->workdir);
	sandbox_args(args, "--chdir", workdir, NULL);
}

/* "NAME=VALUE", a NUL after each: what the shim makes the command's environment of.
 * bubblewrap would add PWD. */
static void sandbox_build_environment(struct buf *out,
				      const struct sandbox_config *config)
{
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

/* Starting */

struct sandbox_fds {
	int args;
	int environment;
	int status; /* the child's end */
	int null;
	int shim; /* the shim's file, so that it can be executed inside, too */
};

static void sandbox_fds_deinit(struct sandbox_fds *fds)
{
	cleanup_fd(&fds->args);
	cleanup_fd(&fds->environment);
	cleanup_fd(&fds->status);
	cleanup_fd(&fds->null);
	cleanup_fd(&fds->shim);
}

static void actions_deinit(posix_spawn_file_actions_t *actions)
{
	(void)posix_spawn_file_actions_destroy(actions);
}

/*
 * Moves a descriptor of ours above all numbers that mean something in the child: one that
 * already is at its number there would keep its close-on-exec flag, and one at another's
 * would be overwritten.
 */
static void sandbox_raise_fd(int *fd)
{
	int high = *fd < 0 ? -1 : fcntl(*fd, F_DUPFD_CLOEXEC, 64);

	cleanup_fd(fd);
	*fd = high;
}

static struct error *sandbox_spawn(const struct sandbox_config *config,
				   const struct sandbox_fds *fds, pid_t *pid_out)
{
	_cleanup_(actions_deinit) posix_spawn_file_actions_t actions;
	_cleanup_free_ const char **argv =
		alloc_array(config->n_arguments + 12, sizeof(char *));
	char *const no_environment[] = {NULL};
	posix_spawnattr_t attr;
	sigset_t none;
	sigset_t defaults;
	size_t n = 0;
	int errnum;

	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_adddup2(&actions, fds->null, 0);
	(void)posix_spawn_file_actions_adddup2(&actions, config->stdout_fd, 1);
	(void)posix_spawn_file_actions_adddup2(&actions, config->stderr_fd, 2);
	(void)posix_spawn_file_actions_adddup2(&actions, fds->args, SANDBOX_ARGS_FD);
	(void)posix_spawn_file_actions_adddup2(&actions, fds->status, SANDBOX_STATUS_FD);
	argv[n++] = config->tools->shim;
	(void)posix_spawn_file_actions_adddup2(&actions, fds->shim, SANDBOX_SHIM_FD);
	(void)posix_spawn_file_actions_adddup2(&actions, fds->environment,
					       SANDBOX_ENV_FD);
	argv[n++] = "enter";
	argv[n++] = config->cgroup ? "5" : "-";
	if (config->cgroup)
		(void)posix_spawn_file_actions_adddup2(
			&actions, cgroup_dir_fd(config->cgroup), SANDBOX_CGROUP_FD);
	argv[n++] = config->tools->bwrap;
	argv[n++] = "--args";
	argv[n++] = "3";
	argv[n++] = "--";
	argv[n++] = "/proc/self/fd/6";
	argv[n++] = "exec";
	argv[n++] = "7";
	for (size_t i = 0; i < config->n_arguments; i++)
		argv[n++] = config->arguments[i];
	(void)posix_spawnattr_init(&attr);
	(void)sigemptyset(&none);
	(void)sigfillset(&defaults);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setsigdefault(&attr, &defaults);
	(void)posix_spawnattr_setflags(&attr,
				       POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	errnum = posix_spawn(pid_out, config->tools->shim, &actions, &attr,
			     (char *const *)(uintptr_t)argv, no_environment);
	(void)posix_spawnattr_destroy(&attr);
	if (errnum == E2BIG)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the command's arguments are too long for this machine");
	if (errnum)
		return error_errno(errnum, "start %s", config->tools->shim);
	return NULL;
}

static struct error *sandbox_open_memory(const struct sandbox_config *config,
					 struct sandbox_fds *fds)
{
	_cleanup_buf_ struct buf args = BUF_INIT;
	_cleanup_buf_ struct buf environment = BUF_INIT;
	struct error *err;

	sandbox_build_args(&args, config);
	sandbox_build_environment(&environment, config);
	err = sandbox_memory("bwrap-args", &args, &fds->args);
	return err ? err : sandbox_memory("environment", &environment, &fds->environment);
}

struct error *sandbox_start(const struct sandbox_config *config, struct sandbox **out)
{
	_cleanup_(sandbox_freep) struct sandbox *sandbox = alloc_new(struct sandbox);
	_cleanup_(sandbox_fds_deinit) struct sandbox_fds fds = {-1, -1, -1, -1, -1};
	int pipe_fds[2];
	struct error *err;

	sandbox->pid_fd = sandbox->status_fd = -1;
	sandbox->is_reaped = true;
	(void)pthread_mutex_init(&sandbox->mutex, NULL);
	sandbox->cgroup = config->cgroup;
	err = sandbox_open_memory(config, &fds);
	if (err)
		return err;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return error_errno(errno, "make a pipe");
	sandbox->status_fd = pipe_fds[0];
	(void)fcntl(sandbox->status_fd, F_SETFL, O_NONBLOCK);
	fds.status = pipe_fds[1];
	fds.null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	fds.shim = open(config->tools->shim, O_RDONLY | O_CLOEXEC);
	sandbox_raise_fd(&fds.status);
	sandbox_raise_fd(&fds.args);
	sandbox_raise_fd(&fds.environment);
	sandbox_raise_fd(&fds.null);
	sandbox_raise_fd(&fds.shim);
	if (fds.status < 0 || fds.args < 0 || fds.environment < 0 || fds.null < 0 ||
	    fds.shim < 0)
		return error_errno(errno, "make the command's descriptors");
	err = sandbox_spawn(config, &fds, &sandbox->monitor);
	if (err)
		return err;
	sandbox->is_reaped = false;
	sandbox->pid_fd = (int)syscall(SYS_pidfd_open, sandbox->monitor, 0);
	if (sandbox->pid_fd < 0)
		return error_errno(errno, "watch process %d", sandbox->monitor);
	*out = take(sandbox);
	return NULL;
}

int sandbox_pid_fd(const struct sandbox *sandbox)
{
	return sandbox->pid_fd;
}

/* Ending */

/* Mutex held: takes in what bubblewrap has said so far. */
static void sandbox_read_status(struct sandbox *sandbox)
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

void sandbox_kill(struct sandbox *sandbox)
{
	int child;

	(void)pthread_mutex_lock(&sandbox->mutex);
	sandbox_read_status(sandbox);
	child = sandbox_status_number(sandbox, "child-pid");
	if (!sandbox->is_reaped) {
		sandbox->was_killed = true;
		if (sandbox->cgroup)
			cgroup_kill(sandbox->cgroup);
		else if (child > 0)
			(void)kill(child, SIGKILL); /* pid 1 there: all of it ends */
		else
			(void)kill(sandbox->monitor,
				   SIGKILL); /* and pid 1 by parent death */
	}
	(void)pthread_mutex_unlock(&sandbox->mutex);
}

static int sandbox_exit_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

struct error *sandbox_wait(struct sandbox *sandbox, struct sandbox_end *end_out)
{
	struct sandbox_end end = {0};
	int status;
	int said;

	while (wait4(sandbox->monitor, &status, 0, &end.usage) < 0) {
		if (errno != EINTR)
			return error_errno(errno, "wait for process %d",
					   sandbox->monitor);
	}
	(void)pthread_mutex_lock(&sandbox->mutex);
	sandbox->is_reaped = true;
	sandbox_read_status(sandbox);
	said = sandbox_status_number(sandbox, "exit-code");
	(void)pthread_mutex_unlock(&sandbox->mutex);
	end.exit_code = said >= 0 ? said : sandbox_exit_code(status);
	if (said < 0 && !sandbox->was_killed)
		return error_new(ERROR_INTERNAL,
				 "bubblewrap ended with %d before the command ran",
				 end.exit_code);
	*end_out = end;
	return NULL;
}

void *sandbox_free(struct sandbox *sandbox)
{
	if (!sandbox)
		return NULL;
	if (!sandbox->is_reaped) {
		struct sandbox_end end;

		sandbox_kill(sandbox);
		error_free(sandbox_wait(sandbox, &end));
	}
	if (sandbox->pid_fd >= 0)
		(void)close(sandbox->pid_fd);
	if (sandbox->status_fd >= 0)
		(void)close(sandbox->status_fd);
	buf_deinit(&sandbox->status);
	(void)pthread_mutex_destroy(&sandbox->mutex);
	free(sandbox);
	return NULL;
}
