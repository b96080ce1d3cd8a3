/*
 * A progress line on stderr, redrawn in place: only on a terminal that can (TERM is not
 * dumb), no wider than it, and not where --quiet was given. What is said meanwhile takes
 * its place. One at a time. Threads: update from any; begin and end from main.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress;

/* verb is copied: "Uploading". The caller ends it. */
struct progress *progress_begin(const char *verb, bool is_quiet);
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

/* total 0: unknown. Bytes are shown beside counts. */
void progress_update(struct progress *progress, int64_t n_done, int64_t n_total,
		     int64_t bytes_done, int64_t bytes_total);
/* A stage without numbers; how long it is going on stands behind it. stage is constant.
 * One thread at a time. */
void progress_say(struct progress *progress, const char *stage);
