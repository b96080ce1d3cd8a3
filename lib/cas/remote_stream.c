/*
 * The streaming half of a remote: ByteStream reads and writes that go on where they broke
 * off, and GetTree. All of it blocks its caller.
 *
 * A stream ends when nothing moves for the remote's timeout; its deadline grows with what
 * it carries (REMOTE_SLOWEST bytes a second on top of the timeout), so that a stalled
 * peer ends soon, one that drips ends at last, and a slow one does not.
 *
 * Where the server knows zstd, a read comes as frames, and a write goes as frames if its
 * first piece shrinks: a frame a piece of RPC_CHUNK bytes. Where a write goes on is told
 * in bytes of frames, so it remembers where each ended, and makes the one at hand again.
 */
#include <fcntl.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#include "lib/base/alloc.h"
#include "lib/base/wire.h"
#include "lib/base/zstd.h"
#include "lib/cas/remote_internal.h"
#include "lib/rpc/stream.h"
#include "lib/tree/hasher.h"

#define REMOTE_SLOWEST    (256 << 10) /* bytes a second */
#define REMOTE_TREE_PAGES 100000      /* of one GetTree */
#define REMOTE_TREE_BYTES (64 << 20)  /* of a page, for its deadline */
#define REMOTE_NO_ANSWER  (-2)        /* in the place of a committed size */

static const struct rpc_method remote_bytestream_read = {
	&bytestream__byte_stream__descriptor, "Read"};
static const struct rpc_method remote_bytestream_write = {
	&bytestream__byte_stream__descriptor, "Write"};
static const struct rpc_method remote_query_write = {&bytestream__byte_stream__descriptor,
						     "QueryWriteStatus"};
static const struct rpc_method remote_get_tree_method = {
	&reapi__content_addressable_storage__descriptor, "GetTree"};

struct rpc_options remote_stream_options(const struct remote *remote, int64_t bytes)
{
	int64_t timeout_ms = remote->timeout_ms + bytes / REMOTE_SLOWEST * 1000;

	return (struct rpc_options){.timeout_ms = remote_timeout(remote, timeout_ms),
				    .idle_ms = remote->timeout_ms};
}

static const char *remote_kind(bool is_zstd)
{
	return is_zstd ? "compressed-blobs/zstd" : "blobs";
}

static char *remote_read_name(const struct remote *remote, const struct digest *digest,
			      bool is_zstd)
{
	char text[DIGEST_STRING_MAX];

	return alloc_printf("%s%s%s/%s", remote->instance, *remote->instance ? "/" : "",
			    remote_kind(is_zstd), digest_format(digest, text));
}

/* Where the bytes of a read go. */
struct remote_sink {
	struct staged *staged;
	struct zstd_decoder *decoder; /* of this attempt; NULL: they come as they are */
	int64_t done;
	int64_t size;
	int64_t taken; /* bytes that came for them */
	bool is_full;  /* this machine takes no more: not the peer's fault */
};

static struct error *remote_sink_add(struct remote_sink *sink, struct slice data)
{
	struct error *err;

	if ((uint64_t)(sink->size - sink->done) < data.len)
		return error_new(ERROR_DATA_LOSS,
				 "the remote store sends more bytes than %" PRId64,
				 sink->size);
	sink->done += (int64_t)data.len;
	err = staged_write(sink->staged, data.data, data.len);
	sink->is_full = err != NULL;
	return err;
}

static struct error *remote_sink_decode(struct remote_sink *sink, struct slice data)
{
	struct slice piece = {0};
	struct error *err;

	do {
		err = zstd_decode(sink->decoder, &data, &piece);
		if (error_code(err) == ERROR_INVALID_ARGUMENT)
			return error_recode(err, ERROR_DATA_LOSS);
		if (!err)
			err = remote_sink_add(sink, piece);
	} while (!err && piece.len);
	return err;
}

static struct error *remote_sink_end(struct remote_sink *sink)
{
	struct error *err = sink->decoder ? zstd_decoder_end(sink->decoder) : NULL;

	if (err)
		return error_recode(err, ERROR_DATA_LOSS);
	if (sink->done != sink->size)
		return error_new(ERROR_DATA_LOSS,
				 "the remote store sent %" PRId64 " bytes of %" PRId64,
				 sink->done, sink->size);
	return NULL;
}

