/*
 * Reads a YAML file of options, one event of libyaml after the other: a mapping of keys
 * to words, to lists of words, or to records of words. Each place has its line from
 * libyaml's marks. Main thread, at start.
 */
#include "lib/base/config.h"

#include <fcntl.h>
#include <string.h>
#include <yaml.h>

#include "lib/base/alloc.h"
#include "lib/base/buf.h"
#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/option_record.h"

#define CONFIG_LIST_MAX 1000 /* words of one list */
#define CONFIG_FILE_MAX ((size_t)1 << 20)

struct config_reader {
	const char *path;
	const struct option_program *program;
	yaml_parser_t parser;
	yaml_event_t event; /* the last; kept until the next */
	bool has_event;
	char **keys; /* that stood there already */
	size_t n_keys, keys_cap;
};

static void config_reader_deinit(struct config_reader *reader)
{
	if (reader->has_event)
		yaml_event_delete(&reader->event);
	yaml_parser_delete(&reader->parser);
	for (size_t i = 0; i < reader->n_keys; i++)
		free(reader->keys[i]);
	free(reader->keys);
}

static struct error *config_next(struct config_reader *reader)
{
	if (reader->has_event)
		yaml_event_delete(&reader->event);
	reader->has_event = yaml_parser_parse(&reader->parser, &reader->event);
	if (reader->has_event)
		return NULL;
	return error_new(ERROR_INVALID_ARGUMENT,
			 "%s: this is no YAML: %s (after line %zu)", reader->path,
			 reader->parser.problem ? reader->parser.problem
						: "out of memory",
			 reader->parser.problem_mark.line);
}

static size_t config_line(const struct config_reader *reader)
{
	return reader->event.start_mark.line + 1;
}

/* A scalar without NUL bytes, borrowed until the next event; else NULL. */
static const char *config_word(const struct config_reader *reader)
{
	const char *word = (const char *)reader->event.data.scalar.value;

	if (reader->event.type != YAML_SCALAR_EVENT ||
	    strlen(word) != reader->event.data.scalar.length)
		return NULL;
	return word;
}

static struct error *config_no_options(const struct config_reader *reader)
{
	return error_new(ERROR_INVALID_ARGUMENT,
			 "%s: options are wanted, one \"KEY: VALUE\" a line",
			 reader->path);
}

/* What stands at key is not what that wants. */
static struct error *config_refuse(const struct config_reader *reader, const char *key,
				   const char *wanted)
{
	yaml_event_type_t type = reader->event.type;

	if (type == YAML_ALIAS_EVENT ||
	    (type == YAML_SCALAR_EVENT && !config_word(reader)))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%s, line %zu: what stands at %s is not understood "
				 "(aliases are not)",
				 reader->path, config_line(reader), key);
	return error_new(ERROR_INVALID_ARGUMENT, "%s, line %zu: %s wants %s",
			 reader->path, config_line(reader), key, wanted);
}

static struct error *config_unknown(const struct config_reader *reader, const char *key)
{
	const char *best = option_nearest(reader->program, key);

	return error_new(
		ERROR_INVALID_ARGUMENT, "%s, line %zu: \"%s\" is no option of %s%s%s%s%s",
		reader->path, config_line(reader), key, reader->program->name,
		reader->program->others ? ", nor of others" : "",
		best ? "; did you mean " : "", best ? best : "", best ? "?" : "");
}

/* The value of a key that only others know, whatever it is. */
static struct error *config_skip(struct config_reader *reader)
{
	struct error *err = NULL;
	size_t depth = 0;

	do {
		err = config_next(reader);
		if (err)
			return err;
		depth += reader->event.type == YAML_SEQUENCE_START_EVENT ||
			 reader->event.type == YAML_MAPPING_START_EVENT;
		depth -= reader->event.type == YAML_SEQUENCE_END_EVENT ||
			 reader->event.type == YAML_MAPPING_END_EVENT;
	} while (depth > 0);
	return NULL;
}

static struct error *config_read_list(struct config_reader *reader,
				      const struct option_def *def, const char *where)
{
	static const char wanted[] = "a list: [ONE, TWO]";
	struct error *err = config_next(reader);

	if (!err && reader->event.type != YAML_SEQUENCE_START_EVENT)
		err = config_refuse(reader, def->name, wanted);
	if (err)
		return err;
	option_list_deinit(def->value);
	for (size_t n = 0;; n++) {
		err = config_next(reader);
		if (err || reader->event.type == YAML_SEQUENCE_END_EVENT)
			return err;
		if (!config_word(reader))
			return config_refuse(reader, def->name, wanted);
		if (n >= CONFIG_LIST_MAX)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "%s: the list of %s has more than %d words",
					 where, def->name, CONFIG_LIST_MAX);
		err = option_set(def, config_word(reader), where);
		if (err)
			return err;
	}
}

/* One record, at whose first event the reader is: a mapping, or a line as on the command
 * line. */
