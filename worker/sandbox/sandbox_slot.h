/*
 * What a slot keeps from job to job: its cgroup v1 directories and its launcher, so that
 * an action finds both ready.
 *
 * Threads: the slot's.
 */
#pragma once

#include "worker/sandbox/cgroup_v1.h"
#include "worker/sandbox/launcher.h"
#include "worker/sandbox/sandbox.h"

struct sandbox_slot {
	const struct sandbox_tools *tools; /* both borrowed */
	const struct cgroups *cgroups;
	unsigned int number;
	struct cgroup_v1 *cgroup_v1; /* NULL until prepared */
	struct launcher *launcher;   /* NULL until prepared */
};

/* Does nothing where it is done. */
struct error *sandbox_slot_prepare(struct sandbox_slot *place);
void sandbox_slot_deinit(struct sandbox_slot *place);
