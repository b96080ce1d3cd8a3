/*
 * Owns nothing but the uploads that broke off: the fake's streams and QueryWriteStatus. A
 * fault of a stream happens where it was scripted to the byte, so that a test can say
 * what the next call must begin with.
 */
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/wire.h"
#include "lib/base/zstd.h"
#include "lib/tree/hasher.h"
#include "lib/tree/tree.h"
#include "server/resource_name.h"
#include "tests/fake/fake_internal.h"

#define CAS_SERVICE   &reapi__content_addressable_storage__descriptor
#define BYTES_SERVICE &bytestream__byte_stream__descriptor

#define FAKE_CHUNK       (64 << 10)
#define FAKE_TREE_MAX    20000 /* Directories of a tree */
#define FAKE_ENDLESS_DIR 200   /* entries of an endless Directory */

static bool fake_has_kind(const struct fake_in *state, enum fake_kind kind)
{
	return state->has_fault && state->fault.kind == kind;
}

static bool fake_name_is_zstd(const char *name)
{
	struct resource_name parsed;

	require(!resource_name_parse(name, &parsed));
	return parsed.is_zstd;
}

static struct digest *fake_name_digest(const char *name, struct arena *arena)
{
	struct digest *digest = arena_zero(arena, sizeof(*digest));
	struct resource_name parsed;

	require(!resource_name_parse(name, &parsed));
	*digest = parsed.digest;
	return digest;
}

/* ---- Read ----------------------------------------------------------------------- */

struct fake_read {
	struct fake_in in;
	bool is_open, is_zstd;
	struct slice bytes;
	int64_t at;
	int64_t end;
};

static bool fake_read_begin(struct fake *fake, struct rpc_in *in, struct fake_read *read)
{
	Bytestream__ReadRequest *request = (Bytestream__ReadRequest *)rpc_request(in);

	if (!request)
		return false;
	read->in.digests = fake_name_digest(request->resource_name, rpc_arena(in));
	read->in.n_digests = 1;
	read->at = request->read_offset;
	read->is_zstd = fake_name_is_zstd(request->resource_name);
	fake_begin(fake, &read->in, FAKE_READ);
	fake_note(fake, &read->in, read->at, 0);
	fake_note_zstd(fake, &read->in, read->is_zstd);
	return true;
}

/* What is to be sent becomes one frame; faults count its bytes then. */
static void fake_read_shrink(struct rpc_in *in, struct fake_read *read)
{
	_cleanup_buf_ struct buf frame = BUF_INIT;
	struct slice rest = {read->bytes.data + read->at,
			     read->bytes.len - (size_t)read->at};

	require(!zstd_compress(rest, &frame));
	read->bytes = (struct slice){arena_memdup(rpc_arena(in), frame.data, frame.len),
				     frame.len};
	read->at = 0;
}

static bool fake_read_open(struct fake *fake, struct rpc_in *in, struct fake_read *read)
{
	const struct digest *digest = read->in.digests;
	struct fake_fault fault;
	bool has_fault = fake_blob_fault(fake, FAKE_READ, digest, &fault);

	read->is_open = true;
	if (has_fault && fault.kind == FAKE_REFUSE) {
		(void)fake_end(in, &fault);
		return false;
	}
	if (!fake_bytes(fake, digest, has_fault ? &fault : NULL, rpc_arena(in),
			&read->bytes)) {
		(void)rpc_fail(in, error_new(ERROR_NOT_FOUND, "no such blob"));
		return false;
	}
	if (read->is_zstd)
		fake_read_shrink(in, read);
	read->end = (int64_t)read->bytes.len;
	if ((fake_has_kind(&read->in, FAKE_FAIL) ||
	     fake_has_kind(&read->in, FAKE_STALL)) &&
	    read->in.fault.at < read->end)
		read->end = read->in.fault.at;
	return true;
}

static enum rpc_verdict fake_read(struct rpc_in *in, void *service)
{
	struct fake_read *read = rpc_state(in, sizeof(*read), NULL);
	Bytestream__ReadResponse response = BYTESTREAM__READ_RESPONSE__INIT;
	struct fake *fake = service;
	enum rpc_verdict verdict;

