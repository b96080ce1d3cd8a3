/*
 * Owns the levels (set once by main, read by all threads through atomics) and the
 * thread-local scope.
 */
#include "lib/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/say.h"
#include "lib/base/text.h"

#define LOG_MODULES_MAX 16
#define LOG_TEXT_MAX    4000 /* bytes of a line, before they are escaped */
#define LOG_HEAD_MAX    128

struct log_module {
	char name[24];
	enum log_level level;
};

static struct log_module log_modules[LOG_MODULES_MAX];
static atomic_uint log_n_modules;
static atomic_int log_default = LOG_INFO;
static _Atomic(const char *) log_plain_name;
static _Thread_local const char *log_scope_text;

static bool log_level_parse(const char *word, enum log_level *out)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(word, names[i]) == 0) {
			*out = (enum log_level)i;
			return true;
		}
	}
	return false;
}

static struct error *log_configure_word(char *word)
{
	char *equals = strchr(word, '=');
	enum log_level level;
	unsigned int n = atomic_load(&log_n_modules);

	if (!log_level_parse(equals ? equals + 1 : word, &level))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "log level \"%s\" is not error, warn, info or debug",
				 equals ? equals + 1 : word);
	if (!equals) {
		atomic_store(&log_default, (int)level);
		return NULL;
	}
	*equals = '\0';
	if (n == LOG_MODULES_MAX || strlen(word) >= sizeof(log_modules[0].name))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "log module \"%s\" is one too many", word);
	memcpy(log_modules[n].name, word, strlen(word) + 1);
	log_modules[n].level = level;
	atomic_store(&log_n_modules, n + 1);
	return NULL;
}

struct error *log_configure(const char *spec)
{
	_cleanup_free_ char *copy = alloc_string(spec);
	char *save = NULL;

	for (char *word = strtok_r(copy, ",", &save); word;
	     word = strtok_r(NULL, ",", &save)) {
		struct error *err = log_configure_word(word);

		if (err)
			return err;
	}
	return NULL;
}

bool log_is_on(enum log_level level, const char *module)
{
	unsigned int n = atomic_load_explicit(&log_n_modules, memory_order_acquire);

	for (unsigned int i = 0; i < n; i++) {
		if (strcmp(log_modules[i].name, module) == 0)
			return level <= log_modules[i].level;
	}
	return (int)level <= atomic_load_explicit(&log_default, memory_order_relaxed);
}

static size_t log_head(char *line, size_t size, enum log_level level, const char *module)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	static const int journal[] = {3, 4, 6, 7};
	struct timespec now;
	struct tm tm;
	char stamp[32];
	int n;

	if (getenv("JOURNAL_STREAM")) {
		n = snprintf(line, size, "<%d>%s %s ", journal[level], names[level],
			     module);
		return (size_t)n;
	}
	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &tm);
	(void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	n = snprintf(line, size, "%s.%03ldZ %s %s ", stamp, now.tv_nsec / 1000000,
		     names[level], module);
	return (size_t)n;
}

static void log_vwrite(enum log_level level, const char *module, const char *format,
		       va_list ap) __attribute__((format(printf, 3, 0)));

static void log_vwrite(enum log_level level, const char *module, const char *format,
		       va_list ap)
{
	_cleanup_buf_ struct buf line = BUF_INIT;
	_cleanup_free_ char *text = alloc_vprintf(format, ap);
	const char *plain = atomic_load_explicit(&log_plain_name, memory_order_relaxed);
	char head[LOG_HEAD_MAX];

	if (plain && level <= LOG_WARN) {
		say("%s: %.*s", plain, LOG_TEXT_MAX, text);
		return;
	}
	buf_add(&line, head, log_head(head, sizeof(head), level, module));
	if (log_scope_text)
		buf_printf(&line, "[%.64s] ", log_scope_text);
	/* names come from anybody: they begin no line and steer no terminal */
	text_escape((struct slice){(const uint8_t *)text, strnlen(text, LOG_TEXT_MAX)},
		    &line);
	buf_add_byte(&line, '\n');
	if (write(STDERR_FILENO, line.data, line.len) < 0)
		return; /* nowhere is left to say it */
}

void log_set_plain(const char *name)
{
	atomic_store(&log_plain_name, name);
}

void log_write(enum log_level level, const char *module, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	log_vwrite(level, module, format, ap);
	va_end(ap);
}

const char *log_scope(const char *scope)
{
	const char *old = log_scope_text;

	log_scope_text = scope;
	return old;
}

void log_drop_at(enum log_level level, const char *module, struct error *err,
		 const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	if (!err)
		return;
	va_start(ap, format);
	text = alloc_vprintf(format, ap);
	va_end(ap);
	if (log_is_on(level, module))
		log_write(level, module, "%s: %s", text, error_text(err));
	if (log_is_on(LOG_DEBUG, module))
		log_write(LOG_DEBUG, module, "  from %s", error_trace(err));
	error_free(err);
}
