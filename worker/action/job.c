/*
 * Owns what one action needs while it runs: its plan, its overlay, its directory
 * ACTIONS/N, and its place in the state machine.
 *
 * Threads: job_run() on one thread, top to bottom; job_cancel() from any, which
 * only sets a flag and wakes that thread through an eventfd. What may take long and need
 * not be waited for (loading the tree's directories, removing what the action wrote) goes
 * to the background pool, which owns it from then on.
 */
#include "worker/action/job.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/param.h>
#include <sys/stat.h>

#include "fuse/overlay.h"
#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/units.h"
#include "lib/rpc/rpc.h"
#include "worker/action/job_cache.h"
#include "worker/action/job_foresee.h"
#include "worker/action/job_load.h"
#include "worker/action/job_log.h"
#include "worker/action/job_stage.h"
#include "worker/action/job_trash.h"
#include "worker/action/outputs.h"
#include "worker/action/report.h"
#include "worker/action/streams.h"
#include "worker/sandbox/guard.h"

#define LOG_MODULE "job"
#include "lib/base/log.h"

#define JOB_MESSAGE_MAX ((size_t)16 << 20) /* bytes of an Action or a Command */
#define JOB_CAPTURE_MAX ((size_t)1 << 30)
/* Bytes of an ActionResult: it travels in one message with a little beside it. */
#define JOB_RESULT_MAX  (RPC_MESSAGE_MAX - (1 << 20))
#define JOB_STAMPS_MAX  8
#define JOB_POLL_MAX_MS 1000000

struct job {
	const struct job_site *site;
	struct job_config config;
	struct buf fetched; /* the Action, where it did not come along */
	enum job_state state;
	atomic_bool is_cancelled;
	int cancel_fd; /* readable once it is cancelled */

	struct plan *plan;
	struct limits limits;
	unsigned int passed_mask; /* limits that were passed: 1 << enum limits_kind */
	struct view_root *root;
	char *dir; /* ACTIONS/N */
	int dir_fd;
	struct upper *upper; /* NULL where it writes into dir */
	struct overlay *overlay;
	struct open_watch *opened; /* NULL where fanotify is not to be had */
	struct job_foresight foresight;
	struct treeahead_load *load; /* of the input root; NULL: it was all at hand */
	struct layout layout;
	bool has_timed_out;
	bool has_waited_out; /* for its inputs, longer than an action may */
	struct report report;
	struct arena arena;
	Pb__Timestamp stamps[JOB_STAMPS_MAX]; /* of metadata */
	size_t n_stamps;
	Reapi__ActionResult result;
	Reapi__ExecutedActionMetadata metadata;
	struct fetch_account fetched_before;
	int64_t start_ns; /* monotonic: losses since then are this job's */
	int64_t waited_before_ns;
	struct store_stats store_before;
};

const char *job_state_name(enum job_state state)
{
	static const char *const names[] = {"waiting", "fetching",  "staging",
					    "running", "capturing", "uploading",
					    "ended"};

	return names[state];
}

static void job_set_state(struct job *job, enum job_state state)
{
	require(state > job->state);
	job->state = state;
	log_debug("%s", job_state_name(state));
	if (job->config.changed)
		job->config.changed(job->config.ctx, state);
}

struct job *job_new(const struct job_config *config)
{
	struct job *job = alloc_new(struct job);

	job->config = *config;
	job->site = config->site;
	job->dir_fd = -1;
	job->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	job->arena = ARENA_INIT(RPC_ARENA_MAX);
	job->dir = alloc_printf("%s/%u", config->site->actions_dir, config->number);
	reapi__action_result__init(&job->result);
	reapi__executed_action_metadata__init(&job->metadata);
	return job;
}

void job_cancel(struct job *job)
{
	atomic_store(&job->is_cancelled, true);
	(void)eventfd_write(job->cancel_fd, 1);
}

