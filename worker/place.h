/*
 * What a slot keeps from job to job: its cgroup v1 directories and its launcher, so that
 * an action finds both ready.
 *
 * Threads: the slot's.
 */
#pragma once

#include "worker/cgroup_v1.h"
#include "worker/launcher.h"
#include "worker/sandbox.h"

struct place {
	const struct sandbox_tools *tools; /* both borrowed */
	const struct cgroups *cgroups;
	unsigned int number;
	struct cgroup_v1 *cgroup_v1; /* NULL until prepared */
	struct launcher *launcher;   /* NULL until prepared */
};

/* Does nothing where it is done. */
struct error *place_prepare(struct place *place);
void place_deinit(struct place *place);
