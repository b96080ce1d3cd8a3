/*
 * Owns the tables of what may be how many, and of the strings that hold no NUL byte: both
 * looked at on the wire, since decoding makes memory of all and cuts strings at a NUL. A
 * message that only decoding could read would evade them and is refused.
 *
 * Threads: any.
 */
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/wire.h"
#include "worker/action/plan.h"

struct plan_bound {
	uint32_t field;  /* of the message */
	uint32_t within; /* of the message that field holds; 0: field itself is counted */
	size_t max;
	const char *what;
};

static const struct plan_bound plan_action_bounds[] = {
	{10, 1, PLAN_PROPERTIES_MAX, "platform properties"},
};

static const struct plan_bound plan_command_bounds[] = {
	{1, 0, PLAN_ARGUMENTS_MAX, "arguments"},
	{2, 0, PLAN_VARIABLES_MAX, "environment variables"},
	{3, 0, PLAN_OUTPUTS_MAX, "outputs"},
	{4, 0, PLAN_OUTPUTS_MAX, "outputs"},
	{5, 1, PLAN_PROPERTIES_MAX, "platform properties"},
	{7, 0, PLAN_OUTPUTS_MAX, "outputs"},
	{8, 0, PLAN_PROPERTIES_MAX, "output node properties"},
};

struct plan_text {
	uint32_t path[4]; /* of fields, from the message inwards; 0: ends */
	const char *what;
};

static const struct plan_text plan_action_texts[] = {
	{{1, 1}, "the hash of command_digest"},
	{{2, 1}, "the hash of input_root_digest"},
	{{10, 1, 1}, "the name of a platform property"},
	{{10, 1, 2}, "the value of a platform property"},
};

static const struct plan_text plan_command_texts[] = {
	{{1}, "an argument"},
	{{2, 1}, "the name of an environment variable"},
	{{2, 2}, "the value of an environment variable"},
	{{3}, "a path of output_files"},
	{{4}, "a path of output_directories"},
	{{5, 1, 1}, "the name of a platform property"},
	{{5, 1, 2}, "the value of a platform property"},
	{{6}, "working_directory"},
	{{7}, "a path of output_paths"},
	{{8}, "an output node property"},
};

/* How often field stands in bytes; what cannot be read is not counted, and refused
 * later. */
static size_t plan_count_field(struct slice bytes, uint32_t number)
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;
	size_t n = 0;

	while (wire_next(&wire, &field))
		n += field.number == number;
	return n;
}

static struct error *plan_check_bounds(struct slice bytes, const char *message,
				       const struct plan_bound *bounds, size_t n_bounds)
{
	size_t counts[ARRAY_SIZE(plan_command_bounds)] = {0};
	struct wire wire = wire_of(bytes);
	struct wire_field field;

	while (wire_next(&wire, &field)) {
		for (size_t i = 0; i < n_bounds; i++) {
			if (bounds[i].field != field.number)
				continue;
			counts[i] += bounds[i].within ? plan_count_field(field.bytes,
									 bounds[i].within)
						      : 1;
			if (counts[i] > bounds[i].max)
				return error_new(ERROR_INVALID_ARGUMENT,
						 "the %s has more than %zu %s", message,
						 bounds[i].max, bounds[i].what);
		}
	}
	return NULL;
}

static struct error *plan_check_text(struct slice bytes, const char *message,
				     const struct plan_text *text, size_t level)
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;
	struct error *err = NULL;

	if (level == ARRAY_SIZE(text->path) || !text->path[level])
		return bytes.len && memchr(bytes.data, '\0', bytes.len)
			       ? error_new(ERROR_INVALID_ARGUMENT,
					   "%s: %s holds a NUL byte", message, text->what)
			       : NULL;
	while (!err && wire_next(&wire, &field))
		if (field.number == text->path[level] && field.type == WIRE_BYTES)
			err = plan_check_text(field.bytes, message, text, level + 1);
	if (!err && wire.is_bad)
		err = error_new(ERROR_INVALID_ARGUMENT, "%s: what holds %s is no message",
				message, text->what);
	return err;
}

static struct error *plan_check_texts(struct slice bytes, const char *message,
				      const struct plan_text *texts, size_t n_texts)
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;
	struct error *err = NULL;

	while (wire_next(&wire, &field))
		for (size_t i = 0; i < n_texts; i++) {
			if (field.number != texts[i].path[0] || field.type != WIRE_BYTES)
				continue;
			err = plan_check_text(field.bytes, message, &texts[i], 1);
			if (err)
				return err;
		}
	return wire.is_bad ? error_new(ERROR_INVALID_ARGUMENT, "the %s is no message",
				       message)
			   : NULL;
}

struct error *plan_check_action_bounds(struct slice bytes)
{
	struct error *err = plan_check_bounds(bytes, "Action", plan_action_bounds,
					      ARRAY_SIZE(plan_action_bounds));

	return err ? err
		   : plan_check_texts(bytes, "Action", plan_action_texts,
				      ARRAY_SIZE(plan_action_texts));
}

struct error *plan_check_command_bounds(struct slice bytes)
{
	struct error *err = plan_check_bounds(bytes, "Command", plan_command_bounds,
					      ARRAY_SIZE(plan_command_bounds));

	return err ? err
		   : plan_check_texts(bytes, "Command", plan_command_texts,
				      ARRAY_SIZE(plan_command_texts));
}
