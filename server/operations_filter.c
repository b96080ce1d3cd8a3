/* Owns the words of operations_filter.h. No state. */
#include "server/operations_filter.h"

#include <string.h>
#include <strings.h>

#define FILTER_SPACE " \t&"

/* The stages that a word stands for; 0: none. */
static const struct {
	const char *field, *value;
	unsigned int stages;
} filter_words[] = {
	{"stage", "queued", 1u << QUEUE_QUEUED},
	{"stage", "executing", 1u << QUEUE_EXECUTING},
	{"stage", "completed", 1u << QUEUE_COMPLETED},
	{"done", "false", 1u << QUEUE_QUEUED | 1u << QUEUE_EXECUTING},
	{"done", "true", 1u << QUEUE_COMPLETED},
};

static const char *const filter_request[QUEUE_REQUEST_FIELDS] = {
	[QUEUE_REQUEST_INVOCATION] = "tool_invocation_id",
	[QUEUE_REQUEST_CORRELATED] = "correlated_invocations_id",
	[QUEUE_REQUEST_TARGET] = "target_id",
};

static bool filter_is(struct slice word, const char *text)
{
	return word.len == strlen(text) &&
	       strncasecmp((const char *)word.data, text, word.len) == 0;
}

static struct error *filter_bad(struct slice what)
{
	return error_new(
		ERROR_INVALID_ARGUMENT,
		"filter: \"%.*s\" is not understood: stage=queued, executing or "
		"completed, done=true or false, action=HASH/SIZE, "
		"tool_invocation_id, correlated_invocations_id or target_id=TEXT",
		(int)what.len, (const char *)what.data);
}

static struct error *filter_add(struct slice field, struct slice value,
				struct operations_filter *out)
{
	struct digest action;
	struct error *err;

	if (filter_is(field, "action")) {
		err = error_wrap(digest_parse_slice(value, &action), "filter: action");
		if (err)
			return err;
		if (out->has_action && !digest_equal(&action, &out->action))
			out->stages = 0; /* no operation has two */
		out->has_action = true;
		out->action = action;
		return NULL;
	}
	for (size_t i = 0; i < QUEUE_REQUEST_FIELDS; i++) {
		if (!filter_is(field, filter_request[i]))
			continue;
		if (value.len == 0)
			return filter_bad(field);
		if (out->request[i].len > 0 && !slice_equal(out->request[i], value))
			out->stages = 0; /* no operation has two */
		out->request[i] = value;
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(filter_words); i++) {
		if (filter_is(field, filter_words[i].field) &&
		    filter_is(value, filter_words[i].value)) {
			out->stages &= filter_words[i].stages;
			return NULL;
		}
	}
	return filter_bad(filter_is(field, "stage") || filter_is(field, "done") ? value
										: field);
}

/* From the cursor on, moved behind it; quotes are not part of it. */
static struct slice filter_value(const char **at)
{
	bool is_quoted = **at == '"';
	const char *start = *at + is_quoted;
	size_t len = strcspn(start, is_quoted ? "\"" : FILTER_SPACE);

	if (is_quoted && !start[len])
		len = 0; /* a quote without its other half is no value */
	*at = start + len + (is_quoted && start[len] == '"');
	return (struct slice){(const uint8_t *)start, len};
}

struct error *operations_filter_parse(const char *text, struct operations_filter *out)
{
	struct operations_filter filter = {.stages = 1u << QUEUE_QUEUED |
						     1u << QUEUE_EXECUTING |
						     1u << QUEUE_COMPLETED};
	const char *at = text + strspn(text, FILTER_SPACE);
	struct error *err = NULL;

	if (strlen(text) > OPERATIONS_FILTER_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "filter: %zu bytes are over the limit of %d",
				 strlen(text), OPERATIONS_FILTER_MAX);
	while (*at && !err) {
		struct slice field = {(const uint8_t *)at, strcspn(at, FILTER_SPACE "=")};

		at += field.len + strspn(at + field.len, FILTER_SPACE);
		if (filter_is(field, "AND") && *at != '=')
			continue;
		if (*at != '=')
			return filter_bad(field);
		at++;
		at += strspn(at, FILTER_SPACE);
		err = filter_add(field, filter_value(&at), &filter);
		at += strspn(at, FILTER_SPACE);
	}
	if (!err)
		*out = filter;
	return err;
}
