/* Owns a trace. Threads: see replay_trace.h. */
#include "tests/replay/replay_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/text.h"
#include "lib/tree/hasher.h"
#include "predict/resolve.h"
#include "predict/scan.h"

#define REPLAY_DEPTH_MAX  128
#define REPLAY_FIELDS_MAX 4

struct replay_dir {
	struct hnode by_digest;
	struct digest digest;
	struct tree_dir *dir;
};

struct replay_level { /* a directory whose lines are being read */
	char *name;
	struct tree_node *nodes;
	size_t n;
	size_t cap;
};

struct replay_reader {
	struct replay_trace *trace;
	struct replay_level levels[REPLAY_DEPTH_MAX];
	size_t depth;
	struct replay_blob *blob; /* that "+" lines are for */
	bool has_root;
};

static void replay_fail(const char *what)
{
	fprintf(stderr, "replay: this is no trace: %s\n", what);
	exit(2);
}

/* The world */

static struct tree_dir *replay_world_dir(void *ctx, const struct digest *digest)
{
	const struct replay_trace *trace = ctx;
	uint64_t hash = digest_key(digest);

	for (struct hnode *n = htab_first(&trace->dirs, hash); n;
	     n = htab_next(n, hash)) {
		struct replay_dir *dir = container_of(n, struct replay_dir, by_digest);

		if (digest_equal(&dir->digest, digest))
			return tree_dir_ref(dir->dir);
	}
	return NULL;
}

struct replay_blob *replay_trace_find(const struct replay_trace *trace,
				      const struct digest *digest)
{
	uint64_t hash = digest_key(digest);

	for (struct hnode *n = htab_first(&trace->by_digest, hash); n;
	     n = htab_next(n, hash)) {
		struct replay_blob *blob = container_of(n, struct replay_blob, by_digest);

		if (digest_equal(&blob->digest, digest))
			return blob;
	}
	return NULL;
}

static bool replay_world_has(void *ctx, const struct digest *digest)
{
	const struct replay_blob *blob = replay_trace_find(ctx, digest);

	return blob && blob->is_held;
}

static size_t replay_world_read(void *ctx, const struct digest *digest, int64_t at,
				void *buf, size_t len)
{
	const struct replay_blob *blob = replay_trace_find(ctx, digest);
	const struct buf *bytes;

	if (!blob || !blob->is_held)
		return 0;
	bytes = blob->raw.len ? &blob->raw : &blob->found;
	if (at >= (int64_t)bytes->len)
		return 0;
	len = len < bytes->len - (size_t)at ? len : bytes->len - (size_t)at;
	memcpy(buf, bytes->data + at, len);
	return len;
}

/* In place of the product's: what that found when the trace was recorded. */
void scan_run(const struct scan_file *file, struct slice name, scan_found_fn *found,
	      void *ctx)
{
	static const char *const kinds[] = {
		[SCAN_QUOTED] = "quoted",   [SCAN_ANGLED] = "angled",
		[SCAN_NEXT] = "next",       [SCAN_INTERPRETER] = "interpreter",
		[SCAN_PROGRAM] = "program", [SCAN_RUNPATH] = "runpath",
		[SCAN_LIBRARY] = "library", [SCAN_MODULE] = "module",
		[SCAN_BESIDE] = "beside",   [SCAN_PATH] = "path",
		[SCAN_PERL] = "perl",       [SCAN_PACKAGE] = "package",
		[SCAN_GO] = "go",
	};
	_cleanup_free_ char *text = alloc_zero(SCAN_READ_MAX + 1);
	size_t len = file->read(file->ctx, 0, text, SCAN_READ_MAX);

	(void)name;
	for (const char *at = text; at < text + len; at += strlen(at) + 1) {
		const char *space = strchr(at, ' ');

		for (size_t i = 0; space && i < ARRAY_SIZE(kinds); i++)
			if (strncmp(at, kinds[i], (size_t)(space - at)) == 0 &&
			    !kinds[i][space - at])
				found(ctx, (enum scan_kind)i, slice_of(space + 1));
	}
}

/* Reading */

static const struct tree_props replay_mtime = {.has_mtime = true};

static void replay_field(char *text)
{
	char *to = text;

	for (const char *at = text; *at; at++) {
		unsigned int byte;

		if (*at == '%' && sscanf(at + 1, "%2x", &byte) == 1) {
			*to++ = (char)byte;
			at += 2;
		} else {
			*to++ = *at;
		}
	}
	*to = '\0';
}

