/*
 * A progress line on stderr, redrawn in place: only on a terminal, and not where --quiet
 * was given. Threads: update from any; begin and end from main.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress;

struct progress *progress_begin(const char *verb, bool is_quiet); /* "Uploading" */
void *progress_end(struct progress *progress);                    /* wipes the line */

static inline void progress_endp(struct progress **progress)
{
	(void)progress_end(*progress);
}

/* total 0: unknown. Bytes are shown beside counts. */
void progress_update(struct progress *progress, int64_t n_done, int64_t n_total,
		     int64_t bytes_done, int64_t bytes_total);
void progress_say(struct progress *progress,
		  const char *text); /* a stage without numbers */
