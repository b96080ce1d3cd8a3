/*
 * What a command says on stdout and stderr: pipes, whose content goes into files as it
 * comes. So nothing that a command does with them (opening /dev/stdout again, sendfile)
 * changes what was said before.
 *
 * Threads: the job's.
 */
#pragma once

#include <stdint.h>

#include "worker/sandbox/sandbox.h"

#define STREAMS_N 2

struct streams {
	int file_fds[STREAMS_N];  /* stdout, stderr */
	int read_fds[STREAMS_N];  /* of the pipes */
	int write_fds[STREAMS_N]; /* the command's; -1 once it has them */
	int64_t sizes[STREAMS_N];
	int64_t max;     /* of each */
	int64_t rest_ns; /* monotonic: until then nobody looks; 0: as soon as there is any
			  */
	int64_t full_ns; /* monotonic: since when the disk has no room; 0: it has */
	struct error *err; /* the first */
};

#define STREAMS_INIT                                                                     \
	((struct streams){                                                               \
		.file_fds = {-1, -1}, .read_fds = {-1, -1}, .write_fds = {-1, -1}})

/* Makes the files "stdout" and "stderr" in a directory. */
struct error *streams_open(struct streams *streams, int dir_fd,
			   const struct sandbox_user *user);
void streams_deinit(struct streams *streams);
void streams_given(struct streams *streams); /* the command has its ends */

/* For poll(2): POLLIN; -1: not now. */
int streams_fd(const struct streams *streams, size_t i, int64_t now_ns);
/* Moves what there is. */
void streams_pump(struct streams *streams);
/* After the command's end: what is still on its way, whatever max says. */
struct error *streams_finish(struct streams *streams);