static struct replay_blob *replay_numbered(const struct replay_trace *trace,
					   const char *number)
{
	size_t n = strtoul(number, NULL, 10);

	if (n >= trace->n_blobs)
		replay_fail("a content that did not come yet");
	return trace->blobs[n];
}

static struct replay_blob *replay_new_blob(struct replay_trace *trace, int64_t size)
{
	struct replay_blob *blob = alloc_new(struct replay_blob);
	_cleanup_free_ char *text = alloc_printf("content %zu", trace->n_blobs);

	trace->blobs = alloc_grow(trace->blobs, &trace->blobs_cap, trace->n_blobs + 1,
				  sizeof(struct replay_blob *));
	trace->blobs[trace->n_blobs++] = blob;
	hasher_digest(text, strlen(text), &blob->digest);
	blob->digest.size = size;
	htab_insert(&trace->by_digest, &blob->by_digest, digest_key(&blob->digest));
	trace->declared_bytes += size;
	return blob;
}

static struct tree_node *replay_add_node(struct replay_reader *reader, const char *name,
					 enum tree_kind kind)
{
	struct replay_level *level = &reader->levels[reader->depth];
	struct tree_node *node;

	level->nodes = alloc_grow(level->nodes, &level->cap, level->n + 1,
				  sizeof(*level->nodes));
	node = &level->nodes[level->n++];
	*node = (struct tree_node){.name = slice_of(name), .kind = kind};
	if (kind == TREE_FILE && reader->trace->has_mtimes)
		node->props = &replay_mtime;
	return node;
}

static void replay_close_dir(struct replay_reader *reader)
{
	struct replay_level *level = &reader->levels[reader->depth];
	struct replay_dir *dir = alloc_new(struct replay_dir);
	struct buf bytes = BUF_INIT;
	struct error *err = tree_encode(level->nodes, level->n, NULL, &bytes);

	if (!err) {
		hasher_digest(bytes.data, bytes.len, &dir->digest);
		err = tree_dir_decode(&bytes, &dir->dir);
	}
	if (err)
		replay_fail("a directory");
	htab_insert(&reader->trace->dirs, &dir->by_digest, digest_key(&dir->digest));
	free(level->nodes);
	if (reader->depth) {
		const char *name = level->name;

		*level = (struct replay_level){0};
		reader->depth--;
		replay_add_node(reader, name, TREE_DIR)->digest = dir->digest;
	} else {
		reader->has_root = true;
		reader->trace->root = dir->digest;
	}
}

static void replay_read_tree(struct replay_reader *reader, char **fields)
{
	switch (fields[0][0]) {
	case 'd':
		if (++reader->depth == REPLAY_DEPTH_MAX)
			replay_fail("it is too deep");
		reader->levels[reader->depth] = (struct replay_level){.name = fields[1]};
		return;
	case 'u':
		if (!reader->depth)
			replay_fail("above its root");
		replay_close_dir(reader);
		return;
	case 'l':
		replay_add_node(reader, fields[1], TREE_SYMLINK)->target =
			slice_of(fields[2]);
		return;
	default:
		replay_add_node(reader, fields[1], TREE_FILE)->digest =
			(*fields[3] ? replay_numbered(reader->trace, fields[3])
				    : replay_new_blob(reader->trace,
						      strtoll(fields[2], NULL, 10)))
				->digest;
	}
}

static void replay_read_open(struct replay_reader *reader, char **fields)
{
	struct replay_trace *trace = reader->trace;
	const struct resolve_world world = {.dir = replay_world_dir, .ctx = trace};
	const char *path = strcmp(fields[3], ".") == 0 ? "" : fields[3];
	struct resolved found;
	struct replay_open *open;

	if (!reader->has_root)
		replay_close_dir(reader);
	if (resolve_path(&world, &trace->root, "", slice_of(path), &found) !=
	    RESOLVE_FOUND)
		replay_fail(path);
	trace->opens = alloc_grow(trace->opens, &trace->opens_cap, trace->n_opens + 1,
				  sizeof(*trace->opens));
	open = &trace->opens[trace->n_opens++];
	*open = (struct replay_open){.after_ns = strtoll(fields[1], NULL, 10) * 1000,
				     .path = alloc_string(path)};
	trace->warm_ns += open->after_ns;
	if (found.kind != TREE_FILE)
		return;
	open->blob = replay_trace_find(trace, &found.digest);
	if (open->blob->is_read)
		return;
	open->blob->is_read = true;
	trace->n_read++;
	trace->read_bytes += open->blob->digest.size;
}

