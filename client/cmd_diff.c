/*
 * lazyroot diff: what differs between two trees. Directories are read where they differ,
 * blobs only where their content is shown.
 *
 * Names are escaped always. Content goes out as it is, so that patch(1) can take it; on a
 * terminal, what could steer that is escaped.
 */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "client/client.h"
#include "client/diff_ahead.h"
#include "client/subject.h"
#include "lib/base/alloc.h"
#include "lib/base/linediff.h"
#include "lib/base/text.h"
#include "lib/base/units.h"
#include "lib/cas/treediff.h"

#define DIFF_DIFFERENT 1
#define DIFF_TROUBLE   2
#define DIFF_TEXT_MAX  ((size_t)1 << 20) /* of a file whose lines are shown */
/* Of paths in one document of JSON: lines need no bound, they go out at once. */
#define DIFF_JSON_MAX ((size_t)256 << 20)

struct diff {
	struct client client;
	bool shows_stat, shows_content;
	bool is_terminal;
	struct diff_ahead ahead; /* with their content */
	json_t *changes;         /* NULL: lines */
	size_t json_bytes;
	int64_t n_added, n_deleted, n_other;
	int64_t bytes_added, bytes_deleted;
};

static void diff_deinit(struct diff *diff)
{
	json_decref(diff->changes);
	diff_ahead_deinit(&diff->ahead);
	client_deinit(&diff->client);
}

/* A letter as git has them; P, which git has not: only properties (times, modes). */
static char diff_status(const struct tree_node *was, const struct tree_node *is)
{
	if (!was)
		return 'A';
	if (!is)
		return 'D';
	if (was->kind != is->kind)
		return 'T';
	if (was->is_executable == is->is_executable &&
	    digest_equal(&was->digest, &is->digest) &&
	    slice_equal(was->target, is->target))
		return 'P';
	return was->kind == TREE_DIR ? 'P' : 'M';
}

static bool diff_is_dir(const struct tree_node *was, const struct tree_node *is)
{
	return (was ? was : is)->kind == TREE_DIR;
}

static int64_t diff_size(const struct tree_node *node)
{
	return node && node->kind == TREE_FILE ? node->digest.size : 0;
}

/* The path as it is shown: the root itself is "./". */
static void diff_say_path(const char *path, bool is_dir)
{
	say_bytes(slice_of(*path ? path : "."));
	if (is_dir)
		say_raw("/");
}

/* Names and statistics */

static void diff_say_name(const char *path, const struct tree_node *was,
			  const struct tree_node *is)
{
	say_out("%c", diff_status(was, is));
	say_raw("\t");
	diff_say_path(path, diff_is_dir(was, is));
	say_raw("\n");
}

static void diff_say_stat(const char *path, const struct tree_node *was,
			  const struct tree_node *is)
{
	char status = diff_status(was, is);

	say_raw(" ");
	diff_say_path(path, diff_is_dir(was, is));
	if (status == 'P')
		say_raw(" | properties\n");
	else
		say_out(" | %" PRId64 " -> %" PRId64 " bytes%s\n", diff_size(was),
			diff_size(is),
			status == 'A'                             ? ", new"
			: status == 'D'                           ? ", gone"
			: status == 'T'                           ? ", of another type"
			: was->is_executable == is->is_executable ? ""
			: is->is_executable                       ? ", now executable"
					    : ", no longer executable");
}

static void diff_say_total(const struct diff *diff)
{
	char added[UNITS_TEXT_MAX], deleted[UNITS_TEXT_MAX];
	int64_t n = diff->n_added + diff->n_deleted + diff->n_other;

	say_out(" %" PRId64 " path%s differ%s: %" PRId64 " new, %" PRId64
		" gone, %" PRId64 " changed; %s came, %s went\n",
		n, n == 1 ? "" : "s", n == 1 ? "s" : "", diff->n_added, diff->n_deleted,
		diff->n_other, units_format_size(diff->bytes_added, added),
		units_format_size(diff->bytes_deleted, deleted));
}

/* Content */

static void diff_say_line(const struct diff *diff, struct slice line)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	if (!diff->is_terminal) {
		buf_add(&text, line.data, line.len);
	} else {
		for (size_t at = 0; at < line.len;) {
			struct slice rest = {line.data + at, line.len - at};
			const uint8_t *tab = memchr(rest.data, '\t', rest.len);

			if (tab)
				rest.len = (size_t)(tab - rest.data);
			text_escape_again(rest, &text);
			if (tab)
				buf_add_byte(&text, '\t');
			at += rest.len + (tab ? 1 : 0);
		}
	}
	buf_add_byte(&text, '\n');
	say_raw(buf_string(&text));
}

static void diff_say_hunks(const struct diff *diff, struct slice hunks)
{
	while (hunks.len) {
		const uint8_t *end = memchr(hunks.data, '\n', hunks.len);
		size_t len = end ? (size_t)(end - hunks.data) : hunks.len;

		diff_say_line(diff, (struct slice){hunks.data, len});
		len += end ? 1 : 0;
		hunks = (struct slice){hunks.data + len, hunks.len - len};
	}
}

