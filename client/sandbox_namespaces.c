/*
 * Owns one job (worker/action/job.h), which is all that happens here. Main runs it.
 */
#include "client/sandbox_impl.h"
#include "client/sandbox_site.h"

struct sandbox_namespaces {
	const struct execution_config *config;
	const struct job *job;
};

static void sandbox_namespaces_changed(void *ctx, enum job_state state)
{
	const struct sandbox_namespaces *run = ctx;
	const struct execution_config *config = run->config;

	if (state != JOB_RUNNING)
		return;
	if (config->stage)
		config->stage(config->ctx, EXECUTION_RUNNING, 0);
	if (config->live)
		live_follow_files(config->live, job_dir_fd(run->job));
}

static void sandbox_namespaces_cancel(void *job)
{
	job_cancel(job);
}

static void sandbox_namespaces_job(const struct execution_config *config,
				   struct sandbox_site *site,
				   struct sandbox_interrupt *interrupt,
				   struct sandbox_result *out)
{
	struct sandbox_namespaces run = {.config = config};
	const struct job_config job_config = {
		.site = &site->job,
		.slot = &site->slot,
		.id = "local",
		.action = *config->action,
		.changed = sandbox_namespaces_changed,
		.ctx = &run,
	};
	struct job *job = job_new(&job_config);
	struct job_outcome outcome;

	run.job = job;
	sandbox_interrupt_begin(interrupt, sandbox_namespaces_cancel, job);
	job_run(job, &outcome);
	sandbox_interrupt_over(interrupt);
	out->status = outcome.status;
	out->bytes = outcome.result;
	job_free(job);
}

void sandbox_namespaces_run(const struct execution_config *config,
			    struct sandbox_result *out)
{
	struct sandbox_interrupt interrupt;
	struct sandbox_site site;

	out->status = sandbox_site_init(&site, config->client, false);
	if (out->status) {
		sandbox_site_deinit(&site);
		return;
	}
	sandbox_namespaces_job(config, &site, &interrupt, out);
	sandbox_site_deinit(&site);
	sandbox_interrupt_end(&interrupt);
}
