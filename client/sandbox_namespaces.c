/*
 * Owns one job (worker/action/job.h), which is all that happens here. Main runs it.
 */
#include "client/sandbox_impl.h"
#include "client/sandbox_site.h"

static void sandbox_namespaces_changed(void *ctx, enum job_state state)
{
	const struct execution_config *config = ctx;

	if (config->stage && state == JOB_RUNNING)
		config->stage(config->ctx, EXECUTION_RUNNING);
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
	const struct job_config job_config = {
		.site = &site->job,
		.slot = &site->slot,
		.id = "local",
		.action = *config->action,
		.changed = sandbox_namespaces_changed,
		.ctx = (void *)(uintptr_t)config,
	};
	struct job *job = job_new(&job_config);
	struct job_outcome outcome;

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
