/* Owns the table of what may be how many. Any thread. */
#include "lib/base/alloc.h"
#include "lib/base/wire.h"
#include "worker/plan.h"

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

/* How often field stands in bytes; what does not decode is not counted, and refused
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

struct error *plan_check_action_bounds(struct slice bytes)
{
	return plan_check_bounds(bytes, "Action", plan_action_bounds,
				 ARRAY_SIZE(plan_action_bounds));
}

struct error *plan_check_command_bounds(struct slice bytes)
{
	return plan_check_bounds(bytes, "Command", plan_command_bounds,
				 ARRAY_SIZE(plan_command_bounds));
}
