/*
 * Whether the server takes calls: what grpc.health.v1 tells. It serves from its start
 * until it begins to end.
 *
 * Threads: any; one lock inside.
 */
#pragma once

struct health;

struct health *health_new(void);
void *health_free(struct health *health); /* nobody may watch any more */
/* From here on NOT_SERVING; who watches is told, and its stream ends. */
void health_drain(struct health *health);
