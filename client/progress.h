/*
 * What takes long, and how far it is: on a terminal that can (TERM is not dumb) a line
 * on stderr that is redrawn in place, no wider than the terminal; with --json events, one
 * JSON object a line of stderr, wherever that goes; with --quiet nothing. What is said
 * meanwhile takes the line's place. One at a time.
 *
 * Threads: update from any; the others from main.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum progress_kind {
	PROGRESS_READING,
	PROGRESS_UPLOADING,
	PROGRESS_RUNNING,
	PROGRESS_WAITING,
	PROGRESS_DOWNLOADING,
	PROGRESS_CHECKING_OUT,
};

struct progress;

/* The caller ends it. */
struct progress *progress_begin(enum progress_kind kind, bool is_quiet, bool is_json);
void *progress_end(struct progress *progress); /* wipes the line, and frees */

/* Any thread. The program is about to end: takes away what stands, and nothing is drawn
 * any more. */
void progress_stop(void);

static inline void progress_endp(struct progress **progress)
{
	(void)progress_end(*progress);
}

/* Any thread. Something else is written to the terminal from now on, which must stay:
 * this one draws no more. */
void progress_hush(void);

struct progress_count {
	int64_t n_done, n_total; /* a total of 0: unknown */
	int64_t bytes_done, bytes_total;
};
void progress_update(struct progress *progress, const struct progress_count *count);
/* A stage without numbers but for its time, which is counted from here on; behind so many
 * others (0: none, or unknown). Said again it changes nothing. stage is constant. */
void progress_stage(struct progress *progress, const char *stage, int64_t n_behind);
