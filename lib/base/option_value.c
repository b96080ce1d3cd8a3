/*
 * Owns the memory of which values came from where, for the program's life; else nothing
 * but what it puts into the caller's values. Main thread, at start.
 */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "lib/base/alloc.h"
#include "lib/base/nearest.h"
#include "lib/base/option.h"
#include "lib/base/option_record.h"
#include "lib/base/units.h"

static struct error *option_set_flag(const char *text, bool *out)
{
	static const char *const words[][2] = {
		{"false", "true"}, {"no", "yes"}, {"off", "on"}, {"0", "1"}};

	for (size_t i = 0; i < ARRAY_SIZE(words) * 2; i++) {
		if (strcasecmp(text, words[i / 2][i % 2]) == 0) {
			*out = i % 2;
			return NULL;
		}
	}
	return error_new(ERROR_INVALID_ARGUMENT, "\"%s\" is neither true nor false",
			 text);
}

static struct error *option_set_size(const struct option_def *def, const char *text)
{
	int64_t size;
	struct error *err = units_parse_size(text, &size);

	if (!err && size < def->min)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"%s bytes are too few, it takes %" PRId64
				"K at least (write 10G for 10 gigabytes)",
				text, def->min >> 10);
	if (!err)
		*(int64_t *)def->value = size;
	return err;
}

/* Of one option whose value is not the command line's. */
struct option_source {
	const char *name;
	char *where; /* NULL: the command line's came later */
};
static struct option_source *option_sources_list;
static size_t option_n_sources;

static void option_note_source(const char *name, const char *where)
{
	struct option_source *source = NULL;

	for (size_t i = 0; i < option_n_sources; i++) {
		if (strcmp(option_sources_list[i].name, name) == 0)
			source = &option_sources_list[i];
	}
	if (!source && !where)
		return;
	if (!source) {
		option_sources_list =
			alloc_resize(option_sources_list, option_n_sources + 1,
				     sizeof(*option_sources_list));
		source = &option_sources_list[option_n_sources++];
		*source = (struct option_source){.name = name};
	}
	free(source->where);
	source->where = where ? alloc_string(where) : NULL;
}

static bool option_is_named(const char *text, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = strstr(text, "--"); at; at = strstr(at + 2, "--")) {
		const char *end = at + 2 + len;

		if (strncmp(at + 2, name, len) == 0 && *end != '-' &&
		    !(*end >= 'a' && *end <= 'z'))
			return true;
	}
	return false;
}

struct error *option_blame(struct error *err)
{
	for (size_t i = 0; err && i < option_n_sources; i++) {
		const struct option_source *source = &option_sources_list[i];

		if (source->where && option_is_named(error_text(err), source->name))
			return error_wrap(err, "%s", source->where);
	}
	return err;
}

struct error *option_put(const struct option_def *def, const char *text)
{
	switch (def->kind) {
	case OPTION_FLAG:
		return option_set_flag(text, def->value);
	case OPTION_STRING:
		free(*(char **)def->value);
		*(char **)def->value = alloc_string(text);
		return NULL;
	case OPTION_LIST:
		option_list_add(def->value, text);
		return NULL;
	case OPTION_INT:
		return units_parse_int(text, def->min, def->max, def->value);
	case OPTION_SIZE:
		return option_set_size(def, text);
	case OPTION_DURATION:
		return units_parse_duration(text, def->value);
	case OPTION_RECORDS:
		return option_records_add(def->value, text);
	}
	return NULL;
}

void option_clear(const struct option_def *def)
{
	if (def->kind == OPTION_LIST)
		option_list_deinit(def->value);
	if (def->kind == OPTION_RECORDS)
		option_list_deinit(&((struct option_records *)def->value)->list);
}

struct error *option_set(const struct option_def *def, const char *text,
			 const char *where)
{
	struct error *err;

	option_note_source(def->name, where);
	err = option_put(def, text);
	return where ? error_wrap(err, "%s: %s", where, def->name)
		     : error_wrap(err, "--%s", def->name);
}

const char *option_nearest(const struct option_program *program, const char *name)
{
	static const char *const common[] = {"config", "log", "help", "version"};
	struct nearest nearest;

	nearest_init(&nearest, name);
	for (size_t i = 0; i < program->n_defs; i++)
		nearest_offer(&nearest, program->defs[i].name);
	for (size_t i = 0; i < ARRAY_SIZE(common); i++)
		nearest_offer(&nearest, common[i]);
	return nearest.best;
}
