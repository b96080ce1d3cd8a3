/*
 * Owns one command that runs in a copy of its input root, in a scratch directory, as
 * whoever called us. It is not isolated: it sees the machine, and the machine's network,
 * and finds its root wherever the scratch directory is, or, where the action wants it to
 * be "/" and we are root, by chroot(2).
 *
 * Every file is a copy (a reflink where the file system has those), never a hard link of
 * the store's: a command owns its inputs, so it may make any of them writable. What it
 * left is captured by comparing with what was staged (staged_tree.h), with the worker's
 * own rules (fuse/capture.h, worker/action/outputs.h). No link is followed out of the
 * scratch directory, neither when it is filled nor when it is read.
 *
 * Threads: main; a signal's sets the flag that is_cancelled, and wakes main.
 */
#include "client/sandbox_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/param.h>
#include <sys/wait.h>

#include "client/plain_root.h"
#include "client/scratch.h"
#include "client/staged_tree.h"
#include "fuse/view.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/cas/checkout.h"
#include "worker/action/job_stage.h"
#include "worker/action/outputs.h"
#include "worker/action/streams.h"
#include "worker/sandbox/accounts.h"

#define PLAIN_MESSAGE_MAX ((size_t)16 << 20) /* bytes of an Action or a Command */
#define PLAIN_CAPTURE_MAX ((size_t)1 << 30)
#define PLAIN_POLL_MAX_MS 1000000
#define PLAIN_NAME        "plain"
#define PLAIN_ROOT        "InputRootAbsolutePath"

struct plain {
	const struct execution_config *config;
	struct client *client;
	atomic_bool is_cancelled;
	int cancel_fd; /* readable once it is */
	struct sandbox_user user;
	struct scratch scratch;
	char *root; /* path of the staged tree */
	int root_fd;
	bool is_whole; /* it is the command's "/" */
	struct plan *plan;
	struct plain_root own; /* what we made in it */
	struct staged_tree *staged;
	struct launcher *launcher;
	struct streams streams;
	bool has_timed_out;
	struct limits limits; /* none */
	unsigned int passed_mask;
	struct report report;
	struct arena arena;
	Reapi__ActionResult result;
};

static void plain_init(struct plain *plain, const struct execution_config *config)
{
	*plain = (struct plain){
		.config = config,
		.client = config->client,
		.cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.user = {geteuid(), getegid()},
		.scratch = SCRATCH_INIT,
		.root_fd = -1,
		.streams = STREAMS_INIT,
		.arena = ARENA_INIT(RPC_ARENA_MAX),
	};
	limits_init(&plain->limits);
	reapi__action_result__init(&plain->result);
}

static void plain_deinit(struct plain *plain)
{
	launcher_free(plain->launcher);
	streams_deinit(&plain->streams);
	staged_tree_free(plain->staged);
	plain_root_deinit(&plain->own);
	plan_free(plain->plan);
	report_deinit(&plain->report);
	arena_deinit(&plain->arena);
	cleanup_fd(&plain->root_fd);
	cleanup_fd(&plain->cancel_fd);
	free(plain->root);
	scratch_deinit(&plain->scratch);
}

static void plain_cancel(void *target)
{
	struct plain *plain = target;

	atomic_store(&plain->is_cancelled, true);
	(void)eventfd_write(plain->cancel_fd, 1);
}

static struct error *plain_check_cancelled(const struct plain *plain)
{
	return atomic_load(&plain->is_cancelled)
		       ? error_new(ERROR_CANCELLED, "the command was cancelled")
		       : NULL;
}

/* ---- what is asked for ------------------------------------------------------------ */

static struct error *plain_load(struct plain *plain)
{
	struct fetch *fetch = plain->client->fetch;
	const struct digest *action = plain->config->action;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_buf_ struct buf command = BUF_INIT;
	struct error *err = fetch_bytes(fetch, action, PLAIN_MESSAGE_MAX, NULL, &bytes);

	if (!err)
		err = plan_new(buf_slice(&bytes), action, plain->root, &plain->plan);
	if (!err)
		err = fetch_bytes(fetch, &plain->plan->command_digest, PLAIN_MESSAGE_MAX,
				  NULL, &command);
	return err ? err : plan_set_command(plain->plan, buf_slice(&command));
}