static struct error *config_read_record(struct config_reader *reader,
					const struct option_def *def, const char *where)
{
	static const char wanted[] = "KEY: VALUE pairs: {url: \"grpc://HOST:PORT\"}";
	_cleanup_buf_ struct buf record = BUF_INIT;
	struct error *err = NULL;

	if (config_word(reader))
		return option_set(def, config_word(reader), where);
	if (reader->event.type != YAML_MAPPING_START_EVENT)
		return config_refuse(reader, def->name, wanted);
	while (!err) {
		_cleanup_free_ char *key = NULL;

		err = config_next(reader);
		if (err || reader->event.type == YAML_MAPPING_END_EVENT)
			break;
		if (!config_word(reader))
			return config_refuse(reader, def->name, wanted);
		key = alloc_string(config_word(reader));
		err = config_next(reader);
		if (!err && !config_word(reader))
			return config_refuse(reader, key, "one value");
		if (!err)
			err = error_wrap(option_record_field(def->value, key,
							     config_word(reader),
							     &record),
					 "%s, line %zu: %s", reader->path,
					 config_line(reader), def->name);
	}
	if (!err)
		option_records_take(def->value, &record);
	return err;
}

static struct error *config_read_records(struct config_reader *reader,
					 const struct option_def *def, const char *where)
{
	struct error *err = config_next(reader);

	if (err)
		return err;
	option_clear(def);
	if (reader->event.type != YAML_SEQUENCE_START_EVENT)
		return config_read_record(reader, def, where);
	for (size_t n = 0; !err; n++) {
		err = config_next(reader);
		if (err || reader->event.type == YAML_SEQUENCE_END_EVENT)
			return err;
		if (n >= CONFIG_LIST_MAX)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "%s: the list of %s has more than %d records",
					 where, def->name, CONFIG_LIST_MAX);
		err = config_read_record(reader, def, where);
	}
	return err;
}

static struct error *config_read_word(struct config_reader *reader, const char *key)
{
	struct error *err = config_next(reader);

	if (!err && !config_word(reader))
		err = config_refuse(reader, key, "one value");
	return err;
}

static const struct option_def *config_find(const struct option_program *program,
					    const char *name)
{
	for (size_t i = 0; i < program->n_defs; i++) {
		if (strcmp(program->defs[i].name, name) == 0)
			return &program->defs[i];
	}
	return NULL;
}

static bool config_is_others(const struct option_program *program, const char *name)
{
	for (size_t i = 0; program->others && program->others[i]; i++) {
		if (strcmp(program->others[i], name) == 0)
			return true;
	}
	return false;
}

/* key: consumed by reader, whose event is the key's. */
static struct error *config_read_value(struct config_reader *reader, const char *key)
{
	const struct option_def *def = config_find(reader->program, key);
	_cleanup_free_ char *where =
		alloc_printf("%s, line %zu", reader->path, config_line(reader));
	struct error *err;

	if (def && def->kind == OPTION_LIST)
		return config_read_list(reader, def, where);
	if (def && def->kind == OPTION_RECORDS)
		return config_read_records(reader, def, where);
	if (def) {
		err = config_read_word(reader, key);
		return err ? err : option_set(def, config_word(reader), where);
	}
	if (strcmp(key, "log") ==
	    0) { /* every program's; the command line's comes later */
		err = config_read_word(reader, key);
		return err ? err
			   : error_wrap(log_configure(config_word(reader)), "%s", where);
	}
	return config_is_others(reader->program, key) ? config_skip(reader)
						      : config_unknown(reader, key);
}

static struct error *config_read_key(struct config_reader *reader)
{
	const char *key = config_word(reader);

	if (!key)
		return config_no_options(reader);
	for (size_t i = 0; i < reader->n_keys; i++) {
		if (strcmp(reader->keys[i], key) == 0)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "%s: \"%s\" stands there twice", reader->path,
					 key);
	}
	reader->keys = alloc_grow(reader->keys, &reader->keys_cap, reader->n_keys + 1,
				  sizeof(char *));
	reader->keys[reader->n_keys++] = alloc_string(key);
	return config_read_value(reader, reader->keys[reader->n_keys - 1]);
}

/* One document with one mapping; or none, for a file without a word. */
static struct error *config_read(struct config_reader *reader)
{
	struct error *err = config_next(reader); /* the stream's start */

	if (!err)
		err = config_next(reader);
	if (err || reader->event.type == YAML_STREAM_END_EVENT)
		return err;
	err = config_next(reader);
	if (!err && reader->event.type != YAML_MAPPING_START_EVENT)
		err = config_no_options(reader);
	while (!err) {
		err = config_next(reader);
		if (!err && reader->event.type == YAML_MAPPING_END_EVENT)
			break;
		if (!err)
			err = config_read_key(reader);
	}
	if (!err)
		err = config_next(reader); /* the document's end */
	if (!err)
		err = config_next(reader);
	if (!err && reader->event.type != YAML_STREAM_END_EVENT)
		err = config_no_options(reader);
	return err;
}

struct error *config_load(const char *path, const struct option_program *program)
{
	struct config_reader reader = {.path = path, .program = program};
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct error *err = file_read_all(AT_FDCWD, path, CONFIG_FILE_MAX, &text);

	if (err)
		return error_recode(error_wrap(err, "configuration file"),
				    ERROR_INVALID_ARGUMENT);
	if (!yaml_parser_initialize(&reader.parser))
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "%s: no memory is left to read it", path);
	yaml_parser_set_input_string(&reader.parser, text.data, text.len);
	err = config_read(&reader);
	config_reader_deinit(&reader);
	return err;
}