void *job_free(struct job *job)
{
	if (!job)
		return NULL;
	job_trash_push(job->site->background, &(struct job_trash){
						      .opened = job->opened,
						      .overlay = job->overlay,
						      .layout = job->layout,
						      .upper = job->upper,
						      .dir = job->dir,
					      });
	job_foresee_deinit(&job->foresight);
	if (atomic_load(&job->is_cancelled))
		(void)treeahead_leave(job->load);
	else
		(void)treeahead_put(job->load);
	view_root_put(job->root);
	plan_free(job->plan);
	report_deinit(&job->report);
	arena_deinit(&job->arena);
	if (job->dir_fd >= 0)
		(void)close(job->dir_fd);
	if (job->cancel_fd >= 0)
		(void)close(job->cancel_fd);
	buf_deinit(&job->fetched);
	free(job);
	return NULL;
}

static Pb__Timestamp *job_now(struct job *job)
{
	Pb__Timestamp *stamp = &job->stamps[job->n_stamps++];
	int64_t now = clock_wall_ns();

	require(job->n_stamps <= JOB_STAMPS_MAX); /* each is taken once */
	pb__timestamp__init(stamp);
	stamp->seconds = now / NS_PER_S;
	stamp->nanos = (int32_t)(now % NS_PER_S);
	return stamp;
}

static struct error *job_check_cancelled(const struct job *job)
{
	if (atomic_load(&job->is_cancelled))
		return error_new(ERROR_CANCELLED, "the action was cancelled");
	return NULL;
}

/* Fetching */

/* The Action as it came along, or was fetched. */
static struct slice job_action(const struct job *job)
{
	return job->config.action_bytes.len ? job->config.action_bytes
					    : buf_slice(&job->fetched);
}

static struct error *job_fetch_plan(struct job *job)
{
	const struct job_site *site = job->site;
	_cleanup_buf_ struct buf command = BUF_INIT;
	struct error *err = NULL;

	if (!job->config.action_bytes.len)
		err = fetch_bytes(site->fetch, &job->config.action, JOB_MESSAGE_MAX, NULL,
				  &job->fetched);
	if (err)
		return error_wrap(job_stage_blob_error(err), "Action");
	err = plan_new(job_action(job), &job->config.action, site->root_path, &job->plan);
	if (!err)
		err = fetch_bytes(site->fetch, &job->plan->command_digest,
				  JOB_MESSAGE_MAX, NULL, &command);
	if (err)
		return error_wrap(job_stage_blob_error(err), "Command");
	return plan_set_command(job->plan, buf_slice(&command));
}

/* The worker's, or what the action asks for. */
static struct error *job_set_limits(struct job *job)
{
	const struct limits_policy *policy = job->site->limits;
	struct error *err = NULL;

	job->limits = policy->normal;
	for (enum limits_kind kind = 0; !err && kind < LIMITS_N; kind++) {
		const char *asked = plan_property(job->plan, limits_property(kind));

		if (asked)
			err = limits_ask(policy, kind, asked, &job->limits);
	}
	return err;
}

static struct error *job_check_allowed(const struct job *job)
{
	const struct allow_request request = {.with_network = job->plan->with_network,
					      .uid = job->plan->uid,
					      .gid = job->plan->gid};

	return allow_check(job->site->allow, &request);
}

static struct error *job_fetch(struct job *job)
{
	struct fetch_account *account;
	struct error *err;

	job_set_state(job, JOB_FETCHING);
	job->metadata.input_fetch_start_timestamp = job_now(job);
	err = job_fetch_plan(job);
	if (!err)
		err = job_check_allowed(job);
	if (!err)
		err = job_set_limits(job);
	if (err)
		return err;
	job->root = view_root_get(job->site->view, &job->plan->root);
	account = view_root_account(job->root);
	job->fetched_before.blobs = account->blobs;
	job->fetched_before.bytes = account->bytes;
	job->fetched_before.round_trips = account->round_trips;
	job->waited_before_ns = view_root_waited_ns(job->root);
	job_foresee_begin(&job->foresight, job->site, job->plan); /* which fetches, too */
	err = job_load_tree(job->site, job->root, job->plan, &job->is_cancelled,
			    &job->load);
	job_foresee_loaded(&job->foresight);
	return error_wrap(job_stage_blob_error(err), "input root");
}

/* Staging */

