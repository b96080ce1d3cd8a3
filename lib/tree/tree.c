/*
 * Owns decoded Directories: one allocation for the entries, the message's own bytes that
 * their names point into, and an arena for the few that have properties.
 *
 * The decoder trusts nothing. A first pass counts, so that memory is asked for once and
 * within a limit; the second fills in and validates; the last merges the three kinds by
 * name. It is stricter than protobuf where protobuf is loose: a field given twice or with
 * another type is refused, since implementations differ in what they make of it. Unknown
 * fields are skipped, as protobuf asks.
 *
 * Threads: a tree_dir is immutable once made and shared by its reference count.
 */
#include "lib/tree/tree.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/arena.h"
#include "lib/base/wire.h"

#define TREE_NODES_MAX  ((size_t)4 << 20) /* entries of one Directory */
#define TREE_PROPS_MAX  ((size_t)256 << 20)
#define TREE_HASH_CHARS 64

enum {
	DIRECTORY_FILES = 1,
	DIRECTORY_DIRECTORIES = 2,
	DIRECTORY_SYMLINKS = 3,
	DIRECTORY_PROPERTIES = 5,
};

struct tree_owner {
	struct tree_dir dir;
	struct buf bytes;
	struct arena props;
};

struct tree_decoder {
	struct tree_owner *owner;
	struct tree_node *nodes; /* by kind: files, directories, symlinks */
	size_t n[3];             /* of each enum tree_kind */
};

static struct tree_owner *tree_owner_free(struct tree_owner *owner)
{
	free((void *)owner->dir.nodes);
	buf_deinit(&owner->bytes);
	arena_deinit(&owner->props);
	free(owner);
	return NULL;
}
CLEANUP_DEFINE(struct tree_owner, tree_owner_free)

struct tree_dir *tree_dir_ref(struct tree_dir *dir)
{
	atomic_fetch_add_explicit(&dir->refs, 1, memory_order_relaxed);
	return dir;
}

void *tree_dir_unref(struct tree_dir *dir)
{
	if (dir && atomic_fetch_sub_explicit(&dir->refs, 1, memory_order_acq_rel) == 1)
		tree_owner_free(container_of(dir, struct tree_owner, dir));
	return NULL;
}

/* A name may hold anything, so what a message shows of it is made harmless first. */
static const char *tree_shown(struct slice name, char text[static TREE_NAME_MAX + 4])
{
	size_t len = name.len > TREE_NAME_MAX ? TREE_NAME_MAX : name.len;

	for (size_t i = 0; i < len; i++)
		text[i] = name.data[i] < ' ' || name.data[i] == 0x7f ? '?'
								     : (char)name.data[i];
	memcpy(text + len, name.len > len ? "..." : "", name.len > len ? 4 : 1);
	return text;
}

struct error *tree_name_check(struct slice name)
{
	char text[TREE_NAME_MAX + 4];
	const char *why = NULL;

	if (name.len == 0)
		why = "is empty";
	else if (name.len > TREE_NAME_MAX)
		why = "is longer than 255 bytes";
	else if (slice_is(name, ".") || slice_is(name, ".."))
		why = "is not allowed";
	else if (memchr(name.data, '/', name.len))
		why = "contains a slash";
	else if (memchr(name.data, '\0', name.len))
		why = "contains a NUL byte";
	if (!why)
		return NULL;
	return error_new(ERROR_INVALID_ARGUMENT, "the name \"%s\" %s",
			 tree_shown(name, text), why);
}

struct error *tree_node_check(const struct tree_node *node)
{
	char text[TREE_NAME_MAX + 4];
	struct error *err = tree_name_check(node->name);

	if (err || node->kind != TREE_SYMLINK)
		return err;
	if (node->target.len == 0 || node->target.len > TREE_TARGET_MAX ||
	    memchr(node->target.data, '\0', node->target.len))
		return error_new(
			ERROR_INVALID_ARGUMENT,
			"the target of symbolic link \"%s\" is empty, longer than "
			"%d bytes or contains a NUL byte",
			tree_shown(node->name, text), TREE_TARGET_MAX);
	return NULL;
}

struct error *tree_clash(struct slice name)
{
	char text[TREE_NAME_MAX + 4];

