/*
 * A store whose large blobs are known by their chunks, too: what is asked for is a blob
 * of the store or, where it has none such, a chunk of a large one, which is read from
 * where it lies in that. No byte is kept twice for it. Chunks are verified each time they
 * are read.
 *
 * Chunks below the chunker's least size (the last one of a blob may be so small) are kept
 * as blobs of their own by who promises them (chunks_hold()), so that small blobs are
 * never looked for among chunks.
 *
 * Threads: any. Blocks on the disk and hashes; a thread of its own, which lets others go
 * first, looks for chunks in blobs that came (chunks_note()).
 */
#pragma once

#include "lib/store/store.h"
#include "lib/tree/chunker.h"

struct chunks;

struct chunks_config {
	struct store *store; /* borrowed */
	const char *dir;     /* of what is known, see chunk_map.h; NULL: nothing ever */
	int64_t max_bytes;   /* of that */
	struct chunker chunker; /* as announced; unused where others say how each time */
	int64_t min_size;       /* smaller ones are blobs of their own */
};

struct error *chunks_open(const struct chunks_config *config, struct chunks **chunks_out);
void *chunks_close(struct chunks *chunks);
CLEANUP_DEFINE(struct chunks, chunks_close)
/* Whether any are known. */
bool chunks_are_known(struct chunks *chunks);
/* Whether a blob is cut into chunks at all: no smaller one is worth it. */
bool chunks_are_of(const struct chunks *chunks, const struct digest *blob);

/* Counts as a use of the blob that has the bytes, which is *holder_out (may be NULL). */
bool chunks_have(struct chunks *chunks, const struct digest *digest,
		 struct digest *holder_out);
/* The file with the bytes, which begin at *at_out; -1 where there is none. */
struct error *chunks_get(struct chunks *chunks, const struct digest *digest, int *fd_out,
			 int64_t *at_out);
/* As store_read(). */
struct error *chunks_read(struct chunks *chunks, const struct digest *digest,
			  size_t limit, struct buf *out);

/* A blob came: its chunks, as chunker (NULL: the store's own) cuts them, will be known
 * soon, if nothing more urgent is to be done. */
void chunks_note(struct chunks *chunks, const struct chunker *chunker,
		 const struct digest *blob);
/* The same by who knows them, and has verified each. */
struct error *chunks_tell(struct chunks *chunks, const struct digest *blob,
			  const struct chunk_list *list);

/* Looking for the chunks of one blob, in steps; zeroed before. */
struct chunks_look {
	const struct chunker *chunker; /* NULL: the store's own */
	struct chunk_list list;        /* what it comes to */
	int64_t at;
	int fd;
	bool has_begun;
	bool is_here; /* the blob itself */
};
/* The next step: about budget bytes. *is_over_out: the list is whole; where the blob is
 * not here any more (is_here), its chunks may be neither. NOT_FOUND: it is not here, and
 * its chunks are not known. RESOURCE_EXHAUSTED: they are too many. */
struct error *chunks_look(struct chunks *chunks, const struct digest *blob, size_t budget,
			  struct chunks_look *look, bool *is_over_out);
void chunks_look_end(struct chunks_look *look);
/* Sees to it that the small ones are blobs of their own; each counts as used. */
struct error *chunks_hold(struct chunks *chunks, const struct digest *blob,
			  const struct chunk_list *list);