/* Where the command's writing goes. */
static struct error *job_stage_upper(struct job *job)
{
	_cleanup_free_ char *point =
		alloc_printf("%s/%u.disk", job->site->merged_dir, job->config.number);
	struct upper_config config = {
		.kind = job->limits.of[LIMITS_DISK] == LIMITS_NONE ? UPPER_DIR
								   : job->site->upper,
		.bytes = job->limits.of[LIMITS_DISK],
		.dir = job->dir,
		.point = point,
	};

	return upper_new(&config, &job->upper);
}

/* Where things stand for the command. */
static struct error *job_stage_layout(struct job *job)
{
	const struct plan *plan = job->plan;
	struct layout_config config = {
		.merged = overlay_merged(job->overlay),
		.merged_fd = overlay_merged_fd(job->overlay),
		.root_path = plan->root_path,
		.dir = job->dir,
		.prefix = overlay_merged(job->overlay),
		.etc = job->site->etc_dir,
		.uid = plan->uid,
		.gid = plan->gid,
		.with_network = plan->with_network,
	};

	return layout_make(&config, &job->layout);
}

static struct error *job_stage(struct job *job)
{
	char name[DIGEST_STRING_MAX];
	_cleanup_free_ char *lower =
		alloc_printf("%s/%s", session_path(job->site->session),
			     digest_name(&job->plan->root, name));
	_cleanup_free_ char *fs = alloc_printf("%s/fs", job->dir);
	_cleanup_free_ char *merged =
		alloc_printf("%s/%u", job->site->merged_dir, job->config.number);
	struct overlay_config config = {.lower = lower,
					.dir = fs,
					.merged = merged,
					.is_left = job->site->is_brief};
	int64_t start = clock_mono_ns();
	struct error *err;

	job_set_state(job, JOB_STAGING);
	if (mkdir(job->dir, 0755) < 0)
		return error_errno(errno, "make %s", job->dir);
	err = file_open_dir(AT_FDCWD, job->dir, &job->dir_fd);
	if (!err)
		err = job_stage_upper(job);
	config.is_dir_kept = job->upper != NULL;
	if (job->upper)
		config.dir = upper_overlay(job->upper);
	if (!err)
		err = overlay_mount(&config, &job->overlay);
	if (!err)
		err = upper_settle(job->upper);
	if (err)
		return err;
	err = job_stage_prepare(job->plan, &job->site->user,
				overlay_merged_fd(job->overlay), &job->is_cancelled);
	if (!err)
		err = job_stage_layout(job);
	job->report.staging_ns = clock_mono_ns() - start;
	job->metadata.input_fetch_completed_timestamp = job_now(job);
	return err;
}

/* Running */

struct job_run {
	struct cgroup *cgroup;
	struct guard guard;
	struct sandbox *sandbox;
	struct streams streams;
	int64_t start_ns;
};

static void job_run_deinit(struct job_run *run)
{
	sandbox_free(run->sandbox);
	guard_deinit(&run->guard);
	cgroup_free(run->cgroup);
	streams_deinit(&run->streams);
}

static void job_watch_opens(struct job *job)
{
	struct open_watch_config config = {
		.opened = job_foresee_opened,
		.ctx = &job->foresight,
		.merged_fd = overlay_merged_fd(job->overlay),
		.root_path = job->plan->root_path,
		.root = &job->plan->root,
		.dirs = job->site->dirs,
	};

	if (!job->site->is_brief)
		log_drop(LOG_WARN, open_watch_new(&config, &job->opened),
			 "opened files are not counted");
}

