/*
 * What a person names on the command line to look at: a Directory, a Tree or an Action by
 * its digest, told apart by content, an artifact by its name, which is its outputs, or a
 * directory of this machine by a path that begins with "." or "/".
 * Each means one tree; an Action its input root, with
 * "+result" behind the digest what its command left: the input root with the outputs of
 * its result in their places.
 *
 * Threads: main.
 */
#pragma once

#include "client/client.h"
#include "worker/action/plan.h"
#include "worker/sandbox/layout.h"

/* The same for people, in the help of each verb that takes one. */
#define SUBJECT_HELP                                                                     \
	"\n\nA tree is named by a digest (of a Directory, a Tree, or an Action: its "    \
	"input "                                                                         \
	"root), by\nDIGEST+result (what an action left), by the name of an artifact "    \
	"(its "                                                                          \
	"outputs), or as a\ndirectory of this machine: a path that begins with ./, ../ " \
	"or /."

struct subject {
	struct digest root; /* a Directory */
	struct plan *plan;  /* of an Action, as a worker makes it; else NULL */
	char *workdir;      /* of an Action, in the root; else NULL */
	bool has_result;    /* root has the outputs */
	int result_exit_code;
};

#define SUBJECT_INIT ((struct subject){.plan = NULL})
void subject_deinit(struct subject *subject);

struct subject_wish {
	bool is_action;        /* it must be one */
	bool with_result;      /* as if "+result" were there */
	const char *root_path; /* of actions that do not say */
};
/* After client_open_fetch(). INVALID_ARGUMENT: it is no tree and no Action; NOT_FOUND:
 * nobody knows a result. */
struct error *subject_find(struct client *client, const char *text,
			   const struct subject_wish *wish, struct subject *out);
/* The same, of which only the tree is wanted. */
struct error *subject_root(struct client *client, const char *text,
			   struct digest *root_out);
/* Whether it could be one, before anything is fetched: INVALID_ARGUMENT where it is no
 * digest and no name that is known here. */
struct error *subject_check(struct client *client, const char *text);
