/* Owns nothing: works for one job's thread, in the job's arena. May block. */
#include "worker/action/outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/rpc/rpc.h"

#define LOG_MODULE "outputs"
#include "lib/base/log.h"

/* An array of n elements with room for one more: the size doubles where n reaches a power
 * of two, so that no other number tells it. NULL: the arena is full. */
static void *outputs_room(struct arena *arena, void *array, size_t n)
{
	void **grown;

	if (n & (n - 1))
		return array;
	grown = arena_array(arena, n ? n * 2 : 1, sizeof(*grown));
	if (grown && n)
		memcpy(grown, array, n * sizeof(*grown));
	return grown;
}

/* Appends to an array of pointers in a result; where the arena is full, it knows. */
#define OUTPUTS_ADD(arena, array, n, item)                                               \
	do {                                                                             \
		__typeof__(array) grown_ = outputs_room((arena), (array), (n));          \
		if (grown_) {                                                            \
			grown_[(n)++] = (item);                                          \
			(array) = grown_;                                                \
		}                                                                        \
	} while (0)

static Reapi__NodeProperties *outputs_props(struct arena *arena,
					    const struct tree_props *props)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	if (!props)
		return NULL;
	tree_props_encode(props, &bytes);
	return (Reapi__NodeProperties *)rpc_decode(&reapi__node_properties__descriptor,
						   buf_slice(&bytes), arena);
}

static void outputs_add_file(struct arena *arena, Reapi__ActionResult *result,
			     const char *spelt, const struct capture_result *captured)
{
	Reapi__OutputFile *file = arena_new(arena, Reapi__OutputFile);

	if (!file)
		return;
	reapi__output_file__init(file);
	file->path = spelt;
	file->digest = digest_to_arena(&captured->digest, arena);
	file->is_executable = captured->is_executable;
	file->node_properties = outputs_props(arena, captured->props);
	OUTPUTS_ADD(arena, result->output_files, result->n_output_files, file);
}

static void outputs_add_symlink(struct arena *arena, Reapi__ActionResult *result,
				const struct plan *plan, const struct plan_output *output,
				const struct capture_result *captured)
{
	Reapi__OutputSymlink *link = arena_new(arena, Reapi__OutputSymlink);

	if (!link)
		return;
	reapi__output_symlink__init(link);
	link->path = output->spelt;
	link->target = arena_string(arena, captured->target);
	link->node_properties = outputs_props(arena, captured->props);
	OUTPUTS_ADD(arena, result->output_symlinks, result->n_output_symlinks, link);
	if (!plan->is_legacy)
		return;
	if (output->want == PLAN_DIRECTORY)
		OUTPUTS_ADD(arena, result->output_directory_symlinks,
			    result->n_output_directory_symlinks, link);
	else
		OUTPUTS_ADD(arena, result->output_file_symlinks,
			    result->n_output_file_symlinks, link);
}

static void outputs_add_directory(struct arena *arena, Reapi__ActionResult *result,
				  const struct plan *plan, const char *spelt,
				  const struct capture_result *captured, bool want_tree)
{
	Reapi__OutputDirectory *dir = arena_new(arena, Reapi__OutputDirectory);

	if (!dir)
		return;
	reapi__output_directory__init(dir);
	dir->path = spelt;
	if (want_tree) {
		dir->tree_digest = digest_to_arena(&captured->tree_digest, arena);
		dir->is_topologically_sorted = true;
	}
	if (plan->command->output_directory_format !=
	    REAPI__COMMAND__OUTPUT_DIRECTORY_FORMAT__TREE_ONLY)
		dir->root_directory_digest = digest_to_arena(&captured->digest, arena);
	OUTPUTS_ADD(arena, result->output_directories, result->n_output_directories, dir);
}

/* What the legacy fields name as a file is a directory, or the reverse: it is left out,
 * and nothing else with it. */
static struct error *outputs_fits(const struct outputs_config *config,
				  const struct plan_output *output, bool *fits_out)
{
	enum capture_kind kind = CAPTURE_NONE;
	struct error *err = NULL;

	*fits_out = true;
	if (output->want == PLAN_ANY)
		return NULL;
	err = capture_look(config->capture, output->path, &kind);
	if (err)
		return err;
	*fits_out = kind != (output->want == PLAN_FILE ? CAPTURE_DIR : CAPTURE_FILE);
	if (!*fits_out)
		capture_skip(
			config->capture, output->spelt,
			kind == CAPTURE_DIR
				? "a directory where output_files wants a file"
				: "a file where output_directories wants a directory");
	return NULL;
}

