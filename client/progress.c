/*
 * Owns the terminal's last line while it lives, and a thread that tells there how long a
 * stage is going on; progress_mutex orders its writers.
 */
#include "client/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/say.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "lib/base/units.h"

#define PROGRESS_EVERY_NS (80 * NS_PER_MS)
#define PROGRESS_BAR      24
#define PROGRESS_BAR_MIN  8
#define PROGRESS_COLUMNS  80 /* of a terminal that does not tell */
#define PROGRESS_LINE_MAX 160

static struct sync_mutex progress_mutex = SYNC_MUTEX_INIT;

struct progress {
	char *verb; /* constant */
	bool is_shown SYNC_GUARDED_BY(
		&progress_mutex); /* on a terminal, and not --quiet or hushed */
	int64_t next_ns SYNC_GUARDED_BY(&progress_mutex);   /* monotonic: not before */
	bool is_dirty SYNC_GUARDED_BY(&progress_mutex);     /* something stands there */
	const char *stage SYNC_GUARDED_BY(&progress_mutex); /* or NULL */
	int64_t since_ns SYNC_GUARDED_BY(&progress_mutex);  /* of the stage */
	/* The clock: tells how long the stage is going on, once there is one. */
	pthread_t clock;
	bool has_clock;
	bool is_ending SYNC_GUARDED_BY(&progress_mutex);
	struct sync_cond ending;
};

static struct progress *progress_now SYNC_GUARDED_BY(&progress_mutex);
static bool progress_is_over SYNC_GUARDED_BY(&progress_mutex);

static void progress_wipe(struct progress *progress) SYNC_REQUIRES(&progress_mutex)
{
	if (progress && progress->is_dirty)
		(void)fputs("\r\033[K", stderr);
	if (progress)
		progress->is_dirty = false;
}

static void progress_make_room(void)
{
	sync_lock(&progress_mutex);
	progress_wipe(progress_now);
	sync_unlock(&progress_mutex);
}

/* On a terminal that takes a line back. */
static bool progress_can_be(void)
{
	const char *kind = getenv("TERM");

	return isatty(STDERR_FILENO) && !(kind && strcmp(kind, "dumb") == 0);
}

struct progress *progress_begin(const char *verb, bool is_quiet)
{
	struct progress *progress = alloc_new(struct progress);

	progress->verb = alloc_string(verb);
	sync_cond_init(&progress->ending);
	sync_lock(&progress_mutex);
	progress->is_shown = !is_quiet && progress_can_be();
	/* what ends at once is not worth a flicker */
	progress->next_ns = clock_mono_ns() + 2 * PROGRESS_EVERY_NS;
	progress_now = progress;
	sync_unlock(&progress_mutex);
	say_set_before(progress_make_room);
	return progress;
}

void *progress_end(struct progress *progress)
{
	if (!progress)
		return NULL;
	sync_lock(&progress_mutex);
	progress_wipe(progress);
	if (progress_now == progress)
		progress_now = NULL;
	progress->is_shown = false;
	progress->is_ending = true;
	sync_signal(&progress->ending);
	sync_unlock(&progress_mutex);
	if (progress->has_clock)
		(void)pthread_join(progress->clock, NULL);
	sync_cond_deinit(&progress->ending);
	free(progress->verb);
	free(progress);
	return NULL;
}

void progress_stop(void)
{
	sync_lock(&progress_mutex);
	progress_wipe(progress_now);
	progress_is_over = true;
	sync_unlock(&progress_mutex);
}

void progress_hush(void)
{
	sync_lock(&progress_mutex);
	progress_wipe(progress_now);
	if (progress_now)
		progress_now->is_shown = false;
	sync_unlock(&progress_mutex);
}

static bool progress_is_due(struct progress *progress) SYNC_REQUIRES(&progress_mutex)
{
	int64_t now = clock_mono_ns();

	if (!progress->is_shown || now < progress->next_ns)
		return false;
	progress->next_ns = now + PROGRESS_EVERY_NS;
	return true;
}