	return error_new(ERROR_INVALID_ARGUMENT, "the name \"%s\" stands there twice",
			 tree_shown(name, text));
}

/* Whether a known field has its type and comes for the first time. */
static bool tree_expect(const struct wire_field *field, enum wire_type type,
			uint32_t *seen)
{
	uint32_t bit = 1u << field->number;

	if (field->type != type || *seen & bit)
		return false;
	*seen |= bit;
	return true;
}

static struct error *tree_malformed(const char *message)
{
	return error_new(ERROR_INVALID_ARGUMENT, "malformed %s", message);
}

static struct error *tree_decode_digest(struct slice bytes, struct digest *out)
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;
	char hash[TREE_HASH_CHARS + 1] = "";
	uint64_t size = 0;
	uint32_t seen = 0;

	while (wire_next(&wire, &field)) {
		switch (field.number) {
		case 1:
			if (!tree_expect(&field, WIRE_BYTES, &seen) ||
			    field.bytes.len != TREE_HASH_CHARS)
				return tree_malformed("digest");
			memcpy(hash, field.bytes.data, TREE_HASH_CHARS);
			break;
		case 2:
			if (!tree_expect(&field, WIRE_VARINT, &seen))
				return tree_malformed("digest");
			size = field.value;
			break;
		}
	}
	if (wire.is_bad)
		return tree_malformed("digest");
	return digest_parse_hash(hash, (int64_t)size, out);
}

static struct error *tree_decode_property(struct slice bytes, struct tree_props *props)
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;
	struct slice text[3] = {0};
	uint32_t seen = 0;

	while (wire_next(&wire, &field)) {
		if (field.number != 1 && field.number != 2)
			continue;
		if (!tree_expect(&field, WIRE_BYTES, &seen))
			return tree_malformed("NodeProperty");
		text[field.number] = field.bytes;
	}
	if (wire.is_bad)
		return tree_malformed("NodeProperty");
	if (slice_is(text[1], "SubtreeReadOnly")) {
		props->has_read_only = true;
		props->is_read_only = slice_is(text[2], "true");
	}
	return NULL;
}

/* Timestamp and UInt32Value look alike: numbered varints. */
static struct error *tree_decode_numbers(struct slice bytes, uint64_t numbers[static 3])
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;
	uint32_t seen = 0;

	while (wire_next(&wire, &field)) {
		if (field.number > 2)
			continue;
		if (!tree_expect(&field, WIRE_VARINT, &seen))
			return tree_malformed("NodeProperties");
		numbers[field.number] = field.value;
	}
	return wire.is_bad ? tree_malformed("NodeProperties") : NULL;
}

static struct error *tree_decode_prop_field(const struct wire_field *field,
					    uint32_t *seen, struct tree_props *props)
{
	uint64_t numbers[3] = {0};
	struct error *err;

	if (field->number == 1)
		return field->type == WIRE_BYTES
			       ? tree_decode_property(field->bytes, props)
			       : tree_malformed("NodeProperties");
	if (field->number > 3)
		return NULL;
	if (!tree_expect(field, WIRE_BYTES, seen))
		return tree_malformed("NodeProperties");
	err = tree_decode_numbers(field->bytes, numbers);
	if (err)
		return err;
	if (field->number == 3) {
		props->has_unix_mode = true;
		props->unix_mode = (uint32_t)numbers[1];
		return NULL;
	}
	if (numbers[2] >= 1000000000u)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "an mtime of that many nanoseconds");
	props->has_mtime = true;
	props->mtime_s = (int64_t)numbers[1];
	props->mtime_ns = (int32_t)numbers[2];
	return NULL;
}

static struct error *tree_decode_props(struct arena *arena, struct slice bytes,
				       const struct tree_props **out)
{
	struct tree_props *props = arena_alloc(arena, sizeof(*props));
	struct wire wire = wire_of(bytes);
	struct wire_field field;
	uint32_t seen = 0;

	if (!props)
		return error_new(ERROR_INVALID_ARGUMENT, "too many node properties");
	*props = (struct tree_props){.raw = bytes};
	while (wire_next(&wire, &field)) {
		struct error *err = tree_decode_prop_field(&field, &seen, props);

		if (err)
			return err;
	}
	if (wire.is_bad)
		return tree_malformed("NodeProperties");
	*out = props;
	return NULL;
}

