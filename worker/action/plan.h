/*
 * What an action asks for, decoded and checked: paths normalised within the input root,
 * properties understood, numbers in range. Pure: needs no file system.
 *
 * A malformed action is INVALID_ARGUMENT that names the field; one that needs more memory
 * than a plan may take is RESOURCE_EXHAUSTED.
 */
#pragma once

#include "lib/base/arena.h"
#include "lib/tree/digest.h"

/* What one Action and its Command may have: counted on the wire, before anything is
 * allocated for it. No kernel starts a command with as many words. */
#define PLAN_ARGUMENTS_MAX  500000
#define PLAN_VARIABLES_MAX  100000
#define PLAN_OUTPUTS_MAX    100000 /* of each kind */
#define PLAN_PROPERTIES_MAX 1000

enum plan_want { PLAN_ANY, PLAN_FILE, PLAN_DIRECTORY }; /* the legacy fields know which */

struct plan_output {
	const char *spelt; /* as the Command has it: echoed verbatim */
	const char *path;  /* relative to the input root, "" is the root itself */
	enum plan_want want;
};

struct plan {
	struct arena arena;
	Reapi__Action *action;
	Reapi__Command *command;
	struct digest action_digest;
	struct digest command_digest;
	struct digest root;
	const char *root_path; /* where the command finds its input root: absolute */
	const char *workdir;   /* relative to the input root, "" is the root itself */
	struct plan_output *outputs;
	size_t n_outputs;
	bool is_legacy;  /* output_files and output_directories were used */
	bool with_mtime; /* output_node_properties */
	bool with_unix_mode;
	bool with_network;
	int64_t timeout_ns; /* 0: none */
	unsigned int uid;
	unsigned int gid;
};

/* Step one: the Action; names the Command to fetch. action_bytes is borrowed. */
struct error *plan_new(struct slice action_bytes, const struct digest *action,
		       const char *default_root, struct plan **plan_out);
/* Step two: the Command's bytes (borrowed). */
struct error *plan_set_command(struct plan *plan, struct slice command_bytes);
void *plan_free(struct plan *plan);
CLEANUP_DEFINE(struct plan, plan_free)

/* plan_bounds.c: INVALID_ARGUMENT names what there is too much of, or holds a NUL byte.
 */
struct error *plan_check_action_bounds(struct slice bytes);
struct error *plan_check_command_bounds(struct slice bytes);

/* The last platform property of this name, or NULL; the Action's platform goes before the
 * Command's. */
const char *plan_property(const struct plan *plan, const char *name);

/*
 * path as seen from base, both relative to the input root: "." and empty components go,
 * ".." climbs, at most to the root. INVALID_ARGUMENT: absolute, or climbing out.
 */
struct error *plan_resolve(struct arena *arena, const char *base, const char *path,
			   const char **resolved_out);