static struct error *job_start(struct job *job, struct job_run *run)
{
	const struct plan *plan = job->plan;
	const Reapi__Command *command = plan->command;
	_cleanup_free_ struct sandbox_variable *variables =
		alloc_array(command->n_environment_variables, sizeof(*variables));
	struct guard_config guard = {
		.limits = &job->limits,
		.cgroups = job->site->cgroups,
		.cgroup = run->cgroup,
		.cgroup_v1 = job->config.slot->cgroup_v1,
		.upper_fd = overlay_upper_fd(job->overlay),
		.tmp_at = job->layout.points[LAYOUT_TMP],
		.disk_fd = job->upper ? upper_fd(job->upper) : -1,
		.log_fds = {run->streams.file_fds[0], run->streams.file_fds[1]},
	};
	struct sandbox_config config = {
		.launcher = job->config.slot->launcher,
		.layout = &job->layout,
		.workdir = plan->workdir,
		.arguments = (const char *const *)command->arguments,
		.n_arguments = command->n_arguments,
		.variables = variables,
		.n_variables = command->n_environment_variables,
		.stdin_fd = -1,
		.stdout_fd = run->streams.write_fds[0],
		.stderr_fd = run->streams.write_fds[1],
		.cgroup = run->cgroup,
		.user = job->site->user,
		.uid = plan->uid,
		.gid = plan->gid,
		.filter = job->site->filter,
		.tmp = job->upper ? upper_tmp(job->upper) : NULL,
		.shm = job->upper ? upper_shm(job->upper) : NULL,
	};
	struct error *err;

	for (size_t i = 0; i < config.n_variables; i++)
		variables[i] = (struct sandbox_variable){
			command->environment_variables[i]->name,
			command->environment_variables[i]->value};
	run->start_ns = clock_mono_ns();
	err = guard_begin(&run->guard, &guard, &config);
	if (job->limits.of[LIMITS_DISK] != LIMITS_NONE)
		run->streams.max = job->limits.of[LIMITS_DISK];
	if (!err)
		err = sandbox_start(&config, &run->sandbox);
	streams_given(&run->streams);
	return err;
}

static int64_t job_waited_ns(const struct job *job)
{
	return view_root_waited_ns(job->root) - job->waited_before_ns;
}

static int job_to_ms(int64_t ns)
{
	if (ns <= 0)
		return 0;
	return ns / NS_PER_MS >= JOB_POLL_MAX_MS ? JOB_POLL_MAX_MS
						 : (int)(ns / NS_PER_MS) + 1;
}

/*
 * Milliseconds until the command's time is up, which stands still while it waits for
 * data; that wait has a limit of its own. 0: it is over, and the job knows why.
 */
static int job_time_left_ms(struct job *job, const struct job_run *run)
{
	int64_t waited = job_waited_ns(job);
	int64_t left = CLOCK_NEVER;

	if (job->plan->timeout_ns)
		left = job->plan->timeout_ns - (clock_mono_ns() - run->start_ns - waited);
	job->has_timed_out = left <= 0;
	job->has_waited_out = waited >= job->site->wait_limit_ns;
	if (job->has_waited_out)
		return 0;
	if (job->site->wait_limit_ns - waited < left)
		left = job->site->wait_limit_ns - waited;
	return job_to_ms(left);
}

/* Whether the command may go on: its time is not up, no limit was passed, what it says
 * can be kept. */
static bool job_goes_on(struct job *job, struct job_run *run)
{
	if (run->streams.err)
		return false;
	for (size_t i = 0; i < STREAMS_N; i++)
		if (run->streams.sizes[i] > run->streams.max)
			run->guard.passed_mask |= 1u << LIMITS_DISK;
	return !guard_look(&run->guard, run->sandbox) && job_time_left_ms(job, run) > 0;
}

/* Until the command's end, which it brings about where it may not go on or was cancelled.
 */
static void job_watch(struct job *job, struct job_run *run)
{
	struct pollfd fds[3 + STREAMS_N] = {
		{.fd = sandbox_fd(run->sandbox), .events = POLLIN},
		{.fd = job->cancel_fd, .events = POLLIN},
		{.fd = job->opened ? open_watch_fd(job->opened) : -1, .events = POLLIN},
	};

	for (;;) {
		int64_t now = clock_mono_ns();
		int left_ms = JOB_POLL_MAX_MS;

		if (fds[1].fd >= 0)
			left_ms = MIN(job_time_left_ms(job, run),
				      job_to_ms(guard_due_ns(&run->guard) - now));
		for (size_t i = 0; i < STREAMS_N; i++) {
			fds[3 + i].fd = streams_fd(&run->streams, i, now);
			fds[3 + i].events = POLLIN;
		}
		if (run->streams.rest_ns > now)
			left_ms = MIN(left_ms, job_to_ms(run->streams.rest_ns - now));
		if (poll(fds, ARRAY_SIZE(fds), left_ms) < 0 && errno != EINTR)
			return;
		if (job->opened)
			open_watch_drain(job->opened);
		streams_pump(&run->streams);
		if (fds[0].revents)
			return;
		if (fds[1].fd < 0 || (!fds[1].revents && job_goes_on(job, run)))
			continue;
		sandbox_kill(run->sandbox);
		fds[1].fd = -1; /* now only its end is waited for */
	}
}

