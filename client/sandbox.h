/*
 * Where a command runs is a detail: one call, three places.
 *
 *   namespaces  this machine: bubblewrap, the input root mounted lazily from the local
 *               store (and, where a service is configured, from its storage), what the
 *               command writes in an overlay: what runs an action in the worker
 *   plain       this machine, with neither: the tree is staged into a scratch directory
 *   remote      an execution service
 *
 * The two that are here need no service. Whatever the place, the outcome is the same.
 *
 * Threads: main.
 */
#pragma once

#include "client/execution.h"
#include "client/request.h"
#include "worker/action/plan.h"
#include "worker/sandbox/sandbox.h"

enum sandbox_place { SANDBOX_AUTO, SANDBOX_NAMESPACES, SANDBOX_PLAIN, SANDBOX_REMOTE };

#define SANDBOX_OPTION(word)                                                             \
	{                                                                                \
		"sandbox", 0, OPTION_STRING, "PLACE",                                    \
			"where it runs: remote, namespaces (here, isolated), plain "     \
			"(here, not\nisolated), or auto (default): the first of them "   \
			"that can be",                                                   \
			NULL, (word), 0, 0                                               \
	}

/* "auto", "namespaces", "plain", "remote"; NULL is auto. INVALID_ARGUMENT: none of them.
 */
struct error *sandbox_place_parse(const char *word, enum sandbox_place *out);

/*
 * Settles where: auto is remote where has_service, else namespaces, else plain. For
 * namespaces the process enters mount (and, where it is not root, user) namespaces of its
 * own, which is possible only while it has one thread: so a verb that calls this owns its
 * signals (main.c) and calls interrupt_start() after it, before anything else that makes
 * a thread. FAILED_PRECONDITION says what is missing.
 */
struct error *sandbox_settle(struct client *client, bool has_service,
			     enum sandbox_place *place);

/* An action: execution.action names it. */
struct sandbox_run_config {
	struct execution_config execution;
	enum sandbox_place place; /* settled */
};
/* Its result of before, from the action cache of where it would run: before its inputs go
 * anywhere, since a result that is there makes that needless. */
struct error *sandbox_look_up(const struct sandbox_run_config *config,
			      struct execution_outcome *out, bool *found_out);
/* Runs it: execution.resend brought (or brings) its blobs to where that is. What ended
 * with 0 on this machine goes into the local action cache, unless the Action itself says
 * otherwise. */
struct error *sandbox_run(const struct sandbox_run_config *config,
			  struct execution_outcome *out);

/*
 * A command with descriptors of its caller's, such as a terminal, in the place
 * SANDBOX_NAMESPACES. Blobs of the root that are not in the local store come from the
 * service, where client_connect() was called. With is_terminal it has job control on the
 * terminal that descriptor 0 is, which is ours again when this returns (its caller
 * ignores SIGINT and SIGQUIT before interrupt_start(): they are the command's); else it
 * is in a session of its own.
 */
struct sandbox_shell_config {
	struct client *client;
	const struct digest *root; /* of its input root */
	const char *root_path;     /* where it sees that; NULL: LAYOUT_ROOT; "/": whole */
	const char *workdir; /* in the root, "" is the root itself; made if missing */
	const struct plan_output *outputs; /* whose parents are made, too */
	size_t n_outputs;
	const char *const *arguments;
	size_t n_arguments;
	const struct sandbox_variable *variables; /* all of its environment */
	size_t n_variables;
	int fds[3]; /* stdin, stdout, stderr; borrowed */
	bool is_terminal;
	bool with_network;
	unsigned int uid; /* whom it sees itself as; ACCOUNTS_UID */
	unsigned int gid;
	bool is_saved; /* the root as it was left is brought into the local store */
};
struct sandbox_shell_end {
	int exit_code;       /* 128 + n where signal n ended it */
	struct digest saved; /* a Directory, where is_saved */
};
struct error *sandbox_shell(const struct sandbox_shell_config *config,
			    struct sandbox_shell_end *out);
