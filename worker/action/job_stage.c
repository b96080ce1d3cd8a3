/* Owns nothing: it makes the directories for outputs. */
#include "worker/action/job_stage.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"

#define JOB_LAST_WORDS_MAX 2000

/* Opens a directory as the command would see it: links are followed, never out of root.
 */
static int job_open_in_root(int merged_fd, const char *path)
{
	return file_open_resolved(merged_fd, *path ? path : ".", O_PATH | O_DIRECTORY, 0,
				  RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* Belongs to the command from its first moment, as all of its inputs do. */
static int job_make_dir(int parent, const char *name, const struct sandbox_user *user)
{
	if (mkdirat(parent, name, 0755) < 0)
		return -1;
	return fchownat(parent, name, user->uid, user->gid, AT_SYMLINK_NOFOLLOW);
}

/* name in parent where it is no link, else what the whole path leads to. */
static int job_open_child(int merged_fd, int parent, const char *name, const char *path)
{
	int fd = file_open_resolved(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0,
				    RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);

	return fd < 0 && errno != ENOENT ? job_open_in_root(merged_fd, path) : fd;
}

/* Why name, in parent, can be no directory for outputs; errnum says what was tried last.
 */
static struct error *job_no_parent(int parent, const char *name, const char *path,
				   const char *output, int errnum)
{
	char target[PATH_MAX];
	ssize_t len = readlinkat(parent, name, target, sizeof(target));

	if (len < 0)
		return error_errno(errnum, "make directory %s for outputs", path);
	return error_new(
		ERROR_INVALID_ARGUMENT,
		"output %s lies below %s, which is a link to %.*s: that leads to "
		"no directory within the input root",
		output, path, (int)len, target);
}

static struct error *job_make_parents(int merged_fd, const struct sandbox_user *user,
				      const char *path)
{
	_cleanup_free_ char *copy = alloc_string(path);
	_cleanup_fd_ int parent = job_open_in_root(merged_fd, "");
	char *name = copy;
	int depth = 0;

	for (char *slash = strchr(copy, '/'); slash; slash = strchr(slash + 1, '/')) {
		int fd;

		*slash = '\0';
		if (++depth > TREE_DEPTH_MAX)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "output %.64s… is more than %d directories deep",
					 path, TREE_DEPTH_MAX);
		fd = job_open_child(merged_fd, parent, name, copy);
		if (fd < 0 && errno == ENOENT && job_make_dir(parent, name, user) == 0)
			fd = job_open_child(merged_fd, parent, name, copy);
		if (fd < 0)
			return job_no_parent(parent, name, copy, path, errno);
		(void)close(parent);
		parent = fd;
		*slash = '/';
		name = slash + 1;
	}
	return NULL;
}

bool job_stage_same_parent(const char *a, const char *b)
{
	const char *a_end = strrchr(a, '/');
	const char *b_end = strrchr(b, '/');
	size_t len = a_end ? (size_t)(a_end - a) : 0;

	return a_end && b_end && (size_t)(b_end - b) == len && memcmp(a, b, len) == 0;
}

/* The parents of outputs are there by now, which the working directory may be one of. An
 * output that is the working directory itself is made, too: where else would the command
 * start? */
static struct error *job_stage_workdir(const struct plan *plan,
				       const struct sandbox_user *user, int merged_fd)
{
	_cleanup_fd_ int fd = job_open_in_root(merged_fd, plan->workdir);
	_cleanup_free_ char *below = alloc_printf("%s/", plan->workdir);
	struct error *err = NULL;

	for (size_t i = 0; fd < 0 && errno == ENOENT && i < plan->n_outputs; i++) {
		if (strcmp(plan->outputs[i].path, plan->workdir) != 0)
			continue;
		err = job_make_parents(merged_fd, user, below);
		if (err)
			return err;
		fd = job_open_in_root(merged_fd, plan->workdir);
		break;
	}
	if (fd >= 0)
		return NULL;
	return error_new(ERROR_INVALID_ARGUMENT,
			 "the working directory %s is %s: it must be a directory of the "
			 "input root, or lie above a declared output",
			 plan->workdir,
			 errno == ENOENT ? "not in the input root"
					 : "no directory there");
}

struct error *job_stage_prepare(const struct plan *plan, const struct sandbox_user *user,
				int merged_fd, const atomic_bool *is_cancelled)
{
	for (size_t i = 0; i < plan->n_outputs; i++) {
		const char *path = plan->outputs[i].path;
		struct error *err;

		if (atomic_load(is_cancelled))
			return error_new(ERROR_CANCELLED, "the action was cancelled");
		if (i && job_stage_same_parent(path, plan->outputs[i - 1].path))
			continue;
		err = job_make_parents(merged_fd, user, path);
		if (error_errnum(err) == ENOTDIR)
			err = error_recode(err, ERROR_INVALID_ARGUMENT);
		if (err)
			return err;
	}
	return job_stage_workdir(plan, user, merged_fd);
}

void job_stage_notes(const struct capture *capture, const char *const *own, size_t n_own,
		     struct arena *arena, struct report *report)
{
	size_t n = capture_n_notes(capture);
	const char **notes = arena_array(arena, n_own + n, sizeof(*notes));

	if (!notes)
		return;
	for (size_t i = 0; i < n_own; i++)
		notes[i] = own[i];
	for (size_t i = 0; i < n; i++) {
		notes[n_own + i] = arena_string(arena, capture_note(capture, i));
		if (!notes[n_own + i])
			n = i; /* what else there is does not fit */
	}
	report->notes = (const char *const *)notes;
	report->n_notes = n_own + n;
}

struct error *job_stage_blob_error(struct error *err)
{
	static const unsigned int temporary_mask =
		1u << ERROR_UNKNOWN | 1u << ERROR_DEADLINE_EXCEEDED |
		1u << ERROR_NOT_FOUND | 1u << ERROR_PERMISSION_DENIED |
		1u << ERROR_ABORTED | 1u << ERROR_OUT_OF_RANGE |
		1u << ERROR_UNIMPLEMENTED | 1u << ERROR_DATA_LOSS |
		1u << ERROR_UNAUTHENTICATED;

	if (error_n_missing(err))
		return error_recode(err, ERROR_FAILED_PRECONDITION);
	if (temporary_mask & 1u << error_code(err))
		return error_recode(err, ERROR_UNAVAILABLE);
	return err;
}

struct error *job_stage_last_words(int dir_fd, struct error *err)
{
	_cleanup_buf_ struct buf words = BUF_INIT;
	struct error *none = file_read_all(dir_fd, "stderr", JOB_LAST_WORDS_MAX, &words);

	error_free(none);
	while (words.len && words.data[words.len - 1] == '\n')
		words.data[--words.len] = '\0';
	return words.len ? error_wrap(err, "%s", buf_string(&words)) : err;
}