static bool diff_is_large(const struct tree_node *node)
{
	return node && node->kind == TREE_FILE &&
	       (uint64_t)node->digest.size > DIFF_TEXT_MAX;
}

/* A link's content is its target, as git has it. */
static struct error *diff_read(struct diff *diff, const struct tree_node *node,
			       struct buf *out)
{
	if (!node || node->kind == TREE_DIR)
		return NULL;
	if (node->kind == TREE_SYMLINK) {
		buf_add(out, node->target.data, node->target.len);
		return NULL;
	}
	return fetch_bytes(diff->client.fetch, &node->digest, DIFF_TEXT_MAX, NULL, out);
}

static bool diff_is_binary(const struct buf *bytes)
{
	return bytes->len && memchr(bytes->data, '\0', bytes->len);
}

static const char *diff_mode(const struct tree_node *node)
{
	if (node->kind == TREE_SYMLINK)
		return "120000";
	return node->is_executable ? "100755" : "100644";
}

static void diff_say_side(const char *mark, const char *prefix, const char *path,
			  const struct tree_node *node)
{
	say_out("%s ", mark);
	if (node)
		say_out("%s/", prefix);
	say_bytes(slice_of(node ? path : "/dev/null"));
	say_raw("\n");
}

static void diff_say_modes(const struct tree_node *was, const struct tree_node *is)
{
	say_out("old mode %s\n", diff_mode(was));
	say_out("new mode %s\n", diff_mode(is));
}

/* One that is there and one that is not, or two of one type. */
static struct error *diff_say_content(struct diff *diff, const char *path,
				      const struct tree_node *was,
				      const struct tree_node *is)
{
	_cleanup_buf_ struct buf was_bytes = BUF_INIT;
	_cleanup_buf_ struct buf is_bytes = BUF_INIT;
	_cleanup_buf_ struct buf hunks = BUF_INIT;
	bool is_shown = !diff_is_large(was) && !diff_is_large(is);
	struct error *err = NULL;

	say_raw("diff --git a/");
	say_bytes(slice_of(path));
	say_raw(" b/");
	say_bytes(slice_of(path));
	say_raw("\n");
	if (!was)
		say_out("new file mode %s\n", diff_mode(is));
	else if (!is)
		say_out("deleted file mode %s\n", diff_mode(was));
	else if (strcmp(diff_mode(was), diff_mode(is)) != 0)
		diff_say_modes(was, is);
	if (was && is && digest_equal(&was->digest, &is->digest) &&
	    slice_equal(was->target, is->target))
		return NULL;
	if (is_shown)
		err = diff_read(diff, was, &was_bytes);
	if (is_shown && !err)
		err = diff_read(diff, is, &is_bytes);
	if (err)
		return error_wrap(err, "%s", path);
	if (!is_shown || diff_is_binary(&was_bytes) || diff_is_binary(&is_bytes) ||
	    !linediff_unified(buf_slice(&was_bytes), buf_slice(&is_bytes), &hunks)) {
		say_out("%s files differ: %" PRId64 " and %" PRId64 " bytes\n",
			is_shown ? "Binary" : "Large", diff_size(was), diff_size(is));
		return NULL;
	}
	if (!hunks.len)
		return NULL;
	diff_say_side("---", "a", path, was);
	diff_say_side("+++", "b", path, is);
	diff_say_hunks(diff, buf_slice(&hunks));
	return NULL;
}

/* Directories and properties have no content: they are said as without --patch. */
static struct error *diff_say_patch(void *ctx, const char *path,
				    const struct tree_node *was,
				    const struct tree_node *is)
{
	struct diff *diff = ctx;
	char status = diff_status(was, is);
	struct error *err;

	if (status == 'P' || diff_is_dir(was, is)) {
		diff_say_name(path, was, is);
		return NULL;
	}
	if (status != 'T')
		return diff_say_content(diff, path, was, is);
	err = diff_say_content(diff, path, was, NULL);
	return err ? err : diff_say_content(diff, path, NULL, is);
}

/* JSON */

static json_t *diff_json_node(const struct tree_node *node)
{
	static const char *const kinds[] = {"file", "directory", "symlink"};
	json_t *json;

	if (!node)
		return json_null();
	json = json_pack("{s:s}", "type", kinds[node->kind]);
	if (node->kind == TREE_SYMLINK)
		(void)json_object_set_new(json, "target",
					  client_json_bytes(node->target));
	else
		(void)json_object_set_new(json, "digest",
					  client_json_digest(&node->digest));
	if (node->kind == TREE_FILE)
		(void)json_object_set_new(json, "executable",
					  json_boolean(node->is_executable));
	return json;
}

