/*
 * Sizes ("64K", "2G": powers of 1024) and durations ("500ms", "2m"; a number
 * alone is seconds) as people write and read them. Threads: any; nothing is allocated but
 * errors.
 */
#pragma once

#include <stdint.h>

#include "lib/base/error.h"

/* INVALID_ARGUMENT says what is wrong with text. */
struct error *units_parse_size(const char *text, int64_t *bytes_out);
struct error *units_parse_duration(const char *text, int64_t *ns_out);
struct error *units_parse_int(const char *text, int64_t min, int64_t max, int64_t *out);

/* For people, rounded; each returns text. */
#define UNITS_TEXT_MAX 32
const char *units_format_size(int64_t bytes,
			      char text[static UNITS_TEXT_MAX]); /* 14.2 MB */
const char *units_format_duration(int64_t ns,
				  char text[static UNITS_TEXT_MAX]);         /* 1.42 s */
const char *units_format_count(int64_t n, char text[static UNITS_TEXT_MAX]); /* 25,151 */
