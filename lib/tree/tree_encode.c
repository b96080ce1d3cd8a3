/*
 * Owns nothing: encodes Directories and Trees, by hand and in the one canonical form,
 * which is what protobuf itself makes of sorted entries, so that equal directories have
 * equal digests whoever encodes them. Any thread.
 */
#include "lib/tree/tree.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/htab.h"
#include "lib/base/wire.h"
#include "lib/tree/hasher.h"

#define TREE_DIRS_MAX ((size_t)1 << 30) /* bytes of slices for one Tree */

void tree_props_encode(const struct tree_props *props, struct buf *out)
{
	_cleanup_buf_ struct buf part = BUF_INIT;

	if (props->raw.len) {
		buf_add(out, props->raw.data, props->raw.len);
		return;
	}
	if (props->has_read_only) {
		wire_put_bytes(&part, 1, slice_of("SubtreeReadOnly"));
		wire_put_bytes(&part, 2,
			       slice_of(props->is_read_only ? "true" : "false"));
		wire_put_bytes(out, 1, buf_slice(&part));
	}
	if (props->has_mtime) {
		buf_clear(&part);
		wire_put_int(&part, 1, (uint64_t)props->mtime_s);
		wire_put_int(&part, 2, (uint64_t)props->mtime_ns);
		wire_put_bytes(out, 2, buf_slice(&part));
	}
	if (props->has_unix_mode) {
		buf_clear(&part);
		wire_put_int(&part, 1, props->unix_mode);
		wire_put_bytes(out, 3, buf_slice(&part));
	}
}

static void tree_put_props(struct buf *out, uint32_t field,
			   const struct tree_props *props)
{
	_cleanup_buf_ struct buf part = BUF_INIT;

	if (!props)
		return;
	tree_props_encode(props, &part);
	wire_put_bytes(out, field, buf_slice(&part));
}

static void tree_put_digest(struct buf *out, uint32_t field, const struct digest *digest)
{
	uint8_t room[16];
	struct buf size = {.data = room, .cap = sizeof(room)};
	char hex[DIGEST_HEX_MAX];

	wire_put_int(&size, 2, (uint64_t)digest->size);
	wire_put_head(out, field, 2 + DIGEST_HEX_MAX - 1 + size.len);
	wire_put_bytes(out, 1, slice_of(digest_hex(digest, hex)));
	buf_add(out, size.data, size.len);
}

static void tree_put_node(struct buf *out, const struct tree_node *node,
			  struct buf *scratch)
{
	static const uint32_t fields[] = {
		[TREE_FILE] = 1, [TREE_DIR] = 2, [TREE_SYMLINK] = 3};

	buf_clear(scratch);
	wire_put_bytes(scratch, 1, node->name);
	switch (node->kind) {
	case TREE_FILE:
		tree_put_digest(scratch, 2, &node->digest);
		wire_put_int(scratch, 4, node->is_executable);
		tree_put_props(scratch, 6, node->props);
		break;
	case TREE_DIR:
		tree_put_digest(scratch, 2, &node->digest);
		break;
	case TREE_SYMLINK:
		wire_put_bytes(scratch, 2, node->target);
		tree_put_props(scratch, 4, node->props);
		break;
	}
	wire_put_bytes(out, fields[node->kind], buf_slice(scratch));
}

static int tree_compare_nodes(const void *a, const void *b)
{
	return slice_compare((*(const struct tree_node *const *)a)->name,
			     (*(const struct tree_node *const *)b)->name);
}

struct error *tree_encode(const struct tree_node *nodes, size_t n,
			  const struct tree_props *props, struct buf *out)
{
	_cleanup_free_ const struct tree_node **sorted = alloc_array(n, sizeof(*sorted));
	_cleanup_buf_ struct buf scratch = BUF_INIT;

	for (size_t i = 0; i < n; i++) {
		struct error *err = tree_node_check(&nodes[i]);

		if (err)
			return err;
		sorted[i] = &nodes[i];
	}
	qsort(sorted, n, sizeof(*sorted), tree_compare_nodes);
	for (size_t i = 1; i < n; i++)
		if (slice_equal(sorted[i - 1]->name, sorted[i]->name))
			return tree_clash(sorted[i]->name);
	for (enum tree_kind kind = TREE_FILE; kind <= TREE_SYMLINK; kind++)
		for (size_t i = 0; i < n; i++)
			if (sorted[i]->kind == kind)
				tree_put_node(out, sorted[i], &scratch);
	tree_put_props(out, 5, props);
	return NULL;
}

/* A Tree's children by digest, while it is put together. */

enum tree_mark { TREE_UNSEEN, TREE_ENTERED, TREE_DONE };

struct tree_child {
	struct hnode node;
	struct digest digest;
	struct slice bytes;
	enum tree_mark mark;
};

struct tree_set {
	struct htab tab;
	struct tree_child *children;
	size_t n;
	struct tree_child **stack;
	size_t depth;
	size_t stack_cap;
};

static void tree_set_deinit(struct tree_set *set)
{
	htab_deinit(&set->tab);
	free(set->children);
	free(set->stack);
}

