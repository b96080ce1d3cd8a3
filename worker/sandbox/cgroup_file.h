/*
 * Files of cgroup directories, of both versions, and the names of ours.
 *
 * Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

bool cgroup_write_file(int dir_fd, const char *name, const char *text); /* errno is set */
/* Writes since the start, by all: a budget in tests. */
unsigned int cgroup_n_writes(void);
/* The number on the line "KEY number" ("": the only number); -1: not there. */
int64_t cgroup_number(const char *text, const char *key);
/* Where our own process is in the hierarchy of a v1 controller ("" : v2), or NULL. */
char *cgroup_own_path(const char *controller);
/* The pid in "lazyroot-PID-…" of a worker that is gone; 0 for all else. */
int cgroup_dead_owner(const char *name);