/* What only namespaces can give. */
static struct error *plain_check(struct plain *plain)
{
	const struct plan *plan = plain->plan;
	const char *root = plan_property(plan, PLAIN_ROOT);

	for (enum limits_kind kind = 0; kind < LIMITS_N; kind++)
		if (plan_property(plan, limits_property(kind)))
			return error_new(ERROR_FAILED_PRECONDITION,
					 "a plain sandbox has no limits, and the action "
					 "asks for %s: use --sandbox namespaces",
					 limits_property(kind));
	if (plan->uid != ACCOUNTS_UID || plan->gid != ACCOUNTS_UID)
		return error_new(ERROR_FAILED_PRECONDITION,
				 "in a plain sandbox a command is who called it, and the "
				 "action asks for user %u, group %u: use --sandbox "
				 "namespaces",
				 plan->uid, plan->gid);
	if (!root)
		return NULL;
	plain->is_whole = strcmp(plan->root_path, "/") == 0;
	if (!plain->is_whole)
		return error_new(ERROR_FAILED_PRECONDITION,
				 "in a plain sandbox the input root cannot be at %s: use "
				 "--sandbox namespaces",
				 plan->root_path);
	if (geteuid() != 0)
		return error_new(ERROR_FAILED_PRECONDITION,
				 "in a plain sandbox the input root can be / only for "
				 "root (chroot): use --sandbox namespaces");
	return NULL;
}

/* ---- staging ---------------------------------------------------------------------- */

static struct error *plain_checkout(struct plain *plain)
{
	const struct checkout_config checkout = {
		.dirs = plain->client->dirs,
		.pool = plain->client->local.pool,
		.entries_max = plain->client->entries_max,
		.mtime_ns = VIEW_DEFAULT_MTIME_S * NS_PER_S,
	};
	mode_t mask = umask(022); /* as inputs are everywhere */
	struct error *err =
		checkout_tree(&checkout, &plain->plan->root, plain->scratch.fd, "root");

	if (!err)
		err = file_open_dir(plain->scratch.fd, "root", &plain->root_fd);
	if (!err)
		err = staged_tree_new(plain->client->dirs, &plain->plan->root,
				      plain->root_fd, &plain->staged);
	if (!err)
		err = job_stage_prepare(plain->plan, &plain->user, plain->root_fd,
					&plain->is_cancelled);
	if (!err && plain->is_whole)
		err = plain_root_make(&plain->own, plain->root_fd);
	(void)umask(mask);
	return err;
}

static struct error *plain_stage(struct plain *plain)
{
	int64_t start = clock_mono_ns();
	struct error *err = plain_check_cancelled(plain);

	if (!err)
		err = plain_checkout(plain);
	plain->report.staging_ns = clock_mono_ns() - start;
	return err;
}

/* ---- running ---------------------------------------------------------------------- */

static struct error *plain_command(const struct plain *plain, int *fd_out)
{
	const Reapi__Command *command = plain->plan->command;
	_cleanup_free_ struct sandbox_variable *variables =
		alloc_array(command->n_environment_variables, sizeof(*variables));
	const struct sandbox_config config = {
		.arguments = (const char *const *)command->arguments,
		.n_arguments = command->n_arguments,
		.variables = variables,
		.n_variables = command->n_environment_variables,
		.rlimits = {RLIM_INFINITY, RLIM_INFINITY, RLIM_INFINITY, RLIM_INFINITY},
	};

	for (size_t i = 0; i < config.n_variables; i++)
		variables[i] = (struct sandbox_variable){
			command->environment_variables[i]->name,
			command->environment_variables[i]->value};
	return sandbox_command(&config, fd_out);
}