/* ReadResponse: data = 10. */
static struct error *remote_read_message(void *ctx, struct slice message)
{
	struct remote_sink *sink = ctx;
	struct wire wire = wire_of(message);
	struct wire_field field;

	while (wire_next(&wire, &field)) {
		struct error *err;

		if (field.number != 10 || field.type != WIRE_BYTES)
			continue;
		sink->taken += (int64_t)field.bytes.len;
		err = sink->decoder ? remote_sink_decode(sink, field.bytes)
				    : remote_sink_add(sink, field.bytes);
		if (err)
			return err;
	}
	return wire.is_bad ? error_new(ERROR_DATA_LOSS, "a ReadResponse is none") : NULL;
}

struct error *remote_stream_each(struct remote *remote, const struct rpc_method *method,
				 const ProtobufCMessage *request,
				 const struct rpc_options *options,
				 struct error *(*fn)(void *ctx, struct slice message),
				 void *ctx)
{
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	bool is_broken = false;
	struct error *err = rpc_stream_open(remote->chan, method, options, &stream);

	if (!err)
		err = rpc_stream_send_message(stream, request, &is_broken);
	if (!err && !is_broken)
		err = rpc_stream_close_send(stream);
	while (!err) {
		struct slice message;
		bool has_message;

		err = rpc_stream_receive(stream, &has_message, &message);
		if (err || !has_message)
			break;
		err = fn(ctx, message);
	}
	return err ? err : rpc_stream_finish(stream);
}

static struct error *remote_read_once(struct remote *remote, const char *resource,
				      struct remote_sink *sink)
{
	Bytestream__ReadRequest request = BYTESTREAM__READ_REQUEST__INIT;
	struct rpc_options options =
		remote_stream_options(remote, sink->size - sink->done);
	struct error *err;

	request.resource_name = resource;
	request.read_offset = sink->done;
	err = remote_stream_each(remote, &remote_bytestream_read, &request.base, &options,
				 remote_read_message, sink);
	return err ? err : remote_sink_end(sink);
}

/* The same of frames, which begin anew with each attempt. */
static struct error *remote_read_frames(struct remote *remote, const char *resource,
					struct remote_sink *sink)
{
	struct error *err = zstd_decoder_new(sink->size - sink->done, &sink->decoder);

	if (!err)
		err = remote_read_once(remote, resource, sink);
	sink->decoder = zstd_decoder_free(sink->decoder);
	return err;
}

/* Whether to ask for frames. A command's first read may be its only one, and large: it is
 * worth the wait for the answer that says so. */
static bool remote_reads_zstd(struct remote *remote, const struct digest *digest)
{
	if (digest->size < ZSTD_WORTHWHILE)
		return false;
	remote_learn_wait(remote);
	return atomic_load(&remote->has_zstd);
}

/* Fills the sink, going on after breaks; an attempt that got bytes is not counted. */
static struct error *remote_read(struct remote *remote, const struct digest *digest,
				 struct remote_sink *sink)
{
	bool is_zstd = remote_reads_zstd(remote, digest);
	_cleanup_free_ char *resource = remote_read_name(remote, digest, is_zstd);
	char name[DIGEST_STRING_MAX];
	struct remote_tries tries = {0};

	for (;;) {
		int64_t before = sink->done;
		struct error *err = is_zstd ? remote_read_frames(remote, resource, sink)
					    : remote_read_once(remote, resource, sink);

		if (!err)
			return NULL;
		if (is_zstd && remote_refuses_zstd(remote, err)) {
			error_free(err);
			is_zstd = false;
			free(resource);
			resource = remote_read_name(remote, digest, false);
			continue;
		}
		if (error_code(err) == ERROR_NOT_FOUND) {
			error_free(err);
			return remote_missing(digest, "the remote store");
		}
		if (sink->done > before)
			tries = (struct remote_tries){0};
		if (!sink->is_full)
			err = remote_again(remote, err, &tries);
		if (err)
			return error_wrap(err, "read %s", digest_format(digest, name));
	}
}

struct error *remote_read_blob(struct remote *remote, const struct digest *digest,
			       struct store *store, int *fd_out)
{
	_cleanup_(staged_freep) struct staged *staged = NULL;
	struct remote_sink sink = {.size = digest->size};
	struct error *err;

