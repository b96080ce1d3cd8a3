/*
 * lazyroot wait: an operation that an earlier run started.
 */
#include <string.h>

#include "client/action_get.h"
#include "client/outcome.h"
#include "client/progress.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"

#define LOG_MODULE "wait"
#include "lib/base/log.h"

struct wait {
	struct client client;
	struct execution_patience patience;
	struct live_wish live_wish;
	char *download, *report;
	bool no_download, is_cancelling;
	struct progress *progress;
	struct arena arena;         /* of the Action and the Command */
	struct option_list outputs; /* declared ones */
	char *workdir;
};

static void wait_deinit(struct wait *wait)
{
	progress_end(wait->progress);
	client_deinit(&wait->client);
	free(wait->download);
	free(wait->report);
	free(wait->workdir);
	option_list_deinit(&wait->outputs);
	arena_deinit(&wait->arena);
}

static void wait_stage(void *ctx, enum execution_stage stage, int64_t n_behind)
{
	progress_stage(((struct wait *)ctx)->progress, execution_stage_text(stage),
		       n_behind);
}

/* What was declared is in the Command. Where that is gone, all that came is taken. */
static void wait_find_declared(struct wait *wait, const struct execution_outcome *outcome,
			       struct declared *declared)
{
	Reapi__Action *action;
	Reapi__Command *command;
	struct error *err =
		outcome->has_action
			? NULL
			: error_new(ERROR_NOT_FOUND, "the service does not name it");

	if (!err)
		err = client_open_fetch(&wait->client);
	if (!err)
		err = action_get(&wait->client, &outcome->action, &wait->arena, &action,
				 &command);
	if (!err)
		err = file_path_clean(command->working_directory, &wait->workdir);
	if (!err && !command->n_output_paths)
		return; /* none, or declared as services of before 2.1 had it */
	for (size_t i = 0; !err && i < command->n_output_paths; i++) {
		const char *path = command->output_paths[i];

		option_list_add(&wait->outputs, path);
		declared->is_from_root =
			declared->is_from_root || strncmp(path, "..", 2) == 0;
	}
	if (err) {
		log_drop(LOG_INFO, err, "it is not known what was declared");
		return;
	}
	declared->workdir = wait->workdir;
	declared->outputs = &wait->outputs;
}

static struct error *wait_for(struct wait *wait, const char *operation, int *exit_out)
{
	struct execution_config config = {.client = &wait->client,
					  .patience = wait->patience,
					  .is_left = !wait->is_cancelling,
					  .stage = wait_stage,
					  .ctx = wait};
	_cleanup_(execution_outcome_deinit) struct execution_outcome outcome = {0};
	struct outcome_config deliver = {
		.report = {.client = &wait->client,
			   .file = wait->report,
			   .queued_ns = -1},
		.download = wait->no_download ? NULL
			    : wait->download  ? wait->download
					      : ".",
	};
	_cleanup_(live_freep) struct live *live = NULL;
	int stdout_fd = outcome_stdout_fd(&deliver.report);
	int64_t start = clock_mono_ns();
	struct error *err;

	if (live_is_wished(&wait->live_wish, stdout_fd))
		live = live_new(&wait->client, stdout_fd);
	deliver.live = config.live = live;
	wait->progress = progress_begin(PROGRESS_WAITING, wait->client.is_quiet,
					wait->client.is_json);
	err = execution_wait(&config, operation, &outcome);
	live_end(live);
	wait->progress = progress_end(wait->progress);
	if (error_code(err) == ERROR_NOT_FOUND)
		return error_wrap(err, "there is no operation %s", operation);
	if (err)
		return err;
	deliver.report.wall_ns = clock_mono_ns() - start;
	wait_find_declared(wait, &outcome, &deliver.report.declared);
	return outcome_deliver(&deliver, &outcome, exit_out);
}

int cmd_wait(int argc, char **argv)
{
	_cleanup_(wait_deinit) struct wait wait = {.client = CLIENT_INIT,
						   .arena = ARENA_INIT(RPC_ARENA_MAX),
						   .patience = EXECUTION_PATIENCE};
	const struct option_def defs[] = {
		{"download", 0, OPTION_STRING, "DIR", "where outputs go (default: here)",
		 NULL, &wait.download, 0, 0},
		{"no-download", 0, OPTION_FLAG, NULL, "leave outputs in the store", NULL,
		 &wait.no_download, 0, 0},
		{"report", 0, OPTION_STRING, "FILE",
		 "the read report as JSON (-: stdout)", NULL, &wait.report, 0, 0},
		{"cancel", 0, OPTION_FLAG, NULL,
		 "Ctrl-C, SIGTERM and --give-up end the run, too (default: it goes on)",
		 NULL, &wait.is_cancelling, 0, 0},
		LIVE_OPTIONS(&wait.live_wish),
		EXECUTION_OPTIONS(&wait.patience),
		CLIENT_ENTRIES_OPTION(&wait.client),
		CLIENT_OPTIONS(&wait.client),
	};
	const struct option_program program = {
		.name = "lazyroot wait",
		.usage = "OPERATION",
		.summary = "Waits for a run that was detached or interrupted, and goes "
			   "on as run "
			   "does.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	int code;
	int operands;
	struct error *err;

	if (!client_parse_operands(&program, argc, argv, 1, 1, "name one OPERATION",
				   &operands, &code))
		return code;
	err = outcome_check(wait.download, wait.report);
	if (!err)
		err = client_connect(&wait.client);
	if (err)
		return client_fail_start("wait", err, CLIENT_RUN_ERROR);
	code = CLIENT_RUN_ERROR;
	err = wait_for(&wait, argv[operands], &code);
	return err ? client_fail("wait", err, CLIENT_RUN_ERROR) : code;
}
