/*
 * Owns the rows of one account of reads: a walk over the root's Directories beside the
 * profile's paths, both in order of name. Where nothing of a directory was read it is one
 * row with its totals, and not walked.
 */
#include "client/reads.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/units.h"
#include "lib/cas/treeload.h"
#include "predict/profile_key.h"

#define READS_ASK_EVERY_MS 50
#define READS_TREE_MAX     ((size_t)1 << 30) /* bytes of Directories */

enum reads_kind { READS_DIRECTORY, READS_FILE, READS_UNTOUCHED };

struct reads_row {
	enum reads_kind kind;
	char *path;                     /* owned */
	int64_t files, bytes;           /* declared, all below */
	int64_t read_files, read_bytes; /* of them, opened by any of the runs */
	unsigned int seen, runs;        /* of a file: opened by so many of so many */
};

struct reads_walk {
	struct client *client;
	const struct profile_entry **entries; /* in order of path */
	struct reads_row *rows;
	size_t n;
	size_t cap;
};

static void reads_walk_deinit(struct reads_walk *walk)
{
	for (size_t i = 0; i < walk->n; i++)
		free(walk->rows[i].path);
	free(walk->rows);
	free(walk->entries);
}

/* The index of a new row. */
static size_t reads_add(struct reads_walk *walk, enum reads_kind kind, const char *path)
{
	walk->rows = alloc_grow(walk->rows, &walk->cap, walk->n + 1, sizeof(*walk->rows));
	walk->rows[walk->n] =
		(struct reads_row){.kind = kind, .path = alloc_string(path)};
	return walk->n++;
}

static int reads_order(const void *a, const void *b)
{
	const struct profile_entry *const *x = a;
	const struct profile_entry *const *y = b;

	return strcmp((*x)->path, (*y)->path);
}

/* The entries from *from on, before end, at or below path: *n_out, from *from on. */
static void reads_below(const struct reads_walk *walk, const char *path, size_t *from,
			size_t end, size_t *n_out)
{
	size_t len = strlen(path);
	size_t n = 0;

	while (*from < end && strncmp(walk->entries[*from]->path, path, len) < 0)
		(*from)++;
	while (*from + n < end) {
		const char *entry = walk->entries[*from + n]->path;

		if (strncmp(entry, path, len) != 0)
			break;
		n++;
	}
	*n_out = n;
}

/* Whether any of them lies below path, not only beside it ("a-b" beside "a"). */
static bool reads_has_below(const struct reads_walk *walk, const char *path, size_t from,
			    size_t end)
{
	size_t len = strlen(path);

	for (size_t i = from; i < end; i++)
		if (walk->entries[i]->path[len] == '/')
			return true;
	return false;
}

/* The entry of exactly this path among so many, or NULL. */
static const struct profile_entry *reads_find(const struct reads_walk *walk,
					      const char *path, size_t from, size_t end)
{
	for (size_t i = from; i < end; i++)
		if (strcmp(walk->entries[i]->path, path) == 0)
			return walk->entries[i];
	return NULL;
}

static void reads_file(struct reads_walk *walk, size_t dir, const char *path,
		       int64_t bytes, const struct profile_entry *entry)
{
	struct reads_row *row;
	size_t at;

	walk->rows[dir].files++;
	walk->rows[dir].bytes += bytes;
	if (!entry)
		return;
	walk->rows[dir].read_files++;
	walk->rows[dir].read_bytes += bytes;
	at = reads_add(walk, READS_FILE, path); /* which may move the rows */
	row = &walk->rows[at];
	row->bytes = bytes;
	row->seen = (unsigned int)__builtin_popcount(entry->seen);
	row->runs = entry->runs;
}

/* A directory of which nothing was read. */
static void reads_untouched(struct reads_walk *walk, size_t parent, const char *path,
			    const struct digest *digest)
{
	struct tree_totals totals;
	size_t at;

	/* all was loaded before: what is not at hand any more is not counted */
	if (!dircache_totals(walk->client->dirs, digest, &totals))
		totals = (struct tree_totals){0};
	at = reads_add(walk, READS_UNTOUCHED, path);
	walk->rows[at].files = totals.files;
	walk->rows[at].bytes = totals.bytes;
	walk->rows[parent].files += totals.files;
	walk->rows[parent].bytes += totals.bytes;
}