	err = staged_open(store, digest, true, &staged);
	if (err)
		return err;
	sink.staged = staged;
	err = remote_read(remote, digest, &sink);
	if (err)
		return err;
	if (sink.taken < sink.size)
		atomic_fetch_add(&remote->saved, (uint64_t)(sink.size - sink.taken));
	err = staged_commit(take(staged), fd_out);
	if (error_code(err) == ERROR_INVALID_ARGUMENT)
		err = error_recode(
			err, ERROR_DATA_LOSS); /* the peer's fault, not the caller's */
	return err;
}

/* GetTree */

struct remote_page {
	struct buf *token; /* of this page, then of the next */
	struct error *(*each)(void *ctx, struct slice directory);
	void *ctx;
};

/* GetTreeResponse: directories = 1, next_page_token = 2. */
static struct error *remote_tree_message(void *ctx, struct slice message)
{
	struct remote_page *page = ctx;
	struct wire wire = wire_of(message);
	struct wire_field field;

	buf_clear(page->token);
	while (wire_next(&wire, &field)) {
		struct error *err = NULL;

		if (field.type != WIRE_BYTES)
			continue;
		if (field.number == 1)
			err = page->each(page->ctx, field.bytes);
		else if (field.number == 2)
			buf_add(page->token, field.bytes.data, field.bytes.len);
		if (err)
			return err;
	}
	return wire.is_bad ? error_new(ERROR_DATA_LOSS, "a GetTreeResponse is none")
			   : NULL;
}

static struct error *remote_tree_page(struct remote *remote, const struct digest *root,
				      struct buf *token,
				      struct error *(*each)(void *, struct slice),
				      void *ctx)
{
	Reapi__GetTreeRequest request = REAPI__GET_TREE_REQUEST__INIT;
	struct rpc_options options = remote_stream_options(remote, REMOTE_TREE_BYTES);
	struct remote_page page = {.token = token, .each = each, .ctx = ctx};
	Reapi__Digest wire = REAPI__DIGEST__INIT;
	char hex[DIGEST_HEX_MAX];

	request.instance_name = remote->instance;
	digest_to_wire(root, hex, &wire);
	request.root_digest = &wire;
	request.page_token = buf_string(token);
	return remote_stream_each(remote, &remote_get_tree_method, &request.base,
				  &options, remote_tree_message, &page);
}

/* What the caller's function returns ends it all; what the peer returns may be tried
 * again. */
struct remote_each {
	struct error *(*fn)(void *ctx, struct slice directory);
	void *ctx;
	bool has_refused;
};

static struct error *remote_tree_each(void *ctx, struct slice directory)
{
	struct remote_each *each = ctx;
	struct error *err = each->fn(each->ctx, directory);

	each->has_refused = err != NULL;
	return err;
}

/* One page, again from its start after a break: *token is where it begins, then the next
 * one's. */
static struct error *remote_tree_pages(struct remote *remote, const struct digest *root,
				       struct buf *token, struct remote_each *each)
{
	_cleanup_buf_ struct buf start = BUF_INIT;
	struct remote_tries tries = {0};

	buf_add(&start, token->data, token->len);
	for (;;) {
		struct error *err =
			remote_tree_page(remote, root, token, remote_tree_each, each);

		if (!err && token->len &&
		    slice_equal(buf_slice(token), buf_slice(&start)))
			return error_new(ERROR_DATA_LOSS, "a page follows itself");
		/* too much for a message today is so tomorrow; callers have another way
		 */
		if (err && !each->has_refused &&
		    error_code(err) != ERROR_RESOURCE_EXHAUSTED)
			err = remote_again(remote, err, &tries);
		else
			return err;
		if (err)
			return err;
		buf_clear(token);
		buf_add(token, start.data, start.len);
	}
}

struct error *remote_get_tree(struct remote *remote, const struct digest *root,
			      struct error *(*each)(void *ctx, struct slice directory),
			      void *ctx)
{
	struct remote_each told = {.fn = each, .ctx = ctx};
	_cleanup_buf_ struct buf token = BUF_INIT;
	char name[DIGEST_STRING_MAX];

	for (unsigned int i = 0; i < REMOTE_TREE_PAGES; i++) {
		struct error *err = remote_tree_pages(remote, root, &token, &told);

		if (error_code(err) == ERROR_NOT_FOUND && !told.has_refused) {
			error_free(err);
			return remote_missing(root, "the remote store");
		}
		if (err)
			return error_wrap(err, "GetTree of %s",
					  digest_format(root, name));
		if (!token.len)
			return NULL;
	}
	return error_new(ERROR_DATA_LOSS, "GetTree of %s never ends",
			 digest_format(root, name));
}