/* One known field of a FileNode, DirectoryNode or SymlinkNode; others are skipped. */
static struct error *tree_decode_node_field(struct arena *arena,
					    const struct wire_field *field,
					    uint32_t *seen, struct tree_node *node)
{
	static const uint32_t props_field[] = {
		[TREE_FILE] = 6, [TREE_DIR] = UINT32_MAX, [TREE_SYMLINK] = 4};
	bool is_flag = node->kind == TREE_FILE && field->number == 4;
	bool is_props = field->number == props_field[node->kind];

	if (field->number > 2 && !is_flag && !is_props)
		return NULL;
	if (!tree_expect(field, is_flag ? WIRE_VARINT : WIRE_BYTES, seen))
		return tree_malformed("entry");
	if (is_flag)
		node->is_executable = field->value != 0;
	else if (is_props)
		return tree_decode_props(arena, field->bytes, &node->props);
	else if (field->number == 1)
		node->name = field->bytes;
	else if (node->kind == TREE_SYMLINK)
		node->target = field->bytes;
	else
		return tree_decode_digest(field->bytes, &node->digest);
	return NULL;
}

static struct error *tree_decode_node(struct arena *arena, struct slice bytes,
				      enum tree_kind kind, struct tree_node *node)
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;
	uint32_t seen = 0;
	char text[TREE_NAME_MAX + 4];
	struct error *err = NULL;

	*node = (struct tree_node){.kind = kind};
	while (!err && wire_next(&wire, &field))
		err = tree_decode_node_field(arena, &field, &seen, node);
	if (!err && wire.is_bad)
		err = tree_malformed("entry");
	if (!err && !(seen & 1u << 2) && kind != TREE_SYMLINK)
		err = error_new(ERROR_INVALID_ARGUMENT, "a digest is missing");
	if (err)
		return error_wrap(err, "entry \"%s\"", tree_shown(node->name, text));
	return tree_node_check(node);
}

static bool tree_kind_of_field(uint32_t number, enum tree_kind *kind)
{
	switch (number) {
	case DIRECTORY_FILES:
		*kind = TREE_FILE;
		return true;
	case DIRECTORY_DIRECTORIES:
		*kind = TREE_DIR;
		return true;
	case DIRECTORY_SYMLINKS:
		*kind = TREE_SYMLINK;
		return true;
	default:
		return false;
	}
}

static struct error *tree_count(struct tree_decoder *decoder)
{
	struct wire wire = wire_of(buf_slice(&decoder->owner->bytes));
	struct wire_field field;
	enum tree_kind kind;
	size_t n = 0;

	while (wire_next(&wire, &field)) {
		if (!tree_kind_of_field(field.number, &kind))
			continue;
		if (field.type != WIRE_BYTES)
			return tree_malformed("Directory");
		decoder->n[kind]++;
		n++;
	}
	if (wire.is_bad)
		return tree_malformed("Directory");
	decoder->nodes = alloc_bounded(n * sizeof(struct tree_node),
				       TREE_NODES_MAX * sizeof(struct tree_node));
	if (!decoder->nodes)
		return error_new(ERROR_INVALID_ARGUMENT, "a Directory of %zu entries", n);
	decoder->owner->dir.n_nodes = (uint32_t)n;
	return NULL;
}

static struct error *tree_fill(struct tree_decoder *decoder)
{
	struct tree_owner *owner = decoder->owner;
	struct wire wire = wire_of(buf_slice(&owner->bytes));
	struct wire_field field;
	size_t first[3] = {0, decoder->n[TREE_FILE],
			   decoder->n[TREE_FILE] + decoder->n[TREE_DIR]};
	size_t next[3] = {first[0], first[1], first[2]};
	uint32_t seen = 0;
	enum tree_kind kind;
	struct error *err;

