/*
 * What the worker and the processes of lazyroot-sandbox say to each other: datagrams over
 * a SOCK_SEQPACKET socket, with descriptors beside them. Both ends are of one build.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#define PROGRAM_SOCKET_FD 3   /* of the launcher */
#define PROGRAM_BROKEN    125 /* exit code where a step of ours failed */

enum program_kind {
	PROGRAM_START, /* with descriptors; is answered by exactly one program_end */
	PROGRAM_KILL,  /* what was started, if it still runs; is not answered */
};

/* How the command is started. */
enum program_how {
	PROGRAM_BWRAP,
	/* by itself, without namespaces; all that it leaves is killed when it ends */
	PROGRAM_PLAIN,
	PROGRAM_CHROOT, /* the same, in another root directory, which needs root */
};

/* Descriptors that come with PROGRAM_START, in this order. */
enum program_fd {
	PROGRAM_FD_STDIN,
	PROGRAM_FD_STDOUT,
	PROGRAM_FD_STDERR,
	/* bubblewrap's arguments, a NUL after each; without it the working directory */
	PROGRAM_FD_ARGS,
	/* where bubblewrap tells its child's pid and exit code; without it what is to be
	 * the root directory, for PROGRAM_CHROOT */
	PROGRAM_FD_STATUS,
	PROGRAM_FD_COMMAND, /* sandbox_build_command() */
	PROGRAM_FD_CGROUP,  /* a cgroup v2 directory; may be left out */
};
#define PROGRAM_FD_N 7

struct program_order {
	uint32_t kind;
	uint32_t how; /* PROGRAM_START */
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

/* program_serve.c: lazyroot-sandbox serve BWRAP [CGROUP.PROCS]..., or "terminal" in the
 * place of serve: then what it starts stays in the session, and with it the terminal, of
 * whoever started it. */
int program_serve(char **argv, bool has_terminal);
/* program_warden.c: lazyroot-sandbox warden DIR */
int program_warden(const char *dir);
