/*
 * Owns a capture: the upper directories read so far, what was made of them, and the
 * resolving of paths. Invariant: an upper directory is read once; from then on its
 * entries in memory are the truth, since files leave the directory for the store. So
 * outputs may overlap and be asked for in any order.
 *
 * A path is walked as the command would have, over a stack of directories ("..", links),
 * each of which is an upper directory or, where nothing was written below, a Directory of
 * the lower tree.
 *
 * Threads: one at a time.
 */
#include <errno.h>
#include <string.h>

#include "fuse/capture_impl.h"
#include "fuse/overlay.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/text.h"

#define CAPTURE_LINKS_MAX 40

struct capture *capture_new(const struct capture_config *config)
{
	struct capture *capture = alloc_new(struct capture);

	capture->config = *config;
	capture->root_digest = *config->root;
	capture->config.root = &capture->root_digest;
	capture->mount_path = alloc_string(config->mount_path);
	capture->has_user_xattrs = overlay_has_user_xattrs();
	capture->arena = ARENA_INIT(config->memory_max);
	capture->top.path = "";
	capture->top.has_lower = true;
	capture->top.lower_digest = capture->root_digest;
	return capture;
}

void *capture_free(struct capture *capture)
{
	if (!capture)
		return NULL;
	for (size_t i = 0; i < capture->n_lowers; i++)
		tree_dir_unref(capture->lowers[i]);
	for (size_t i = 0; i < capture->n_notes; i++)
		free(capture->notes[i]);
	free(capture->lowers);
	free(capture->blobs);
	dirset_deinit(&capture->built);
	htab_deinit(&capture->trees);
	htab_deinit(&capture->blob_set);
	arena_deinit(&capture->arena);
	free(capture->mount_path);
	free(capture);
	return NULL;
}

void capture_result_deinit(struct capture_result *result)
{
	free(result->target);
	if (result->props)
		free((void *)(uintptr_t)result->props->raw.data);
	free(result->props);
	*result = (struct capture_result){0};
}

void capture_stats(const struct capture *capture, struct capture_stats *out)
{
	*out = capture->stats;
}

/* A directory on the way: written to, or of the lower tree alone. */
struct capture_place {
	struct capture_dir *upper;
	struct digest lower; /* where upper is NULL */
};

/* What stands at a name. */
struct capture_found {
	enum capture_kind kind;
	struct capture_place place;    /* directories */
	const struct capture_dir *dir; /* holds entry */
	struct capture_entry *entry;   /* written, or NULL: */
	const struct tree_node *node;  /* of the lower tree */
};

static void capture_found_entry(struct capture_dir *dir, struct capture_entry *entry,
				struct capture_found *out)
{
	out->dir = dir;
	out->entry = entry;
	switch (entry->kind) {
	case CAPTURE_ENTRY_FILE:
		out->kind = CAPTURE_FILE;
		break;
	case CAPTURE_ENTRY_DIR:
		out->kind = CAPTURE_DIR;
		out->place.upper = entry->dir;
		break;
	case CAPTURE_ENTRY_SYMLINK:
		out->kind = CAPTURE_SYMLINK;
		break;
	case CAPTURE_ENTRY_WHITEOUT:
		out->kind = CAPTURE_NONE;
		break;
	case CAPTURE_ENTRY_OTHER:
		out->kind = CAPTURE_OTHER;
		break;
	}
}

static void capture_found_node(const struct tree_node *node, struct capture_found *out)
{
	out->node = node;
	switch (node->kind) {
	case TREE_FILE:
		out->kind = CAPTURE_FILE;
		break;
	case TREE_DIR:
		out->kind = CAPTURE_DIR;
		out->place.lower = node->digest;
		break;
	case TREE_SYMLINK:
		out->kind = CAPTURE_SYMLINK;
		break;
	}
}

static struct error *capture_step(struct capture *capture,
				  const struct capture_place *place, const char *name,
				  struct capture_found *out)
{
	const struct tree_node *node;
	struct capture_entry *entry;
	struct tree_dir *lower;
	struct error *err = NULL;