/* One less than there are: a terminal wraps when the last one is written to. */
static size_t progress_columns(void)
{
	struct winsize size = {0};

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col)
		return PROGRESS_COLUMNS - 1;
	return size.ws_col - 1u;
}

/* Cut to the terminal's width; part, from 0 to 1, becomes a bar where there is room. */
static void progress_draw(struct progress *progress, char *line, double part)
	SYNC_REQUIRES(&progress_mutex)
{
	size_t columns = progress_columns();
	size_t len = strlen(line);

	if (progress_is_over)
		return;
	if (part >= 0 && len + 3 + PROGRESS_BAR_MIN <= columns) {
		size_t width = columns - len - 3;

		width = width < PROGRESS_BAR ? width : PROGRESS_BAR;
		line[len++] = ' ';
		line[len++] = '[';
		for (size_t i = 0; i < width; i++)
			line[len++] = (double)i < part * (double)width ? '#' : '.';
		line[len++] = ']';
		line[len] = '\0';
	}
	if (len > columns)
		line[columns] = '\0';
	progress->is_dirty = true;
	(void)fprintf(stderr, "\r\033[K%s", line);
}

void progress_update(struct progress *progress, int64_t n_done, int64_t n_total,
		     int64_t bytes_done, int64_t bytes_total)
{
	char line[PROGRESS_LINE_MAX + PROGRESS_BAR + 4];
	char done[UNITS_TEXT_MAX];
	char total[UNITS_TEXT_MAX];
	char size[UNITS_TEXT_MAX];
	double part = -1;

	if (bytes_total > 0)
		part = (double)bytes_done / (double)bytes_total;
	else if (n_total > 0)
		part = (double)n_done / (double)n_total;
	sync_lock(&progress_mutex);
	if (progress_is_due(progress)) {
		(void)snprintf(line, PROGRESS_LINE_MAX, "%s %s%s%s, %s", progress->verb,
			       units_format_count(n_done, done),
			       n_total > 0 ? " of " : "",
			       n_total > 0 ? units_format_count(n_total, total) : "",
			       units_format_size(bytes_done, size));
		progress_draw(progress, line, part);
	}
	sync_unlock(&progress_mutex);
}

/* The stage, and for how many seconds it is going on. */
static void progress_draw_stage(struct progress *progress) SYNC_REQUIRES(&progress_mutex)
{
	char line[PROGRESS_LINE_MAX + PROGRESS_BAR + 4];
	int64_t seconds = (clock_mono_ns() - progress->since_ns) / NS_PER_S;

	if (!progress->is_shown)
		return;
	if (seconds)
		(void)snprintf(line, PROGRESS_LINE_MAX, "%s %s %" PRId64 " s",
			       progress->verb, progress->stage, seconds);
	else
		(void)snprintf(line, PROGRESS_LINE_MAX, "%s %s", progress->verb,
			       progress->stage);
	progress_draw(progress, line, -1);
}

static void *progress_clock(void *arg)
{
	struct progress *progress = arg;

	sync_lock(&progress_mutex);
	while (!progress->is_ending) {
		int64_t past = (clock_mono_ns() - progress->since_ns) % NS_PER_S;

		if (!sync_wait_until(&progress->ending, &progress_mutex,
				     clock_mono_ns() + NS_PER_S - past))
			progress_draw_stage(progress);
	}
	sync_unlock(&progress_mutex);
	return NULL;
}

void progress_say(struct progress *progress, const char *stage)
{
	struct error *err;
	bool wants_clock;

	sync_lock(&progress_mutex);
	if (!progress->stage || strcmp(progress->stage, stage) != 0)
		progress->since_ns = clock_mono_ns();
	progress->stage = stage;
	progress_draw_stage(progress);
	wants_clock = progress->is_shown && !progress->has_clock;
	sync_unlock(&progress_mutex);
	if (!wants_clock)
		return;
	/* where there is no thread more the line only does not tell the time */
	err = thread_start("progress", progress_clock, progress, &progress->clock);
	progress->has_clock = !err;
	error_free(err);
}