static struct error *reads_dir(struct reads_walk *walk, const char *path,
			       const struct digest *digest, size_t from, size_t end,
			       unsigned int depth);

/* *from: of the entries before it, none is of this or a later child. */
static struct error *reads_child(struct reads_walk *walk, size_t at, const char *path,
				 const struct tree_node *node, size_t *from, size_t end,
				 unsigned int depth)
{
	_cleanup_free_ char *below =
		alloc_printf("%s%s%.*s", path, *path ? "/" : "", (int)node->name.len,
			     (const char *)node->name.data);
	size_t n, row;
	struct error *err;

	reads_below(walk, below, from, end, &n);
	if (node->kind == TREE_FILE)
		reads_file(walk, at, below, node->digest.size,
			   reads_find(walk, below, *from, *from + n));
	if (node->kind != TREE_DIR)
		return NULL;
	if (!reads_has_below(walk, below, *from, *from + n)) {
		reads_untouched(walk, at, below, &node->digest);
		return NULL;
	}
	row = walk->n;
	err = reads_dir(walk, below, &node->digest, *from, *from + n, depth + 1);
	if (err)
		return err;
	walk->rows[at].files += walk->rows[row].files;
	walk->rows[at].bytes += walk->rows[row].bytes;
	walk->rows[at].read_files += walk->rows[row].read_files;
	walk->rows[at].read_bytes += walk->rows[row].read_bytes;
	return NULL;
}

static struct error *reads_dir(struct reads_walk *walk, const char *path,
			       const struct digest *digest, size_t from, size_t end,
			       unsigned int depth)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	size_t at = reads_add(walk, READS_DIRECTORY, *path ? path : ".");
	struct error *err = NULL;

	if (depth >= TREE_DEPTH_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "the tree has more than %d levels", TREE_DEPTH_MAX);
	err = dircache_get(walk->client->dirs, digest, NULL, &dir);
	for (uint32_t i = 0; !err && i < dir->n_nodes; i++)
		err = reads_child(walk, at, path, &dir->nodes[i], &from, end, depth);
	return err;
}

static struct error *reads_account(struct client *client, const struct reads *reads,
				   struct reads_walk *walk)
{
	size_t n = reads->profile.n;
	struct error *err =
		treeload_run(client->dirs, &reads->root, READS_TREE_MAX, NULL);

	if (!err)
		err = treeload_check_entries(client->dirs, &reads->root,
					     client->entries_max);
	if (err)
		return error_wrap(err, "input root");
	walk->client = client;
	walk->entries = alloc_array(n + 1, sizeof(*walk->entries));
	for (size_t i = 0; i < n; i++)
		walk->entries[i] = &reads->profile.entries[i];
	qsort(walk->entries, n, sizeof(*walk->entries), reads_order);
	return reads_dir(walk, "", &reads->root, 0, n, 0);
}

/* For people and for scripts */

static void reads_say(bool to_stderr, const char *line)
{
	if (to_stderr)
		say("%s", line);
	else
		say_out("%s\n", line);
}

static void reads_row_text(const struct reads_row *row, struct buf *line)
{
	char bytes[UNITS_TEXT_MAX], read_bytes[UNITS_TEXT_MAX];
	char files[UNITS_TEXT_MAX], read_files[UNITS_TEXT_MAX];

	(void)units_format_size(row->bytes, bytes);
	(void)units_format_size(row->read_bytes, read_bytes);
	(void)units_format_count(row->files, files);
	(void)units_format_count(row->read_files, read_files);
	switch (row->kind) {
	case READS_DIRECTORY:
		buf_printf(line, "%s/  read %s of %s files, %s of %s", row->path,
			   read_files, files, read_bytes, bytes);
		return;
	case READS_FILE:
		buf_printf(line, "  %s  %s", row->path, bytes);
		if (row->seen < row->runs)
			buf_printf(line, ", by %u of %u runs", row->seen, row->runs);
		return;
	case READS_UNTOUCHED:
		buf_printf(line, "%s/  never touched: %s files, %s", row->path, files,
			   bytes);
		return;
	}
}