	*out = (struct capture_found){0};
	if (place->upper) {
		err = capture_scan(capture, place->upper);
		if (err)
			return err;
		entry = capture_find(place->upper, name);
		if (entry) {
			capture_found_entry(place->upper, entry, out);
			return NULL;
		}
		if (!place->upper->has_lower || capture->config.staged)
			return NULL;
	}
	lower = place->upper ? place->upper->lower : NULL;
	if (!lower)
		err = capture_lower(capture,
				    place->upper ? &place->upper->lower_digest
						 : &place->lower,
				    &lower);
	if (err)
		return err;
	node = tree_dir_find(lower, slice_of(name));
	if (node)
		capture_found_node(node, out);
	return NULL;
}

/* The rest of an absolute path below the mount path, or NULL where it leads elsewhere. */
static const char *capture_below_mount(const char *path, const char *mount)
{
	for (;;) {
		size_t path_len;
		size_t mount_len;

		path += strspn(path, "/");
		mount += strspn(mount, "/");
		path_len = strcspn(path, "/");
		mount_len = strcspn(mount, "/");
		if (!mount_len)
			return path;
		if (path_len != mount_len || memcmp(path, mount, path_len) != 0)
			return NULL;
		path += path_len;
		mount += mount_len;
	}
}

struct capture_walk {
	struct capture_place *stack; /* the root first */
	size_t depth;
	size_t cap;
	char *rest; /* what is still to be walked */
	unsigned int n_links;
};

static void capture_walk_deinit(struct capture_walk *walk)
{
	free(walk->stack);
	free(walk->rest);
}

static void capture_push(struct capture_walk *walk, const struct capture_place *place)
{
	walk->stack = alloc_grow(walk->stack, &walk->cap, walk->depth + 1,
				 sizeof(*walk->stack));
	walk->stack[walk->depth++] = *place;
}

/* Continues at a link's target; false where that leaves the root, or never ends. */
static bool capture_follow(const struct capture *capture, struct capture_walk *walk,
			   const struct capture_found *link, const char *rest)
{
	struct slice target = link->entry ? link->entry->target : link->node->target;
	_cleanup_free_ char *text = alloc_string_n((const char *)target.data, target.len);
	const char *from = text;
	char *joined;

	if (++walk->n_links > CAPTURE_LINKS_MAX)
		return false;
	if (text[0] == '/') {
		from = capture_below_mount(text, capture->mount_path);
		if (!from)
			return false;
		walk->depth = 1;
	}
	joined = alloc_printf("%s/%s", from, rest);
	free(walk->rest);
	walk->rest = joined;
	return true;
}

/* ".." of the root is the root where the command saw it as /, else it leads outside. */
static bool capture_up(const struct capture *capture, struct capture_walk *walk)
{
	if (walk->depth > 1) {
		walk->depth--;
		return true;
	}
	return strspn(capture->mount_path, "/") == strlen(capture->mount_path);
}

/* Takes the next component off; NULL at the end. */
static char *capture_next_name(struct capture_walk *walk)
{
	const char *rest = walk->rest + strspn(walk->rest, "/");
	size_t len = strcspn(rest, "/");
	char *name = len ? alloc_string_n(rest, len) : NULL;
	char *after = alloc_string(rest + len + strspn(rest + len, "/"));

	free(walk->rest);
	walk->rest = after;
	return name;
}

static struct error *capture_resolve(struct capture *capture, const char *path,
				     struct capture_found *out)
{
	_cleanup_(capture_walk_deinit) struct capture_walk walk = {
		.rest = alloc_string(path)};
	struct capture_place top = {.upper = &capture->top};

