/* Owns nothing. Parsing refuses what would overflow; formatting never fails. */
#include "lib/base/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct units_suffix {
	const char *text;
	int64_t factor;
};

static struct error *units_parse(const char *text, const struct units_suffix *suffixes,
				 size_t n, const char *what, int64_t *out)
{
	char *end;
	double value;

	errno = 0;
	value = strtod(text, &end);
	if (end == text || errno || value < 0 || !isdigit((unsigned char)text[0]))
		return error_new(ERROR_INVALID_ARGUMENT, "\"%s\" is not a %s", text,
				 what);
	for (size_t i = 0; i < n; i++) {
		if (strcmp(end, suffixes[i].text) != 0)
			continue;
		value *= (double)suffixes[i].factor;
		if (value >= 9.2e18)
			return error_new(ERROR_INVALID_ARGUMENT, "%s \"%s\" is too large",
					 what, text);
		*out = (int64_t)value;
		return NULL;
	}
	return error_new(ERROR_INVALID_ARGUMENT,
			 "\"%s\" is not a %s: unknown unit \"%s\"", text, what, end);
}

struct error *units_parse_size(const char *text, int64_t *bytes_out)
{
	static const struct units_suffix suffixes[] = {{"", 1},
						       {"K", 1LL << 10},
						       {"M", 1LL << 20},
						       {"G", 1LL << 30},
						       {"T", 1LL << 40}};

	return units_parse(text, suffixes, ARRAY_SIZE(suffixes),
			   "size (a number with K, M, G or T)", bytes_out);
}

struct error *units_parse_duration(const char *text, int64_t *ns_out)
{
	static const struct units_suffix suffixes[] = {{"", 1000000000LL},
						       {"ms", 1000000LL},
						       {"s", 1000000000LL},
						       {"m", 60000000000LL},
						       {"h", 3600000000000LL}};

	return units_parse(text, suffixes, ARRAY_SIZE(suffixes),
			   "duration (a number of seconds, or with ms, s, m or h)",
			   ns_out);
}

struct error *units_parse_int(const char *text, int64_t min, int64_t max, int64_t *out)
{
	char *end;
	long long value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (end == text || *end || errno || value < min || value > max)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "\"%s\" is not a whole number from %" PRId64
				 " to %" PRId64,
				 text, min, max);
	*out = value;
	return NULL;
}

const char *units_format_size(int64_t bytes, char text[static UNITS_TEXT_MAX])
{
	static const char *const names[] = {"B", "kB", "MB", "GB", "TB"};
	double value = (double)bytes;
	size_t i = 0;

	while (value >= 999.95 && i + 1 < ARRAY_SIZE(names)) {
		value /= 1000;
		i++;
	}
	(void)snprintf(text, UNITS_TEXT_MAX, i ? "%.1f %s" : "%.0f %s", value, names[i]);
	return text;
}

const char *units_format_duration(int64_t ns, char text[static UNITS_TEXT_MAX])
{
	double ms = (double)ns / 1e6;

	if (ms < 10)
		(void)snprintf(text, UNITS_TEXT_MAX, "%.1f ms", ms);
	else if (ms < 1000)
		(void)snprintf(text, UNITS_TEXT_MAX, "%.0f ms", ms);
	else if (ms < 60000)
		(void)snprintf(text, UNITS_TEXT_MAX, "%.2f s", ms / 1000);
	else
		(void)snprintf(text, UNITS_TEXT_MAX, "%.0f min %.0f s",
			       (double)(int64_t)(ms / 60000),
			       (double)((int64_t)(ms / 1000) % 60));
	return text;
}

const char *units_format_count(int64_t n, char text[static UNITS_TEXT_MAX])
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%" PRId64, n);
	size_t at = 0;

	for (int i = 0; i < len; i++) {
		int left = len - i;

		if (i && digits[i - 1] != '-' && left % 3 == 0)
			text[at++] = ',';
		text[at++] = digits[i];
	}
	text[at] = '\0';
	return text;
}