	while (wire_next(&wire, &field)) {
		if (field.number == DIRECTORY_PROPERTIES) {
			if (!tree_expect(&field, WIRE_BYTES, &seen))
				return tree_malformed("Directory");
			err = tree_decode_props(&owner->props, field.bytes,
						&owner->dir.props);
			if (err)
				return err;
		}
		if (!tree_kind_of_field(field.number, &kind))
			continue;
		struct tree_node *node = &decoder->nodes[next[kind]];

		err = tree_decode_node(&owner->props, field.bytes, kind, node);
		if (err)
			return err;
		if (next[kind]++ == first[kind])
			continue;
		int order = slice_compare(node[-1].name, node->name);
		char text[TREE_NAME_MAX + 4];

		if (order == 0)
			return tree_clash(node->name);
		if (order > 0)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "the entry \"%s\" is out of order",
					 tree_shown(node->name, text));
	}
	return NULL;
}

/* The three sorted runs become one. A name in two of them stands side by side then. */
static struct error *tree_merge(struct tree_decoder *decoder)
{
	struct tree_dir *dir = &decoder->owner->dir;
	_cleanup_free_ struct tree_node *merged = NULL;
	const struct tree_node *at[3];
	const struct tree_node *end[3];

	if (decoder->n[0] == dir->n_nodes || decoder->n[1] == dir->n_nodes ||
	    decoder->n[2] == dir->n_nodes)
		return NULL;
	merged = alloc_bounded(dir->n_nodes * sizeof(*merged), SIZE_MAX);
	if (!merged)
		return error_new(ERROR_RESOURCE_EXHAUSTED, "memory for %u entries",
				 dir->n_nodes);
	for (unsigned int kind = 0, start = 0; kind < 3; kind++) {
		at[kind] = decoder->nodes + start;
		start += (unsigned int)decoder->n[kind];
		end[kind] = decoder->nodes + start;
	}
	for (uint32_t i = 0; i < dir->n_nodes; i++) {
		unsigned int least = 3;

		for (unsigned int kind = 0; kind < 3; kind++) {
			if (at[kind] < end[kind] &&
			    (least == 3 ||
			     slice_compare(at[kind]->name, at[least]->name) < 0))
				least = kind;
		}
		merged[i] = *at[least]++;
		if (i && slice_equal(merged[i - 1].name, merged[i].name))
			return tree_clash(merged[i].name);
	}
	free((void *)decoder->nodes);
	decoder->nodes = take(merged);
	return NULL;
}

struct error *tree_dir_decode(struct buf *bytes, struct tree_dir **out)
{
	_cleanup_(tree_owner_freep) struct tree_owner *owner =
		alloc_new(struct tree_owner);
	struct tree_decoder decoder = {.owner = owner};
	struct error *err;

	owner->bytes = *bytes;
	*bytes = BUF_INIT;
	owner->props = ARENA_INIT(TREE_PROPS_MAX);
	if (owner->bytes.len > TREE_DIR_MAX)
		return error_new(ERROR_INVALID_ARGUMENT, "a Directory of %zu bytes",
				 owner->bytes.len);
	/* It will live long: what the buffer has in reserve goes back first. */
	owner->bytes.cap = owner->bytes.len + 1;
	owner->bytes.data = alloc_resize(owner->bytes.data, owner->bytes.cap, 1);
	owner->bytes.data[owner->bytes.len] = '\0';
	err = tree_count(&decoder);
	if (!err)
		err = tree_fill(&decoder);
	if (!err)
		err = tree_merge(&decoder);
	owner->dir.nodes = decoder.nodes;
	if (err)
		return err;
	atomic_init(&owner->dir.refs, 1);
	owner->dir.n_files = (uint32_t)decoder.n[TREE_FILE];
	owner->dir.n_dirs = (uint32_t)decoder.n[TREE_DIR];
	owner->dir.n_symlinks = (uint32_t)decoder.n[TREE_SYMLINK];
	owner->dir.memory = sizeof(*owner) + owner->bytes.cap + owner->props.total +
			    owner->dir.n_nodes * sizeof(struct tree_node);
	*out = &take(owner)->dir;
	return NULL;
}

const struct tree_node *tree_dir_find(const struct tree_dir *dir, struct slice name)
{
	uint32_t low = 0;
	uint32_t high = dir->n_nodes;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = slice_compare(dir->nodes[middle].name, name);

		if (order == 0)
			return &dir->nodes[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}
