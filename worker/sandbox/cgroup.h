/*
 * A cgroup v2 directory per action, so that everything the action started can be killed
 * at one stroke, its CPU time known and, where the controllers are there, its memory and
 * processes limited. A controller that only cgroup v1 has is used there (cgroup_v1.h).
 * Where no cgroup v2 tree can be written the pid namespace alone ends what was started.
 */
#pragma once

#include <stdbool.h>

#include "lib/base/buf.h"
#include "lib/base/error.h"

enum cgroup_controller { CGROUP_MEMORY, CGROUP_PIDS };
#define CGROUP_CONTROLLER_N 2

enum cgroup_how { CGROUP_NOT, CGROUP_V2, CGROUP_V1 };

/* What this machine has, found once, at start. */
struct cgroups {
	char *base;   /* our own cgroup v2 directory, or NULL */
	char *reason; /* why there is none, or why not for a controller: text */
	char *own;    /* the directory below it that we moved to, or NULL */
	bool has_enabled[CGROUP_CONTROLLER_N]; /* by us: to be undone at the end */
	enum cgroup_how how[CGROUP_CONTROLLER_N];
	char *v1_bases[CGROUP_CONTROLLER_N]; /* of CGROUP_V1 */
	char *reasons[CGROUP_CONTROLLER_N];  /* why not v2 */
};

/* Also removes what workers that are gone left. */
struct cgroups *cgroups_new(void);
void *cgroups_free(struct cgroups *cgroups);
CLEANUP_DEFINE(struct cgroups, cgroups_free)
/* "memory and processes by …", for the log. */
void cgroups_describe(const struct cgroups *cgroups, struct buf *out);

/* What an action used so far; -1 where it is not known here. */
struct cgroup_usage {
	int64_t n_oom_kills;
	int64_t n_refused_forks;
	int64_t peak_memory;
	int64_t cpu_us;
	int64_t cpu_user_us;
	int64_t cpu_system_us;
	int64_t read_bytes;
	int64_t written_bytes;
};
#define CGROUP_USAGE_INIT ((struct cgroup_usage){-1, -1, -1, -1, -1, -1, -1, -1})

#define CGROUP_PIDS_EXTRA 2 /* bubblewrap outside, and as the namespace's first */

struct cgroup;

/* FAILED_PRECONDITION where there is no cgroup v2 base. */
struct error *cgroup_new(const struct cgroups *cgroups, unsigned int number,
			 struct cgroup **out);
int cgroup_dir_fd(const struct cgroup *cgroup); /* for CLONE_INTO_CGROUP; borrowed */
/* INT64_MAX: none. Only for controllers that are CGROUP_V2. */
struct error *cgroup_limit(const struct cgroup *cgroup, enum cgroup_controller which,
			   int64_t value);
/* Fills in what cgroup v2 knows. */
void cgroup_read_usage(const struct cgroup *cgroup, struct cgroup_usage *usage);
int64_t cgroup_cpu_us(const struct cgroup *cgroup); /* so far; -1: unknown */
void cgroup_kill(const struct cgroup *cgroup);
/* Kills what is left, waits for its end, removes the directory. */
void *cgroup_free(struct cgroup *cgroup);
CLEANUP_DEFINE(struct cgroup, cgroup_free)
