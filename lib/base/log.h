/*
 * The log: one line "TIME LEVEL MODULE text" on stderr, or "<n>LEVEL…" for the journal
 * where JOURNAL_STREAM is set; "NAME: text" after log_set_plain(). A .c that logs defines
 * LOG_MODULE before it includes this. A thread-local scope (an action's short digest,
 * say) is put before the text.
 *
 * Threads: any; a line is written with one write(2).
 */
#pragma once

#include <stdbool.h>

#include "lib/base/error.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* "info" or "warn,fetch=debug,rpc=error"; unknown words are INVALID_ARGUMENT. */
struct error *log_configure(const char *spec);
bool log_is_on(enum log_level level, const char *module);
void log_write(enum log_level level, const char *module, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* From here on warnings and errors are lines of a program that a person runs: "NAME:
 * text", without time and module. Borrowed. */
void log_set_plain(const char *name);

/* Borrowed until it is replaced; NULL ends it. Returns the scope it replaces. */
const char *log_scope(const char *scope);

#define log_at(level, ...)                                                               \
	(log_is_on((level), LOG_MODULE) ? log_write((level), LOG_MODULE, __VA_ARGS__)    \
					: (void)0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/* Consumes err, where it is dropped: its text at level, its trace at debug. */
#define log_drop(level, err, ...) log_drop_at((level), LOG_MODULE, (err), __VA_ARGS__)
void log_drop_at(enum log_level level, const char *module, struct error *err,
		 const char *format, ...) __attribute__((format(printf, 4, 5)));
