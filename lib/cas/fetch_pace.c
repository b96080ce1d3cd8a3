/* Owns the two estimates. Threads: see fetch_pace.h. */
#include "lib/cas/fetch_pace.h"

#include "lib/base/clock.h"

#define FETCH_PACE_FORGET     64 /* one in so many of a difference, a call */
#define FETCH_PACE_SAMPLE_MIN ((int64_t)64 << 10)
#define FETCH_PACE_RATE_MAX   1e12
#define FETCH_PACE_RATE_USUAL 125000000 /* a gigabit a second, before it is known */
/* Before anything came: what a first round trip brings is not to be a trickle. */
#define FETCH_PACE_WINDOW_USUAL ((int64_t)1 << 20)

struct fetch_pace_mark fetch_pace_sent(const struct fetch_pace *pace, int64_t now_ns)
{
	return (struct fetch_pace_mark){.at_ns = now_ns, .delivered = pace->delivered};
}

void fetch_pace_landed(struct fetch_pace *pace, const struct fetch_pace_mark *mark,
		       int64_t bytes, int64_t now_ns)
{
	int64_t took = now_ns - mark->at_ns;
	int64_t delivered;
	double rate;

	took = took > 0 ? took : 1;
	pace->delivered += bytes;
	if (!pace->rtt_ns || took < pace->rtt_ns)
		pace->rtt_ns = took;
	else
		pace->rtt_ns += (took - pace->rtt_ns) / FETCH_PACE_FORGET;
	delivered = pace->delivered - mark->delivered;
	if (delivered < FETCH_PACE_SAMPLE_MIN) /* little says nothing of the width */
		return;
	rate = (double)delivered * (double)NS_PER_S / (double)took;
	rate = rate < FETCH_PACE_RATE_MAX ? rate : FETCH_PACE_RATE_MAX;
	if (rate > (double)pace->rate)
		pace->rate = (int64_t)rate;
	else
		pace->rate -= (pace->rate - (int64_t)rate) / FETCH_PACE_FORGET;
}

int64_t fetch_pace_rate(const struct fetch_pace *pace)
{
	return pace->rate ? pace->rate : FETCH_PACE_RATE_USUAL;
}

int64_t fetch_pace_window(const struct fetch_pace *pace)
{
	double bytes =
		(double)pace->rtt_ns * (double)fetch_pace_rate(pace) / (double)NS_PER_S;

	if (!pace->rtt_ns)
		return FETCH_PACE_WINDOW_USUAL;
	if (bytes < (double)FETCH_PACE_WINDOW_MIN)
		return FETCH_PACE_WINDOW_MIN;
	return bytes < (double)FETCH_PACE_WINDOW_MAX ? (int64_t)bytes
						     : FETCH_PACE_WINDOW_MAX;
}