static struct tree_child *tree_set_find(const struct tree_set *set,
					const struct digest *digest)
{
	uint64_t key = digest_key(digest);

	for (struct hnode *n = htab_first(&set->tab, key); n; n = htab_next(n, key)) {
		struct tree_child *child = container_of(n, struct tree_child, node);

		if (digest_equal(&child->digest, digest))
			return child;
	}
	return NULL;
}

static void tree_set_fill(struct tree_set *set, const struct slice *bytes, size_t n)
{
	set->children = alloc_array(n, sizeof(*set->children));
	for (size_t i = 0; i < n; i++) {
		struct tree_child *child = &set->children[set->n];

		hasher_digest(bytes[i].data, bytes[i].len, &child->digest);
		if (tree_set_find(set, &child->digest))
			continue;
		child->bytes = bytes[i];
		htab_insert(&set->tab, &child->node, digest_key(&child->digest));
		set->n++;
	}
}

/* The digest within a DirectoryNode of our own encoding; anything else is no child. */
static bool tree_child_digest(struct slice node, struct digest *out)
{
	struct wire wire = wire_of(node);
	struct wire_field field;
	char hash[DIGEST_HEX_MAX] = "";
	int64_t size = 0;

	while (wire_next(&wire, &field))
		if (field.number == 2 && field.type == WIRE_BYTES) {
			wire = wire_of(field.bytes);
			while (wire_next(&wire, &field)) {
				if (field.number == 1 &&
				    field.bytes.len == DIGEST_HEX_MAX - 1)
					memcpy(hash, field.bytes.data,
					       DIGEST_HEX_MAX - 1);
				if (field.number == 2)
					size = (int64_t)field.value;
			}
			_cleanup_error_ struct error *err =
				digest_parse_hash(hash, size, out);

			return !err;
		}
	return false;
}

static void tree_set_push_children(struct tree_set *set, struct slice directory)
{
	struct wire wire = wire_of(directory);
	struct wire_field field;

	while (wire_next(&wire, &field)) {
		struct tree_child *child;
		struct digest digest;

		if (field.number != 2 || field.type != WIRE_BYTES ||
		    !tree_child_digest(field.bytes, &digest))
			continue;
		child = tree_set_find(set, &digest);
		if (!child || child->mark != TREE_UNSEEN)
			continue;
		set->stack = alloc_grow(set->stack, &set->stack_cap, set->depth + 1,
					sizeof(*set->stack));
		set->stack[set->depth++] = child;
	}
}

/*
 * Depth first without recursion; a directory is put down when all below it has been, so
 * the reverse has parents first. An entry may wait on the stack more than once: only the
 * first visit counts. Digests cannot form a cycle.
 */
static size_t tree_set_sort(struct tree_set *set, struct slice root,
			    struct tree_child **order)
{
	size_t n = set->n;

	tree_set_push_children(set, root);
	while (set->depth) {
		struct tree_child *child = set->stack[set->depth - 1];

		switch (child->mark) {
		case TREE_UNSEEN:
			child->mark = TREE_ENTERED;
			tree_set_push_children(set, child->bytes);
			break;
		case TREE_ENTERED:
			child->mark = TREE_DONE;
			order[--n] = child;
			set->depth--;
			break;
		case TREE_DONE:
			set->depth--;
			break;
		}
	}
	return n;
}

void tree_message_encode(struct slice root, const struct slice *children,
			 size_t n_children, bool is_topological, struct buf *out)
{
	_cleanup_(tree_set_deinit) struct tree_set set = {0};
	_cleanup_free_ struct tree_child **order = NULL;
	size_t first = 0;

	tree_set_fill(&set, children, n_children);
	order = alloc_array(set.n, sizeof(struct tree_child *));
	if (is_topological)
		first = tree_set_sort(&set, root, order);
	else
		for (size_t i = 0; i < set.n; i++)
			order[i] = &set.children[i];
	wire_put_bytes(out, 1, root);
	for (size_t i = first; i < set.n; i++)
		wire_put_bytes(out, 2, order[i]->bytes);
}

struct error *tree_message_split(struct slice bytes, struct slice **dirs_out,
				 size_t *n_out)
{
	_cleanup_free_ struct slice *dirs = NULL;
	struct wire wire = wire_of(bytes);
	struct wire_field field;
	size_t n = 1; /* the root's place */
	bool has_root = false;

	while (wire_next(&wire, &field))
		n += field.number == 2;
	dirs = wire.is_bad ? NULL : alloc_bounded(n * sizeof(*dirs), TREE_DIRS_MAX);
	if (!dirs)
		return error_new(ERROR_INVALID_ARGUMENT, "malformed Tree");
	n = 1;
	for (wire = wire_of(bytes); wire_next(&wire, &field);) {
		if (field.number > 2)
			continue;
		if (field.type != WIRE_BYTES || (field.number == 1 && has_root))
			return error_new(ERROR_INVALID_ARGUMENT, "malformed Tree");
		if (field.number == 1) {
			has_root = true;
			dirs[0] = field.bytes;
		} else {
			dirs[n++] = field.bytes;
		}
	}
	if (!has_root)
		return error_new(ERROR_INVALID_ARGUMENT, "a Tree without a root");
	*dirs_out = take(dirs);
	*n_out = n;
	return NULL;
}
