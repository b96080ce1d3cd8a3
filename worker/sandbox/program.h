/*
 * What the worker and the processes of lazyroot-sandbox say to each other: datagrams over
 * a SOCK_SEQPACKET socket, with descriptors beside them. Both ends are of one build.
 */
#pragma once

#include <stdint.h>
#include <sys/resource.h>

#define PROGRAM_SOCKET_FD 3   /* of the launcher */
#define PROGRAM_BROKEN    125 /* exit code where a step of ours failed */

enum program_kind {
	PROGRAM_START, /* with descriptors; is answered by exactly one program_end */
	PROGRAM_KILL,  /* what was started, if it still runs; is not answered */
};

/* Descriptors that come with PROGRAM_START, in this order. */
enum program_fd {
	PROGRAM_FD_STDOUT,
	PROGRAM_FD_STDERR,
	PROGRAM_FD_ARGS,    /* bubblewrap's arguments, a NUL after each */
	PROGRAM_FD_STATUS,  /* where bubblewrap tells its child's pid and exit code */
	PROGRAM_FD_COMMAND, /* sandbox_build_command() */
	PROGRAM_FD_CGROUP,  /* a cgroup v2 directory; may be left out */
};
#define PROGRAM_FD_N 6

struct program_order {
	uint32_t kind;
	/* whom bubblewrap and the command are outside */
	uint32_t uid;
	uint32_t gid;
	/* hard limits, RLIM_INFINITY for none */
	rlim_t file_bytes;
	rlim_t cpu_seconds;
	rlim_t data_bytes;
};

struct program_end {
	int32_t errnum; /* it could not be started */
	int32_t status; /* as wait4(2) has it */
	struct rusage usage;
};

/* program_serve.c: lazyroot-sandbox serve BWRAP [CGROUP.PROCS]... */
int program_serve(char **argv);
/* program_warden.c: lazyroot-sandbox warden DIR */
int program_warden(const char *dir);