	capture_push(&walk, &top);
	*out = (struct capture_found){.kind = CAPTURE_DIR, .place = top};
	for (;;) {
		_cleanup_free_ char *name = capture_next_name(&walk);
		_cleanup_free_ char *rest = NULL;
		struct error *err;

		if (!name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
			bool is_inside = !name || !name[1] || capture_up(capture, &walk);

			*out = (struct capture_found){
				.kind = is_inside ? CAPTURE_DIR : CAPTURE_NONE,
				.place = walk.stack[walk.depth - 1]};
			if (!name || !is_inside)
				return NULL;
			continue;
		}
		err = capture_step(capture, &walk.stack[walk.depth - 1], name, out);
		if (err || !*walk.rest)
			return err;
		rest = alloc_string(walk.rest);
		if (out->kind == CAPTURE_DIR) {
			capture_push(&walk, &out->place);
		} else if (out->kind != CAPTURE_SYMLINK ||
			   !capture_follow(capture, &walk, out, rest)) {
			*out = (struct capture_found){0};
			return NULL;
		}
	}
}

/* A copy that its owner can free as one result's: raw holds the encoding. */
static struct tree_props *capture_dup_props(const struct tree_props *props)
{
	_cleanup_buf_ struct buf raw = BUF_INIT;
	struct tree_props *copy;

	if (!props)
		return NULL;
	copy = alloc_new(struct tree_props);
	*copy = *props;
	tree_props_encode(props, &raw);
	copy->raw =
		(struct slice){raw.len ? alloc_memdup(raw.data, raw.len) : NULL, raw.len};
	return copy;
}

static struct error *capture_take_file(struct capture *capture,
				       const struct capture_found *found,
				       struct capture_result *out)
{
	struct error *err;

	if (found->node) {
		out->digest = found->node->digest;
		out->is_executable = found->node->is_executable;
		out->props = capture_dup_props(found->node->props);
		return NULL;
	}
	err = capture_adopt_file(capture, found->dir, found->entry);
	if (err)
		return err;
	out->digest = found->entry->digest;
	out->is_executable = found->entry->is_executable;
	out->props = capture_dup_props(found->entry->props);
	return NULL;
}

static void capture_take_symlink(const struct capture_found *found,
				 struct capture_result *out)
{
	struct slice target = found->node ? found->node->target : found->entry->target;

	out->target = alloc_string_n((const char *)target.data, target.len);
	out->props =
		capture_dup_props(found->node ? found->node->props : found->entry->props);
}

static struct error *capture_take_dir(struct capture *capture,
				      const struct capture_found *found, bool want_tree,
				      struct capture_result *out)
{
	struct capture_dir *dir = found->place.upper;
	struct error *err = NULL;

	out->digest = found->place.lower;
	if (dir) {
		err = capture_build(capture, dir);
		out->digest = dir->digest;
	}
	if (!err && want_tree)
		err = capture_make_tree(capture, &out->digest, &out->tree_digest);
	return err;
}

static struct error *capture_find_path(struct capture *capture, const char *path,
				       struct capture_found *out)
{
	if (*path && file_path_escapes(path))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "output path \"%s\" is not within the input root", path);
	return error_wrap(capture_resolve(capture, path, out), "output \"%s\"", path);
}

struct error *capture_look(struct capture *capture, const char *path,
			   enum capture_kind *kind_out)
{
	struct capture_found found;
	struct error *err = capture_find_path(capture, path, &found);

	if (!err)
		*kind_out = found.kind;
	return err;
}

struct error *capture_path(struct capture *capture, const char *path, bool want_tree,
			   struct capture_result *out)
{
	struct capture_result result = {0};
	struct capture_found found;
	struct error *err = capture_find_path(capture, path, &found);

	if (err)
		return err;
	result.kind = found.kind;
	switch (found.kind) {
	case CAPTURE_NONE:
		break;
	case CAPTURE_FILE:
		err = capture_take_file(capture, &found, &result);
		break;
	case CAPTURE_DIR:
		err = capture_take_dir(capture, &found, want_tree, &result);
		break;
	case CAPTURE_SYMLINK:
		capture_take_symlink(&found, &result);
		break;
	case CAPTURE_OTHER:
		capture_add_note(capture, found.dir, found.entry);
		break;
	}
	if (err) {
		capture_result_deinit(&result);
		return error_wrap(err, "output \"%s\"", path);
	}
	*out = result;
	return NULL;
}
