/*
 * Directories of cgroup v1 controllers, a set for each slot: moving a process into one
 * takes 10 ms and more, so a slot's launcher joins them once and what it starts inherits
 * them. They outlive actions: counters are read against what they were when the action
 * began.
 */
#pragma once

#include "worker/sandbox/cgroup.h"

struct cgroup_v1;

/* Directories of earlier workers that are gone are removed. */
void cgroup_v1_remove_leftovers(const char *base);
/* The directory in which a v1 controller's are made, or NULL: reason_out (static). */
char *cgroup_v1_find_base(const char *controller, const char *probe_file,
			  const char **reason_out);

struct error *cgroup_v1_new(const struct cgroups *cgroups, unsigned int slot,
			    struct cgroup_v1 **out);
/* Nothing may run in them any more. */
void *cgroup_v1_free(struct cgroup_v1 *cgroup);
CLEANUP_DEFINE(struct cgroup_v1, cgroup_v1_free)

/* The files "cgroup.procs" of all its directories, which a process joins by; NULL ends
 * them; borrowed. */
const char *const *cgroup_v1_joins(const struct cgroup_v1 *cgroup);
/* An action begins: its limits (INT64_MAX: none) where v1 has the controller. */
struct error *cgroup_v1_begin(struct cgroup_v1 *cgroup, int64_t memory, int64_t pids);
/* Fills in what v1 knows, of the action that began last. */
void cgroup_v1_read_usage(const struct cgroup_v1 *cgroup, struct cgroup_usage *usage);
