/*
 * Builds libcyaml's schema from option definitions at run time: every option is a string
 * or a list of strings, kept in an array of slots, one slot a definition. What the
 * library logs while it loads is the only place where it names the line at fault, so its
 * log is collected, and what can be known from it is said in our words. Main thread, at
 * start.
 */
#include "lib/base/config.h"

#include <cyaml/cyaml.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/buf.h"
#include "lib/base/file.h"
#include "lib/base/log.h"

#define CONFIG_LIST_MAX   1000
#define CONFIG_STRING_MAX 65536
#define CONFIG_FILE_MAX   ((size_t)1 << 20)

struct config_slot {
	char *string;
	char **list;
	unsigned int n_list;
};

struct config_file {
	const char *path;
	const struct option_program *program;
	struct buf text;
};

static const cyaml_schema_value_t config_list_entry = {
	.type = CYAML_STRING,
	.flags = CYAML_FLAG_POINTER,
	.data_size = sizeof(char),
	.string = {.min = 0, .max = CONFIG_STRING_MAX},
};

static cyaml_schema_field_t config_field(const struct option_def *def, size_t i)
{
	uint32_t base = (uint32_t)(i * sizeof(struct config_slot));
	cyaml_schema_field_t field = {.key = def->name};

	field.value.flags = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL;
	switch (def->kind) {
	case OPTION_LIST:
		field.data_offset = base + (uint32_t)offsetof(struct config_slot, list);
		field.count_offset =
			base + (uint32_t)offsetof(struct config_slot, n_list);
		field.count_size = sizeof(unsigned int);
		field.value.type = CYAML_SEQUENCE;
		field.value.data_size = sizeof(char *);
		field.value.sequence.entry = &config_list_entry;
		field.value.sequence.max = CONFIG_LIST_MAX;
		break;
	case OPTION_FLAG: /* the library takes any word for true */
	case OPTION_STRING:
	case OPTION_INT:
	case OPTION_SIZE:
	case OPTION_DURATION:
		field.data_offset = base + (uint32_t)offsetof(struct config_slot, string);
		field.value.type = CYAML_STRING;
		field.value.data_size = sizeof(char);
		field.value.string.max = CONFIG_STRING_MAX;
		break;
	}
	return field;
}

static void config_collect(cyaml_log_t level, void *ctx, const char *format, va_list args)
	__attribute__((format(printf, 3, 0)));

static void config_collect(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
	struct buf *text = ctx;
	_cleanup_free_ char *line = alloc_vprintf(format, args);
	size_t len = strcspn(line, "\n");

	(void)level;
	line[len] = '\0';
	if (text->len)
		buf_add_string(text, "; ");
	buf_add_string(text, strncmp(line, "Load: ", 6) == 0 ? line + 6 : line);
}

/* The first line that begins with a key. */
static unsigned int config_line_of(const struct buf *text, const char *key, size_t len)
{
	unsigned int line = 1;

	for (const char *at = buf_string(text); *at; line++) {
		const char *word = at + strspn(at, " \"'");

		if (strncmp(word, key, len) == 0 && strchr(" :\"'", word[len]))
			return line;
		at += strcspn(at, "\n");
		at += *at == '\n';
	}
	return 0;
}

/* What follows intro in the library's words, up to where they go on; len 0: it is not
 * there. */
static struct slice config_word(const char *log, const char *intro)
{
	const char *at = strstr(log, intro);

	if (!at)
		return (struct slice){0};
	at += strlen(intro);
	return (struct slice){(const uint8_t *)at, strcspn(at, ";'")};
}

static struct error *config_unknown(const struct config_file *file, struct slice key)
{
	_cleanup_free_ char *name = alloc_string_n((const char *)key.data, key.len);
	const char *best = option_nearest(file->program, name);

	return error_new(
		ERROR_INVALID_ARGUMENT, "%s, line %u: \"%s\" is no option of %s%s%s%s%s",
		file->path, config_line_of(&file->text, name, key.len), name,
		file->program->name, file->program->others ? ", nor of others" : "",
		best ? "; did you mean " : "", best ? best : "", best ? "?" : "");
}

/* The library's words say what its schema wanted; here is what the file's author did. */
static struct error *config_refuse(const struct config_file *file, const char *log)
{
	struct slice unknown = config_word(log, "Unexpected key: ");
	struct slice twice = config_word(log, "Mapping field already seen: ");
	struct slice syntax = config_word(log, "libyaml: ");
	struct slice wanted = config_word(log, "Expecting ");
	struct slice key = config_word(log, "in mapping field '");
	const char *line = strstr(log, "(line: ");
	unsigned long number = line ? strtoul(line + strlen("(line: "), NULL, 10) : 0;