static struct error *outputs_capture_one(const struct outputs_config *config,
					 const struct plan_output *output,
					 Reapi__ActionResult *result)
{
	bool want_tree = config->plan->command->output_directory_format !=
			 REAPI__COMMAND__OUTPUT_DIRECTORY_FORMAT__DIRECTORY_ONLY;
	_cleanup_(capture_result_deinit) struct capture_result captured = {0};
	bool fits;
	struct error *err = outputs_fits(config, output, &fits);

	if (!err && fits)
		err = capture_path(config->capture, output->path, want_tree, &captured);
	if (err)
		return err;
	switch (captured.kind) {
	case CAPTURE_NONE:  /* not an error: docs/protocol.md, 74; or does not fit */
	case CAPTURE_OTHER: /* noted by the capture */
		break;
	case CAPTURE_FILE:
		outputs_add_file(config->arena, result, output->spelt, &captured);
		break;
	case CAPTURE_DIR:
		outputs_add_directory(config->arena, result, config->plan, output->spelt,
				      &captured, want_tree);
		break;
	case CAPTURE_SYMLINK:
		outputs_add_symlink(config->arena, result, config->plan, output,
				    &captured);
		break;
	}
	return config->arena->is_full ? arena_error("the ActionResult") : NULL;
}

/* Moves a log into the store; a short one also goes into the result itself. */
static struct error *outputs_log(const struct outputs_config *config, const char *name,
				 Reapi__Digest **digest_out, ProtobufCBinaryData *raw_out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct digest digest;
	struct stat st;
	struct error *err;

	if (fstatat(config->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(errno, "look at the command's %s", name);
	if (!st.st_size)
		return NULL;
	err = store_adopt(config->store, config->dir_fd, name, true, &digest);
	if (!err && digest.size <= OUTPUTS_INLINE_MAX)
		err = store_read(config->store, &digest, OUTPUTS_INLINE_MAX, &bytes);
	if (err)
		return error_wrap(err, "store the command's %s", name);
	*digest_out = digest_to_arena(&digest, config->arena);
	raw_out->data =
		bytes.len ? arena_memdup(config->arena, bytes.data, bytes.len) : NULL;
	if (!*digest_out || (bytes.len && !raw_out->data))
		return arena_error("the ActionResult");
	raw_out->len = bytes.len;
	return NULL;
}

/* Cuts the longer log, or both, so that they have their limit together. */
static void outputs_cut_logs(const struct outputs_config *config, const int fds[static 2])
{
	int64_t limit = config->limits->of[LIMITS_LOG_BYTES];
	int64_t sizes[2] = {0};

	for (size_t i = 0; i < 2; i++) {
		struct stat st;

		if (fstat(fds[i], &st) == 0)
			sizes[i] = st.st_size;
	}
	for (size_t i = 0; i < 2; i++) {
		int64_t other = sizes[1 - i] < limit / 2 ? sizes[1 - i] : limit / 2;

		if (sizes[i] > limit - other && ftruncate(fds[i], limit - other) < 0)
			log_warn("cut a log: %s", strerror(errno));
	}
}

static void outputs_tell_limits(const struct outputs_config *config, int stderr_fd)
{
	_cleanup_buf_ struct buf lines = BUF_INIT;
	char text[LIMITS_MESSAGE_MAX];
	struct error *err;
	struct stat st;
	char last = '\n';

	/* on a line of its own, whatever the command wrote last */
	if (fstat(stderr_fd, &st) == 0 && st.st_size &&
	    pread(stderr_fd, &last, 1, st.st_size - 1) == 1 && last != '\n')
		buf_add_byte(&lines, '\n');
	for (enum limits_kind kind = 0; kind <= LIMITS_MACHINE; kind++)
		if (*config->passed_mask & 1u << kind)
			buf_printf(&lines, "lazyroot: %s\n",
				   limits_message(config->limits, kind, text));
	err = file_write_all(stderr_fd, lines.data, lines.len);
	log_drop(LOG_WARN, err, "tell about a limit");
}

static struct error *outputs_end_logs(const struct outputs_config *config)
{
	_cleanup_fd_ int stdout_fd =
		openat(config->dir_fd, "stdout", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_fd_ int stderr_fd = openat(config->dir_fd, "stderr",
					    O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC);

	if (stdout_fd < 0 || stderr_fd < 0)
		return error_errno(errno, "open the command's logs");
	if (*config->passed_mask & 1u << LIMITS_LOG_BYTES)
		outputs_cut_logs(config, (int[2]){stdout_fd, stderr_fd});
	outputs_tell_limits(config, stderr_fd);
	return NULL;
}

static unsigned int outputs_over_mask(const struct outputs_config *config,
				      const struct capture_stats *stats)
{
	unsigned int mask = 0;

	if (stats->bytes > config->limits->of[LIMITS_OUTPUT_BYTES])
		mask |= 1u << LIMITS_OUTPUT_BYTES;
	if ((int64_t)stats->n_files > config->limits->of[LIMITS_OUTPUT_FILES])
		mask |= 1u << LIMITS_OUTPUT_FILES;
	return mask;
}

struct error *outputs_may_go_on(void *ctx, const struct capture_stats *with_it)
{
	const struct outputs_config *config = ctx;

	if (atomic_load(config->is_cancelled))
		return error_new(ERROR_CANCELLED, "the action was cancelled");
	if (outputs_over_mask(config, with_it))
		return error_new(ERROR_RESOURCE_EXHAUSTED, "past the limit of outputs");
	return NULL;
}

static bool outputs_are_over(const struct outputs_config *config)
{
	struct capture_stats stats;
	unsigned int mask;

	capture_stats(config->capture, &stats);
	mask = outputs_over_mask(config, &stats);
	*config->passed_mask |= mask;
	return mask != 0;
}

/* Blobs and list lengths as they were before an output that is then left out. */
static struct error *outputs_capture_all(const struct outputs_config *config,
					 Reapi__ActionResult *result, size_t *n_blobs)
{
	struct error *err = NULL;

	for (size_t i = 0; !err && i < config->plan->n_outputs; i++) {
		Reapi__ActionResult before = *result;

		err = outputs_capture_one(config, &config->plan->outputs[i], result);
		if (error_code(err) != ERROR_CANCELLED && outputs_are_over(config)) {
			error_free(err); /* whatever else it was, it is left out */
			*result = before;
			return NULL;
		}
		if (err)
			return err;
		(void)capture_blobs(config->capture, n_blobs);
	}
	return err;
}

struct error *outputs_capture(const struct outputs_config *config,
			      Reapi__ActionResult *result, size_t *n_blobs_out)
{
	size_t n_blobs = 0;
	struct error *err = outputs_capture_all(config, result, &n_blobs);

	if (!err && *config->passed_mask)
		err = outputs_end_logs(config);
	if (!err)
		err = outputs_log(config, "stdout", &result->stdout_digest,
				  &result->stdout_raw);
	if (!err)
		err = outputs_log(config, "stderr", &result->stderr_digest,
				  &result->stderr_raw);
	if (!err)
		*n_blobs_out = n_blobs;
	return err;
}

static struct error *outputs_add_item(struct blob_source *items, size_t *n,
				      const Reapi__Digest *wire)
{
	struct error *err;

	if (!wire)
		return NULL;
	err = digest_from_wire(wire, &items[*n].digest);
	if (err)
		return err;
	items[(*n)++].from = BLOB_STORE;
	return NULL;
}

struct error *outputs_upload(const struct outputs_config *config,
			     const Reapi__ActionResult *result, size_t n_blobs)
{
	size_t n_all;
	const struct digest *blobs = capture_blobs(config->capture, &n_all);
	_cleanup_free_ struct blob_source *items =
		alloc_array(n_blobs + 2, sizeof(*items));
	struct upload_config upload = {
		.remote = config->remote,
		.store = config->store,
		.dir_fd = -1,
		.is_cancelled = config->is_cancelled,
	};
	struct error *err;
	size_t n = 0;

	for (; n < n_blobs; n++)
		items[n] = (struct blob_source){.digest = blobs[n], .from = BLOB_STORE};
	err = outputs_add_item(items, &n, result->stdout_digest);
	if (!err)
		err = outputs_add_item(items, &n, result->stderr_digest);
	if (err || !n || !config->remote)
		return err;
	err = upload_run(&upload, items, n, NULL);
	/* another's version of a large one shares chunks with it, perhaps */
	for (size_t i = 0; !err && i < n_blobs; i++)
		fetch_came(config->fetch, &blobs[i]);
	return error_wrap(err, "upload outputs");
}
