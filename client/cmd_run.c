/*
 * lazyroot run: an input root, a command, a worker; its output as if it had run here.
 */
#include "client/artifact_run.h"
#include "client/cached.h"
#include "client/inputs.h"
#include "client/interrupt.h"
#include "client/outcome.h"
#include "client/progress.h"
#include "client/reads.h"
#include "client/request.h"
#include "client/sandbox.h"
#include "client/shared.h"
#include "lib/base/clock.h"

#define RUN_READS_PATIENCE_NS (2 * NS_PER_S)

struct run {
	struct client client;
	struct request request;
	struct execution_patience patience;
	struct live_wish live_wish;
	struct artifact_run artifact;
	struct option_list inputs, input_digests;
	char *download, *report, *sandbox;
	enum sandbox_place place;
	int64_t priority;
	bool rerun, no_download, is_detached, shows_reads;

	struct tree_upload_changes changes;
	struct inputs *built;  /* NULL: to be built, again */
	struct store_pin *pin; /* of a command of this machine: its inputs */
	struct progress *progress;
	int64_t sent_at_ns;    /* monotonic */
	int64_t queued_at_ns;  /* monotonic; -1: not yet */
	int64_t started_at_ns; /* of the command; -1: not yet */
};

static void run_deinit(struct run *run)
{
	progress_end(run->progress);
	inputs_free(run->built);
	tree_upload_changes_deinit(&run->changes);
	artifact_run_deinit(&run->artifact);
	store_pin_free(run->pin);
	client_deinit(&run->client);
	request_deinit(&run->request);
	option_list_deinit(&run->inputs);
	option_list_deinit(&run->input_digests);
	free(run->download);
	free(run->report);
	free(run->sandbox);
}

/* All that needs neither the inputs nor the service: what is wrong here is usage. */
static struct error *run_check(struct run *run)
{
	enum import_mtimes mtimes;
	struct error *err = request_clean(&run->request);

	if (!err)
		err = inputs_check(&run->client, &run->inputs, &run->input_digests);
	if (!err)
		err = tree_upload_mtimes(&run->client, &mtimes);
	if (!err)
		err = sandbox_place_parse(run->sandbox, &run->place);
	if (!err && run->is_detached && run->artifact.name)
		err = error_new(
			ERROR_INVALID_ARGUMENT,
			"--artifact needs the result, and --detach does not wait");
	if (!err)
		err = artifact_run_check(&run->artifact, &run->client);
	if (!err)
		err = shared_check(&run->client);
	if (!err)
		err = outcome_check(run->download, run->report);
	return err ? err : request_make(&run->request);
}

static struct error *run_build(struct run *run)
{
	struct error *err = inputs_build(&run->client, &run->inputs, &run->input_digests,
					 &run->changes, &run->built);

	if (err)
		return err;
	request_encode(&run->request, inputs_root(run->built),
		       inputs_have_mtimes(run->built));
	return NULL;
}

/* To where it runs. */
static struct error *run_upload(struct run *run)
{
	struct blob_source blobs[REQUEST_N_BLOBS];

	request_blobs(&run->request, blobs);
	if (run->place != SANDBOX_REMOTE)
		return inputs_store(&run->client, run->built, blobs, ARRAY_SIZE(blobs),
				    &run->changes, &run->pin);
	return inputs_upload(&run->client, run->built, blobs, ARRAY_SIZE(blobs),
			     &run->changes);
}

/* The inputs as they are now; again where they changed under way. What is executed is
 * then another action, which is why Execute asks for its digest each time. */
static struct error *run_send(void *ctx)
{
	struct run *run = ctx;

	for (;;) {
		struct error *err = run->built ? NULL : run_build(run);
		bool is_again = false;

		if (!err)
			err = run_upload(run);
		err = tree_upload_settle(&run->changes, err, &is_again);
		if (!is_again)
			return err;
		run->built = inputs_free(run->built);
	}
}

static void run_stage(void *ctx, enum execution_stage stage, int64_t n_behind)
{
	struct run *run = ctx;

	if (run->queued_at_ns < 0 && stage == EXECUTION_QUEUED)
		run->queued_at_ns = clock_mono_ns();
	if (run->started_at_ns < 0 && stage == EXECUTION_RUNNING)
		run->started_at_ns = clock_mono_ns();
	progress_stage(run->progress, execution_stage_text(stage), n_behind);
}

/* A worker tells what was read a moment after the result. Where none does that is said,
 * and the command's own end stays what it was. */
static void run_show_reads(struct run *run)
{
	_cleanup_(reads_deinit) struct reads reads = {.profile = PROFILE_INIT};
	struct error *err = client_open_fetch(&run->client);

	if (!err)
		err = reads_load(&run->client, &run->request.command_digest,
				 inputs_root(run->built), RUN_READS_PATIENCE_NS, &reads);
	if (!err)
		err = reads_print(&run->client, &reads, true);
	if (err)
		say("lazyroot run: --reads: %s", error_text(err));
	error_free(err);
}