	if (!read->in.has_begun && !fake_read_begin(fake, in, read))
		return RPC_DONE;
	if (!fake_proceed(fake, in, &read->in, &verdict))
		return verdict;
	if (!read->is_open && !fake_read_open(fake, in, read))
		return RPC_DONE;
	if (!rpc_can_send(in))
		return RPC_LATER;
	if (read->at < read->end) {
		int64_t left = read->end - read->at;

		response.data.data = (uint8_t *)(uintptr_t)read->bytes.data + read->at;
		response.data.len = left < FAKE_CHUNK ? (size_t)left : FAKE_CHUNK;
		read->at += (int64_t)response.data.len;
		rpc_send(in, &response.base);
		return RPC_LATER;
	}
	if (fake_has_kind(&read->in, FAKE_STALL))
		return RPC_LATER;
	return fake_has_kind(&read->in, FAKE_FAIL) ? fake_end(in, &read->in.fault)
						   : RPC_DONE;
}

/* ---- Write ---------------------------------------------------------------------- */

struct fake_write {
	struct fake_in in;
	struct fake_upload *upload;
	int64_t offset;
	int64_t n_received;
	bool is_finished, is_zstd;
};

static struct fake_upload *fake_upload_find(struct fake *fake, const char *name,
					    bool is_made)
{
	struct fake_upload *found = NULL;

	(void)pthread_mutex_lock(&fake->mutex);
	list_for_each (node, &fake->uploads) {
		struct fake_upload *upload = container_of(node, struct fake_upload, link);

		if (strcmp(upload->name, name) == 0)
			found = upload;
	}
	if (!found && is_made) {
		found = alloc_new(struct fake_upload);
		found->name = alloc_string(name);
		list_push(&fake->uploads, &found->link);
	}
	(void)pthread_mutex_unlock(&fake->mutex);
	return found;
}

static enum rpc_verdict fake_write_answer(struct rpc_in *in, int64_t committed_size)
{
	Bytestream__WriteResponse response = BYTESTREAM__WRITE_RESPONSE__INIT;

	response.committed_size = committed_size;
	rpc_send(in, &response.base);
	return RPC_DONE;
}

static void fake_write_begin(struct fake *fake, struct rpc_in *in,
			     struct fake_write *write,
			     const Bytestream__WriteRequest *request)
{
	struct fake_in *state = &write->in;

	state->digests = fake_name_digest(request->resource_name, rpc_arena(in));
	state->n_digests = 1;
	write->offset = request->write_offset;
	write->is_zstd = fake_name_is_zstd(request->resource_name);
	write->upload = fake_upload_find(fake, request->resource_name, true);
	fake_begin(fake, state, FAKE_WRITE);
	fake_note(fake, state, write->offset, 0);
	fake_note_zstd(fake, state, write->is_zstd);
	if (write->offset == 0)
		buf_clear(&write->upload->bytes);
}

/* Takes as much as the script allows. False: the call is over. */
static bool fake_write_take(struct fake *fake, struct rpc_in *in,
			    struct fake_write *write,
			    const Bytestream__WriteRequest *request)
{
	struct buf *bytes = &write->upload->bytes;
	size_t n = request->data.len;
	bool is_cut = false;

	if (request->write_offset != (int64_t)bytes->len) {
		(void)rpc_fail(in,
			       error_new(ERROR_INVALID_ARGUMENT,
					 "written at %lld, %zu bytes are here",
					 (long long)request->write_offset, bytes->len));
		return false;
	}
	if (fake_has_kind(&write->in, FAKE_FAIL) &&
	    bytes->len + n >= (size_t)write->in.fault.at) {
		n = (size_t)write->in.fault.at - bytes->len;
		is_cut = true;
	}
	buf_add(bytes, request->data.data, n);
	write->n_received += (int64_t)n;
	write->is_finished |= request->finish_write;
	fake_note(fake, &write->in, write->offset, write->n_received);
	if (is_cut)
		(void)fake_end(in, &write->in.fault);
	return !is_cut;
}

static enum rpc_verdict fake_write_end(struct fake *fake, struct rpc_in *in,
				       struct fake_write *write)
{
	struct buf *bytes;
	_cleanup_free_ uint8_t *plain = NULL;
	size_t size = (size_t)(write->in.digests ? write->in.digests->size : 0);
	struct slice data;
	struct digest got;