static struct error *plain_start(struct plain *plain)
{
	const struct program_order order = {
		.kind = PROGRAM_START,
		.how = plain->is_whole ? PROGRAM_CHROOT : PROGRAM_PLAIN,
		.uid = plain->user.uid,
		.gid = plain->user.gid,
		.file_bytes = RLIM_INFINITY,
		.cpu_seconds = RLIM_INFINITY,
		.data_bytes = RLIM_INFINITY,
	};
	_cleanup_free_ char *program = NULL;
	struct launcher_config launcher = {.bwrap = ""};
	const char *workdir = plain->plan->workdir;
	_cleanup_fd_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	_cleanup_fd_ int workdir_fd = file_open_resolved(
		plain->root_fd, *workdir ? workdir : ".", O_PATH | O_DIRECTORY, 0,
		RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	_cleanup_fd_ int command = -1;
	struct error *err;

	if (workdir_fd < 0 || null < 0)
		return error_errno(errno, "open the working directory %s", workdir);
	err = sandbox_find_program(&program);
	if (!err)
		err = plain_command(plain, &command);
	launcher.program = program;
	if (!err)
		err = launcher_new(&launcher, &plain->launcher);
	if (err)
		return err;
	return launcher_start(plain->launcher, &order,
			      (int[PROGRAM_FD_N]){
				      [PROGRAM_FD_STDIN] = null,
				      [PROGRAM_FD_STDOUT] = plain->streams.write_fds[0],
				      [PROGRAM_FD_STDERR] = plain->streams.write_fds[1],
				      [PROGRAM_FD_ARGS] = workdir_fd,
				      [PROGRAM_FD_STATUS] = plain->root_fd,
				      [PROGRAM_FD_COMMAND] = command,
				      [PROGRAM_FD_CGROUP] = -1,
			      });
}

static int plain_left_ms(struct plain *plain, int64_t start_ns, int64_t now)
{
	int64_t until = plain->plan->timeout_ns ? start_ns + plain->plan->timeout_ns
						: CLOCK_NEVER;

	plain->has_timed_out = now >= until;
	if (plain->streams.rest_ns > now && plain->streams.rest_ns < until)
		until = plain->streams.rest_ns;
	if (until <= now)
		return 0;
	return (int)MIN((until - now) / NS_PER_MS + 1, PLAIN_POLL_MAX_MS);
}

/* Until the command's end, and that of all that it started. */
static void plain_watch(struct plain *plain, int64_t start_ns)
{
	struct pollfd fds[2 + STREAMS_N] = {
		{.fd = launcher_fd(plain->launcher), .events = POLLIN},
		{.fd = plain->cancel_fd, .events = POLLIN},
	};

	for (;;) {
		int64_t now = clock_mono_ns();
		int left_ms = fds[1].fd >= 0 ? plain_left_ms(plain, start_ns, now)
					     : STREAMS_N * 10;

		for (size_t i = 0; i < STREAMS_N; i++) {
			fds[2 + i].fd = streams_fd(&plain->streams, i, now);
			fds[2 + i].events = POLLIN;
		}
		if (poll(fds, ARRAY_SIZE(fds), left_ms) < 0 && errno != EINTR)
			return;
		streams_pump(&plain->streams);
		if (fds[0].revents)
			return;
		if (fds[1].fd < 0 ||
		    (!fds[1].revents && !plain->has_timed_out && !plain->streams.err))
			continue;
		launcher_kill(plain->launcher);
		fds[1].fd = -1; /* now only its end is waited for */
	}
}

static struct error *plain_wait(struct plain *plain)
{
	struct program_end end = {0};
	struct error *err = launcher_wait(plain->launcher, &end);

	if (!err && end.errnum)
		err = error_errno(end.errnum, "start the command's first process");
	if (err)
		return err;
	plain->result.exit_code = WIFSIGNALED(end.status) ? 128 + WTERMSIG(end.status)
							  : WEXITSTATUS(end.status);
	plain->report.peak_memory = end.usage.ru_maxrss * 1024;
	plain->report.cpu_user_us =
		end.usage.ru_utime.tv_sec * 1000000 + end.usage.ru_utime.tv_usec;
	plain->report.cpu_system_us =
		end.usage.ru_stime.tv_sec * 1000000 + end.usage.ru_stime.tv_usec;
	return NULL;
}

static struct error *plain_execute(struct plain *plain)
{
	struct error *err = plain_check_cancelled(plain);
	struct error *lost;
	int64_t start;