static struct artifact_source run_source(const struct run *run,
					 const struct declared *declared,
					 const struct execution_outcome *outcome)
{
	return (struct artifact_source){.result = outcome->response->result,
					.declared = *declared,
					.action = buf_slice(&run->request.action),
					.command = buf_slice(&run->request.command)};
}

/* What failed has no name; its outputs are here all the same. */
static struct error *run_keep(struct run *run, const struct declared *declared,
			      const struct execution_outcome *outcome)
{
	const struct artifact_source source = run_source(run, declared, outcome);

	return artifact_run_keep(&run->artifact, &run->client, &source);
}

/* What ran here, to whoever shares results with us. */
static void run_share(struct run *run, const struct declared *declared,
		      const struct execution_outcome *outcome)
{
	const struct artifact_source source = run_source(run, declared, outcome);

	if (run->place != SANDBOX_REMOTE && !run->request.no_cache)
		shared_give(&run->client, &run->request.action_digest, &source,
			    outcome->response);
}

/* A result that is known already, or one that is made now: then the inputs are sent. */
static struct error *run_obtain(struct run *run, struct live *live,
				struct execution_outcome *outcome)
{
	struct sandbox_run_config config = {
		.execution = {.client = &run->client,
			      .action = &run->request.action_digest,
			      .skip_cache_lookup = run->rerun,
			      .priority = (int32_t)run->priority,
			      .patience = run->patience,
			      .is_detached = run->is_detached,
			      .stage = run_stage,
			      .resend = run_send,
			      .ctx = run,
			      .live = live},
		.place = run->place,
	};
	bool is_remote = run->place == SANDBOX_REMOTE;
	bool is_known = false;
	struct error *err;

	if (!is_remote)
		local_open_store_ahead(&run->client.local);
	err = run_build(run);
	if (!err && !run->rerun && !run->request.no_cache && !run->is_detached)
		err = sandbox_look_up(&config, outcome, &is_known);
	if (err || is_known)
		return err;
	err = run_send(run);
	if (err)
		return err;
	run->sent_at_ns = clock_mono_ns();
	run->progress = progress_begin(PROGRESS_RUNNING, run->client.is_quiet,
				       run->client.is_json);
	err = sandbox_run(&config, outcome);
	run->progress = progress_end(run->progress);
	if (!err && is_remote && !run->is_detached && !run->request.no_cache)
		cached_give(&run->client, &run->request.action_digest, outcome->response);
	return err;
}

static struct error *run_deliver(struct run *run, int *exit_out)
{
	_cleanup_(execution_outcome_deinit) struct execution_outcome outcome = {0};
	struct outcome_config deliver = {
		.report = {.client = &run->client,
			   .action = &run->request.action_digest,
			   .declared = {.outputs = &run->request.outputs,
					.workdir = run->request.workdir,
					.is_from_root = run->request.is_from_root},
			   .file = run->report},
		.download = run->no_download ? NULL
			    : run->download  ? run->download
					     : ".",
	};
	_cleanup_(live_freep) struct live *live = NULL;
	int stdout_fd = outcome_stdout_fd(&deliver.report);
	struct error *err;

	if (!run->is_detached && live_is_wished(&run->live_wish, stdout_fd))
		live = live_new(&run->client, stdout_fd);
	deliver.live = live;
	run->sent_at_ns = clock_mono_ns();
	err = run_obtain(run, live, &outcome);
	live_end(live);
	if (err)
		return err;
	if (run->is_detached) {
		if (run->client.is_json)
			client_print_json(json_pack(
				"{s:s,s:o}", "operation", outcome.operation, "action",
				client_json_digest(&run->request.action_digest)));
		else
			say_out("%s\n", outcome.operation);
		*exit_out = 0;
		return NULL;
	}
	deliver.report.wall_ns = clock_mono_ns() - run->sent_at_ns;
	deliver.report.queued_ns = run->started_at_ns < 0 || run->queued_at_ns < 0
					   ? -1
					   : run->started_at_ns - run->queued_at_ns;
	err = outcome_deliver(&deliver, &outcome, exit_out);
	if (!err)
		run_share(run, &deliver.report.declared, &outcome);
	if (!err && run->artifact.name && !*exit_out)
		err = run_keep(run, &deliver.report.declared, &outcome);
	if (!err && run->shows_reads)
		run_show_reads(run);
	return err;
}

/* Where it runs, while there is one thread; then signals are listened for. */
static struct error *run_settle(struct run *run)
{
	struct error *err = sandbox_settle(
		&run->client, client_has_execution(&run->client), &run->place);

	if (!err && run->is_detached && run->place != SANDBOX_REMOTE)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"--detach is for --sandbox remote: nobody would watch a "
				"command of this machine");
	return err ? err : interrupt_start();
}

