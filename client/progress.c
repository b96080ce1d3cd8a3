/*
 * Owns the terminal's last line while it lives, and a thread that counts the seconds of a
 * stage; progress_mutex orders its writers.
 */
#include "client/progress.h"

#include <jansson.h>
#include <pthread.h>
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
#define PROGRESS_EVENT_NS (500 * NS_PER_MS) /* between two events of numbers */
#define PROGRESS_TICK_NS  NS_PER_S
#define PROGRESS_TICKS    5 /* between two events of a stage that goes on */
#define PROGRESS_BAR      24
#define PROGRESS_BAR_MIN  8
#define PROGRESS_COLUMNS  80 /* of a terminal that does not tell */
#define PROGRESS_LINE_MAX 160
#define PROGRESS_MANY     1000 /* that others are before: no service tells more */

static const struct progress_words {
	const char *verb;  /* for people */
	const char *event; /* for programs */
} progress_words[] = {
	[PROGRESS_READING] = {"Reading", "reading"},
	[PROGRESS_UPLOADING] = {"Uploading", "uploading"},
	[PROGRESS_RUNNING] = {"Running:", "running"},
	[PROGRESS_WAITING] = {"Waiting:", "waiting"},
	[PROGRESS_DOWNLOADING] = {"Downloading", "downloading"},
	[PROGRESS_CHECKING_OUT] = {"Checking out", "checking out"},
};

static struct sync_mutex progress_mutex = SYNC_MUTEX_INIT;

struct progress {
	const struct progress_words *words; /* constant, as are the next two */
	bool has_events;
	int64_t worth_ns; /* monotonic: what ended before is not worth telling */
	/* on a terminal that can, and not --quiet, --json or hushed */
	bool is_shown SYNC_GUARDED_BY(&progress_mutex);
	int64_t next_ns SYNC_GUARDED_BY(&progress_mutex); /* monotonic: not before */
	bool is_dirty SYNC_GUARDED_BY(&progress_mutex);   /* something stands there */
	struct progress_count count SYNC_GUARDED_BY(&progress_mutex);
	bool is_untold SYNC_GUARDED_BY(&progress_mutex); /* count, to programs */
	const char *stage SYNC_GUARDED_BY(&progress_mutex);
	int64_t n_behind SYNC_GUARDED_BY(&progress_mutex);
	int64_t since_ns SYNC_GUARDED_BY(&progress_mutex); /* that stage */
	struct sync_cond cond;
	bool is_ending SYNC_GUARDED_BY(&progress_mutex);
	bool has_ticker; /* main's */
	pthread_t ticker;
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

/* ---- events ----------------------------------------------------------------------- */

/* Consumes json, of which "event" comes first. */
static void progress_emit(json_t *json) SYNC_REQUIRES(&progress_mutex)
{
	char *text = progress_is_over ? NULL : json_dumps(json, JSON_COMPACT);

	if (text)
		(void)fprintf(stderr, "%s\n", text);
	free(text);
	json_decref(json);
}

static void progress_emit_count(struct progress *progress) SYNC_REQUIRES(&progress_mutex)
{
	const struct progress_count *count = &progress->count;
	json_t *json = json_pack("{s:s,s:I,s:I}", "event", progress->words->event, "done",
				 (json_int_t)count->n_done, "bytes",
				 (json_int_t)count->bytes_done);

	if (count->n_total > 0)
		(void)json_object_set_new(json, "total", json_integer(count->n_total));
	if (count->bytes_total > 0)
		(void)json_object_set_new(json, "bytes_total",
					  json_integer(count->bytes_total));
	progress->is_untold = false;
	progress_emit(json);
}

static void progress_emit_stage(struct progress *progress) SYNC_REQUIRES(&progress_mutex)
{
	int64_t ms = (clock_mono_ns() - progress->since_ns) / NS_PER_MS;
	json_t *json = json_pack("{s:s,s:s,s:I}", "event", progress->words->event,
				 "stage", progress->stage, "ms", (json_int_t)ms);

	if (progress->n_behind > 0)
		(void)json_object_set_new(json, "behind",
					  json_integer(progress->n_behind));
	progress_emit(json);
}

/* ---- begin and end ---------------------------------------------------------------- */

/* On a terminal that takes a line back. */
static bool progress_can_be(void)
{
	const char *kind = getenv("TERM");

	return isatty(STDERR_FILENO) && !(kind && strcmp(kind, "dumb") == 0);
}

struct progress *progress_begin(enum progress_kind kind, bool is_quiet, bool is_json)
{
	struct progress *progress = alloc_new(struct progress);

	progress->words = &progress_words[kind];
	progress->has_events = is_json && !is_quiet;
	sync_cond_init(&progress->cond);
	sync_lock(&progress_mutex);
	progress->is_shown = !is_quiet && !is_json && progress_can_be();
	/* what ends at once is not worth a flicker */
	progress->worth_ns = clock_mono_ns() + 2 * PROGRESS_EVERY_NS;
	progress->next_ns = progress->worth_ns;
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
	progress->is_ending = true;
	sync_broadcast(&progress->cond);
	progress_wipe(progress);
	if (progress->has_events && progress->is_untold &&
	    clock_mono_ns() >= progress->worth_ns)
		progress_emit_count(progress);
	if (progress_now == progress)
		progress_now = NULL;
	sync_unlock(&progress_mutex);
	if (progress->has_ticker)
		(void)pthread_join(progress->ticker, NULL);
	sync_cond_deinit(&progress->cond);
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

