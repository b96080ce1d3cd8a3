/*
 * What runs of a kind of command opened: paths from the root, each with what the last
 * eight runs did, in the order of their first opening. A profile is merged with each run
 * and never replaced, so that one odd run spoils nothing.
 *
 * Encoded it is what the database keeps and what workers share, so decoding trusts
 * nothing: sizes, counts and paths, each of which stands once, are checked, and a profile
 * is whole or not at all.
 *
 * Threads: one at a time.
 */
#pragma once

#include "lib/base/buf.h"
#include "lib/base/error.h"

#define PROFILE_ENTRIES_MAX 20000
#define PROFILE_BYTES_MAX   ((size_t)2 << 20)  /* encoded */
#define PROFILE_PATHS_MAX   ((size_t)16 << 20) /* all paths together, decoded */
#define PROFILE_PATH_MAX    4095

struct profile_entry {
	char *path;   /* owned; clean */
	int64_t size; /* of the file when it was last opened */
	uint8_t seen; /* a bit a run, the last run's the lowest: whether it was opened */
	uint8_t runs; /* of those bits, how many mean something: 1 to 8 */
};

struct profile {
	struct profile_entry *entries; /* in the order of opening */
	size_t n;
	size_t cap;
	uint32_t n_runs; /* that it was merged with */
};

#define PROFILE_INIT ((struct profile){0})
void profile_deinit(struct profile *profile);
#define _cleanup_profile_ _cleanup_(profile_deinit)

/* Of a file that one run opened. */
struct profile_read {
	const char *path;
	int64_t size;
};
/* One more run, whose files come in the order of their first opening. What no run of the
 * last eight opened goes, then what is opened last, where there is too much. */
void profile_merge(struct profile *profile, const struct profile_read *reads, size_t n);
/* Of another worker's, which may claim anything: it counts as two runs at most, so that
 * our own outweigh it soon. */
void profile_doubt(struct profile *profile);
/* How likely the next run opens it, 0 to 1: recent runs count more. */
double profile_probability(const struct profile_entry *entry);

void profile_encode(const struct profile *profile, struct buf *out);
/* INVALID_ARGUMENT says where it is damaged. */
struct error *profile_decode(struct slice bytes, struct profile *out);
