/*
 * Options that are records: a mapping of keys to words, or a list of such. On the command
 * line "URL,KEY=VALUE,FLAG": the first word alone is the first key's, a later one alone
 * is true. In a file a mapping, such a line, or a list of them.
 *
 * Threads: one at a time.
 */
#pragma once

#include "lib/base/buf.h"
#include "lib/base/option.h"

struct option_records {          /* value of OPTION_RECORDS */
	const char *const *keys; /* NULL at the end */
	bool is_single;          /* a later one replaces it */
	struct option_list
		list; /* each record: its fields, read by option_record_next() */
};

/* One more, as it stands on the command line. */
struct error *option_records_add(struct option_records *records, const char *text);

/* Put together by whoever reads a file: one field after the other, then the record. */
struct error *option_record_field(const struct option_records *records, const char *key,
				  const char *value, struct buf *record);
void option_records_take(struct option_records *records, struct buf *record);

/* The fields of a record: *at begins as the record. False at the end; else both are
 * copies that the caller frees. */
bool option_record_next(const char **at, char **key_out, char **value_out);