struct error *reads_print(struct client *client, const struct reads *reads,
			  bool to_stderr)
{
	_cleanup_(reads_walk_deinit) struct reads_walk walk = {0};
	struct error *err = reads_account(client, reads, &walk);

	for (size_t i = 0; !err && i < walk.n; i++) {
		_cleanup_buf_ struct buf line = BUF_INIT;

		reads_row_text(&walk.rows[i], &line);
		reads_say(to_stderr, buf_string(&line));
	}
	return err;
}

static json_t *reads_row_json(const struct reads_row *row)
{
	json_t *path = client_json_bytes(slice_of(row->path));

	switch (row->kind) {
	case READS_DIRECTORY:
		return json_pack("{s:o,s:s,s:I,s:I,s:I,s:I}", "path", path, "kind",
				 "directory", "files", (json_int_t)row->files, "bytes",
				 (json_int_t)row->bytes, "read_files",
				 (json_int_t)row->read_files, "read_bytes",
				 (json_int_t)row->read_bytes);
	case READS_FILE:
		return json_pack("{s:o,s:s,s:I,s:i,s:i}", "path", path, "kind", "file",
				 "bytes", (json_int_t)row->bytes, "read_by", row->seen,
				 "of_runs", row->runs);
	case READS_UNTOUCHED:
		break;
	}
	return json_pack("{s:o,s:s,s:I,s:I}", "path", path, "kind", "untouched", "files",
			 (json_int_t)row->files, "bytes", (json_int_t)row->bytes);
}

struct error *reads_json(struct client *client, const struct reads *reads,
			 json_t **json_out)
{
	_cleanup_(reads_walk_deinit) struct reads_walk walk = {0};
	struct error *err = reads_account(client, reads, &walk);
	json_t *rows;

	if (err)
		return err;
	rows = json_array();
	for (size_t i = 0; i < walk.n; i++)
		(void)json_array_append_new(rows, reads_row_json(&walk.rows[i]));
	*json_out = json_pack("{s:I,s:o}", "runs", (json_int_t)reads->profile.n_runs,
			      "reads", rows);
	return NULL;
}

/* The profile */

static struct error *reads_ask(struct client *client, const struct digest *key,
			       struct profile *out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	Reapi__ActionResult *result = NULL;
	struct digest digest;
	struct error *err = remote_get_action(client->remote, key, &arena, &result);

	if (err || !result)
		return err;
	if (result->stdout_raw.len) {
		buf_add(&bytes, result->stdout_raw.data, result->stdout_raw.len);
	} else {
		err = digest_from_wire(result->stdout_digest, &digest);
		if (!err)
			err = fetch_bytes(client->fetch, &digest, PROFILE_BYTES_MAX, NULL,
					  &bytes);
	}
	return err ? err : profile_decode(buf_slice(&bytes), out);
}

struct error *reads_load(struct client *client, const struct digest *command,
			 const struct digest *root, int64_t patience_ns,
			 struct reads *out)
{
	int64_t until = clock_mono_ns() + patience_ns;
	struct digest key;
	struct error *err;

	if (!client->remote)
		return error_new(ERROR_FAILED_PRECONDITION,
				 "workers tell what a command reads through their "
				 "service's action cache: name it with --server");
	*out = (struct reads){.root = *root};
	profile_key_command(command, &key);
	for (;;) {
		err = reads_ask(client, &key, &out->profile);
		if (err || out->profile.n || clock_mono_ns() >= until)
			break;
		clock_sleep_ms(READS_ASK_EVERY_MS);
	}
	if (!err && !out->profile.n)
		err = error_new(ERROR_NOT_FOUND,
				"no worker has told what this command reads: it may have "
				"read nothing, and workers share it where --foresight is "
				"on and they may write to "
				"the action cache (the server's option --grant)");
	return err;
}

void reads_deinit(struct reads *reads)
{
	profile_deinit(&reads->profile);
}
