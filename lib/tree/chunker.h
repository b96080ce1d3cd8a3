/*
 * Chunks of a blob, cut where its content says (FastCDC of 2020), so that two versions of
 * a file share the chunks in which they do not differ. Which cuts they are follows from
 * the average size and the seed alone.
 *
 * Threads: any. chunker_read() blocks on the disk and hashes.
 */
#pragma once

#include "lib/tree/chunk_list.h"

#define CHUNKER_AVERAGE_MIN ((size_t)1 << 10)
#define CHUNKER_AVERAGE_MAX ((size_t)8 << 20)
#define CHUNKER_BUDGET_MAX  ((size_t)32 << 20)

struct chunker { /* constant once it is made */
	size_t min, average,
		max; /* bytes of a chunk; a last one may have fewer than min */
	uint64_t seed;
	uint64_t mask_early, mask_late; /* up to the average, and from there on */
};

/* False where the average is no power of two between the limits. */
bool chunker_init(struct chunker *chunker, uint64_t average, uint32_t seed);
/* How long the first chunk of data is, of which there must be max bytes, or all that is
 * left; 0 for none. */
size_t chunker_cut(const struct chunker *chunker, const uint8_t *data, size_t len);

/*
 * The chunks of a file from *at on, which is where one begins, appended to out; *at moves
 * on. Reads about budget bytes and a chunk more; the file is at its end where *at is
 * size. The cuts do not depend on the budgets. FAILED_PRECONDITION: it has fewer bytes
 * than size.
 */
struct error *chunker_read(const struct chunker *chunker, int fd, int64_t size,
			   size_t budget, int64_t *at, struct chunk_list *out);
