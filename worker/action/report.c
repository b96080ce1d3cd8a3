/* Owns nothing but the paths of the slowest waits. One thread. */
#include "worker/action/report.h"

#include "lib/base/alloc.h"
#include "lib/rpc/any.h"

static void report_slowest(const struct report *report, Lazyroot__ReadReport *wire,
			   struct arena *arena)
{
	wire->slowest = arena_array(arena, report->n_slowest, sizeof(*wire->slowest));
	for (size_t i = 0; wire->slowest && i < report->n_slowest; i++) {
		Lazyroot__ReadReport__SlowFile *slow =
			arena_new(arena, Lazyroot__ReadReport__SlowFile);

		if (!slow)
			return;
		lazyroot__read_report__slow_file__init(slow);
		slow->path = report->slowest[i].path;
		slow->bytes = report->slowest[i].bytes;
		slow->microseconds = report->slowest[i].ns / 1000;
		wire->slowest[wire->n_slowest++] = slow;
	}
}

static Lazyroot__ReadReport__Count *report_count(const struct foresight_count *count,
						 struct arena *arena)
{
	Lazyroot__ReadReport__Count *wire = arena_new(arena, Lazyroot__ReadReport__Count);

	if (!wire)
		return NULL;
	lazyroot__read_report__count__init(wire);
	wire->files = count->files;
	wire->bytes = count->bytes;
	return wire;
}

/* NULL where the arena is full. */
static Lazyroot__ReadReport__Foresight *report_foresight(
	const struct foresight_summary *summary, struct arena *arena)
{
	Lazyroot__ReadReport__Foresight *wire =
		arena_new(arena, Lazyroot__ReadReport__Foresight);

	if (!wire)
		return NULL;
	lazyroot__read_report__foresight__init(wire);
	wire->missed = report_count(&summary->missed, arena);
	wire->sources = arena_array(arena, FORESIGHT_SOURCES, sizeof(*wire->sources));
	for (enum foresight_source s = 0; wire->sources && s < FORESIGHT_SOURCES; s++) {
		Lazyroot__ReadReport__Foresight__Source *source =
			arena_new(arena, Lazyroot__ReadReport__Foresight__Source);

		if (!source)
			break;
		lazyroot__read_report__foresight__source__init(source);
		source->name = foresight_source_name(s);
		source->useful = report_count(&summary->useful[s], arena);
		source->late = report_count(&summary->late[s], arena);
		source->wasted = report_count(&summary->wasted[s], arena);
		wire->sources[wire->n_sources++] = source;
	}
	return wire;
}

Pb__Any *report_encode(const struct report *report, struct arena *arena)
{
	Lazyroot__ReadReport wire = LAZYROOT__READ_REPORT__INIT;
	Lazyroot__ReadReport__Input input = LAZYROOT__READ_REPORT__INPUT__INIT;
	Lazyroot__ReadReport__Opened opened = LAZYROOT__READ_REPORT__OPENED__INIT;
	Lazyroot__ReadReport__Fetched fetched = LAZYROOT__READ_REPORT__FETCHED__INIT;
	Lazyroot__ReadReport__Times times = LAZYROOT__READ_REPORT__TIMES__INIT;
	Lazyroot__ReadReport__Usage usage = LAZYROOT__READ_REPORT__USAGE__INIT;

	input.known = report->has_input;
	input.files = report->input.files;
	input.directories = report->input.directories;
	input.bytes = report->input.bytes;
	opened.files = report->opened.files;
	opened.bytes = report->opened.bytes;
	fetched.blobs = (int64_t)report->fetched_blobs;
	fetched.bytes = (int64_t)report->fetched_bytes;
	fetched.round_trips = (int64_t)report->round_trips;
	times.staging = report->staging_ns / 1000;
	times.command = report->command_ns / 1000;
	times.waiting_for_data = report->waiting_ns / 1000;
	times.capture = report->capture_ns / 1000;
	times.upload = report->upload_ns / 1000;
	usage.peak_memory_bytes = report->peak_memory;
	usage.cpu_user_us = report->cpu_user_us;
	usage.cpu_system_us = report->cpu_system_us;
	usage.read_bytes = report->read_bytes;
	usage.written_bytes = report->written_bytes;
	wire.input = &input;
	wire.opened = report->has_opened ? &opened : NULL;
	wire.fetched = &fetched;
	wire.times = &times;
	wire.usage = &usage;
	if (report->has_foresight)
		wire.foresight = report_foresight(&report->foresight, arena);
	wire.notes = (const char **)(uintptr_t)report->notes;
	wire.n_notes = report->n_notes;
	report_slowest(report, &wire, arena);
	return rpc_any_of(&wire.base, arena);
}

void report_deinit(struct report *report)
{
	for (size_t i = 0; i < report->n_slowest; i++)
		free(report->slowest[i].path);
	report->n_slowest = 0;
}
