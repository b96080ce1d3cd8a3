/*
 * Runs predictors over a recorded trace, in simulated time and without any network:
 *
 *	replay [--rtt MS] [--rate MBIT] [--files] PREDICTOR... <TRACE
 *
 * The trace is text (trace.py); replay.py runs this over all traces and makes tables. The
 * command computes as long as it did when it was recorded, and waits for each blob that
 * it opens and that is not here. Foresight is the product's, with the product's limits
 * for what may be under way; its thinking takes no time. Directories are all at hand.
 *
 * Predictors: "none"; "eager", all of the root first; "oracle", exactly what is read in
 * one go and then the command; "first", foresight that knows nothing; "again", with the
 * profile of a first run; "only-SOURCE" and "without-SOURCE", again or first with some of
 * its sources (only-learned and without-SOURCE have the profile).
 *
 * Prints a line each: name, predictor, then numbers: see replay_print(). With --files
 *also each file that was missed or waited for, when it is, and at the end what was
 *wasted.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "predict/foresight_impl.h"
#include "predict/room.h"
#include "tests/replay/replay_way.h"

#define REPLAY_BUDGET ((int64_t)4 << 30) /* an eighth of a cache of 32 GB */

struct replay {
	struct replay_trace *trace;
	struct replay_way way;
	struct foresight *foresight; /* NULL: none */
	unsigned int sources;        /* a bit each: those that are heard */
	int64_t in_flight;
	int n_large;
	int64_t budget;
	bool tells_files;
};

struct replay_outcome {
	int64_t took_ns;
	size_t n_calls;
	int64_t bytes;
	struct foresight_summary summary;
};

/* Foresight */

static void replay_landed(void *ctx, struct replay_blob *blob, bool is_needed)
{
	struct replay *replay = ctx;
	bool is_large = blob->digest.size > (int64_t)REPLAY_BATCH_MAX;

	if (!is_needed && is_large)
		replay->n_large--;
	else if (!is_needed)
		replay->in_flight -= blob->digest.size;
	foresight_arrived(replay->foresight, &blob->digest, true);
}

/* What a source that is not heard wants is not wanted. */
static void replay_silence(const struct replay *replay)
{
	for (enum foresight_source s = 0; s < FORESIGHT_SOURCES; s++) {
		if (replay->sources & 1u << s)
			continue;
		list_for_each_safe (link, &replay->foresight->wanted[s]) {
			struct foresight_file *file =
				container_of(link, struct foresight_file, link);

			if (file->is_needed)
				continue;
			list_remove(link);
			file->state = FORESIGHT_GONE;
			file->probability = 0;
		}
	}
}

static void replay_grant(struct replay *replay)
{
	const struct replay_way *way = &replay->way;

	while (replay->foresight) {
		const struct room room = {.in_flight = replay->in_flight,
					  .n_large = replay->n_large,
					  .budget = replay->budget,
					  .batch_max = (int64_t)REPLAY_BATCH_MAX,
					  .rtt_ns = way->pace.rtt_ns,
					  .rate = fetch_pace_rate(&way->pace),
					  .window = fetch_pace_window(&way->pace),
					  .demand_waiting = way->demand_waiting};
		struct foresight_way next;
		struct foresight_wish wish;

		replay_silence(replay);
		if (!room_way(&room, &next) ||
		    !foresight_next(replay->foresight, &next, &wish))
			return;
		if (!(replay->sources & 1u << wish.source) && !wish.is_needed) {
			/* a walk wanted it within the call */
			foresight_arrived(replay->foresight, &wish.digest, false);
			continue;
		}
		if (!wish.is_needed && wish.digest.size > (int64_t)REPLAY_BATCH_MAX)
			replay->n_large++;
		else if (!wish.is_needed)
			replay->in_flight += wish.digest.size;
		if (!wish.is_needed)
			replay->budget -= wish.digest.size;
		replay_way_wish(&replay->way,
				replay_trace_find(replay->trace, &wish.digest),
				wish.is_needed);
	}
}

/* Until the blob is here (NULL: until then); wishes are granted whenever others came. */
static void replay_until(struct replay *replay, const struct replay_blob *blob,
			 int64_t then_ns)
{
	struct replay_way *way = &replay->way;

	replay_grant(replay);
	while (blob ? !blob->is_held : way->now_ns < then_ns) {
		size_t n = way->n_landed;

		replay_way_step(way, then_ns);
		if (n != way->n_landed)
			replay_grant(replay);
	}
}

