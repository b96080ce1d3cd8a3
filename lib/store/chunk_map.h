/*
 * What large blobs are made of, in an SQLite file of its own: the chunks of each, in
 * their order, and where each chunk lies in which blobs. It speaks of digests only, so it
 * stays true whatever becomes of the blobs; it says nothing about whether they are there.
 * What was used longest ago goes where there is too much.
 *
 * The file comes from a disk: a list that does not add up is forgotten, and where a chunk
 * lies is a hint that its reader verifies.
 *
 * Threads: any; one lock. Blocks on the disk, not on fsync.
 */
#pragma once

#include "lib/tree/chunk_list.h"

#define CHUNK_MAP_MAX       100000 /* blobs; a tenth of them make room */
#define CHUNK_MAP_BYTES_MIN ((int64_t)64 << 20)
#define CHUNK_MAP_CHUNKS    (128 << 10) /* of one blob */

struct chunk_map;

/* DIR/chunks.sqlite, made where it is missing; a file that is no database is replaced.
 * max_bytes: of its pages in use, about; CHUNK_MAP_BYTES_MIN at least. Where a chunk of
 * fewer than min_size bytes lies is not kept. */
struct error *chunk_map_open(const char *dir, int64_t max_bytes, int64_t min_size,
			     struct chunk_map **map_out);
void *chunk_map_close(struct chunk_map *map);
CLEANUP_DEFINE(struct chunk_map, chunk_map_close)
bool chunk_map_is_empty(struct chunk_map *map);

/* The caller knows that these are the blob's chunks: CHUNK_MAP_CHUNKS at most. */
struct error *chunk_map_put(struct chunk_map *map, const struct digest *blob,
			    const struct chunk_list *list);
/* Into an empty list; *found_out false: nothing is known of it. */
struct error *chunk_map_get(struct chunk_map *map, const struct digest *blob,
			    struct chunk_list *out, bool *found_out);
void chunk_map_drop(struct chunk_map *map, const struct digest *blob);

#define CHUNK_MAP_PLACES 16
struct chunk_place {
	struct digest blob;
	int64_t at;
};
/* Where the chunk lies, the newest first; how many are known, of which these are some. */
size_t chunk_map_find(struct chunk_map *map, const struct digest *chunk,
		      struct chunk_place places[static CHUNK_MAP_PLACES]);