static int64_t job_to_us(const struct timeval *time)
{
	return time->tv_sec * 1000000 + time->tv_usec;
}

static void job_report_run(struct job *job, const struct job_run *run,
			   const struct sandbox_end *end)
{
	const struct cgroup_usage *usage = &run->guard.usage;
	const struct rusage *rusage = &end->usage;
	struct report *report = &job->report;

	report->command_ns = clock_mono_ns() - run->start_ns;
	report->waiting_ns = job_waited_ns(job);
	/* of all processes together, but never less than the largest had alone */
	report->peak_memory = rusage->ru_maxrss * 1024;
	if (usage->peak_memory > report->peak_memory)
		report->peak_memory = usage->peak_memory;
	report->cpu_user_us = usage->cpu_user_us >= 0 ? usage->cpu_user_us
						      : job_to_us(&rusage->ru_utime);
	report->cpu_system_us = usage->cpu_system_us >= 0 ? usage->cpu_system_us
							  : job_to_us(&rusage->ru_stime);
	/* from and to disks. cgroup v1 lays writeback to nobody's account, and
	 * /proc/PID/io is gone with the process: rusage has what was waited for */
	report->read_bytes =
		usage->read_bytes >= 0 ? usage->read_bytes : rusage->ru_inblock * 512;
	report->written_bytes = usage->written_bytes >= 0 ? usage->written_bytes
							  : rusage->ru_oublock * 512;
	report->has_opened = job->opened != NULL;
	if (job->opened)
		open_watch_totals(job->opened, &report->opened);
}

static struct error *job_execute(struct job *job)
{
	_cleanup_(job_run_deinit) struct job_run run = {.streams = STREAMS_INIT,
							.guard = GUARD_INIT};
	struct sandbox_end end = {0};
	struct error *lost;
	struct error *err;

	job_set_state(job, JOB_RUNNING);
	err = job_check_cancelled(job);
	if (!err)
		err = streams_open(&run.streams, job->dir_fd, &job->site->user);
	if (!err)
		err = sandbox_slot_prepare(job->config.slot);
	if (!err && job->site->cgroups->base)
		err = cgroup_new(job->site->cgroups, job->config.number, &run.cgroup);
	if (err)
		return err;
	job_watch_opens(job);
	job->metadata.execution_start_timestamp = job_now(job);
	err = job_start(job, &run);
	if (err)
		return err;
	job_watch(job, &run);
	lost = job_stage_blob_error(streams_finish(&run.streams));
	guard_finish(&run.guard, run.sandbox);
	err = sandbox_wait(run.sandbox, &end);
	job->metadata.execution_completed_timestamp = job_now(job);
	if (err || lost) {
		error_free(err ? lost : NULL);
		return err ? job_stage_last_words(job->dir_fd, err) : lost;
	}
	if (job->opened)
		open_watch_drain(job->opened);
	job_foresee_end(&job->foresight, true);
	guard_judge(&run.guard, end.exit_code);
	job->passed_mask = run.guard.passed_mask;
	job_report_run(job, &run, &end);
	job->result.exit_code = end.exit_code;
	layout_tidy(&job->layout, overlay_merged_fd(job->overlay));
	return job_check_cancelled(job);
}

/* Whether an input was lost under the command: its exit code then means nothing, nor does
 * what else went wrong because of that. Consumes err. */
static struct error *job_check_lost(const struct job *job, struct error *err)
{
	struct error *lost = view_root_lost(job->root, job->start_ns);