	if ((!progress->is_shown && !progress->has_events) || now < progress->next_ns)
		return false;
	progress->next_ns =
		now + (progress->is_shown ? PROGRESS_EVERY_NS : PROGRESS_EVENT_NS);
	return true;
}

/* ---- numbers ---------------------------------------------------------------------- */

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

static void progress_draw_count(struct progress *progress) SYNC_REQUIRES(&progress_mutex)
{
	const struct progress_count *count = &progress->count;
	char line[PROGRESS_LINE_MAX + PROGRESS_BAR + 4];
	char done[UNITS_TEXT_MAX];
	char total[UNITS_TEXT_MAX];
	char size[UNITS_TEXT_MAX];
	double part = -1;

	if (count->bytes_total > 0)
		part = (double)count->bytes_done / (double)count->bytes_total;
	else if (count->n_total > 0)
		part = (double)count->n_done / (double)count->n_total;
	(void)snprintf(
		line, PROGRESS_LINE_MAX, "%s %s%s%s, %s", progress->words->verb,
		units_format_count(count->n_done, done), count->n_total > 0 ? " of " : "",
		count->n_total > 0 ? units_format_count(count->n_total, total) : "",
		units_format_size(count->bytes_done, size));
	progress_draw(progress, line, part);
}

void progress_update(struct progress *progress, const struct progress_count *count)
{
	sync_lock(&progress_mutex);
	progress->count = *count;
	progress->is_untold = true;
	if (progress_is_due(progress)) {
		if (progress->has_events)
			progress_emit_count(progress);
		else
			progress_draw_count(progress);
	}
	sync_unlock(&progress_mutex);
}

/* ---- stages ------------------------------------------------------------------------ */

static void progress_draw_stage(struct progress *progress) SYNC_REQUIRES(&progress_mutex)
{
	int64_t seconds = (clock_mono_ns() - progress->since_ns) / NS_PER_S;
	char line[PROGRESS_LINE_MAX + PROGRESS_BAR + 4];
	char behind[UNITS_TEXT_MAX + 16] = "";
	char time[UNITS_TEXT_MAX + 16] = "";
	char count[UNITS_TEXT_MAX];

	if (progress->n_behind > 0)
		(void)snprintf(behind, sizeof(behind), " behind %s%s",
			       units_format_count(progress->n_behind, count),
			       progress->n_behind >= PROGRESS_MANY ? " or more" : "");
	if (seconds >= 60)
		(void)snprintf(time, sizeof(time), ", %lld min %lld s",
			       (long long)(seconds / 60), (long long)(seconds % 60));
	else if (seconds > 0)
		(void)snprintf(time, sizeof(time), ", %lld s", (long long)seconds);
	(void)snprintf(line, PROGRESS_LINE_MAX, "%s %s%s%s", progress->words->verb,
		       progress->stage, behind, time);
	progress_draw(progress, line, -1);
}

static void progress_show_stage(struct progress *progress, bool is_event)
	SYNC_REQUIRES(&progress_mutex)
{
	if (progress->is_shown)
		progress_draw_stage(progress);
	if (progress->has_events && is_event)
		progress_emit_stage(progress);
}

static void *progress_tick(void *arg)
{
	struct progress *progress = arg;
	unsigned int n = 0;

	sync_lock(&progress_mutex);
	while (!progress->is_ending) {
		int64_t passed =
			(clock_mono_ns() - progress->since_ns) / PROGRESS_TICK_NS;
		int64_t until_ns = progress->since_ns + (passed + 1) * PROGRESS_TICK_NS;

		while (!progress->is_ending && clock_mono_ns() < until_ns)
			(void)sync_wait_until(&progress->cond, &progress_mutex, until_ns);
		if (!progress->is_ending)
			progress_show_stage(progress, ++n % PROGRESS_TICKS == 0);
	}
	sync_unlock(&progress_mutex);
	return NULL;
}

void progress_stage(struct progress *progress, const char *stage, int64_t n_behind)
{
	struct error *err = NULL;
	bool is_told;
	bool is_due;
	bool is_new;

	sync_lock(&progress_mutex);
	is_told = progress->is_shown || progress->has_events;
	is_new = !progress->stage || strcmp(progress->stage, stage) != 0;
	if (is_new)
		progress->since_ns = clock_mono_ns();
	is_due = is_new || (progress->n_behind != n_behind && progress_is_due(progress));
	progress->stage = stage;
	progress->n_behind = n_behind;
	if (is_told && is_due)
		progress_show_stage(progress, true);
	sync_unlock(&progress_mutex);
	if (!is_told || progress->has_ticker)
		return;
	err = thread_start("progress", progress_tick, progress, &progress->ticker);
	progress->has_ticker = !err;
	error_free(err); /* the seconds are not counted */
}