static void replay_opened(struct replay *replay, const struct replay_open *open)
{
	int64_t n_missed = replay->foresight->missed.files;

	foresight_opened(replay->foresight, open->path,
			 !open->blob || open->blob->is_held);
	if (replay->tells_files && n_missed != replay->foresight->missed.files)
		printf("missed %s\n", open->path);
}

static void replay_print_wasted(struct hnode *node, void *ctx)
{
	const struct foresight_file *file =
		container_of(node, struct foresight_file, by_digest);

	(void)ctx;
	if (file->is_asked && !file->is_opened)
		printf("wasted %s %.2f %" PRId64 " %s\n",
		       foresight_source_name(file->source), file->probability,
		       file->digest.size, file->path);
}

static void replay_command(struct replay *replay)
{
	const struct replay_trace *trace = replay->trace;

	for (size_t i = 0; i < trace->n_opens; i++) {
		const struct replay_open *open = &trace->opens[i];
		int64_t asked_ns;

		replay_until(replay, NULL, replay->way.now_ns + open->after_ns);
		if (replay->foresight)
			replay_opened(replay, open);
		if (!open->blob || open->blob->is_held)
			continue;
		replay_way_demand(&replay->way, open->blob);
		asked_ns = replay->way.now_ns;
		replay_until(replay, open->blob, CLOCK_NEVER);
		if (replay->tells_files)
			printf("waited %.1f at %.1f %s\n",
			       (double)(replay->way.now_ns - asked_ns) / 1e6,
			       (double)asked_ns / 1e6, open->path);
	}
	replay_until(replay, NULL, replay->way.now_ns + trace->end_ns);
}

static struct foresight *replay_foresight(const struct replay_trace *trace)
{
	const struct foresight_action action = {.root = trace->root,
						.mount = trace->mount,
						.workdir = trace->workdir,
						.arguments =
							(const char *const *)trace->words,
						.n_arguments = trace->n_words,
						.path = trace->path};
	struct foresight *foresight = foresight_new(&trace->world, &action);

	foresight_look(foresight);
	return foresight;
}

/* Predictors */

struct replay_setting {
	int64_t rtt_ns;
	int64_t bits;
	bool tells_files;
};

static void replay_end(struct replay *replay, struct replay_outcome *out)
{
	*out = (struct replay_outcome){.took_ns = replay->way.now_ns,
				       .n_calls = replay->way.n_calls,
				       .bytes = replay->way.bytes};
	if (replay->foresight)
		foresight_summary(replay->foresight, &out->summary);
	replay_way_deinit(&replay->way);
}

static void replay_begin(struct replay *replay, struct replay_trace *trace,
			 const struct replay_setting *setting)
{
	*replay = (struct replay){
		.trace = trace, .sources = UINT_MAX, .budget = REPLAY_BUDGET};
	replay_trace_forget(trace);
	replay_way_init(&replay->way, setting->rtt_ns, setting->bits);
	replay->way.landed = replay_landed;
	replay->way.ctx = replay;
}

static void replay_bulk(struct replay_trace *trace, const struct replay_setting *setting,
			bool is_all, struct replay_outcome *out)
{
	struct replay replay;

	replay_begin(&replay, trace, setting);
	for (size_t i = 0; i < trace->n_blobs; i++)
		if ((is_all || trace->blobs[i]->is_read) && !trace->blobs[i]->is_held)
			replay_way_demand(&replay.way, trace->blobs[i]);
	for (size_t i = 0; i < trace->n_blobs; i++)
		if (is_all || trace->blobs[i]->is_read)
			replay_until(&replay, trace->blobs[i], CLOCK_NEVER);
	replay_command(&replay);
	replay_end(&replay, out);
}

/* profile: what is known before, and what is known then; NULL where neither is of
 * interest. */
static void replay_foreseen(struct replay_trace *trace,
			    const struct replay_setting *setting, unsigned int sources,
			    struct profile *profile, struct replay_outcome *out)
{
	_cleanup_(foresight_freep) struct foresight *foresight = replay_foresight(trace);
	struct replay replay;
	const struct profile_read *reads;
	size_t n;

