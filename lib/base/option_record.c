/*
 * Owns nothing but the records' text: "KEY=VALUE" lines, a newline after each, which is
 * why no value may hold one.
 */
#include "lib/base/option_record.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/nearest.h"

static bool option_record_knows(const struct option_records *records, const char *key)
{
	for (size_t i = 0; records->keys[i]; i++) {
		if (strcmp(records->keys[i], key) == 0)
			return true;
	}
	return false;
}

static struct error *option_record_unknown(const struct option_records *records,
					   const char *key)
{
	struct nearest nearest;

	nearest_init(&nearest, key);
	for (size_t i = 0; records->keys[i]; i++)
		nearest_offer(&nearest, records->keys[i]);
	return error_new(ERROR_INVALID_ARGUMENT, "\"%s\" is none of its keys%s%s%s", key,
			 nearest.best ? "; did you mean " : "",
			 nearest.best ? nearest.best : "", nearest.best ? "?" : "");
}

static bool option_record_has(const struct buf *record, const char *key)
{
	size_t len = strlen(key);

	for (const char *at = buf_string(record); *at; at = strchr(at, '\n') + 1) {
		if (strncmp(at, key, len) == 0 && at[len] == '=')
			return true;
	}
	return false;
}

struct error *option_record_field(const struct option_records *records, const char *key,
				  const char *value, struct buf *record)
{
	if (!option_record_knows(records, key))
		return option_record_unknown(records, key);
	if (option_record_has(record, key))
		return error_new(ERROR_INVALID_ARGUMENT, "\"%s\" stands there twice",
				 key);
	if (strchr(value, '\n'))
		return error_new(ERROR_INVALID_ARGUMENT, "%s has more than one line",
				 key);
	buf_printf(record, "%s=%s\n", key, value);
	return NULL;
}

void option_records_take(struct option_records *records, struct buf *record)
{
	if (records->is_single)
		option_list_deinit(&records->list);
	option_list_add(&records->list, buf_string(record));
	buf_clear(record);
}

/* Between two commas. */
static struct error *option_record_word(const struct option_records *records,
					const char *word, bool is_first,
					struct buf *record)
{
	_cleanup_free_ char *key = alloc_string_n(word, strcspn(word, "="));

	/* an address may hold "=", but is no key before that */
	if (is_first && (!strchr(word, '=') || !option_record_knows(records, key)))
		return option_record_field(records, records->keys[0], word, record);
	return option_record_field(records, key,
				   word[strlen(key)] ? word + strlen(key) + 1 : "true",
				   record);
}

struct error *option_records_add(struct option_records *records, const char *text)
{
	_cleanup_buf_ struct buf record = BUF_INIT;
	struct error *err = NULL;

	for (const char *at = text; !err && *at;) {
		size_t len = strcspn(at, ",");
		_cleanup_free_ char *word = alloc_string_n(at, len);

		err = option_record_word(records, word, at == text, &record);
		at += len + (at[len] == ',');
	}
	if (!err)
		option_records_take(records, &record);
	return err;
}

bool option_record_next(const char **at, char **key_out, char **value_out)
{
	size_t key = strcspn(*at, "=");
	size_t value;

	if (!(*at)[key])
		return false;
	*key_out = alloc_string_n(*at, key);
	*at += key + 1;
	value = strcspn(*at, "\n");
	*value_out = alloc_string_n(*at, value);
	*at += value + 1;
	return true;
}