static struct error *diff_add_json(struct diff *diff, const char *path,
				   const struct tree_node *was,
				   const struct tree_node *is)
{
	const char status[] = {diff_status(was, is), '\0'};

	diff->json_bytes += strlen(path) + sizeof(struct tree_node);
	if (diff->json_bytes > DIFF_JSON_MAX)
		return error_new(ERROR_RESOURCE_EXHAUSTED,
				 "more differs than one document of JSON holds");
	(void)json_array_append_new(diff->changes,
				    json_pack("{s:o,s:s,s:o,s:o}", "path",
					      client_json_bytes(slice_of(path)), "status",
					      status, "was", diff_json_node(was), "is",
					      diff_json_node(is)));
	return NULL;
}

/* All of it */

static void diff_count(struct diff *diff, const struct tree_node *was,
		       const struct tree_node *is)
{
	diff->n_added += !was;
	diff->n_deleted += !is;
	diff->n_other += was && is;
	if (diff_status(was, is) == 'P')
		return;
	/* a tree may say any size of a blob that nobody has */
	if (__builtin_add_overflow(diff->bytes_deleted, diff_size(was),
				   &diff->bytes_deleted))
		diff->bytes_deleted = INT64_MAX;
	if (__builtin_add_overflow(diff->bytes_added, diff_size(is), &diff->bytes_added))
		diff->bytes_added = INT64_MAX;
}

static struct error *diff_change(void *ctx, const char *path, const struct tree_node *was,
				 const struct tree_node *is)
{
	struct diff *diff = ctx;

	diff_count(diff, was, is);
	if (diff->changes)
		return diff_add_json(diff, path, was, is);
	if (diff->shows_content)
		return diff_ahead_add(&diff->ahead, path, was, is);
	if (diff->shows_stat)
		diff_say_stat(path, was, is);
	else
		diff_say_name(path, was, is);
	return NULL;
}

static void diff_print_json(struct diff *diff, const struct digest *was,
			    const struct digest *is)
{
	client_print_json(json_pack("{s:o,s:o,s:O}", "was", client_json_digest(was), "is",
				    client_json_digest(is), "changes", diff->changes));
}

static struct error *diff_find(struct diff *diff, const char *text, struct digest *out)
{
	_cleanup_(subject_deinit) struct subject subject = SUBJECT_INIT;
	const struct subject_wish wish = {.root_path = LAYOUT_ROOT};
	struct error *err = subject_find(&diff->client, text, &wish, &subject);

	if (!err)
		*out = subject.root;
	return err;
}

static int diff_run(struct diff *diff, const char *was_text, const char *is_text)
{
	const struct treediff_config config = {.dirs = diff->client.dirs,
					       .entries_max = diff->client.entries_max,
					       .change = diff_change,
					       .ctx = diff};
	struct digest was, is;
	struct error *err = diff_find(diff, was_text, &was);
	struct error *shown;

	if (!err)
		err = diff_find(diff, is_text, &is);
	if (err)
		return client_fail_start("diff", err, DIFF_TROUBLE);
	if (diff->client.is_json)
		diff->changes = json_array();
	diff->is_terminal = isatty(STDOUT_FILENO);
	diff->ahead = (struct diff_ahead){.fetch = diff->client.fetch,
					  .show = diff_say_patch,
					  .ctx = diff,
					  .blob_max = DIFF_TEXT_MAX};
	err = treediff_run(&config, &was, &is);
	shown = diff_ahead_end(&diff->ahead); /* what was found before it failed, too */
	if (err)
		error_free(shown);
	else
		err = shown;
	if (err)
		return client_fail("diff", err, DIFF_TROUBLE);
	if (diff->changes)
		diff_print_json(diff, &was, &is);
	else if (diff->shows_stat && !digest_equal(&was, &is))
		diff_say_total(diff);
	return digest_equal(&was, &is) ? 0 : DIFF_DIFFERENT;
}

int cmd_diff(int argc, char **argv)
{
	_cleanup_(diff_deinit) struct diff diff = {.client = CLIENT_INIT};
	const struct option_def defs[] = {
		{"stat", 0, OPTION_FLAG, NULL, "sizes, and what it comes to in all", NULL,
		 &diff.shows_stat, 0, 0},
		{"patch", 'p', OPTION_FLAG, NULL,
		 "the lines that differ, as git shows them", NULL, &diff.shows_content, 0,
		 0},
		CLIENT_ENTRIES_OPTION(&diff.client),
		CLIENT_OPTIONS(&diff.client),
	};
	const struct option_program program = {
		.name = "lazyroot diff",
		.usage = "[--stat|--patch] A B",
		.summary = "Shows what differs between two trees. Exit code 0 where they "
			   "are the same, 1 where\nnot, 2 on trouble." SUBJECT_HELP,
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	int operands;
	int code;
	struct error *err;

	if (!client_parse_operands(&program, argc, argv, 2, 2, "name two trees",
				   &operands, &code))
		return code;
	if (diff.shows_stat + diff.shows_content + diff.client.is_json > 1)
		return client_usage("diff",
				    "--stat, --patch and --json exclude each other");
	err = client_open_fetch(&diff.client);
	if (err)
		return client_fail_start("diff", err, DIFF_TROUBLE);
	return diff_run(&diff, argv[operands], argv[operands + 1]);
}
