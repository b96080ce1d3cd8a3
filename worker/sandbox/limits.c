/* Owns nothing: one table says how each limit is named, read and written. Any thread. */
#include "worker/sandbox/limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/units.h"

enum limits_unit { LIMITS_UNIT_SIZE, LIMITS_UNIT_COUNT, LIMITS_UNIT_DURATION };

#define LIMITS_PREFIX     "limit-"
#define LIMITS_MEMORY_MIN ((int64_t)8 << 20) /* bubblewrap and a small program */
#define LIMITS_CPU_MIN    (10 * NS_PER_MS)

static const struct limits_def {
	const char *property;
	enum limits_unit unit;
	int64_t min; /* below it no command could even start */
	const char *verb;
} limits_defs[LIMITS_N] = {
	[LIMITS_MEMORY] = {LIMITS_PREFIX "memory", LIMITS_UNIT_SIZE, LIMITS_MEMORY_MIN,
			   "killed"},
	[LIMITS_PROCESSES] = {LIMITS_PREFIX "processes", LIMITS_UNIT_COUNT, 1, "refused"},
	[LIMITS_CPU_TIME] = {LIMITS_PREFIX "cpu-time", LIMITS_UNIT_DURATION,
			     LIMITS_CPU_MIN, "killed"},
	[LIMITS_DISK] = {LIMITS_PREFIX "disk", LIMITS_UNIT_SIZE, 4096, "killed"},
	[LIMITS_INODES] = {LIMITS_PREFIX "inodes", LIMITS_UNIT_COUNT, 1, "killed"},
	[LIMITS_OUTPUT_BYTES] = {LIMITS_PREFIX "output-bytes", LIMITS_UNIT_SIZE, 0,
				 "outputs left out"},
	[LIMITS_OUTPUT_FILES] = {LIMITS_PREFIX "output-files", LIMITS_UNIT_COUNT, 0,
				 "outputs left out"},
	[LIMITS_LOG_BYTES] = {LIMITS_PREFIX "log-bytes", LIMITS_UNIT_SIZE, 0, "killed"},
};

void limits_init(struct limits *limits)
{
	for (size_t i = 0; i < LIMITS_N; i++)
		limits->of[i] = LIMITS_NONE;
}

const char *limits_property(enum limits_kind kind)
{
	return limits_defs[kind].property;
}

const char *limits_name(enum limits_kind kind)
{
	return limits_property(kind) + strlen(LIMITS_PREFIX);
}

const char *limits_format(enum limits_kind kind, int64_t value,
			  char text[static LIMITS_TEXT_MAX])
{
	static const char suffixes[] = "KMGT";
	size_t n = 0;

	if (value == LIMITS_NONE) {
		(void)snprintf(text, LIMITS_TEXT_MAX, "none");
		return text;
	}
	switch (limits_defs[kind].unit) {
	case LIMITS_UNIT_SIZE:
		for (; value && value % 1024 == 0 && n < strlen(suffixes); n++)
			value /= 1024;
		(void)snprintf(text, LIMITS_TEXT_MAX, "%" PRId64 "%.*s", value, n > 0,
			       n ? &suffixes[n - 1] : "");
		break;
	case LIMITS_UNIT_COUNT:
		(void)snprintf(text, LIMITS_TEXT_MAX, "%" PRId64, value);
		break;
	case LIMITS_UNIT_DURATION:
		if (value % NS_PER_S == 0)
			(void)snprintf(text, LIMITS_TEXT_MAX, "%llds",
				       (long long)(value / NS_PER_S));
		else
			(void)snprintf(text, LIMITS_TEXT_MAX, "%lldms",
				       (long long)(value / NS_PER_MS));
		break;
	}
	return text;
}

static struct error *limits_parse(enum limits_kind kind, const char *text,
				  int64_t *value_out)
{
	const struct limits_def *def = &limits_defs[kind];
	char least[LIMITS_TEXT_MAX];
	struct error *err = NULL;
	int64_t value = 0;

	switch (def->unit) {
	case LIMITS_UNIT_SIZE:
		err = units_parse_size(text, &value);
		break;
	case LIMITS_UNIT_COUNT:
		err = units_parse_int(text, 0, LIMITS_NONE - 1, &value);
		break;
	case LIMITS_UNIT_DURATION:
		err = units_parse_duration(text, &value);
		break;
	}
	if (err)
		return err;
	if (value < def->min)
		return error_new(ERROR_INVALID_ARGUMENT, "\"%s\" is less than %s", text,
				 limits_format(kind, def->min, least));
	*value_out = value;
	return NULL;
}

struct error *limits_set(struct limits *limits, const char *assignment)
{
	const char *equals = strchr(assignment, '=');
	size_t len = equals ? (size_t)(equals - assignment) : 0;

	for (enum limits_kind kind = 0; equals && kind < LIMITS_N; kind++) {
		const char *name = limits_name(kind);

		if (strlen(name) == len && memcmp(name, assignment, len) == 0)
			return error_wrap(
				limits_parse(kind, equals + 1, &limits->of[kind]), "%s",
				name);
	}
	return error_new(ERROR_INVALID_ARGUMENT,
			 "\"%s\" is not NAME=VALUE with a name of memory, processes, "
			 "cpu-time, disk, inodes, output-bytes, output-files, log-bytes",
			 assignment);
}

struct error *limits_settle(struct limits_policy *policy)
{
	char normal[LIMITS_TEXT_MAX];
	char most[LIMITS_TEXT_MAX];

	for (enum limits_kind kind = 0; kind < LIMITS_N; kind++) {
		int64_t *value = &policy->normal.of[kind];
		int64_t *maximum = &policy->most.of[kind];

		if (*maximum == LIMITS_NONE)
			*maximum = *value;
		if (*value == LIMITS_NONE)
			*value = *maximum;
		if (*value > *maximum)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "the default of limit %s, %s, is over its "
					 "maximum of %s",
					 limits_name(kind),
					 limits_format(kind, *value, normal),
					 limits_format(kind, *maximum, most));
	}
	return NULL;
}

struct error *limits_ask(const struct limits_policy *policy, enum limits_kind kind,
			 const char *value, struct limits *limits)
{
	char most[LIMITS_TEXT_MAX];
	int64_t asked;
	struct error *err = limits_parse(kind, value, &asked);

	if (err)
		return error_wrap(err, "platform property %s", limits_property(kind));
	if (asked > policy->most.of[kind])
		return error_new(
			ERROR_INVALID_ARGUMENT,
			"platform property %s is %s, more than this worker's maximum of "
			"%s",
			limits_property(kind), value,
			limits_format(kind, policy->most.of[kind], most));
	limits->of[kind] = asked;
	return NULL;
}

const char *limits_message(const struct limits *limits, enum limits_kind kind,
			   char text[static LIMITS_MESSAGE_MAX])
{
	char value[LIMITS_TEXT_MAX];

	if (kind == LIMITS_MACHINE) {
		(void)snprintf(text, LIMITS_MESSAGE_MAX,
			       "killed: the worker's machine had no memory left for it");
		return text;
	}
	(void)snprintf(text, LIMITS_MESSAGE_MAX, "%s: past the limit %s=%s",
		       limits_defs[kind].verb, limits_name(kind),
		       limits_format(kind, limits->of[kind], value));
	return text;
}

int limits_exit_code(unsigned int passed_mask, int exit_code)
{
	unsigned int fatal_mask = passed_mask & ~(1u << LIMITS_PROCESSES);

	return fatal_mask && !exit_code ? LIMITS_EXIT_CODE : exit_code;
}
