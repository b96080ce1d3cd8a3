/*
 * The digests of files as they were when import last read them, in an SQLite database:
 * one row a directory, so that a large tree loads at once and an unchanged one writes
 * nothing. A single imported file has a row of its own, with one record whose name is
 * empty.
 *
 * Threads: stat_cache_get from any, for different paths; the others from one.
 */
#pragma once

#include "lib/tree/digest.h"

struct stat_cache;

struct stat_record {
	struct slice name;
	uint64_t dev;
	uint64_t ino;
	int64_t size;
	int64_t mtime_ns;
	int64_t ctime_ns;
	uint8_t hash[DIGEST_HASH_SIZE];
};

/* Loads what is known of root (absolute; "" for "/") and all below it, blocking on the
 * disk. A damaged database is made anew; UNAVAILABLE where another process keeps it. */
struct error *stat_cache_open(const char *path, const char *root,
			      struct stat_cache **cache_out);
void *stat_cache_close(struct stat_cache *cache);
CLEANUP_DEFINE(struct stat_cache, stat_cache_close)

/* The records of a directory, packed and in the order they were put; empty where unknown;
 * borrowed from the cache. What is never asked for is removed by stat_cache_save(). */
struct slice stat_cache_get(struct stat_cache *cache, struct slice dir);
/* Replaces them, with the next save; both are copied. */
void stat_cache_put(struct stat_cache *cache, struct slice dir, struct slice records);
struct error *stat_cache_save(struct stat_cache *cache); /* one transaction */

void stat_record_pack(const struct stat_record *record, struct buf *out);
/* Takes the first record off; false at the end, or where the bytes are none of ours. */
bool stat_record_unpack(struct slice *records, struct stat_record *out);
