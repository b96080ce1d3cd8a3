/*
 * How far the storage is, and how wide the way: the round trip is the least that a call
 * took of late, the bandwidth the most that was delivered while one was under way. Both
 * are forgotten slowly, so that a way which changes is seen.
 *
 * Pure: times come in. Threads: one at a time.
 */
#pragma once

#include <stdint.h>

struct fetch_pace {
	int64_t rtt_ns;    /* 0: nothing came yet */
	int64_t rate;      /* bytes a second; 0: too little came to tell */
	int64_t delivered; /* bytes, since the beginning */
};

/* What a call remembers of the moment when it was sent. */
struct fetch_pace_mark {
	int64_t at_ns;
	int64_t delivered;
};

struct fetch_pace_mark fetch_pace_sent(const struct fetch_pace *pace, int64_t now_ns);
/* The call's answer is here, bytes long. */
void fetch_pace_landed(struct fetch_pace *pace, const struct fetch_pace_mark *mark,
		       int64_t bytes, int64_t now_ns);
/* Bytes a second, or what is usual where that is not known yet. */
int64_t fetch_pace_rate(const struct fetch_pace *pace);
/* Bytes that are under way when the way is full; at least FETCH_PACE_WINDOW_MIN. */
int64_t fetch_pace_window(const struct fetch_pace *pace);

#define FETCH_PACE_WINDOW_MIN ((int64_t)128 << 10)
#define FETCH_PACE_WINDOW_MAX ((int64_t)64 << 20)
