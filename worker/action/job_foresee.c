/* Owns nothing: it puts a plan into foresight's words. */
#include "worker/action/job_foresee.h"

#include <string.h>

static const char *job_foresee_variable(const struct plan *plan, const char *name)
{
	const Reapi__Command *command = plan->command;

	for (size_t i = 0; i < command->n_environment_variables; i++)
		if (strcmp(command->environment_variables[i]->name, name) == 0)
			return command->environment_variables[i]->value;
	return NULL;
}

void job_foresee_begin(struct job_foresight *foresight, const struct job_site *site,
		       const struct plan *plan)
{
	const struct foresee_action action = {
		.command = plan->command_digest,
		.action = {
			.root = plan->root,
			.mount = plan->root_path,
			.workdir = plan->workdir,
			.arguments = (const char *const *)plan->command->arguments,
			.n_arguments = plan->command->n_arguments,
			.path = job_foresee_variable(plan, "PATH"),
			.python_path = job_foresee_variable(plan, "PYTHONPATH"),
		}};

	if (!site->foresee)
		return;
	foresight->store = site->store;
	foresight->thought = foresee_begin(site->foresee, &action);
}

void job_foresee_loaded(struct job_foresight *foresight)
{
	if (foresight->thought)
		foresee_loaded(foresight->thought);
}

void job_foresee_opened(void *ctx, const char *path, const struct digest *digest)
{
	struct job_foresight *foresight = ctx;

	if (foresight->thought)
		foresee_opened(foresight->thought, path,
			       !digest || store_has(foresight->store, digest));
}

void job_foresee_end(struct job_foresight *foresight, bool has_run)
{
	if (foresight->thought && !foresight->is_over)
		foresee_end(foresight->thought, has_run);
	foresight->is_over = true;
}

void job_foresee_report(struct job_foresight *foresight, struct report *report)
{
	report->has_foresight = foresight->thought &&
				foresee_result(foresight->thought, &report->foresight);
}

void job_foresee_deinit(struct job_foresight *foresight)
{
	job_foresee_end(foresight, false);
	foresight->thought = foresee_job_free(foresight->thought);
}