	if (!session_is_alive(job->site->session)) {
		error_free(lost);
		error_free(err);
		return error_new(ERROR_UNAVAILABLE,
				 "the mount of the inputs ended during the action");
	}
	if (error_code(err) == ERROR_CANCELLED) {
		error_free(lost);
		return err;
	}
	if (!lost && job->has_waited_out)
		lost = error_new(
			ERROR_UNAVAILABLE,
			"the command waited %lld ms for its inputs, longer than this "
			"worker allows",
			(long long)(job_waited_ns(job) / NS_PER_MS));
	if (!lost)
		return err;
	error_free(err);
	if (error_n_missing(lost))
		return error_recode(lost, ERROR_FAILED_PRECONDITION);
	if (error_code(lost) == ERROR_INVALID_ARGUMENT)
		return lost; /* a Directory that is none: no other try mends it */
	return error_recode(lost, ERROR_UNAVAILABLE);
}

/* Ending */

/* What the capture left out, and which limits were passed. */
static void job_note_limits(struct job *job, const struct capture *capture)
{
	char text[LIMITS_MESSAGE_MAX];
	const char *messages[LIMITS_N + 1];
	size_t n = 0;

	for (enum limits_kind kind = 0; kind <= LIMITS_MACHINE; kind++)
		if (job->passed_mask & 1u << kind) {
			messages[n] = arena_string(
				&job->arena, limits_message(&job->limits, kind, text));
			n += messages[n] != NULL;
		}
	job_stage_notes(capture, messages, n, &job->arena, &job->report);
	job->result.exit_code = limits_exit_code(job->passed_mask, job->result.exit_code);
}

static struct error *job_capture(struct job *job)
{
	struct outputs_config outputs = {
		.plan = job->plan,
		.limits = &job->limits,
		.passed_mask = &job->passed_mask,
		.is_cancelled = &job->is_cancelled,
		.store = job->site->store,
		.remote = job->site->remote,
		.fetch = job->site->fetch,
		.dir_fd = job->dir_fd,
		.arena = &job->arena,
	};
	struct capture_config config = {
		.upper_fd = overlay_upper_fd(job->overlay),
		.root = &job->plan->root,
		.dirs = job->site->dirs,
		.store = job->site->store,
		.pool = job->site->pool,
		.mount_path = job->plan->root_path,
		.may_go_on = outputs_may_go_on,
		.ctx = &outputs,
		.entries_max = job->site->entries_max,
		.memory_max = JOB_CAPTURE_MAX,
		.with_mtime = job->plan->with_mtime,
		.with_unix_mode = job->plan->with_unix_mode,
	};
	_cleanup_(capture_freep) struct capture *capture = NULL;
	size_t n_blobs = 0;
	int64_t start = clock_mono_ns();
	struct error *err;

	job_set_state(job, JOB_CAPTURING);
	job->metadata.output_upload_start_timestamp = job_now(job);
	overlay_detach(job->overlay);
	capture = capture_new(&config);
	outputs.capture = capture;
	err = outputs_capture(&outputs, &job->result, &n_blobs);
	job->report.capture_ns = clock_mono_ns() - start;
	job_note_limits(job, capture);
	if (err)
		return job_stage_blob_error(err);
	job_set_state(job, JOB_UPLOADING);
	start = clock_mono_ns();
	err = outputs_upload(&outputs, &job->result, n_blobs);
	job->report.upload_ns = clock_mono_ns() - start;
	job->metadata.output_upload_completed_timestamp = job_now(job);
	return job_stage_blob_error(err);
}

/* Beside the report (or NULL), what others have to say: the caller's metadata, or as much
 * of it as there is room for. */
