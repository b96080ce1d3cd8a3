/*
 * What commands have in common, as keys of profiles: the same command, the same shape of
 * a command (all but what differs from file to file), the same tool. A key is the digest
 * of a text of our own ("lazyroot profile 1 command" and what it is of), which no Action
 * has: profiles are shared as results of it (worker/action/profile_share.h).
 *
 * Threads: any; pure.
 */
#pragma once

#include "lib/tree/digest.h"

enum profile_kind {
	PROFILE_COMMAND, /* the finest first */
	PROFILE_SHAPE,
	PROFILE_TOOL,
	PROFILE_KINDS,
};

/* The Command is the whole of it, its environment and platform too. */
void profile_key_command(const struct digest *command, struct digest *out);
/* The words with every path, output and response file taken out, but for its ending. A
 * shell's script is one word, and stays as it is. */
void profile_key_shape(const char *const *words, size_t n, struct digest *out);
/* The tool is its file's bytes. */
void profile_key_tool(const struct digest *tool, struct digest *out);
/* Where profiles of several instances stand in one place: what one learned is nothing to
 * the others. In place; that of the instance "" stays as it is. */
void profile_key_within(const char *instance, struct digest *key);