static int run_main(struct run *run)
{
	int code = CLIENT_RUN_ERROR;
	struct error *err;

	err = run_check(run);
	if (!err)
		err = run_settle(run);
	if (!err && run->place == SANDBOX_REMOTE)
		err = client_connect(&run->client);
	if (err)
		return client_fail_start("run", err, CLIENT_RUN_ERROR);
	err = run_deliver(run, &code);
	return err ? client_fail("run", err, CLIENT_RUN_ERROR) : code;
}

#define RUN_REQUEST_OPTIONS(r)                                                           \
	{"env",                                                                          \
	 'e',                                                                            \
	 OPTION_LIST,                                                                    \
	 "NAME[=VALUE]",                                                                 \
	 "its environment; repeated. NAME alone has the value that it has here",         \
	 NULL,                                                                           \
	 &(r)->env,                                                                      \
	 0,                                                                              \
	 0},                                                                             \
		{"platform",                                                             \
		 'p',                                                                    \
		 OPTION_LIST,                                                            \
		 "NAME=VALUE",                                                           \
		 "a property that the worker must have; repeated",                       \
		 NULL,                                                                   \
		 &(r)->platform,                                                         \
		 0,                                                                      \
		 0},                                                                     \
	{                                                                                \
		"timeout", 0, OPTION_DURATION, "DURATION",                               \
			"how long the command may run", NULL, &(r)->timeout_ns, 0, 0     \
	}

int cmd_run(int argc, char **argv)
{
	_cleanup_(run_deinit) struct run run = {.client = CLIENT_INIT,
						.patience = EXECUTION_PATIENCE,
						.request = REQUEST_INIT,
						.artifact = ARTIFACT_RUN_INIT,
						.queued_at_ns = -1,
						.started_at_ns = -1};
	const struct option_def defs[] = {
		{"input", 'i', OPTION_LIST, "DIR[=AT]",
		 "a local directory in the input root, at AT; repeated", NULL,
		 &run.inputs, 0, 0},
		{"input-digest", 0, OPTION_LIST, "TREE[=AT]",
		 "a known tree there: a digest, or an artifact's name; repeated", NULL,
		 &run.input_digests, 0, 0},
		{"output", 'o', OPTION_LIST, "PATH",
		 "what to bring back, from --workdir on; repeated (with ../PATH among\n"
		 "them, all go where they lie in the root)",
		 NULL, &run.request.outputs, 0, 0},
		{"workdir", 'w', OPTION_STRING, "PATH",
		 "where the command starts, in the root", NULL, &run.request.workdir, 0,
		 0},
		RUN_REQUEST_OPTIONS(&run.request),
		{"priority", 0, OPTION_INT, "N", "lower runs first (default 0)", NULL,
		 &run.priority, INT32_MIN, INT32_MAX},
		{"no-cache", 0, OPTION_FLAG, NULL, "neither look up nor store the result",
		 NULL, &run.request.no_cache, 0, 0},
		{"rerun", 0, OPTION_FLAG, NULL, "do not look up, but store", NULL,
		 &run.rerun, 0, 0},
		SANDBOX_OPTION(&run.sandbox),
		{"download", 0, OPTION_STRING, "DIR", "where outputs go (default: here)",
		 NULL, &run.download, 0, 0},
		{"no-download", 0, OPTION_FLAG, NULL, "leave outputs in the store", NULL,
		 &run.no_download, 0, 0},
		{"detach", 0, OPTION_FLAG, NULL, "print the operation's name and leave",
		 NULL, &run.is_detached, 0, 0},
		{"reads", 0, OPTION_FLAG, NULL,
		 "then tell on stderr what the command read of its inputs", NULL,
		 &run.shows_reads, 0, 0},
		{"report", 0, OPTION_STRING, "FILE",
		 "the read report as JSON (-: stdout)", NULL, &run.report, 0, 0},
		ARTIFACT_RUN_OPTIONS(&run.artifact),
		LIVE_OPTIONS(&run.live_wish),
		EXECUTION_OPTIONS(&run.patience),
		CLIENT_MTIMES_OPTION(&run.client),
		CLIENT_ENTRIES_OPTION(&run.client),
		CLIENT_OPTIONS(&run.client),
	};
	const struct option_program program = {
		.name = "lazyroot run",
		.usage = "[options] -- COMMAND [ARG]...",
		.summary = "Runs a command on a worker, or without --server on this "
			   "machine. Its output\ncomes out here, its exit code is the "
			   "exit code: 128+n after signal n, 124 past its\ntimeout, 125 "
			   "where the service failed.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
		.stops_at_operand = true,
	};
	int operands;
	int code;

	if (!client_parse(&program, argc, argv, &operands, &code))
		return code;
	if (operands == argc || !*argv[operands])
		return client_usage("run", "no COMMAND to run");
	run.request.arguments = argv + operands;
	run.request.n_arguments = argc - operands;
	return run_main(&run);
}
