/* Owns the two estimates. Threads: see fetch_pace.h. */
#include "lib/cas/fetch_pace.h"

#include "lib/base/clock.h"

#define FETCH_PACE_FORGET 64 /* one in so many of a difference, a call */

struct fetch_pace_mark fetch_pace_sent(const struct fetch_pace *pace, int64_t now_ns)
{
	return (struct fetch_pace_mark){.at_ns = now_ns, .delivered = pace->delivered};
}

void fetch_pace_landed(struct fetch_pace *pace, const struct fetch_pace_mark *mark,
		       int64_t bytes, int64_t now_ns)
{
	int64_t took = now_ns - mark->at_ns;
	double rate;

	took = took > 0 ? took : 1;
	pace->delivered += bytes;
	rate = (double)(pace->delivered - mark->delivered) * (double)NS_PER_S /
	       (double)took;
	if (!pace->rtt_ns || took < pace->rtt_ns)
		pace->rtt_ns = took;
	else
		pace->rtt_ns += (took - pace->rtt_ns) / FETCH_PACE_FORGET;
	if (rate > (double)pace->rate)
		pace->rate = rate < 1e12 ? (int64_t)rate : (int64_t)1e12;
	else if (bytes >= FETCH_PACE_WINDOW_MIN) /* little says little of the width */
		pace->rate -= (pace->rate - (int64_t)rate) / FETCH_PACE_FORGET;
}

int64_t fetch_pace_window(const struct fetch_pace *pace)
{
	double bytes = (double)pace->rtt_ns * (double)pace->rate / (double)NS_PER_S;

	if (bytes < (double)FETCH_PACE_WINDOW_MIN)
		return FETCH_PACE_WINDOW_MIN;
	return bytes < (double)FETCH_PACE_WINDOW_MAX ? (int64_t)bytes
						     : FETCH_PACE_WINDOW_MAX;
}