	if (rpc_is_cancelled(in) || !write->upload || !write->is_finished)
		return rpc_fail(in,
				error_new(ERROR_CANCELLED, "the client went too early"));
	if (fake_has_kind(&write->in, FAKE_SHORT))
		return fake_write_answer(in, write->in.fault.at);
	bytes = &write->upload->bytes;
	data = buf_slice(bytes);
	if (write->is_zstd) {
		struct error *err;

		plain = alloc_zero(size);
		err = zstd_decompress(data, plain, size);
		if (err)
			return rpc_fail(in, err);
		data = (struct slice){plain, size};
	}
	hasher_digest(data.data, data.len, &got);
	if (!digest_equal(&got, write->in.digests))
		return rpc_fail(in, error_new(ERROR_INVALID_ARGUMENT,
					      "these bytes have another digest"));
	(void)fake_put(fake, data.data, data.len);
	return fake_write_answer(in, (int64_t)bytes->len);
}

static enum rpc_verdict fake_write(struct rpc_in *in, void *service)
{
	struct fake_write *write = rpc_state(in, sizeof(*write), NULL);
	Bytestream__WriteRequest *request;
	struct fake *fake = service;
	enum rpc_verdict verdict;
	struct slice bytes;
	bool is_end;

	if (write->in.has_begun && !fake_proceed(fake, in, &write->in, &verdict))
		return verdict;
	while (rpc_receive(in, &bytes, &is_end)) {
		bool is_first = !write->in.has_begun;

		if (is_end)
			return fake_write_end(fake, in, write);
		request = (Bytestream__WriteRequest *)rpc_decode(
			&bytestream__write_request__descriptor, bytes, rpc_arena(in));
		require(request);
		if (is_first)
			fake_write_begin(fake, in, write, request);
		if (is_first && fake_has(fake, write->in.digests))
			return fake_write_answer(
				in, write->is_zstd ? -1 : write->in.digests->size);
		if (is_first && !fake_proceed(fake, in, &write->in, &verdict))
			return verdict;
		if (!fake_write_take(fake, in, write, request))
			return RPC_DONE;
	}
	return RPC_LATER;
}

/* ---- QueryWriteStatus ----------------------------------------------------------- */

static enum rpc_verdict fake_query(struct rpc_in *in, void *service)
{
	Bytestream__QueryWriteStatusResponse response =
		BYTESTREAM__QUERY_WRITE_STATUS_RESPONSE__INIT;
	struct fake_in *state = rpc_state(in, sizeof(*state), NULL);
	const Bytestream__QueryWriteStatusRequest *request;
	const struct fake_upload *upload;
	struct fake *fake = service;
	enum rpc_verdict verdict;

	if (!state->has_begun) {
		state->request = rpc_request(in);
		if (!state->request)
			return RPC_DONE;
		request = (Bytestream__QueryWriteStatusRequest *)state->request;
		state->digests = fake_name_digest(request->resource_name, rpc_arena(in));
		state->n_digests = 1;
		fake_begin(fake, state, FAKE_QUERY);
	}
	if (!fake_proceed(fake, in, state, &verdict))
		return verdict;
	request = (Bytestream__QueryWriteStatusRequest *)state->request;
	upload = fake_upload_find(fake, request->resource_name, false);
	response.complete = fake_has(fake, state->digests);
	if (response.complete)
		response.committed_size = state->digests->size;
	else if (upload)
		response.committed_size = (int64_t)upload->bytes.len;
	else
		return rpc_fail(in, error_new(ERROR_NOT_FOUND, "no such upload"));
	if (fake_has_kind(state, FAKE_OFFSET))
		response.committed_size = state->fault.at;
	rpc_send(in, &response.base);
	return RPC_DONE;
}

/* ---- GetTree -------------------------------------------------------------------- */

/* The tree's digests, breadth first, each once. */
static size_t fake_tree_order(struct fake *fake, struct digest *order,
			      struct arena *arena)
{
	size_t n = 1;

	for (size_t i = 0; i < n; i++) {
		_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
		struct buf copy = BUF_INIT;
		struct slice bytes;

		if (!fake_bytes(fake, &order[i], NULL, arena, &bytes))
			continue;
		buf_add(&copy, bytes.data, bytes.len);
		require(!tree_dir_decode(&copy, &dir));
		for (uint32_t k = 0; k < dir->n_nodes; k++) {
			size_t at = 0;

			if (dir->nodes[k].kind != TREE_DIR)
				continue;
			while (at < n && !digest_equal(&order[at], &dir->nodes[k].digest))
				at++;
			require(n < FAKE_TREE_MAX);
			if (at == n)
				order[n++] = dir->nodes[k].digest;
		}
	}
	return n;
}

