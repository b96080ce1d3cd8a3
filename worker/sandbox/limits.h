/*
 * What one action may use: eight limits, the operator's defaults and maxima, and what an
 * action asks for within them. Pure: needs no machine.
 */
#pragma once

#include <stdint.h>

#include "lib/base/error.h"

enum limits_kind {
	LIMITS_MEMORY,    /* bytes of all its processes, their /tmp and page cache */
	LIMITS_PROCESSES, /* at once; a thread counts as one */
	LIMITS_CPU_TIME,  /* nanoseconds, of all its processes together */
	LIMITS_DISK,      /* bytes written below the input root, in /tmp and /dev/shm */
	LIMITS_INODES,    /* files, directories and links, counted with disk */
	LIMITS_OUTPUT_BYTES, /* of the outputs that it wrote */
	LIMITS_OUTPUT_FILES, /* their number */
	LIMITS_LOG_BYTES,    /* stdout and stderr together */
};
#define LIMITS_N 8
/* In a mask only: no limit of the action's, but the machine had no memory left for it. */
#define LIMITS_MACHINE   LIMITS_N
#define LIMITS_NONE      INT64_MAX
#define LIMITS_TEXT_MAX  24
#define LIMITS_EXIT_CODE 137

struct limits {
	int64_t of[LIMITS_N]; /* LIMITS_NONE where there is none */
};
void limits_init(struct limits *limits); /* none at all */

struct limits_policy {
	struct limits normal; /* for an action that says nothing */
	struct limits most;   /* an action may ask for at most that */
};

const char *limits_name(enum limits_kind kind);     /* "memory" */
const char *limits_property(enum limits_kind kind); /* "limit-memory" */

/* "memory=2G"; INVALID_ARGUMENT names what is wrong. */
struct error *limits_set(struct limits *limits, const char *assignment);
/*
 * After the operator's words: of a default and a maximum the one that is missing is the
 * other. INVALID_ARGUMENT where a default is over its maximum.
 */
struct error *limits_settle(struct limits_policy *policy);
/* An action's property; more than the maximum is INVALID_ARGUMENT that names it. */
struct error *limits_ask(const struct limits_policy *policy, enum limits_kind kind,
			 const char *value, struct limits *limits);

/* What people are told of a passed limit: "killed: past the limit memory=256M". */
#define LIMITS_MESSAGE_MAX 96
const char *limits_message(const struct limits *limits, enum limits_kind kind,
			   char text[static LIMITS_MESSAGE_MAX]);
/* passed_mask: 1 << enum limits_kind. An action that passed a limit does not succeed, but
 * for refused processes, which a command may do without. */
int limits_exit_code(unsigned int passed_mask, int exit_code);

/* As limits_set() reads it: "256M", "1500ms", "64". */
const char *limits_format(enum limits_kind kind, int64_t value,
			  char text[static LIMITS_TEXT_MAX]);
