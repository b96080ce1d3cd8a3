/* Owns nothing. Threads: see room.h. */
#include "predict/room.h"

#define ROOM_LARGE_MAX 2 /* blobs that need streams, at once */
#define ROOM_WINDOWS   4 /* what fills the way, as often: others are answered, too */

bool room_way(const struct room *room, struct foresight_way *way_out)
{
	double contention = 1 + (double)room->demand_waiting /
					(double)(room->in_flight + room->window);
	int64_t size_max = room->n_large < ROOM_LARGE_MAX ? INT64_MAX : room->batch_max;

	if ((double)room->in_flight * contention > ROOM_WINDOWS * (double)room->window)
		return false;
	*way_out = (struct foresight_way){
		.rtt_ns = room->rtt_ns,
		.rate = room->rate,
		.contention = contention,
		.size_max = size_max < room->budget ? size_max : room->budget};
	return true;
}