/* ByteStream.Write */

struct remote_source {
	const struct digest *digest;
	int fd; /* or -1: bytes */
	struct slice bytes;
	bool (*progress)(void *ctx, int64_t n_more);
	void *ctx;
	int64_t reported;
	uint8_t *chunk; /* RPC_CHUNK, where fd is read */
	bool is_zstd;
	struct buf frame; /* of the piece at … */
	int64_t framed;   /* … this offset; -1: of none */
	int64_t *ends;    /* bytes of frames up to the end of each piece sent so far */
	size_t n_ends, ends_cap;
};

/* How far a write is. */
struct remote_place {
	int64_t offset; /* in the blob; of frames, where a piece begins, or the end */
	int64_t wire;   /* bytes that were sent: of frames, perhaps within that piece */
};

static char *remote_write_name(const struct remote *remote, const struct digest *digest,
			       bool is_zstd)
{
	char text[DIGEST_STRING_MAX];
	uint8_t r[16];

	if (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r))
		memset(r, 0, sizeof(r));
	return alloc_printf("%s%suploads/%02x%02x%02x%02x-%02x%02x-4%01x%02x-a%01x%02x-"
			    "%02x%02x%02x%02x%02x%02x/%s/%s",
			    remote->instance, *remote->instance ? "/" : "", r[0], r[1],
			    r[2], r[3], r[4], r[5], r[6] & 15, r[7], r[8] & 15, r[9],
			    r[10], r[11], r[12], r[13], r[14], r[15],
			    remote_kind(is_zstd), digest_format(digest, text));
}

static struct error *remote_source_chunk(struct remote_source *source, int64_t offset,
					 struct slice *out)
{
	int64_t left = source->digest->size - offset;
	size_t want = left < RPC_CHUNK ? (size_t)left : RPC_CHUNK;
	ssize_t n;

	if (source->fd < 0) {
		*out = (struct slice){source->bytes.data + offset, want};
		return NULL;
	}
	if (!source->chunk)
		source->chunk = alloc_array(RPC_CHUNK, 1);
	n = pread(source->fd, source->chunk, want, (off_t)offset);
	if (n < 0)
		return error_errno(errno, "read");
	if ((size_t)n < want)
		return error_new(ERROR_FAILED_PRECONDITION,
				 "the file became shorter while it was uploaded");
	*out = (struct slice){source->chunk, want};
	return NULL;
}

/* Bytes of frames up to the piece that begins at offset. */
static int64_t remote_source_start(const struct remote_source *source, int64_t offset)
{
	return offset ? source->ends[offset / RPC_CHUNK - 1] : 0;
}

static struct error *remote_source_frame(struct remote_source *source, int64_t offset,
					 struct slice piece)
{
	struct error *err;

	if (source->framed == offset)
		return NULL;
	source->framed = -1;
	buf_clear(&source->frame);
	err = zstd_compress(piece, &source->frame);
	if (!err)
		source->framed = offset;
	return err;
}

/* What is left to be sent of the piece at a place, and where the next one begins. */
static struct error *remote_source_piece(struct remote_source *source,
					 const struct remote_place *at, struct slice *out,
					 struct remote_place *next)
{
	size_t i = (size_t)(at->offset / RPC_CHUNK);
	struct error *err = remote_source_chunk(source, at->offset, out);
	size_t skip;

	if (err)
		return err;
	next->offset = at->offset + (int64_t)out->len;
	next->wire = next->offset;
	if (!source->is_zstd)
		return NULL;
	err = remote_source_frame(source, at->offset, *out);
	if (err)
		return err;
	next->wire = remote_source_start(source, at->offset) + (int64_t)source->frame.len;
	source->ends =
		alloc_grow(source->ends, &source->ends_cap, i + 1, sizeof(*source->ends));
	source->ends[i] = next->wire;
	source->n_ends = i + 1;
	if (next->wire < at->wire)
		return error_new(ERROR_FAILED_PRECONDITION,
				 "the file changed while it was uploaded");
	skip = source->frame.len - (size_t)(next->wire - at->wire);
	*out = (struct slice){source->frame.data + skip, source->frame.len - skip};
	return NULL;
}

