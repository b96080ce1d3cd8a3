/* Owns nothing: one sandbox around nothing, from start to end, so that a machine that
 * cannot isolate commands says so once, before a job fails of it. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/file.h"
#include "worker/sandbox/accounts.h"
#include "worker/sandbox/sandbox.h"

#define PROBE_WORDS_MAX 4096

static struct error *probe_run(const struct sandbox_config *config)
{
	_cleanup_(sandbox_freep) struct sandbox *sandbox = NULL;
	struct sandbox_end end;
	struct error *err = sandbox_start(config, &sandbox);

	if (!err)
		err = sandbox_wait(sandbox, &end);
	/* that there is no `true` would be no matter */
	if (!err && end.exit_code == PROGRAM_BROKEN)
		err = error_new(ERROR_INTERNAL, "lazyroot-sandbox failed");
	return err;
}

static struct error *probe_explain(struct error *err, int words_fd)
{
	_cleanup_buf_ struct buf words = BUF_INIT;

	error_free(file_read_fd(words_fd, PROBE_WORDS_MAX, &words));
	while (words.len && words.data[words.len - 1] == '\n')
		words.data[--words.len] = '\0';
	if (words.len)
		err = error_wrap(err, "%s", buf_string(&words));
	return error_recode(
		error_wrap(err,
			   "commands cannot be isolated on this machine (the actions' "
			   "user must be allowed to make user namespaces: see "
			   "kernel.unprivileged_userns_clone, user.max_user_namespaces "
			   "and kernel.apparmor_restrict_unprivileged_userns)"),
		ERROR_FAILED_PRECONDITION);
}

struct error *sandbox_probe(const struct sandbox_tools *tools,
			    const struct sandbox_user *user, struct slice filter,
			    const struct layout_config *where)
{
	const struct launcher_config launcher = {.program = tools->program,
						 .bwrap = tools->bwrap};
	const char *const arguments[] = {"true"};
	_cleanup_(layout_deinit) struct layout layout = {0};
	_cleanup_(launcher_freep) struct launcher *alone = NULL;
	_cleanup_fd_ int words_fd = memfd_create("words", MFD_CLOEXEC);
	struct sandbox_config config = {
		.layout = &layout,
		.workdir = "",
		.arguments = arguments,
		.n_arguments = 1,
		.stdin_fd = -1,
		.stdout_fd = words_fd,
		.stderr_fd = words_fd,
		.user = *user,
		.uid = ACCOUNTS_UID,
		.gid = ACCOUNTS_UID,
		.filter = filter,
		.rlimits = {RLIM_INFINITY, RLIM_INFINITY, RLIM_INFINITY, RLIM_INFINITY},
	};
	struct error *err;

	if (words_fd < 0)
		return error_errno(errno, "make a memory file");
	err = layout_make(where, &layout);
	if (err)
		return error_wrap(err, "--root");
	err = launcher_new(&launcher, &alone);
	if (err)
		return err;
	config.launcher = alone;
	err = probe_run(&config);
	layout_tidy(&layout, where->merged_fd);
	return err ? probe_explain(err, words_fd) : NULL;
}
