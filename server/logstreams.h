/*
 * Log streams: bytes that one call at a time appends and any number read, from the start
 * or anywhere else, as they come and after the end. A stream has an unlinked file;
 * nothing of it outlives the server.
 *
 * NAME is INSTANCE/logstreams/ID, and to write INSTANCE/logstreams/ID/TOKEN, both of 128
 * random bits.
 *
 * Number and bytes have limits: streams that have ended make room, the oldest first. One
 * that nobody writes ends after a while, so that its readers end. One that is a lease's
 * ends with that, however long it is silent; where nothing was ever written, nothing
 * stays.
 *
 * Threads: any; one lock inside. A stream's file is written by the call that writes the
 * stream, and read outside of the lock up to the size that was told.
 */
#pragma once

#include "lib/base/list.h"
#include "lib/rpc/server.h"

#define LOGSTREAMS_MAX       4096 /* at once; fewer where descriptors are few */
#define LOGSTREAMS_SIZE_MAX  ((int64_t)64 << 20)  /* bytes of one */
#define LOGSTREAMS_BYTES_MAX ((int64_t)512 << 20) /* of all, and not more than */
#define LOGSTREAMS_SHARE     16 /* one in so many bytes of what blobs may have */
#define LOGSTREAMS_IDLE_NS   (600 * NS_PER_S)  /* not ended, and nobody writes it */
#define LOGSTREAMS_KEPT_NS   (3600 * NS_PER_S) /* after its end */
#define LOGSTREAMS_ID_LEN    32
#define LOGSTREAMS_NAME_MAX  400 /* with the NUL */

struct logstreams;
struct logstream;

struct logstreams_name { /* views into the text */
	struct slice instance, id;
	struct slice token; /* empty: the name to read by */
};

/* dir_fd: where files are made, borrowed. max_bytes: of all streams, if it is less. */
struct logstreams *logstreams_new(int dir_fd, int64_t max_bytes);
void *logstreams_free(struct logstreams *streams); /* nobody may read or write */
/* Ends and forgets what its time is over for: about once a second. */
void logstreams_tick(struct logstreams *streams, int64_t now_ns);
/* Readers are woken and find that it is over. */
void logstreams_stop(struct logstreams *streams);

/* False: it is no name of a log stream. */
bool logstreams_parse(const char *text, struct logstreams_name *out);
/* Which of a lease's logs a stream is. */
struct logstreams_lease {
	const char *session, *id;
	unsigned int which;
};
/* RESOURCE_EXHAUSTED: too many that have not ended. write_name holds both names. lease:
 * copied, NULL: it is nobody's. */
struct error *logstreams_create(struct logstreams *streams, const char *instance,
				const struct logstreams_lease *lease, int64_t now_ns,
				char name_out[static LOGSTREAMS_NAME_MAX],
				char write_name_out[static LOGSTREAMS_NAME_MAX]);
/* By the name to read; unknown: nothing to do. */
void logstreams_end(struct logstreams *streams, const char *name, int64_t now_ns);

/* By the name to write, else INVALID_ARGUMENT; NOT_FOUND. */
struct error *logstreams_query(struct logstreams *streams,
			       const struct logstreams_name *name, int64_t *size_out,
			       bool *is_ended_out);
/* The same, and the stream is the caller's to write until logstream_leave(). ABORTED:
 * another call writes it. */
struct error *logstreams_write(struct logstreams *streams,
			       const struct logstreams_name *name,
			       struct logstream **out);
/* INVALID_ARGUMENT: not at its end, or it has ended. RESOURCE_EXHAUSTED: too long; that
 * ends it. */
struct error *logstream_append(struct logstream *stream, int64_t offset,
			       struct slice data);
void logstream_end(struct logstream *stream, int64_t now_ns); /* its bytes are complete */
int64_t logstream_size(const struct logstream *stream);       /* for who writes it */
/* The same; false: it is no lease's. */
bool logstream_lease(const struct logstream *stream, struct logstreams_lease *out);
void logstream_leave(struct logstream *stream, int64_t now_ns);

/* Embedded in a call that reads. */
struct logstream_reader {
	struct list link;
	struct logstream *stream;
	struct rpc_in *in; /* a reference */
};
struct logstream_state {
	int fd; /* borrowed, until the reader leaves */
	int64_t size;
	bool is_ended, is_stopped;
};
/* By the name to read, else INVALID_ARGUMENT; NOT_FOUND. The call is woken when there is
 * more. */
struct error *logstreams_read(struct logstreams *streams,
			      const struct logstreams_name *name, struct rpc_in *in,
			      struct logstream_reader *reader);
struct logstream_state logstream_reader_look(struct logstream_reader *reader);
void logstream_reader_leave(struct logstream_reader *reader);
