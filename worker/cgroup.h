/*
 * A cgroup v2 directory per action, so that everything the action started can be killed
 * at one stroke. Where no cgroup v2 tree can be written the pid namespace alone does it.
 */
#pragma once

#include <stdbool.h>

#include "lib/base/error.h"

struct cgroup;

/* Finds our own cgroup v2 directory and removes what workers that are gone left in it;
 * returns NULL where there is none: reason_out (static) says why. */
char *cgroup_find_base(const char **reason_out);

struct error *cgroup_new(const char *base, unsigned int number, struct cgroup **out);
int cgroup_dir_fd(const struct cgroup *cgroup); /* for CLONE_INTO_CGROUP; borrowed */
void cgroup_kill(const struct cgroup *cgroup);
/* Kills what is left, waits for its end, removes the directory. */
void *cgroup_free(struct cgroup *cgroup);
CLEANUP_DEFINE(struct cgroup, cgroup_free)
