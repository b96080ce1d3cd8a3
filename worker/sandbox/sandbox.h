/*
 * One command in isolation: bubblewrap with user, pid, ipc, uts (and, unless the network
 * is asked for, net) namespaces, an environment of exactly what it is given, and the
 * input root either beside the host's read-only system or as the whole file system.
 *
 * bubblewrap's own environment is empty, its arguments and the command's come over
 * descriptors: nothing that an action names (LD_PRELOAD, say) reaches a process outside
 * its sandbox.
 *
 * Threads: a sandbox is one job's thread's; sandbox_kill() may come from any.
 */
#pragma once

#include <sys/resource.h>

#include "lib/base/buf.h"
#include "lib/base/error.h"
#include "worker/sandbox/cgroup.h"
#include "worker/sandbox/launcher.h"
#include "worker/sandbox/layout.h"

/* What a command can write into its / where that is not its input root. */
#define SANDBOX_ROOT_BYTES (1 << 20)

struct sandbox;

struct sandbox_tools { /* found once, at start */
	char *bwrap;   /* absolute path */
	char *program; /* lazyroot-sandbox, beside our own program */
};
/* lazyroot-sandbox alone; the caller frees it. */
struct error *sandbox_find_program(char **out);
/* FAILED_PRECONDITION tells what to install. */
struct error *sandbox_find_tools(struct sandbox_tools *out);
void sandbox_tools_deinit(struct sandbox_tools *tools);

/* Whom a command is for the kernel outside its user namespace: never root, whose files,
 * keys and cgroups would be the command's. By default an id that neither
 * distributions nor systemd give to anybody. */
#define SANDBOX_USER 61183
struct sandbox_user {
	uid_t uid;
	gid_t gid;
};
/* Runs `true` once, with a directory in the place of an input root. FAILED_PRECONDITION
 * tells why this machine cannot isolate commands, and what to do. */
struct error *sandbox_probe(const struct sandbox_tools *tools,
			    const struct sandbox_user *user, struct slice filter,
			    const struct layout_config *layout);

struct sandbox_variable {
	const char *name;
	const char *value;
};

/* Hard, RLIM_INFINITY for none. */
struct sandbox_rlimits {
	rlim_t file_bytes;
	rlim_t cpu_seconds;
	rlim_t data_bytes;
	/* of the whole sandbox: counted in its user namespace (kernels before 5.14: of
	 * all that the actions' user runs) */
	rlim_t processes;
};

struct sandbox_config {
	struct launcher *launcher; /* idle; busy until the sandbox is freed */
	const struct layout *layout;
	const char *workdir; /* relative to the input root */
	const char *const *arguments;
	size_t n_arguments;
	const struct sandbox_variable *variables;
	size_t n_variables;
	bool has_terminal; /* stays in the session of its caller, as its launcher did */
	int stdin_fd;      /* -1: nothing is read there */
	int stdout_fd;
	int stderr_fd;
	struct cgroup *cgroup; /* or NULL; borrowed */
	struct sandbox_user user;
	unsigned int uid; /* what the command sees of itself */
	unsigned int gid;
	/* what stands at /tmp and /dev/shm; NULL: file systems of their own, of */
	const char *tmp;
	const char *shm;
	int64_t tmp_bytes; /* each; 0: the kernel's default */
	struct sandbox_rlimits rlimits;
	struct slice filter; /* filter.h; empty: none */
};

/* What lazyroot-sandbox becomes inside: the command, its environment, its limits and its
 * filter, as a memory file. */
struct error *sandbox_command(const struct sandbox_config *config, int *fd_out);
struct error *sandbox_start(const struct sandbox_config *config, struct sandbox **out);
/* Kills what still runs and reaps it. */
void *sandbox_free(struct sandbox *sandbox);
CLEANUP_DEFINE(struct sandbox, sandbox_free)

int sandbox_fd(const struct sandbox *sandbox); /* POLLIN: it ended; borrowed */
void sandbox_kill(struct sandbox *sandbox);    /* the whole tree, now */
/* The namespace's pid 1 as seen from outside; 0 where it is not known yet. */
pid_t sandbox_first_pid(struct sandbox *sandbox);

struct sandbox_end {
	int exit_code; /* the command's; 128 + n where signal n ended it */
	struct rusage usage;
};
/* After the descriptor was readable: every process of the sandbox is gone. INTERNAL where
 * bubblewrap itself failed: its words are on the command's stderr. */
struct error *sandbox_wait(struct sandbox *sandbox, struct sandbox_end *end_out);
