/*
 * Builds libcyaml's schema from option definitions at run time: every option is a string,
 * a boolean or a list of strings, kept in an array of slots, one slot a definition. What
 * the library logs while it loads is the only place where it names the line at fault, so
 * its log is collected and its last words become our message. Main thread, at start.
 */
#include "lib/base/config.h"

#include <cyaml/cyaml.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/buf.h"
#include "lib/base/file.h"

#define CONFIG_LIST_MAX   1000
#define CONFIG_STRING_MAX 65536
#define CONFIG_FILE_MAX   ((size_t)1 << 20)

struct config_slot {
	char *string;
	char **list;
	unsigned int n_list;
	bool *flag;
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
	case OPTION_FLAG:
		field.data_offset = base + (uint32_t)offsetof(struct config_slot, flag);
		field.value.type = CYAML_BOOL;
		field.value.data_size = sizeof(bool);
		break;
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

/*
 * libcyaml says of an unknown key where its mapping begins, not where it stands: the line
 * is the first one that begins with it.
 */
static unsigned int config_line_of(const char *path, const char *log)
{
	static const char intro[] = "Unexpected key: ";
	const char *key = strstr(log, intro);
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct error *err;
	unsigned int line = 1;
	size_t len;

	if (!key)
		return 0;
	key += strlen(intro);
	len = strcspn(key, ";");
	err = file_read_all(AT_FDCWD, path, CONFIG_FILE_MAX, &text);
	if (err) {
		error_free(err);
		return 0;
	}
	for (const char *at = buf_string(&text); *at; line++) {
		const char *word = at + strspn(at, " \"'");

		if (strncmp(word, key, len) == 0 && strchr(" :\"'", word[len]))
			return line;
		at += strcspn(at, "\n");
		at += *at == '\n';
	}
	return 0;
}

static struct error *config_refuse(const char *path, const char *log)
{
	unsigned int line = config_line_of(path, log);

	if (line)
		return error_new(ERROR_INVALID_ARGUMENT, "%s, line %u: %.*s", path, line,
				 (int)strcspn(log, ";"), log);
	return error_new(ERROR_INVALID_ARGUMENT, "%s: %s", path, log);
}

static struct error *config_apply(const struct option_def *def,
				  const struct config_slot *slot, const char *path)
{
	struct error *err = NULL;

	if (slot->flag)
		*(bool *)def->value = *slot->flag;
	if (slot->string)
		err = option_set(def, slot->string, path);
	if (slot->list)
		option_list_deinit(def->value);
	for (unsigned int i = 0; !err && i < slot->n_list; i++)
		err = option_set(def, slot->list[i], path);
	return err;
}

struct error *config_load(const char *path, const struct option_def *defs, size_t n)
{
	_cleanup_free_ cyaml_schema_field_t *fields = alloc_array(n + 1, sizeof(*fields));
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
		.data_size = (uint32_t)(n * sizeof(struct config_slot)),
		.mapping = {.fields = fields},
	};
	struct config_slot *slots = NULL;
	struct error *err = NULL;
	cyaml_err_t status;

	for (size_t i = 0; i < n; i++)
		fields[i] = config_field(&defs[i], i);
	status = cyaml_load_file(path, &config, &schema, (cyaml_data_t **)&slots, NULL);
	if (status == CYAML_ERR_FILE_OPEN)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "cannot read configuration file %s", path);
	if (status != CYAML_OK)
		return config_refuse(path,
				     log.len ? buf_string(&log) : cyaml_strerror(status));
	for (size_t i = 0; slots && !err && i < n; i++)
		err = config_apply(&defs[i], &slots[i], path);
	(void)cyaml_free(&config, &schema, slots, 0);
	return err;
}