	if (unknown.len)
		return config_unknown(file, unknown);
	if (twice.len)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%s: \"%.*s\" stands there twice", file->path,
				 (int)twice.len, (const char *)twice.data);
	if (syntax.len)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%s: this is no YAML: %.*s (after line %lu)", file->path,
				 (int)syntax.len, (const char *)syntax.data, number);
	if (wanted.len && key.len)
		return error_new(ERROR_INVALID_ARGUMENT, "%s, line %lu: %.*s wants %s",
				 file->path, number, (int)key.len, (const char *)key.data,
				 strncmp((const char *)wanted.data, "SEQ", 3) == 0
					 ? "a list: [ONE, TWO]"
					 : "one value");
	if (key.len)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%s, line %lu: what stands at %.*s is not understood "
				 "(aliases are not)",
				 file->path, number, (int)key.len,
				 (const char *)key.data);
	return error_new(ERROR_INVALID_ARGUMENT,
			 "%s: options are wanted, one \"KEY: VALUE\" a line", file->path);
}

static struct error *config_apply(const struct config_file *file,
				  const struct option_def *def,
				  const struct config_slot *slot)
{
	_cleanup_free_ char *where = NULL;
	struct error *err = NULL;

	if (!slot->string && !slot->list)
		return NULL;
	where = alloc_printf("%s, line %u", file->path,
			     config_line_of(&file->text, def->name, strlen(def->name)));
	if (slot->string)
		err = option_set(def, slot->string, where);
	if (slot->list)
		option_list_deinit(def->value);
	for (unsigned int i = 0; !err && i < slot->n_list; i++)
		err = option_set(def, slot->list[i], where);
	return err;
}

static bool config_is_own(const struct option_program *program, const char *name)
{
	for (size_t i = 0; i < program->n_defs; i++) {
		if (strcmp(program->defs[i].name, name) == 0)
			return true;
	}
	return false;
}

/* --log is every program's; the command line's comes later and so beats it. */
static struct error *config_apply_log(const struct config_file *file,
				      const struct config_slot *slot)
{
	if (!slot->string)
		return NULL;
	return error_wrap(log_configure(slot->string), "%s, line %u", file->path,
			  config_line_of(&file->text, "log", strlen("log")));
}

/* One field an option, one for "log", then one for each that only others know; nameless
 * at the end. */
static cyaml_schema_field_t *config_fields(const struct option_program *program)
{
	static const struct option_def log = {.name = "log", .kind = OPTION_STRING};
	size_t n_others = 0;
	size_t n = program->n_defs;
	cyaml_schema_field_t *fields;

	while (program->others && program->others[n_others])
		n_others++;
	fields = alloc_array(n + n_others + 2, sizeof(*fields));
	for (size_t i = 0; i < n; i++)
		fields[i] = config_field(&program->defs[i], i);
	fields[n] = config_field(&log, n);
	n++;
	for (size_t i = 0; i < n_others; i++) {
		if (!config_is_own(program, program->others[i]))
			fields[n++] = (cyaml_schema_field_t){
				.key = program->others[i],
				.value = {.type = CYAML_IGNORE,
					  .flags = CYAML_FLAG_OPTIONAL}};
	}
	return fields;
}

static struct error *config_parse(const struct config_file *file)
{
	const struct option_program *program = file->program;
	_cleanup_free_ cyaml_schema_field_t *fields = config_fields(program);
	_cleanup_buf_ struct buf log = BUF_INIT;
	cyaml_config_t config = {
		.log_fn = config_collect,
		.log_ctx = &log,
		.log_level = CYAML_LOG_ERROR,
		.mem_fn = cyaml_mem,
		.flags = CYAML_CFG_NO_ALIAS,
	};
	cyaml_schema_value_t schema = {
		.type = CYAML_MAPPING,
		.flags = CYAML_FLAG_POINTER,
		.data_size =
			(uint32_t)((program->n_defs + 1) * sizeof(struct config_slot)),
		.mapping = {.fields = fields},
	};
	struct config_slot *slots = NULL;
	struct error *err = NULL;
	cyaml_err_t status;

	if (!file->text.len)
		return NULL;
	status = cyaml_load_data(file->text.data, file->text.len, &config, &schema,
				 (cyaml_data_t **)&slots, NULL);
	if (status != CYAML_OK)
		return config_refuse(file, buf_string(&log));
	for (size_t i = 0; slots && !err && i < program->n_defs; i++)
		err = config_apply(file, &program->defs[i], &slots[i]);
	if (slots && !err)
		err = config_apply_log(file, &slots[program->n_defs]);
	(void)cyaml_free(&config, &schema, slots, 0);
	return err;
}

struct error *config_load(const char *path, const struct option_program *program)
{
	struct config_file file = {.path = path, .program = program};
	struct error *err = file_read_all(AT_FDCWD, path, CONFIG_FILE_MAX, &file.text);

	if (err)
		err = error_recode(error_wrap(err, "configuration file"),
				   ERROR_INVALID_ARGUMENT);
	else
		err = config_parse(&file);
	buf_deinit(&file.text);
	return err;
}