static void replay_read_word(struct replay_trace *trace, const char *word)
{
	trace->words = alloc_grow(trace->words, &trace->words_cap, trace->n_words + 1,
				  sizeof(char *));
	trace->words[trace->n_words++] = alloc_string(word);
}

static void replay_read_head(struct replay_trace *trace, char **fields)
{
	const struct {
		const char *key;
		char **at;
	} keys[] = {{"name", &trace->name},
		    {"about", &trace->about},
		    {"mount", &trace->mount},
		    {"workdir", &trace->workdir},
		    {"path", &trace->path}};

	if (strcmp(fields[0], "arg") == 0)
		replay_read_word(trace, fields[1]);
	if (strcmp(fields[0], "mtimes") == 0)
		trace->has_mtimes = fields[1][0] == '1';
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(fields[0], keys[i].key) == 0)
			*keys[i].at = alloc_string(fields[1]);
}

static void replay_read_line(struct replay_reader *reader, char **fields)
{
	struct replay_trace *trace = reader->trace;

	if (fields[0][0] && fields[0][1]) {
		replay_read_head(trace, fields);
		return;
	}
	switch (fields[0][0]) {
	case 's':
		reader->blob = replay_numbered(trace, fields[1]);
		return;
	case '+':
		buf_add_string(&reader->blob->found, fields[1]);
		buf_add_byte(&reader->blob->found, ' ');
		buf_add(&reader->blob->found, fields[2], strlen(fields[2]) + 1);
		return;
	case 'b':
		buf_add_string(&replay_numbered(trace, fields[1])->raw, fields[2]);
		return;
	case 'o':
		replay_read_open(reader, fields);
		return;
	case 'e':
		trace->end_ns = strtoll(fields[1], NULL, 10) * 1000;
		trace->warm_ns += trace->end_ns;
		return;
	default:
		replay_read_tree(reader, fields);
	}
}

void replay_trace_read(struct replay_trace *trace, char *text)
{
	struct replay_reader *reader = alloc_new(struct replay_reader);
	char *line = strsep(&text, "\n");

	*trace = (struct replay_trace){.world = {.dir = replay_world_dir,
						 .has = replay_world_has,
						 .read = replay_world_read,
						 .ctx = trace}};
	reader->trace = trace;
	if (strcmp(line, "lazyroot trace 1") != 0)
		replay_fail("it does not begin as one");
	while ((line = strsep(&text, "\n")) && *line) {
		char *fields[REPLAY_FIELDS_MAX];
		char *end = line + strlen(line);

		for (size_t i = 0; i < REPLAY_FIELDS_MAX; i++)
			fields[i] = line ? strsep(&line, "\t") : end;
		for (size_t i = 1; i < REPLAY_FIELDS_MAX; i++)
			replay_field(fields[i]);
		replay_read_line(reader, fields);
	}
	if (!reader->has_root || !trace->mount || !trace->workdir || !trace->path)
		replay_fail("something is missing");
	free(reader);
}

void replay_trace_forget(struct replay_trace *trace)
{
	for (size_t i = 0; i < trace->n_blobs; i++) {
		trace->blobs[i]->is_held = trace->blobs[i]->digest.size == 0;
		trace->blobs[i]->item = NULL;
	}
}

void replay_trace_deinit(struct replay_trace *trace)
{
	struct hnode *node;

	for (size_t i = 0; i < trace->n_blobs; i++) {
		buf_deinit(&trace->blobs[i]->found);
		buf_deinit(&trace->blobs[i]->raw);
		free(trace->blobs[i]);
	}
	while ((node = htab_pop(&trace->dirs))) {
		struct replay_dir *dir = container_of(node, struct replay_dir, by_digest);

		tree_dir_unref(dir->dir);
		free(dir);
	}
	for (size_t i = 0; i < trace->n_opens; i++)
		free(trace->opens[i].path);
	for (size_t i = 0; i < trace->n_words; i++)
		free(trace->words[i]);
	htab_deinit(&trace->dirs);
	htab_deinit(&trace->by_digest);
	free(trace->blobs);
	free(trace->opens);
	free(trace->words);
	free(trace->name);
	free(trace->about);
	free(trace->mount);
	free(trace->workdir);
	free(trace->path);
}
