/*
 * Owns GetTree: pages of Directories as they lie in the store, byte for byte. A page's
 * token is the number of directories before the next one; as the walk's order is always
 * the same, a client can go on with it in another call. Children that are missing are
 * left out.
 */
#include <stdio.h>

#include "lib/base/alloc.h"
#include "lib/base/units.h"
#include "lib/base/wire.h"
#include "server/get_tree.h"
#include "server/walk.h"

#define PAGE_BYTES ((size_t)2 << 20)
#define PAGE_DIRS  10000
#define PAGE_SKIP  256 /* directories of earlier pages, in a step */

struct get_tree {
	bool has_begun;
	struct walk walk;
	size_t page_size;
	int64_t skip; /* directories of earlier pages */
};

static void get_tree_drop(void *state)
{
	struct get_tree *get = state;

	if (get->has_begun)
		walk_deinit(&get->walk);
}

static struct error *get_tree_begin(struct rpc_in *in, const struct server *server,
				    struct get_tree *get)
{
	Reapi__GetTreeRequest *request = (void *)rpc_request(in);
	char text[DIGEST_STRING_MAX];
	struct digest root;
	struct error *err;

	if (!request)
		return error_new(ERROR_INVALID_ARGUMENT, "the request is malformed");
	err = server_check(server, in, request->instance_name, request->digest_function);
	if (!err)
		err = digest_from_wire(request->root_digest, &root);
	if (!err && request->page_size < 0)
		err = error_new(ERROR_INVALID_ARGUMENT, "page size %d is negative",
				request->page_size);
	if (!err && request->page_token[0])
		err = error_wrap(units_parse_int(request->page_token, 1, WALK_DIRS_MAX,
						 &get->skip),
				 "page token");
	if (!err && !server_has(server, &root))
		err = error_new(ERROR_NOT_FOUND,
				"the root directory %s is not in the store",
				digest_format(&root, text));
	if (err)
		return err;
	get->page_size = request->page_size > 0 && request->page_size < PAGE_DIRS
				 ? (size_t)request->page_size
				 : PAGE_DIRS;
	walk_init(&get->walk, server, &root);
	get->has_begun = true;
	return NULL;
}

static bool get_tree_is_skipping(const struct get_tree *get)
{
	return get->walk.next < (size_t)get->skip && !walk_is_over(&get->walk);
}

/* What earlier pages had is walked again, some of it a step: a few bytes may name a page
 * that is far away. */
static struct error *get_tree_skip(struct get_tree *get)
{
	struct error *err = NULL;

	for (size_t n = 0; !err && n < PAGE_SKIP && get_tree_is_skipping(get); n++) {
		bool is_found;

		err = walk_next(&get->walk, NULL, NULL, NULL, &is_found);
	}
	return err;
}

/* Fills out with one page. */
static struct error *get_tree_page(struct get_tree *get, struct buf *out)
{
	_cleanup_buf_ struct buf dir = BUF_INIT;
	char token[24];
	size_t n = 0;

	while (n < get->page_size && out->len < PAGE_BYTES && !walk_is_over(&get->walk)) {
		bool is_found = false;
		struct error *err;

		buf_clear(&dir);
		err = walk_next(&get->walk, &dir, NULL, NULL, &is_found);
		if (err)
			return err;
		if (!is_found)
			continue;
		wire_put_bytes(out, 1, buf_slice(&dir));
		n++;
	}
	if (!walk_is_over(&get->walk)) {
		(void)snprintf(token, sizeof(token), "%zu", get->walk.next);
		wire_put_bytes(out, 2, slice_of(token));
	}
	return NULL;
}

static void get_tree_release(void *page)
{
	free(page);
}

enum rpc_verdict cas_get_tree(struct rpc_in *in, void *service)
{
	struct get_tree *get = rpc_state(in, sizeof(*get), get_tree_drop);
	_cleanup_buf_ struct buf page = BUF_INIT;
	struct error *err = NULL;
	size_t len;
	char *data;

	if (!get->has_begun)
		err = get_tree_begin(in, service, get);
	if (!err && get_tree_is_skipping(get)) {
		err = get_tree_skip(get);
		if (!err)
			return rpc_is_cancelled(in) ? RPC_LATER : RPC_AGAIN;
	}
	if (err)
		return rpc_fail(in, err);
	if (!rpc_can_send(in))
		return RPC_LATER;
	err = get_tree_page(get, &page);
	if (err)
		return rpc_fail(in, err);
	len = page.len;
	data = buf_steal_string(&page);
	rpc_send_raw(in, (struct slice){NULL, 0}, (struct slice){(uint8_t *)data, len},
		     get_tree_release, data);
	return walk_is_over(&get->walk) ? RPC_DONE : RPC_LATER;
}
