/*
 * What an action may ask for, or do inside its sandbox, that is the operator's to grant:
 * --allow NAME[=VALUE]. Nothing of it is granted by itself. Pure: needs no machine.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/error.h"

enum allow_kind {
	/* what an action asks for by a platform property */
	ALLOW_NETWORK, /* network=on */
	ALLOW_UID,     /* unixUID other than ACCOUNTS_UID */
	ALLOW_GID,
	/* what a command does by itself; else the sandbox refuses it (filter.h) */
	ALLOW_USERNS,
	ALLOW_PTRACE,
	ALLOW_IO_URING,
	ALLOW_USERFAULTFD,
};
#define ALLOW_N 7

struct allow_range {
	int64_t min;
	int64_t max;
};

struct allow {
	unsigned int mask; /* 1 << enum allow_kind */
	struct allow_range uids;
	struct allow_range gids;
};

const char *allow_name(enum allow_kind kind); /* "network" */
static inline bool allow_has(const struct allow *allow, enum allow_kind kind)
{
	return allow->mask & 1u << kind;
}

/* "network", "uid=0-999"; INVALID_ARGUMENT tells what is wrong. */
struct error *allow_set(struct allow *allow, const char *grant);

/* What an action asks for by its platform properties. */
struct allow_request {
	bool with_network;
	unsigned int uid;
	unsigned int gid;
};
/* FAILED_PRECONDITION names the property that is not granted, and how it would be. */
struct error *allow_check(const struct allow *allow, const struct allow_request *request);
