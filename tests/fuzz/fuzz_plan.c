/*
 * Fuzzes what an Action and its Command ask for. Whatever they say: no path of the plan
 * leaves the input root, and its numbers are in range.
 */
#include "lib/base/file.h"
#include "tests/fuzz/fuzz.h"
#include "worker/action/plan.h"
#include "worker/sandbox/layout.h"

static void fuzz_require_inside(const char *path)
{
	require(!*path || !file_path_escapes(path));
}

static void fuzz_check(const struct plan *plan)
{
	require(plan->root_path[0] == '/');
	fuzz_require_inside(plan->root_path + 1);
	fuzz_require_inside(plan->workdir);
	for (size_t i = 0; i < plan->n_outputs; i++)
		fuzz_require_inside(plan->outputs[i].path);
	require(plan->command->n_arguments > 0 && plan->command->arguments[0][0]);
	require(plan->uid <= 0x7ffffffe && plan->gid <= 0x7ffffffe);
	require(plan->timeout_ns >= 0);
}

static void fuzz_require_refused(const struct error *err)
{
	require(error_code(err) == ERROR_INVALID_ARGUMENT ||
		error_code(err) == ERROR_RESOURCE_EXHAUSTED);
	require(strlen(error_text(err)) <= ERROR_TEXT_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice input = {data, size};
	struct slice action = fuzz_part(&input);
	_cleanup_(plan_freep) struct plan *plan = NULL;
	_cleanup_error_ struct error *err = NULL;

	err = plan_new(action, &digest_of_empty, LAYOUT_ROOT, &plan);
	if (err) {
		fuzz_require_refused(err);
		return 0;
	}
	err = plan_set_command(plan, input);
	if (err)
		fuzz_require_refused(err);
	else
		fuzz_check(plan);
	return 0;
}