static void job_add_metadata(struct job *job, Pb__Any *report)
{
	const Reapi__ExecutedActionMetadata *others =
		job->config.metadata.len
			? (const Reapi__ExecutedActionMetadata *)rpc_decode(
				  &reapi__executed_action_metadata__descriptor,
				  job->config.metadata, &job->arena)
			: NULL;
	size_t n = others ? others->n_auxiliary_metadata : 0;
	Pb__Any **all = arena_array(&job->arena, n + 1, sizeof(*all));
	Reapi__ExecutedActionMetadata *metadata = &job->metadata;

	if (others)
		metadata->queued_timestamp = others->queued_timestamp;
	if (!all)
		return;
	for (size_t i = 0; i < n; i++)
		all[metadata->n_auxiliary_metadata++] = others->auxiliary_metadata[i];
	if (report)
		all[metadata->n_auxiliary_metadata++] = report;
	metadata->auxiliary_metadata = all;
}

/* RESOURCE_EXHAUSTED where it is larger than a message can be. */
static struct error *job_encode_result(struct job *job, struct buf *out)
{
	struct report *report = &job->report;
	int64_t virtual_ns = report->command_ns - report->waiting_ns;
	struct fetch_account *account = view_root_account(job->root);
	Pb__Duration duration = PB__DURATION__INIT;

	report->fetched_blobs = account->blobs - job->fetched_before.blobs;
	report->fetched_bytes = account->bytes - job->fetched_before.bytes;
	report->round_trips = account->round_trips - job->fetched_before.round_trips;
	report->has_input =
		dircache_totals(job->site->dirs, &job->plan->root, &report->input);
	job_foresee_report(&job->foresight, report);
	report->n_slowest = view_root_slowest(job->root, job->start_ns, report->slowest);
	job_add_metadata(job, report_encode(report, &job->arena));
	duration.seconds = virtual_ns / NS_PER_S;
	duration.nanos = (int32_t)(virtual_ns % NS_PER_S);
	job->metadata.worker = job->site->worker_name;
	job->metadata.worker_completed_timestamp = job_now(job);
	job->metadata.virtual_execution_duration = &duration;
	job->result.execution_metadata = &job->metadata;
	rpc_encode(&job->result.base, out);
	job->result.execution_metadata = NULL;
	job->metadata.virtual_execution_duration = NULL;
	if (out->len <= JOB_RESULT_MAX)
		return NULL;
	buf_deinit(out);
	return error_new(ERROR_RESOURCE_EXHAUSTED,
			 "the ActionResult is larger than %d bytes: the action has too "
			 "many outputs, or their names are too long",
			 JOB_RESULT_MAX);
}

static struct error *job_steps(struct job *job, bool *has_result)
{
	struct error *err = job_fetch(job);

	if (!err)
		err = job_check_cancelled(job);
	if (err)
		return err;
	err = job_stage(job);
	if (!err)
		err = job_execute(job);
	err = job_check_lost(job, err);
	if (!err)
		err = job_capture(job);
	if (err)
		return err;
	*has_result = true;
	if (job->has_timed_out)
		return error_new(ERROR_DEADLINE_EXCEEDED,
				 "the command ran past its timeout of %lld ms",
				 (long long)(job->plan->timeout_ns / NS_PER_MS));
	return NULL;
}

int job_dir_fd(const struct job *job)
{
	return job->dir_fd;
}

void job_run(struct job *job, struct job_outcome *out)
{
	const char *scope = log_scope(job->config.id);
	bool has_result = false;
	struct error *err;

	*out = (struct job_outcome){.result = BUF_INIT, .report = &job->report};
	job->start_ns = clock_mono_ns();
	store_stats(job->site->store, &job->store_before);
	job->metadata.worker_start_timestamp = job_now(job);
	err = job_steps(job, &has_result);
	if (has_result) {
		struct error *large = job_encode_result(job, &out->result);

		if (large) {
			error_free(err);
			err = large;
		}
	}
	if (has_result && !err && job->config.wants_caching)
		job_cache_result(job->site, job->plan, job_action(job),
				 buf_slice(&out->result));
	job_set_state(job, JOB_ENDED);
	out->is_squeezed = job_log_evictions(job->site, &job->store_before);
	out->exit_code = job->result.exit_code;
	job_log_counts(job->site);
	if (err)
		log_info("ended with %s: %s", error_code_name(error_code(err)),
			 error_text(err));
	out->status = err;
	(void)log_scope(scope);
}
