/*
 * The limits of one action while it runs: sets what the kernel enforces, watches what it
 * does not, and afterwards tells what was used and which limits were passed.
 *
 * Threads: the job's.
 */
#pragma once

#include "worker/sandbox/cgroup_v1.h"
#include "worker/sandbox/disk_held.h"
#include "worker/sandbox/disk_walk.h"
#include "worker/sandbox/limits.h"
#include "worker/sandbox/sandbox.h"

struct guard_config {
	const struct limits *limits;
	const struct cgroups *cgroups;
	struct cgroup *cgroup;       /* v2, or NULL; all borrowed */
	struct cgroup_v1 *cgroup_v1; /* or NULL */
	int upper_fd;
	const char *tmp_at; /* where /tmp stands, without links */
	int disk_fd; /* of what holds all that is limited, at its size; -1: nothing does
		      */
	int log_fds[2]; /* stdout, stderr */
};

enum guard_tmp { GUARD_TMP_TMP, GUARD_TMP_SHM, GUARD_TMP_ROOT };
#define GUARD_TMP_N 3

struct guard {
	struct guard_config config;
	int64_t start_ns;
	int64_t due_ns[LIMITS_N];  /* when each is looked at next; CLOCK_NEVER: not */
	unsigned int passed_mask;  /* limits that were passed: 1 << enum limits_kind */
	struct disk_walk walk;     /* of upper, from look to look */
	int tmp_fds[GUARD_TMP_N];  /* the sandbox's own file systems, once they are there
				    */
	struct disk_held held;     /* at the last look */
	int64_t disk_inodes;       /* on the disk before the command */
	struct cgroup_usage usage; /* after guard_finish() */
};

#define GUARD_INIT ((struct guard){.tmp_fds = {-1, -1, -1}})

/* Before the start: sets the cgroups' limits, and fills in what the sandbox enforces. */
struct error *guard_begin(struct guard *guard, const struct guard_config *config,
			  struct sandbox_config *sandbox);
void guard_deinit(struct guard *guard);

int64_t guard_due_ns(const struct guard *guard); /* monotonic: next look; or NEVER */
/* Looks at what is due; true: a limit was passed, and the command is to be killed. */
bool guard_look(struct guard *guard, struct sandbox *sandbox);
/* The command ended, but was not waited for yet: the last looks, and what it used. */
void guard_finish(struct guard *guard, struct sandbox *sandbox);
/* How the command ended may tell of a limit too: signals of rlimits. */
void guard_judge(struct guard *guard, int exit_code);
