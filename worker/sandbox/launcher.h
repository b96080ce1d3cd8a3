/*
 * A slot's launcher as its worker sees it: the process lazyroot-sandbox serve, which
 * starts one command at a time (program_serve.c). Where it died, the next order gets a
 * new one.
 *
 * Threads: one at a time; launcher_kill() from any while an order runs.
 */
#pragma once

#include "lib/base/error.h"
#include "worker/sandbox/program.h"

struct launcher;

struct launcher_config {
	const char *program; /* path of lazyroot-sandbox; all borrowed */
	const char *bwrap;
	const char *const *joins; /* files "cgroup.procs" of cgroup v1; NULL ends them */
	bool has_terminal;        /* what it starts keeps ours */
};

/* Starts it: by the time the first order comes it has joined its cgroups. */
struct error *launcher_new(const struct launcher_config *config, struct launcher **out);
/* What it started ends with it. */
void *launcher_free(struct launcher *launcher);
CLEANUP_DEFINE(struct launcher, launcher_free)

/* fds in the order of enum program_fd; the cgroup's may be -1. Exactly one end follows.
 */
struct error *launcher_start(struct launcher *launcher, const struct program_order *order,
			     const int fds[static PROGRAM_FD_N]);
int launcher_fd(const struct launcher *launcher); /* POLLIN: it ended; borrowed */
void launcher_kill(const struct launcher *launcher);
/* Waits for the end of what was started; UNAVAILABLE where the launcher itself died. */
struct error *launcher_wait(struct launcher *launcher, struct program_end *end_out);