/* Frames are sent where the first piece is worth it: it speaks for the others. */
static struct error *remote_source_choose(struct remote_source *source)
{
	struct slice piece;
	struct error *err;

	if (source->digest->size < ZSTD_WORTHWHILE)
		return NULL;
	err = remote_source_chunk(source, 0, &piece);
	if (!err)
		source->is_zstd = zstd_shrink(piece, &source->frame);
	return err;
}

static void remote_source_deinit(struct remote_source *source)
{
	free(source->chunk);
	free(source->ends);
	buf_deinit(&source->frame);
}

static struct error *remote_source_report(struct remote_source *source, int64_t offset)
{
	int64_t n_more = offset - source->reported;

	if (!source->progress || n_more <= 0)
		return NULL;
	source->reported = offset;
	if (source->progress(source->ctx, n_more))
		return NULL;
	return error_new(ERROR_CANCELLED, "given up after %" PRId64 " bytes", offset);
}

/* One WriteRequest: resource_name = 1, write_offset = 2, finish_write = 3, data = 10. */
static struct error *remote_write_one(struct rpc_stream *stream,
				      struct remote_source *source, const char *resource,
				      struct remote_place *at, bool *is_broken)
{
	_cleanup_buf_ struct buf head = BUF_INIT;
	struct remote_place next;
	struct slice data = {0};
	struct error *err;

	err = remote_source_piece(source, at, &data, &next);
	if (err)
		return err;
	if (resource)
		wire_put_bytes(&head, 1, slice_of(resource));
	wire_put_int(&head, 2, (uint64_t)at->wire);
	wire_put_int(&head, 3, next.offset == source->digest->size);
	wire_put_head(&head, 10, data.len);
	err = rpc_stream_send(stream, buf_slice(&head), data, is_broken);
	if (err || *is_broken)
		return err;
	*at = next;
	return remote_source_report(source, at->offset);
}

static struct error *remote_write_answer(struct rpc_stream *stream,
					 int64_t *committed_out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)1 << 20);
	Bytestream__WriteResponse *response = NULL;
	struct slice message = {0};
	bool has_message = false;
	struct error *err;

	err = rpc_stream_receive(stream, &has_message, &message);
	if (!err && has_message)
		response = (Bytestream__WriteResponse *)rpc_decode(
			&bytestream__write_response__descriptor, message, &arena);
	*committed_out = response ? response->committed_size : REMOTE_NO_ANSWER;
	return err ? err : rpc_stream_finish(stream);
}

/* Of frames, a server that has the blob says -1: it cannot know how many there are. */
static bool remote_is_committed(const struct remote_source *source,
				const struct remote_place *at, int64_t committed)
{
	int64_t size = source->digest->size;

	if (committed == size || !source->is_zstd)
		return committed == size;
	return committed == -1 || (at->offset == size && committed == at->wire);
}

static struct error *remote_write_once(struct remote *remote,
				       struct remote_source *source, const char *resource,
				       struct remote_place at)
{
	struct rpc_options options =
		remote_stream_options(remote, source->digest->size - at.offset);
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	bool is_broken = false;
	bool is_first = true;
	int64_t committed;
	struct error *err;

	err = rpc_stream_open(remote->chan, &remote_bytestream_write, &options, &stream);
	if (err)
		return err;
	while (!is_broken && (is_first || at.offset < source->digest->size)) {
		err = remote_write_one(stream, source, is_first ? resource : NULL, &at,
				       &is_broken);
		if (err)
			return err;
		is_first = false;
	}
	if (!is_broken)
		err = rpc_stream_close_send(stream);
	if (!err)
		err = remote_write_answer(stream, &committed);
	if (!err && !remote_is_committed(source, &at, committed))
		err = error_new(ERROR_UNAVAILABLE,
				"the remote store kept %" PRId64 " bytes of %" PRId64,
				committed, source->digest->size);
	return err;
}

/* The place of a write of which a server has so many bytes; the start where there is none
 * such. */
