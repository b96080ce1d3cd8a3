/* Owns nothing; main thread. */
#include "client/outcome.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/last_result.h"
#include "client/output_places.h"
#include "client/progress.h"
#include "client/report_text.h"
#include "client/result_outputs.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/base/units.h"
#include "lib/cas/handover.h"
#include "lib/tree/hasher.h"

#define LOG_MODULE "client"
#include "lib/base/log.h"

#define OUTCOME_PIECE 65536

/* Logs */

/* One of the command's two as its result has it. */
struct outcome_text {
	size_t which; /* 0: stdout, 1: stderr */
	int to_fd;
	struct slice raw; /* or, where it is empty, */
	int fd;           /* a file; -1: it is empty */
	int64_t size;
};

static struct error *outcome_open_text(struct client *client,
				       const ProtobufCBinaryData *raw,
				       const Reapi__Digest *wire,
				       struct outcome_text *text)
{
	struct digest digest;
	struct error *err;

	text->raw = (struct slice){raw->data, raw->len};
	text->size = (int64_t)raw->len;
	if (raw->len || !wire)
		return NULL;
	err = digest_from_wire(wire, &digest);
	if (!err && digest.size)
		err = client_open_fetch(client);
	if (!err && digest.size)
		err = fetch_fd(client->fetch, &digest, NULL, &text->fd);
	if (!err)
		text->size = digest.size;
	return err;
}

/* Its first bytes: *out is the digest of as many as there are of n. */
static struct error *outcome_hash_start(const struct outcome_text *text, int64_t n,
					struct digest *out)
{
	_cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
	uint8_t piece[OUTCOME_PIECE];
	int64_t done = 0;
	struct error *err = NULL;
	size_t len = 1;

	if (n > text->size)
		n = text->size;
	if (text->fd < 0) {
		hasher_add(hasher, text->raw.data, (size_t)n);
		done = n;
	}
	while (!err && done < n && len > 0) {
		err = file_pread(text->fd, piece,
				 n - done < OUTCOME_PIECE ? (size_t)(n - done)
							  : sizeof(piece),
				 done, &len);
		if (!err)
			hasher_add(hasher, piece, len);
		done += (int64_t)len;
	}
	hasher_end(hasher, out);
	return err;
}

/* How much of it was shown while the command ran; what was shown is compared with it,
 * since nobody vouches for a log. */
static struct error *outcome_find_shown(const struct live *live,
					const struct outcome_text *text, int64_t *n_out)
{
	struct digest shown, is;
	struct error *err;

	*n_out = 0;
	if (!live)
		return NULL;
	live_shown(live, text->which, &shown);
	err = outcome_hash_start(text, shown.size, &is);
	if (err)
		return err;
	if (digest_equal(&shown, &is))
		*n_out = shown.size;
	else
		say("lazyroot: what was shown of the command's %s while it ran is not "
		    "what its result has: here is that",
		    text->which ? "stderr" : "stdout");
	return NULL;
}

static struct error *outcome_log(const struct outcome_config *config,
				 const ProtobufCBinaryData *raw,
				 const Reapi__Digest *digest, size_t which, int to_fd)
{
	struct outcome_text text = {.which = which, .to_fd = to_fd, .fd = -1};
	int64_t n_shown = 0;
	struct error *err = outcome_open_text(config->report.client, raw, digest, &text);

	if (!err)
		err = outcome_find_shown(config->live, &text, &n_shown);
	if (!err && text.fd >= 0)
		err = file_copy_from(text.fd, n_shown, to_fd);
	else if (!err && text.size > n_shown)
		err = file_write_all(to_fd, text.raw.data + n_shown,
				     text.raw.len - (size_t)n_shown);
	cleanup_fd(&text.fd);
	return error_wrap(client_written(to_fd, err), "the command's %s",
			  which ? "stderr" : "stdout");
}

/* What came within the result becomes a blob like the others: by its digest it is found
 * without the service, too. */
static void outcome_keep(struct client *client, const ProtobufCBinaryData *raw)
{
	struct digest digest;
	struct error *err;

	if (!raw->len)
		return;
	hasher_digest(raw->data, raw->len, &digest);
	err = local_open_store(&client->local);
	if (!err && !store_has(client->local.store, &digest))
		err = store_put(client->local.store, &digest, raw->data, raw->len);
	log_drop(LOG_WARN, err, "what the command said is not in the local store");
}

/* Outputs */

struct outcome_outputs {
	const char *dir;    /* where they go, absolute */
	struct buf *placed; /* paths, a NUL after each */
	const struct outcome_config *config;
	struct declared_places asked;
	struct say_few left_out;
	struct handover *handover;
};

/* What the result names and nobody asked for is said, and left where it is. */
static bool outcome_is_asked(struct outcome_outputs *outputs, const char *path)
{
	if (declared_places_have(&outputs->asked, path))
		return true;
	if (!say_few(&outputs->left_out))
		return false;
	say("lazyroot run: the result has an output that was not asked for; it is "
	    "left out: %s",
	    path);
	return false;
}

