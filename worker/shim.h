/*
 * What the worker and the processes of lazyroot-sandbox say to each other: datagrams over
 * a SOCK_SEQPACKET socket, with descriptors beside them. Both ends are of one build.
 */
#pragma once

#include <stdint.h>
#include <sys/resource.h>

#define SHIM_SOCKET_FD 3   /* of the launcher */
#define SHIM_BROKEN    125 /* exit code where a step of ours failed */

enum shim_kind {
	SHIM_START, /* with descriptors; is answered by exactly one shim_end */
	SHIM_KILL,  /* what was started, if it still runs; is not answered */
};

/* Descriptors that come with SHIM_START, in this order. */
enum shim_fd {
	SHIM_FD_STDOUT,
	SHIM_FD_STDERR,
	SHIM_FD_ARGS,    /* bubblewrap's arguments, a NUL after each */
	SHIM_FD_STATUS,  /* where bubblewrap tells its child's pid and exit code */
	SHIM_FD_COMMAND, /* sandbox_build_command() */
	SHIM_FD_CGROUP,  /* a cgroup v2 directory; may be left out */
};
#define SHIM_FD_N 6

struct shim_order {
	uint32_t kind;
	/* whom bubblewrap and the command are outside */
	uint32_t uid;
	uint32_t gid;
	/* hard limits, RLIM_INFINITY for none */
	rlim_t file_bytes;
	rlim_t cpu_seconds;
	rlim_t data_bytes;
};

struct shim_end {
	int32_t errnum; /* it could not be started */
	int32_t status; /* as wait4(2) has it */
	struct rusage usage;
};

/* shim_serve.c: lazyroot-sandbox serve BWRAP [CGROUP.PROCS]... */
int shim_serve(char **argv);