static void fake_tree_page(struct fake *fake, const struct fake_in *state, size_t from,
			   struct arena *arena, struct buf *page)
{
	struct digest *order = arena_zero(arena, FAKE_TREE_MAX * sizeof(*order));
	char token[24];
	size_t n, end;

	order[0] = *state->digests;
	n = fake_tree_order(fake, order, arena);
	end = n - from < fake->tree_page ? n : from + fake->tree_page;
	for (size_t i = from; i < end; i++) {
		struct fake_fault fault;
		struct slice bytes;
		bool has_fault = fake_blob_fault(fake, FAKE_GET_TREE, &order[i], &fault);

		if (has_fault && fault.kind == FAKE_OMIT)
			continue;
		if (fake_bytes(fake, &order[i], has_fault ? &fault : NULL, arena, &bytes))
			wire_put_bytes(page, 1, bytes);
	}
	if (end == n)
		return;
	(void)snprintf(token, sizeof(token), "%zu", end);
	wire_put_bytes(page, 2, slice_of(token));
}

/* A Directory that no other page has. */
static void fake_endless_page(const char *token, struct buf *page)
{
	struct tree_node nodes[FAKE_ENDLESS_DIR];
	_cleanup_buf_ struct buf dir = BUF_INIT;
	char names[FAKE_ENDLESS_DIR][32];
	unsigned int number = 0;
	char next[24];

	(void)sscanf(token, "%u", &number);
	for (size_t i = 0; i < FAKE_ENDLESS_DIR; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "%u-%zu", number, i);
		nodes[i] = (struct tree_node){.name = slice_of(names[i]),
					      .kind = TREE_FILE,
					      .digest = digest_of_empty};
	}
	require(!tree_encode(nodes, FAKE_ENDLESS_DIR, NULL, &dir));
	wire_put_bytes(page, 1, buf_slice(&dir));
	(void)snprintf(next, sizeof(next), "%u", number + 1);
	wire_put_bytes(page, 2, slice_of(next));
}

static enum rpc_verdict fake_get_tree(struct rpc_in *in, void *service)
{
	struct fake_in *state = rpc_state(in, sizeof(*state), NULL);
	_cleanup_buf_ struct buf page = BUF_INIT;
	Reapi__GetTreeRequest *request;
	struct fake *fake = service;
	enum rpc_verdict verdict;
	unsigned int from = 0;
	struct slice root;

	if (!state->has_begun) {
		state->request = rpc_request(in);
		if (!state->request)
			return RPC_DONE;
		request = (Reapi__GetTreeRequest *)state->request;
		state->digests = fake_digests(&request->root_digest, 1, rpc_arena(in));
		state->n_digests = 1;
		fake_begin(fake, state, FAKE_GET_TREE);
	}
	if (!fake_proceed(fake, in, state, &verdict))
		return verdict;
	request = (Reapi__GetTreeRequest *)state->request;
	if (!fake_bytes(fake, state->digests, NULL, rpc_arena(in), &root))
		return rpc_fail(in, error_new(ERROR_NOT_FOUND, "no such root"));
	(void)sscanf(request->page_token, "%u", &from);
	if (fake_has_kind(state, FAKE_ENDLESS)) {
		fake_endless_page(request->page_token, &page);
	} else if (fake_has_kind(state, FAKE_CIRCLE) ||
		   fake_has_kind(state, FAKE_STUCK)) {
		bool is_moved = fake_has_kind(state, FAKE_CIRCLE) && from == 1;

		wire_put_bytes(&page, 1, root);
		wire_put_bytes(&page, 2, slice_of(is_moved ? "2" : "1"));
	} else {
		fake_tree_page(fake, state, from, rpc_arena(in), &page);
	}
	rpc_send_raw(in, buf_slice(&page), (struct slice){NULL, 0}, NULL, NULL);
	return RPC_DONE;
}

const struct rpc_handler fake_stream_handlers[] = {
	{{BYTES_SERVICE, "Read"}, RPC_SERVER_STREAM, 0, fake_read},
	{{BYTES_SERVICE, "Write"}, RPC_CLIENT_STREAM, 0, fake_write},
	{{BYTES_SERVICE, "QueryWriteStatus"}, RPC_UNARY, 0, fake_query},
	{{CAS_SERVICE, "GetTree"}, RPC_SERVER_STREAM, 0, fake_get_tree},
};
const size_t fake_n_stream_handlers = ARRAY_SIZE(fake_stream_handlers);