static void outcome_note(const struct outcome_outputs *outputs, const char *place)
{
	_cleanup_free_ char *clean = NULL;
	_cleanup_error_ struct error *err = file_path_clean(place, &clean);

	if (err)
		return;
	buf_printf(outputs->placed, "%s%s%s", outputs->dir, *clean ? "/" : "", clean);
	buf_add_byte(outputs->placed, '\0');
}

/* The worker's note about one output. */
struct outcome_about {
	struct buf start; /* of such a note: the path in the input root, escaped */
	bool is_quiet;    /* notes are not said later */
	bool is_found;
};

static void outcome_find_note(void *ctx, const char *note)
{
	struct outcome_about *about = ctx;

	if (strncmp(note, buf_string(&about->start), about->start.len) != 0)
		return;
	about->is_found = true;
	if (about->is_quiet)
		say_escaped("lazyroot run", note);
}

/* It was made, but is nothing that can come back (a FIFO): the note says so, once. */
static bool outcome_is_explained(const struct outcome_config *config,
				 const struct execution_outcome *outcome,
				 const char *path)
{
	struct outcome_about about = {.start = BUF_INIT,
				      .is_quiet = config->report.client->is_quiet};
	_cleanup_free_ char *in_root = NULL;
	_cleanup_error_ struct error *err =
		declared_in_root(&config->report.declared, path, &in_root);

	if (err)
		return false;
	text_escape(slice_of(in_root), &about.start);
	buf_add_string(&about.start, ": ");
	report_text_each_note(outcome, outcome_find_note, &about);
	buf_deinit(&about.start);
	return about.is_found;
}

/* One line, whatever else is said: a script that misses it fails later and elsewhere. Of
 * a command that failed nobody expects them. */
static void outcome_say_missing(const struct outcome_config *config,
				const struct execution_outcome *outcome)
{
	const struct declared *declared = &config->report.declared;
	_cleanup_(declared_places_deinit) struct declared_places held;
	_cleanup_buf_ struct buf names = BUF_INIT;

	declared_held(declared, outcome->response->result, &held);
	for (size_t i = 0; declared->outputs && i < declared->outputs->n; i++) {
		const char *path = declared->outputs->items[i];

		if (!declared_places_have(&held, path) &&
		    !outcome_is_explained(config, outcome, path))
			buf_printf(&names, "%s%s", names.len ? ", " : "",
				   *path ? path : ".");
	}
	if (names.len && !outcome->response->result->exit_code)
		say("lazyroot run: the command did not make: %s", buf_string(&names));
}

static struct error *outcome_hand(const struct outcome_outputs *outputs,
				  const char *place, const struct result_output *output)
{
	struct digest root;
	struct error *err;

	switch (output->kind) {
	case RESULT_FILE:
		return handover_add_file(outputs->handover, place, &output->digest,
					 output->is_executable,
					 result_outputs_props(output));
	case RESULT_TREE:
		err = result_outputs_root(outputs->config->report.client, output, &root);
		return err ? err : handover_add_tree(outputs->handover, place, &root);
	case RESULT_LINK:
		return handover_add_link(outputs->handover, place, output->target);
	}
	return NULL;
}

static struct error *outcome_take(void *ctx, const struct result_output *output)
{
	struct outcome_outputs *outputs = ctx;
	_cleanup_free_ char *place = NULL;
	struct error *err;

	if (!outcome_is_asked(outputs, output->path))
		return NULL;
	err = declared_place(&outputs->config->report.declared, output->path, &place);
	if (!err)
		err = outcome_hand(outputs, place, output);
	if (!err)
		outcome_note(outputs, place);
	return err;
}

static bool outcome_is_text(const ProtobufCBinaryData *raw, const Reapi__Digest *digest)
{
	return raw->len > 0 || (digest && digest->size_bytes > 0);
}

/* The command's own words are on the terminal, whose last line may be one of them. */
static bool outcome_has_words(const struct outcome_config *config,
			      const Reapi__ActionResult *result)
{
	return !config->report.client->is_json &&
	       (outcome_is_text(&result->stderr_raw, result->stderr_digest) ||
		(outcome_is_text(&result->stdout_raw, result->stdout_digest) &&
		 isatty(outcome_stdout_fd(&config->report))));
}

static void outcome_progress(void *ctx, int64_t n_done, int64_t n_total, int64_t bytes)
{
	const struct progress_count count = {n_done, n_total, bytes, 0};

	progress_update(ctx, &count);
}