	replay_begin(&replay, trace, setting);
	replay.foresight = foresight;
	replay.sources = sources;
	replay.tells_files = setting->tells_files;
	replay_silence(&replay); /* before others may name the same files */
	if (profile)
		foresight_learn(foresight, profile, 1);
	replay_command(&replay);
	if (setting->tells_files)
		htab_each(&foresight->files, replay_print_wasted, NULL);
	replay_end(&replay, out);
	n = foresight_reads(foresight, &reads);
	if (profile)
		profile_merge(profile, reads, n);
}

static unsigned int replay_source(const char *name)
{
	for (enum foresight_source s = 0; s < FORESIGHT_SOURCES; s++)
		if (strcmp(name, foresight_source_name(s)) == 0)
			return 1u << s;
	fprintf(stderr, "replay: no source is called %s\n", name);
	exit(2);
}

static void replay_predictor(struct replay_trace *trace,
			     const struct replay_setting *setting, const char *name,
			     struct replay_outcome *out)
{
	static const char only[] = "only-";
	static const char without[] = "without-";
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	struct replay replay;

	if (strcmp(name, "none") == 0) {
		replay_begin(&replay, trace, setting);
		replay_command(&replay);
		replay_end(&replay, out);
		return;
	}
	if (strcmp(name, "eager") == 0 || strcmp(name, "oracle") == 0) {
		replay_bulk(trace, setting, *name == 'e', out);
		return;
	}
	replay_foreseen(trace, setting, UINT_MAX, &profile, out);
	if (strcmp(name, "first") == 0)
		return;
	if (strcmp(name, "again") == 0)
		replay_foreseen(trace, setting, UINT_MAX, &profile, out);
	else if (strncmp(name, only, sizeof(only) - 1) == 0)
		replay_foreseen(trace, setting, replay_source(name + sizeof(only) - 1),
				strcmp(name, "only-learned") == 0 ? &profile : NULL, out);
	else if (strncmp(name, without, sizeof(without) - 1) == 0)
		replay_foreseen(trace, setting,
				~replay_source(name + sizeof(without) - 1), NULL, out);
	else {
		fprintf(stderr, "replay: no predictor is called %s\n", name);
		exit(2);
	}
}

static void replay_print(const struct replay_trace *trace, const char *name,
			 const struct replay_outcome *outcome)
{
	printf("%s\t%s\t%.3f\t%.3f\t%zu\t%" PRId64 "\t%zu\t%" PRId64 "\t%zu\t%" PRId64,
	       trace->name, name, (double)outcome->took_ns / 1e6,
	       (double)trace->warm_ns / 1e6, outcome->n_calls, outcome->bytes,
	       trace->n_read, trace->read_bytes, trace->n_blobs, trace->declared_bytes);
	for (enum foresight_source s = 0; s < FORESIGHT_SOURCES; s++)
		printf("\t%" PRId64 "\t%" PRId64 "\t%" PRId64,
		       outcome->summary.useful[s].files, outcome->summary.late[s].files,
		       outcome->summary.wasted[s].files);
	printf("\t%" PRId64 "\n", outcome->summary.missed.files);
}

static char *replay_input(void)
{
	struct buf text = BUF_INIT;
	size_t n;

	do {
		buf_reserve(&text, 1 << 16);
		n = fread(text.data + text.len, 1, 1 << 16, stdin);
		text.len += n;
	} while (n);
	buf_add_byte(&text, '\0');
	return (char *)text.data;
}

int main(int argc, char **argv)
{
	struct replay_setting setting = {.rtt_ns = 10 * NS_PER_MS, .bits = 1000000000};
	_cleanup_free_ char *text = replay_input();
	struct replay_trace trace;
	int i = 1;

	for (; i + 1 < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--files") == 0)
			setting.tells_files = true;
		else if (strcmp(argv[i], "--rtt") == 0)
			setting.rtt_ns = (int64_t)(strtod(argv[++i], NULL) * NS_PER_MS);
		else
			setting.bits = (int64_t)(strtod(argv[++i], NULL) * 1e6);
	}
	replay_trace_read(&trace, text);
	for (; i < argc; i++) {
		struct replay_outcome outcome;

		replay_predictor(&trace, &setting, argv[i], &outcome);
		replay_print(&trace, argv[i], &outcome);
	}
	replay_trace_deinit(&trace);
	return 0;
}
