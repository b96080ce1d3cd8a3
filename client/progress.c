/* Owns the terminal's last line while it lives; the mutex orders its writers. */
#include "client/progress.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/units.h"

#define PROGRESS_EVERY_NS (80 * NS_PER_MS)
#define PROGRESS_BAR      24

struct progress {
	char *verb;
	bool is_shown;
	pthread_mutex_t mutex;
	int64_t next_ns; /* guarded by mutex */
	bool is_dirty;   /* something stands on the line */
};

struct progress *progress_begin(const char *verb, bool is_quiet)
{
	struct progress *progress = alloc_new(struct progress);

	progress->verb = alloc_string(verb);
	progress->is_shown = !is_quiet && isatty(STDERR_FILENO);
	(void)pthread_mutex_init(&progress->mutex, NULL);
	/* what ends at once is not worth a flicker */
	progress->next_ns = clock_mono_ns() + 2 * PROGRESS_EVERY_NS;
	return progress;
}

void *progress_end(struct progress *progress)
{
	if (!progress)
		return NULL;
	if (progress->is_dirty)
		(void)fputs("\r\033[K", stderr);
	(void)pthread_mutex_destroy(&progress->mutex);
	free(progress->verb);
	free(progress);
	return NULL;
}

static bool progress_is_due(struct progress *progress)
{
	int64_t now = clock_mono_ns();

	if (!progress->is_shown || now < progress->next_ns)
		return false;
	progress->next_ns = now + PROGRESS_EVERY_NS;
	progress->is_dirty = true;
	return true;
}

void progress_update(struct progress *progress, int64_t n_done, int64_t n_total,
		     int64_t bytes_done, int64_t bytes_total)
{
	char bar[PROGRESS_BAR + 1];
	char done[UNITS_TEXT_MAX];
	char total[UNITS_TEXT_MAX];
	char size[UNITS_TEXT_MAX];
	double part = bytes_total > 0 ? (double)bytes_done / (double)bytes_total
		      : n_total > 0   ? (double)n_done / (double)n_total
				      : 0;
	int filled = (int)(part * PROGRESS_BAR);

	(void)pthread_mutex_lock(&progress->mutex);
	if (progress_is_due(progress)) {
		for (int i = 0; i < PROGRESS_BAR; i++)
			bar[i] = i < filled ? '#' : '.';
		bar[PROGRESS_BAR] = '\0';
		if (n_total > 0)
			(void)fprintf(stderr, "\r\033[K%s [%s] %s of %s, %s",
				      progress->verb, bar,
				      units_format_count(n_done, done),
				      units_format_count(n_total, total),
				      units_format_size(bytes_done, size));
		else
			(void)fprintf(stderr, "\r\033[K%s %s, %s", progress->verb,
				      units_format_count(n_done, done),
				      units_format_size(bytes_done, size));
	}
	(void)pthread_mutex_unlock(&progress->mutex);
}

void progress_say(struct progress *progress, const char *text)
{
	(void)pthread_mutex_lock(&progress->mutex);
	if (progress->is_shown) {
		progress->is_dirty = true;
		(void)fprintf(stderr, "\r\033[K%s %s", progress->verb, text);
	}
	(void)pthread_mutex_unlock(&progress->mutex);
}