static struct error *outcome_hand_over(const struct outcome_config *config,
				       const Reapi__ActionResult *result)
{
	const struct client *client = config->report.client;
	_cleanup_(progress_endp) struct progress *progress = progress_begin(
		PROGRESS_DOWNLOADING,
		client->is_quiet || outcome_has_words(config, result), client->is_json);
	_cleanup_(handover_freep) struct handover *handover = NULL;
	struct checkout_config checkout = {.dirs = client->dirs,
					   .pool = client->local.pool,
					   .progress = outcome_progress,
					   .ctx = progress,
					   .mtime_ns = clock_wall_ns(),
					   .entries_max = client->entries_max};
	_cleanup_free_ char *dir = realpath(config->download, NULL);
	_cleanup_buf_ struct buf placed = BUF_INIT;
	struct outcome_outputs outputs = {
		.config = config, .dir = dir ? dir : "", .placed = &placed};
	_cleanup_fd_ int dir_fd = -1;
	struct error *err = file_open_dir(AT_FDCWD, config->download, &dir_fd);

	if (err)
		return err;
	handover = outputs.handover = handover_new(&checkout, dir_fd);
	declared_asked(&config->report.declared, &outputs.asked);
	err = result_outputs_each(result, outcome_take, &outputs);
	declared_places_deinit(&outputs.asked);
	say_rest(&outputs.left_out, "outputs that were not asked for");
	if (!err)
		err = handover_run(handover);
	if (!err || handover_has_placed(handover))
		output_places_note(config->report.client, buf_slice(&placed));
	return err;
}

static struct error *outcome_download(const struct outcome_config *config,
				      const Reapi__ActionResult *result)
{
	bool was_there = access(config->download, F_OK) == 0;
	struct error *err;

	if (!result->n_output_files && !result->n_output_directories &&
	    !result->n_output_symlinks && !result->n_output_file_symlinks &&
	    !result->n_output_directory_symlinks)
		return NULL;
	err = client_open_fetch(config->report.client);
	if (!err)
		err = file_mkdirs(AT_FDCWD, config->download, 0755);
	if (!err)
		err = outcome_hand_over(config, result);
	if (err && !was_there) /* made by us, and removed again if it is empty */
		(void)rmdir(config->download);
	return err;
}

/* All of it */

static int outcome_exit_code(const Reapi__ExecuteResponse *response)
{
	if (response->status && response->status->code == ERROR_DEADLINE_EXCEEDED)
		return CLIENT_TIMED_OUT;
	return response->result->exit_code;
}

static struct error *outcome_check_report(const char *report)
{
	_cleanup_free_ char *dir = alloc_string(report);
	char *slash = strrchr(dir, '/');
	struct stat st;

	if (stat(report, &st) == 0 && S_ISDIR(st.st_mode))
		return error_new(ERROR_INVALID_ARGUMENT, "--report %s is a directory",
				 report);
	if (!slash)
		return NULL;
	slash[slash == dir] = '\0';
	return stat(dir, &st) == 0 && S_ISDIR(st.st_mode)
		       ? NULL
		       : error_new(ERROR_INVALID_ARGUMENT,
				   "--report %s: there is no directory %s", report, dir);
}

struct error *outcome_check(const char *download, const char *report)
{
	struct stat st;

	if (download && stat(download, &st) == 0 && !S_ISDIR(st.st_mode))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--download %s is there and is no directory", download);
	return report ? outcome_check_report(report) : NULL;
}

/* The report goes to stdout: then the command's words must not mix with it. */
int outcome_stdout_fd(const struct report_text_config *report)
{
	return report_text_is_on_stdout(report) || report->client->is_json
		       ? STDERR_FILENO
		       : STDOUT_FILENO;
}

struct error *outcome_deliver(const struct outcome_config *config,
			      const struct execution_outcome *outcome, int *exit_out)
{
	const Reapi__ActionResult *result = outcome->response->result;
	struct error *err;

	if (!result)
		return error_new(ERROR_INTERNAL, "the service sent no result");
	if (config->report.action)
		last_result_note(config->report.client, config->report.action,
				 outcome->response);
	outcome_keep(config->report.client, &result->stdout_raw);
	outcome_keep(config->report.client, &result->stderr_raw);
	err = outcome_log(config, &result->stdout_raw, result->stdout_digest, 0,
			  outcome_stdout_fd(&config->report));
	if (!err)
		err = outcome_log(config, &result->stderr_raw, result->stderr_digest, 1,
				  STDERR_FILENO);
	if (!err)
		outcome_say_missing(config, outcome);
	if (!err && config->download)
		err = error_wrap(
			outcome_download(config, result),
			"the command ended with %d, not all its outputs are here",
			outcome_exit_code(outcome->response));
	if (!err)
		err = report_text_deliver(&config->report, outcome,
					  outcome_exit_code(outcome->response));
	if (err)
		return err;
	if (outcome->response->status &&
	    outcome->response->status->code == ERROR_DEADLINE_EXCEEDED)
		say("lazyroot run: %s", *outcome->response->message
						? outcome->response->message
						: outcome->response->status->message);
	*exit_out = outcome_exit_code(outcome->response);
	return NULL;
}