static struct remote_place remote_source_place(const struct remote_source *source,
					       int64_t wire)
{
	int64_t offset;
	size_t i = 0;

	if (!source->is_zstd)
		return (struct remote_place){wire, wire};
	while (i < source->n_ends && source->ends[i] <= wire)
		i++;
	offset = (int64_t)i * RPC_CHUNK;
	if (wire < 0 || offset >= source->digest->size ||
	    (i == source->n_ends && remote_source_start(source, offset) != wire))
		return (struct remote_place){0, 0};
	return (struct remote_place){offset, wire};
}

/* Where a broken upload goes on, perhaps at its end; the start where the server cannot
 * say. */
static struct remote_place remote_write_place(struct remote *remote, const char *resource,
					      const struct remote_source *source)
{
	int64_t size = source->digest->size;
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)1 << 20);
	Bytestream__QueryWriteStatusRequest request =
		BYTESTREAM__QUERY_WRITE_STATUS_REQUEST__INIT;
	struct rpc_options options = {.timeout_ms =
					      remote_timeout(remote, remote->timeout_ms)};
	ProtobufCMessage *reply = NULL;
	const Bytestream__QueryWriteStatusResponse *status;
	_cleanup_error_ struct error *err = NULL;

	request.resource_name = resource;
	err = rpc_call_message(remote->chan, &remote_query_write, &request.base, &options,
			       &arena, &reply);
	if (err)
		return (struct remote_place){0, 0};
	status = (Bytestream__QueryWriteStatusResponse *)reply;
	if (status->complete && (source->is_zstd || status->committed_size == size))
		return (struct remote_place){size, size};
	if (!source->is_zstd &&
	    (status->committed_size < 0 || status->committed_size >= size))
		return (struct remote_place){0, 0};
	return remote_source_place(source, status->committed_size);
}

/* What frames were fewer; of one that the peer had all along, nothing is known. */
static void remote_write_count(struct remote *remote, const struct remote_source *source)
{
	int64_t size = source->digest->size;
	int64_t wire = source->n_ends ? source->ends[source->n_ends - 1] : size;

	if (source->is_zstd && wire < size &&
	    (int64_t)source->n_ends == (size + RPC_CHUNK - 1) / RPC_CHUNK)
		atomic_fetch_add(&remote->saved_up, (uint64_t)(size - wire));
}

/* Until all is there, going on after breaks. */
static struct error *remote_write_all(struct remote *remote, struct remote_source *source)
{
	_cleanup_free_ char *resource =
		remote_write_name(remote, source->digest, source->is_zstd);
	struct remote_place at = {0, 0};
	int64_t size = source->digest->size;
	struct remote_tries tries = {0};

	do {
		struct error *err = remote_write_once(remote, source, resource, at);
		int64_t before = at.wire;

		if (!err)
			break;
		err = remote_again(remote, err, &tries);
		if (err)
			return err;
		at = remote_write_place(remote, resource, source);
		if (at.wire > before)
			tries = (struct remote_tries){0};
	} while (!size || at.offset < size);
	remote_write_count(remote, source);
	/* the peer may have had the rest all along */
	if (source->progress && source->reported < size)
		(void)source->progress(source->ctx, size - source->reported);
	return NULL;
}

static struct error *remote_write(struct remote *remote, struct remote_source *source)
{
	char name[DIGEST_STRING_MAX];
	struct error *err = NULL;

	if (atomic_load(&remote->has_zstd))
		err = remote_source_choose(source);
	if (!err)
		err = remote_write_all(remote, source);
	if (source->is_zstd && remote_refuses_zstd(remote, err)) {
		error_free(err);
		source->is_zstd = false;
		err = remote_write_all(remote, source);
	}
	remote_source_deinit(source);
	return error_wrap(err, "upload %s", digest_format(source->digest, name));
}

struct error *remote_put_fd(struct remote *remote, const struct digest *digest, int fd,
			    bool (*progress)(void *ctx, int64_t n_more), void *ctx)
{
	struct remote_source source = {
		.digest = digest, .fd = fd, .progress = progress, .ctx = ctx};

	return remote_write(remote, &source);
}

struct error *remote_put_bytes(struct remote *remote, const struct digest *digest,
			       struct slice bytes)
{
	struct remote_source source = {.digest = digest, .fd = -1, .bytes = bytes};

	return remote_write(remote, &source);
}