	if (!err)
		err = streams_open(&plain->streams, plain->scratch.fd, &plain->user);
	if (err)
		return err;
	if (plain->config->stage)
		plain->config->stage(plain->config->ctx, EXECUTION_RUNNING, 0);
	if (plain->config->live)
		live_follow_files(plain->config->live, plain->scratch.fd);
	start = clock_mono_ns();
	err = plain_start(plain);
	streams_given(&plain->streams);
	if (err)
		return err;
	plain_watch(plain, start);
	err = plain_wait(plain);
	lost = streams_finish(&plain->streams);
	plain->report.command_ns = clock_mono_ns() - start;
	if (err) {
		error_free(lost);
		return err;
	}
	return lost ? lost : plain_check_cancelled(plain);
}

/* ---- what it left ----------------------------------------------------------------- */

static struct error *plain_capture(struct plain *plain)
{
	struct outputs_config outputs = {
		.plan = plain->plan,
		.limits = &plain->limits,
		.passed_mask = &plain->passed_mask,
		.is_cancelled = &plain->is_cancelled,
		.store = plain->client->local.store,
		.fetch = plain->client->fetch,
		.dir_fd = plain->scratch.fd,
		.arena = &plain->arena,
	};
	const struct capture_config config = {
		.upper_fd = plain->root_fd,
		.root = &plain->plan->root,
		.mount_path = plain->plan->root_path,
		.dirs = plain->client->dirs,
		.store = plain->client->local.store,
		.pool = plain->client->local.pool,
		.may_go_on = outputs_may_go_on,
		.ctx = &outputs,
		.entries_max = plain->client->entries_max,
		.memory_max = PLAIN_CAPTURE_MAX,
		.with_mtime = plain->plan->with_mtime,
		.with_unix_mode = plain->plan->with_unix_mode,
		.staged = staged_tree_find,
		.staged_ctx = plain->staged,
	};
	_cleanup_(capture_freep) struct capture *capture = NULL;
	int64_t start = clock_mono_ns();
	size_t n_blobs = 0;
	struct error *err;

	plain_root_tidy(&plain->own, plain->root_fd);
	capture = capture_new(&config);
	outputs.capture = capture;
	err = outputs_capture(&outputs, &plain->result, &n_blobs);
	plain->report.capture_ns = clock_mono_ns() - start;
	job_stage_notes(capture, NULL, 0, &plain->arena, &plain->report);
	return err;
}

static struct error *plain_encode(struct plain *plain, struct buf *out)
{
	Reapi__ExecutedActionMetadata metadata = REAPI__EXECUTED_ACTION_METADATA__INIT;
	Pb__Any *report;

	plain->report.has_input = dircache_totals(plain->client->dirs, &plain->plan->root,
						  &plain->report.input);
	report = report_encode(&plain->report, &plain->arena);
	metadata.worker = PLAIN_NAME;
	metadata.auxiliary_metadata = &report;
	metadata.n_auxiliary_metadata = report != NULL;
	plain->result.execution_metadata = &metadata;
	rpc_encode(&plain->result.base, out);
	plain->result.execution_metadata = NULL;
	if (!plain->has_timed_out)
		return NULL;
	return error_new(ERROR_DEADLINE_EXCEEDED,
			 "the command ran past its timeout of %lld ms",
			 (long long)(plain->plan->timeout_ns / NS_PER_MS));
}

static struct error *plain_steps(struct plain *plain, struct buf *result_out)
{
	struct error *err = scratch_open(&plain->scratch, &plain->client->local);

	if (err)
		return err;
	plain->root = alloc_printf("%s/root", plain->scratch.path);
	err = plain_load(plain);
	if (!err)
		err = plain_check(plain);
	if (!err)
		err = plain_stage(plain);
	if (!err)
		err = plain_execute(plain);
	if (!err)
		err = plain_capture(plain);
	return err ? err : plain_encode(plain, result_out);
}

void sandbox_plain_run(const struct execution_config *config, struct sandbox_result *out)
{
	struct sandbox_interrupt interrupt;
	struct plain plain;

	plain_init(&plain, config);
	sandbox_interrupt_begin(&interrupt, plain_cancel, &plain);
	out->status = plain_steps(&plain, &out->bytes);
	sandbox_interrupt_over(&interrupt);
	plain_deinit(&plain);
	sandbox_interrupt_end(&interrupt);
}
